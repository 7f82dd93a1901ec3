"""Score any model beside BM25 and the base model: ``python -m thread_embed_assets.benchmark.score MODEL``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from thread_embed_assets.benchmark.api_models import provider_of
from thread_embed_assets.benchmark.contenders import (
    BM25,
    Contender,
    Model,
    Reference,
    find_model,
    load_references,
    open_encoder,
    text_format_of,
)
from thread_embed_assets.benchmark.embeddings import Pooling
from thread_embed_assets.benchmark.evaluate import evaluate_source, file_name
from thread_embed_assets.benchmark.readings import in_formats, whole_and_by_window
from thread_embed_assets.benchmark.report import terminal_table, write_leaderboard
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.base_models import local_folder, model_fingerprint
from thread_embed_assets.training.config import MINILM


@dataclass(frozen=True)
class ScoredLayout(Layout):
    """The root folder with what is written for one scored model below ``data/benchmark/scored/<name>``.

    Attributes:
        name: of the model.
        names_hidden: leave out the views with real names of people, for a model that sends its texts away.
    """

    name: str
    names_hidden: bool

    @property
    def benchmark(self) -> Path:
        return super().benchmark / "scored" / file_name(self.name)

    def tasks(self, source: str) -> Path:
        return Layout(self.root).tasks(source)

    def people(self, source: str) -> Path:
        return self.benchmark / "hidden" / source if self.names_hidden else super().people(source)


def score(wanted: Reference, sources: Sequence[str], formats: Sequence[str], layout: Layout) -> str:
    """Score a model on the tasks of sources, and write its leaderboard.

    Args:
        wanted: the model; naming it here allows its download, or texts with masked names to go to its service.
        sources: by default all that have tasks.
        formats: text formats it is given, of which the best on dev is taken; by default its own, else plain.
        layout: where the tasks lie.

    Returns:
        A table for a terminal, and where everything else was written.

    Raises:
        InputError: the model or the tasks of a source are not here, or they cannot be used.
    """
    with_tasks = sorted(path.stem for path in layout.tasks("any").parent.glob("*.duckdb"))
    chosen = list(dict.fromkeys(sources)) or with_tasks
    missing = [source for source in chosen if source not in with_tasks]
    if missing or not chosen:
        absent = layout.tasks(missing[0]) if missing else layout.tasks("any").parent
        there = ", ".join(with_tasks) or "none"
        raise InputError(absent, "there are no tasks", f"Materialise benchmark_tasks; sources that have them: {there}")
    base = _base_model()
    taken = (BM25.name, base.name)
    wanted = wanted.model_copy(update={"name": f"{wanted.name}-scored"}) if wanted.name in taken else wanted
    model = find_model(wanted, download=True, send=True)
    if isinstance(model, str):
        raise InputError(f"model '{wanted.model}'", model, "Give a model's folder, a hub id, or openai/... or voyage/...")
    place = ScoredLayout(layout.root, wanted.name, names_hidden=provider_of(wanted.model) is not None)
    contenders = _contenders(base, model, tuple(formats) or (text_format_of(model.location),))
    for source in chosen:
        evaluate_source(layout.tasks(source), source, contenders, place, open_encoder)
    board = write_leaderboard([place.results(source) for source in chosen], place)
    return f"{terminal_table(board)}\n\nPaired tests, breakdowns and plots: {board.html_path}"


def _base_model() -> Model:
    folder = local_folder(MINILM)
    return Model(MINILM.rpartition("/")[2], folder, model_fingerprint(folder))


def _contenders(base: Model, model: Model, formats: tuple[str, ...]) -> list[Contender]:
    return [
        BM25,
        Contender(base.name, "dense", "base", whole_and_by_window(in_formats(FORMATS)), base),
        Contender(f"{base.name}+bm25", "hybrid", "base_hybrid", parts=(BM25.name, base.name)),
        Contender(model.name, "dense", "tuned", whole_and_by_window(in_formats(formats)), model),
        Contender(f"{model.name}+bm25", "hybrid", "tuned_hybrid", parts=(BM25.name, model.name)),
    ]


def reference_of(
    model: str, query_prompt: str | None = None, document_prompt: str | None = None, pooling: Pooling | None = None
) -> Reference:
    """What a command line says of a model; what it leaves out comes from the registry where the model is in it.

    Args:
        model: a folder (taken from the working folder first), a hub id, an API's model, or a name of the registry.
        query_prompt, document_prompt, pooling: see ``contenders.Reference``.

    Raises:
        InputError: a folder of that name holds no model, or the settings do not fit it.
    """
    said = {"query_prompt": query_prompt, "document_prompt": document_prompt, "pooling": pooling}
    given = {field: value for field, value in said.items() if value is not None}
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not any((folder / name).exists() for name in ("modules.json", "config.json")):
            remedy = "Give the folder that SentenceTransformer.save_pretrained wrote"
            raise InputError(folder, "it has neither modules.json nor config.json, so it holds no model", remedy)
        folder = folder.resolve()
        return _reference(model, {"name": file_name(folder.name), "model": str(folder), **given})
    for known in load_references().values():
        if model in (known.name, known.model):
            return _reference(model, {**known.model_dump(), **given})
    return _reference(model, {"name": file_name(model.rstrip("/").rsplit("/", 1)[-1]), "model": model, **given})


def _reference(model: str, fields: Mapping[str, Any]) -> Reference:
    try:
        return Reference.model_validate(fields)
    except ValidationError as error:
        remedy = "Run the command with --help"
        raise InputError(f"model '{model}'", error.errors()[0]["msg"], remedy) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 2 where what was asked for cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python -m thread_embed_assets.benchmark.score",
        description="Score a model beside BM25 and the base model on the benchmark's tasks that are on disk.",
    )
    parser.add_argument("model", help="a folder, a hub id, openai/... or voyage/..., or a name in models.yaml")
    parser.add_argument("--source", action="append", default=[], help="may be repeated; by default all with tasks")
    parser.add_argument(
        "--format",
        action="append",
        default=[],
        choices=list(FORMATS),
        help="how texts are written for it; may be repeated, then the best on dev is taken (default: its own, else plain)",
    )
    parser.add_argument("--query-prompt", help="written before every query (default: what the model's settings say)")
    parser.add_argument("--document-prompt", help="written before every document")
    parser.add_argument("--pooling", choices=get_args(Pooling), help="for a folder without modules.json")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "bm25s"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        wanted = reference_of(options.model, options.query_prompt, options.document_prompt, options.pooling)
        print(score(wanted, options.source, options.format, Layout.from_environment()))
    except InputError as error:
        print(f"score: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
