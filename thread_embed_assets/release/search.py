"""Find the conversation that a sentence is about: ``thread-embed search "..." --source NAME``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from thread_embed_assets.benchmark.by_window import ByWindow, windows
from thread_embed_assets.benchmark.contenders import text_format_of
from thread_embed_assets.benchmark.embeddings import EmbeddingCache, Encoder, ModelEncoder
from thread_embed_assets.benchmark.retrievers import best_first
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.read import read_conversations
from thread_embed_assets.errors import InputError
from thread_embed_assets.language_models.anthropic_api import ChatModel
from thread_embed_assets.release.command import add_release_command, run_release
from thread_embed_assets.release.weights import find_released, released_models, unpack
from thread_embed_assets.reranker.candidates import Floats
from thread_embed_assets.reranker.command import add_route_command, run_route
from thread_embed_assets.reranker.router import Embedder
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.base_models import local_folder, model_fingerprint

LINES_SHOWN = 4
_SHOWN = FORMATS["speakers"]


@dataclass(frozen=True)
class Hit:
    """A thread that was found.

    Attributes:
        score: how well the query fits one of its windows and all of it (:class:`ByWindow`).
        started_at: None where the source has no times.
        lines: its first messages, people as ``speaker_k``.
        messages: how many it has.
    """

    conversation_id: str
    channel: str
    score: float
    started_at: datetime | None
    lines: tuple[str, ...]
    messages: int


def search(
    query: str, source: str, layout: Layout, text_format: str, encoder: Encoder, top: int = 5, lines: int = LINES_SHOWN
) -> list[Hit]:
    """The ``top`` threads of a source nearest to the query, best first, long ones read by window.

    Every thread is embedded once and then kept in the embedding cache.

    Args:
        query: what is looked for, in any words.
        source: a source whose conversations are materialised.
        layout: where they lie.
        text_format: how the model was trained to read a thread.
        encoder: the model.
        top: how many to return.
        lines: messages shown of each.

    Raises:
        InputError: the source's conversations are not there, or the query is blank.
    """
    if not query.strip():
        raise InputError(
            "search", "the query is blank", 'Give some words, such as: thread-embed search "why did the build fail"'
        )
    path = layout.conversations(source)
    conversations, messages = open_table(path, "conversations"), open_table(path, "messages")
    found: list[Hit] = []
    texts: list[str] = []
    for conversation in read_conversations(conversations, messages):
        text = FORMATS[text_format].render(conversation.messages)
        if not text.strip():
            continue
        started = None if conversation.start is None else datetime.fromtimestamp(conversation.start, UTC)
        shown = tuple(_SHOWN.render(conversation.messages[:lines]).split("\n")[:lines])
        found.append(Hit(conversation.id, conversation.channel, 0.0, started, shown, len(conversation.messages)))
        texts.append(text)
    if not found:
        return []
    cache = EmbeddingCache(layout.embedding_cache)
    parts = [windows(text) for text in texts]
    index = ByWindow(
        cache.embed(encoder, [query], "query"),
        cache.embed(encoder, [window for windows_of in parts for window in windows_of], "document"),
        list(map(len, parts)),
        cache.embed(encoder, texts, "document"),
    )
    scores = np.round(index.block(0, 1)[0], 6)
    return [replace(found[place], score=float(scores[place])) for place in best_first(scores, top)]


def model_for_search(layout: Layout, wanted: str | None) -> Path:
    """The folder of the wanted model (a folder, a released model's name, an id), else of the promoted, else of the released.

    Raises:
        InputError: there is none, or several are released and none is wanted.
    """
    if wanted is not None:
        named = find_released(wanted, layout)
        return unpack(named, layout) if named else local_folder(wanted)
    folder = layout.promoted_model
    if (folder / "modules.json").exists():
        return folder
    released = released_models(layout)
    if len(released) == 1:
        return unpack(released[0], layout)
    if released:
        names = ", ".join(one.name for one in released)
        raise InputError(layout.released, "several models are released", f"Name one with --model: {names}")
    remedy = "Run make demo, or name another with --model sentence-transformers/all-MiniLM-L6-v2"
    raise InputError(folder, "no model is promoted yet", remedy)


def show(hits: Sequence[Hit]) -> str:
    """The hits as text for a terminal."""
    blocks = []
    for rank, hit in enumerate(hits, start=1):
        date = f"{hit.started_at:%Y-%m-%d %H:%M}" if hit.started_at else "no date"
        head = f"{rank}. {hit.score:.3f}  {hit.channel}  {date}  {hit.messages} messages"
        blocks.append("\n".join([head, *(f"     {line}" for line in hit.lines)]))
    return "\n\n".join(blocks) if blocks else "no threads"


def _embedder(layout: Layout) -> Embedder | None:
    """Of the promoted or the released model, loaded when the first text comes; None where there is none."""
    try:
        folder = model_for_search(layout, None)
    except InputError:
        return None
    encoder = ModelEncoder(folder, model_fingerprint(folder))

    def embed(text: str) -> Floats:
        vector: Floats = encoder.encode([text], "document")[0]
        return vector

    return embed


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script ``thread-embed``; returns its exit status."""
    parser = argparse.ArgumentParser(prog="thread-embed", description="Find conversations by what they are about")
    commands = parser.add_subparsers(dest="command", required=True)
    find = commands.add_parser("search", help="print the threads nearest to a sentence")
    find.add_argument("query")
    find.add_argument("--source", required=True, help="a source of catalog.yaml whose conversations are materialised")
    find.add_argument("--model", help="a model folder, a released model's name or an id (default: models/thread-embed)")
    find.add_argument("--top", type=int, default=5, help="threads to print (default: 5)")
    add_release_command(commands)
    add_route_command(commands)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.environ.setdefault("TQDM_DISABLE", "1")  # loading a small model needs no progress bar
    layout = Layout.from_environment()
    try:
        if options.command == "release":
            print(run_release(options, layout))
            return 0
        if options.command == "route":
            print(run_route(options, layout, _embedder(layout), ChatModel))
            return 0
        folder = model_for_search(layout, options.model)
        encoder = ModelEncoder(folder, model_fingerprint(folder))
        print(show(search(options.query, options.source, layout, text_format_of(folder), encoder, options.top)))
    except InputError as error:
        print(f"thread-embed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(["search", *sys.argv[1:]]))
