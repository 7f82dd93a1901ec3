"""Released models: small differences from a base that travel in the repository, below ``models/released``.

A folder there has ``delta.safetensors``, ``manifest.json``, ``results.json`` and ``README.md``. The model that base and
difference make is the released model, the same bit for bit wherever it is put together (see ``release.delta``)::

    from thread_embed_assets.release.weights import load

    model = load("minilm-open")
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thread_embed_assets.benchmark.contamination import examine, lineage
from thread_embed_assets.chat.model import Split
from thread_embed_assets.errors import InputError
from thread_embed_assets.release import delta
from thread_embed_assets.release.weights_card import card
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.storage.atomic import atomic_folder, temporary_folder, write_text
from thread_embed_assets.storage.fingerprint import of_file
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.base_models import local_folder
from thread_embed_assets.training.checkpoint import MODEL_DETAILS, Checkpoint
from thread_embed_assets.training.config import PROFILES, stage_config
from thread_embed_assets.training.token_weights import FOLDER as TOKENS_FOLDER
from thread_embed_assets.training.token_weights import TENSOR, declare_token_weights
from thread_embed_assets.verdict import Verdict, no_faults

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

DELTA, MANIFEST, RESULTS, CARD = "delta.safetensors", "manifest.json", "results.json", "README.md"
FORMAT = "thread-embed-release-1"
MOST_BYTES = 12_000_000
LEAST_COSINE = 0.99
TASK_TABLES = ("queries", "corpus", "qrels", "candidates")
_SALTED = frozenset({"person_ids", "text_people"})
_OTHER_FILES = 200_000  # bytes kept free for manifest, results and card
_WEIGHTS = "model.safetensors"
_OF_TOKENS = "token_weights"  # in the delta file, whole: no base has them
_SETTINGS = frozenset({".json", ".txt", ".model"})
_NOT_SETTINGS = frozenset({"data_config.json", "model.safetensors.index.json"})
_TOKENS_NAME = f"{TOKENS_FOLDER}|{TENSOR}"
_OTHER_RUNTIMES = frozenset({"onnx", "openvino"})
_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]*$")
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
_TEXTS = 96
_MADE_TEXTS = (
    "the build is green again",
    "does anyone else see the nightly job time out?",
    "try to restart the router, then ping me",
    "I'm out for lunch, back at two",
    "which branch has the fix for the login page?\nit's on main since monday",
)
_KEPT = (
    "mix",
    "stage",
    "fingerprint",
    "config",
    "data",
    "inputs",
    "device",
    "seconds",
    "tokens",
    "steps",
    "dev",
    "versions",
)


@dataclass(frozen=True)
class Released:
    """A released model as it lies in the repository."""

    folder: Path
    manifest: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def weights_sha256(self) -> str:
        """Of the restored weights (:func:`thread_embed_assets.release.delta.digest`)."""
        return str(self.manifest["weights_sha256"])

    @property
    def fingerprint(self) -> str:
        return self.weights_sha256[:16]

    @property
    def text_format(self) -> str:
        return str(self.manifest["text_format"])

    @property
    def sources(self) -> list[str]:
        """What it was trained on, in any of its stages."""
        return sorted(self.manifest["sources"])

    def checkpoint(self) -> Checkpoint:
        """As the benchmark looks at a checkpoint: what its last stage was trained on, and ``earlier`` stages with it."""
        last, *earlier = self.manifest["stages"]
        return Checkpoint(self.folder, str(last["fingerprint"]), {**last, "earlier": earlier})


def pack(
    checkpoint: Checkpoint,
    layout: Layout,
    catalog: Mapping[str, Source],
    name: str,
    *,
    tasks: Mapping[str, Path] | None = None,
    trained_by: str = "",
) -> Released:
    """Write ``models/released/<name>``, whole or not at all.

    Args:
        checkpoint: of the last stage; the earlier ones are found from it.
        layout: where they, the pair tables and the released models lie.
        catalog: tells which sources may be passed on.
        name: of the folder.
        tasks: source to its tasks file: with these all training texts are compared, and what was found is kept.
        trained_by: the command that trained it; found out where a profile's own settings did.

    Raises:
        InputError: a source may not be passed on, test texts stand in training texts, the base is not to be had by others,
            the difference does not fit, or what it restores is another model.
    """
    if not _NAME.match(name):
        raise InputError(f"name '{name}'", "it names a folder", "Use lower-case letters, digits, '-', '_' and '.'")
    missing: list[str] = []
    stages = list(lineage(checkpoint, layout, missing))
    if missing:
        raise InputError(checkpoint.folder, missing[0], "What it was trained on must be known")
    sources = _sources(stages, catalog)
    base_id = str(stages[-1].manifest["base_model"]["id"])
    if not _HUB_ID.match(base_id):
        raise InputError(checkpoint.folder, f"its base {base_id!r} is no hub id", "Train from a base that others can fetch")
    rebuild = _rebuild(stages, sorted(sources), name, trained_by)
    compared = _compared(checkpoint, layout, tasks or {})
    base, trained = weights_of(local_folder(base_id)), weights_of(checkpoint.model)
    of_tokens = {_OF_TOKENS: trained.pop(_TOKENS_NAME)} if _TOKENS_NAME in trained else {}
    free = MOST_BYTES - _OTHER_FILES - sum(value.nbytes for value in of_tokens.values())
    tensors, encodings = delta.encode(base, trained, free)
    tensors |= of_tokens
    restored = _decode(base, tensors, encodings)
    details = json.loads((checkpoint.model / MODEL_DETAILS).read_text(encoding="utf-8"))
    with atomic_folder(layout.released / name) as part:
        delta.save(part / DELTA, tensors, encodings)
        manifest = {
            "format": FORMAT,
            "name": name,
            "base_model": {"id": base_id, "weights_sha256": delta.digest(base)},
            "delta_sha256": of_file(part / DELTA),
            "weights_sha256": delta.digest(restored),
            "text_format": details["text_format"],
            "dimension": checkpoint.manifest["dimension"],
            "matryoshka_dims": checkpoint.manifest["matryoshka_dims"],
            "sources": sources,
            "stages": _told(stages, base_id),
            "compared": compared,
            "rebuild": rebuild,
        }
        texts = _texts(stages, layout)
        with temporary_folder(layout.restored(name, "trial")) as trial:
            _write_model(manifest, restored, trial)
            fidelity = _fidelity(local_folder(base_id), checkpoint.model, trial, texts or _MADE_TEXTS)
        results = {"fidelity": {**fidelity, "of": "dev pairs" if texts else "made sentences"}, "leaderboard": []}
        _write(part, manifest, results)
        size = sum(file.stat().st_size for file in part.iterdir())
        if size > MOST_BYTES:
            raise InputError(part, f"the folder has {size} bytes, {MOST_BYTES} are allowed", "Make the manifest smaller")
    logger.info("released %s: %d bytes, %s", name, size, results["fidelity"])
    return Released(layout.released / name, manifest)


def _sources(stages: Sequence[Checkpoint], catalog: Mapping[str, Source]) -> dict[str, dict[str, Any]]:
    """The sources of all stages with licence, revision and rows; raises where one may not be passed on."""
    rows: dict[str, int] = {}
    for stage in stages:
        for given in stage.manifest["inputs"]:
            if given["rows_used"]:
                rows[str(given["source"])] = rows.get(str(given["source"]), 0) + int(given["rows_used"])
    unknown = [name for name in rows if name not in catalog]
    withheld = [name for name in rows if name in catalog and not catalog[name].redistribute]
    if unknown or withheld or not rows:
        told = [f"{name} is in no catalogue" for name in unknown]
        told += [f"{name} may not be passed on (licence: {catalog[name].licence})" for name in withheld]
        problem = f"it was trained on sources that a released model must not hold: {'; '.join(told)}"
        raise InputError(
            stages[0].folder, problem if told else "its manifest names no source it was trained on", "Release the mix 'open'"
        )
    return {
        name: {
            "title": catalog[name].title,
            "licence": catalog[name].licence,
            "revision": catalog[name].revision,
            "rows_used": rows[name],
        }
        for name in sorted(rows)
    }


def _rebuild(stages: Sequence[Checkpoint], sources: Sequence[str], name: str, trained_by: str) -> list[str]:
    mix = str(stages[0].manifest["mix"])
    if not trained_by:
        profile = next((profile for profile in PROFILES if all(_is_of(profile, stage) for stage in stages)), None)
        if profile is None:
            problem = "no profile has the settings it was trained with, so the command that rebuilds it is not known"
            raise InputError(stages[0].folder, problem, "Name the command with --trained-by")
        graph = "python -m thread_embed_assets.defs.run_graph"
        trained_by = f"{graph} --sources {','.join(sources)} --mix {mix} --profile {profile}"
    return [trained_by, f"thread-embed release {name} --mix {mix}"]


def _is_of(profile: str, stage: Checkpoint) -> bool:
    name, config = str(stage.manifest["stage"]), stage.manifest["config"]
    if name not in PROFILES[profile]:
        return False
    return bool(stage_config(profile, name, base_model=config["base_model"]).model_dump(mode="json") == config)


def _compared(checkpoint: Checkpoint, layout: Layout, tasks: Mapping[str, Path]) -> dict[str, Any]:
    """By source: which tasks, and how many of their texts stand in training texts; empty where that is not to be known."""
    if not tasks:
        return {}
    findings = examine(tasks, [checkpoint], layout)
    if findings.unproved:
        logger.warning("the training texts are not compared with the tasks: %s", "; ".join(findings.unproved[:3]))
        return {}
    if findings.found(Split.TEST):
        raise InputError(checkpoint.folder, findings.verdict().description, "Nothing is released")
    return {
        source: {
            "tasks": tasks_fingerprint(path),
            "training_texts": findings.training_texts,
            "test_texts_hit": 0,
            "dev_texts_hit": sum(owner.source == source for owner in findings.texts_hit[Split.DEV]),
        }
        for source, path in sorted(tasks.items())
    }


def tasks_fingerprint(tasks: Path) -> str:
    """Names the content of a tasks file, the same in every installation: people's opaque ids are salted anew in each."""
    found = hashlib.sha256()
    for name in TASK_TABLES:
        table = open_table(tasks, name)
        columns = [column for column in table.schema.names if column not in _SALTED]
        for row in table.rows_as_dicts(columns):
            found.update(json.dumps(row, sort_keys=True, default=_in_utc).encode())
    return found.hexdigest()


def _in_utc(time: datetime) -> str:
    return time.astimezone(UTC).isoformat()


def _told(stages: Sequence[Checkpoint], base_id: str) -> list[dict[str, Any]]:
    """What the stages' manifests say, without the paths of the machine that trained them."""
    names = ["/".join(str(stage.manifest[key]) for key in ("mix", "stage", "fingerprint")) for stage in stages]
    told = []
    for stage, started_from in zip(stages, [*names[1:], base_id], strict=True):
        kept = {key: stage.manifest[key] for key in _KEPT if key in stage.manifest}
        guide = stage.manifest.get("guide_model")
        kept["config"] = {**kept["config"], "base_model": started_from, "guide_model": guide and guide["id"]}
        told.append({**kept, "base_model": {**stage.manifest["base_model"], "id": started_from}})
    return told


def _texts(stages: Sequence[Checkpoint], layout: Layout) -> list[str]:
    """Masked dev texts of the tables it was trained on, spread evenly over those that are here."""
    places = dict.fromkeys((str(i["strategy"]), str(i["source"])) for s in stages for i in s.manifest["inputs"])
    tables = [path for path in (layout.pairs(*place) for place in places) if path.exists()]
    found: list[str] = []
    for number, path in enumerate(tables):
        wanted = _TEXTS * (number + 1) // len(tables) - len(found)
        rows = open_table(path, "pairs").rows_as_dicts(["positive"], f"split = '{Split.DEV}'", "md5(pair_id)")
        found += [row["positive"] for row, _ in zip(rows, range(wanted), strict=False)]
    return found


def _fidelity(base: Path, trained: Path, restored: Path, texts: Sequence[str]) -> dict[str, Any]:
    """How near the restored model's vectors are to the trained model's; raises where it is another model."""
    model, copy = _open(trained), _open(restored)
    for what in ("max_seq_length", "prompts", "similarity_fn_name"):
        if getattr(model, what) != getattr(copy, what):
            problem = f"its {what} is {getattr(model, what)!r}, and its base's {getattr(copy, what)!r}"
            raise InputError(trained, problem, "A released model reads texts as its base does")
    vectors, copied, before = _vectors(model, texts), _vectors(copy, texts), _vectors(_open(base), texts)
    cosines = (vectors * copied).sum(axis=1)
    if cosines.mean() < LEAST_COSINE:
        raise InputError(
            trained,
            f"what is left of it has a cosine of {cosines.mean():.4f} with it, at least {LEAST_COSINE} is wanted",
            "Train an adapter, or freeze the word embeddings, so that fewer numbers change",
        )
    change = float(np.linalg.norm(vectors - before))
    return {
        "texts": len(texts),
        "cosine_mean": round(float(cosines.mean()), 7),
        "cosine_min": round(float(cosines.min()), 7),
        "cosine_of_base_mean": round(float((vectors * before).sum(axis=1).mean()), 7),
        "error_of_change": round(float(np.linalg.norm(vectors - copied)) / change, 6) if change else 0.0,
    }


def _open(folder: Path) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def _vectors(model: SentenceTransformer, texts: Sequence[str]) -> NDArray[np.float64]:
    vectors = np.asarray(model.encode(list(texts), show_progress_bar=False), dtype=np.float64)
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _write(folder: Path, manifest: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    for name, content in ((MANIFEST, manifest), (RESULTS, results)):
        write_text(folder / name, json.dumps(content, indent=1, sort_keys=True) + "\n")
    write_text(folder / CARD, card(manifest, results))


def add_results(released: Released, rows: Iterable[Mapping[str, Any]]) -> None:
    """Put the leaderboard's rows of this model into ``results.json`` and the card.

    Raises:
        InputError: there is no row.
    """
    kept = [dict(row) for row in rows]
    if not kept:
        raise InputError(
            released.folder, "the leaderboard has no row of it", "Materialise benchmark_results and leaderboard"
        )
    results = json.loads((released.folder / RESULTS).read_text(encoding="utf-8"))
    _write(released.folder, released.manifest, {**results, "leaderboard": kept})


def open_released(folder: Path) -> Released:
    """The released model of a folder.

    Raises:
        InputError: it has no manifest, or one that this code does not read.
    """
    path = folder / MANIFEST
    remedy = "Check the folder out again, or pack the model again"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"the manifest cannot be read ({error})", remedy) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(path, f"this is no manifest of the format {FORMAT}", remedy)
    return Released(folder, manifest)


def released_models(layout: Layout) -> list[Released]:
    """Those below ``models/released``, by name."""
    folder = layout.released
    found = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")) if folder.is_dir() else []
    return [open_released(path) for path in found]


def find_released(name_or_folder: str | Path, layout: Layout) -> Released | None:
    """A released model by its name or folder; None where there is none."""
    for folder in (Path(name_or_folder).expanduser(), layout.released / name_or_folder):
        if (folder / DELTA).exists():
            return open_released(folder)
    return None


def load(name_or_folder: str | Path, layout: Layout | None = None) -> SentenceTransformer:
    """A released model as a ``SentenceTransformer``, put together on first use.

    Raises:
        InputError: there is none of that name, or :func:`unpack` fails.
    """
    from sentence_transformers import SentenceTransformer

    place = layout or Layout.from_environment()
    released = find_released(name_or_folder, place)
    if released is None:
        known = ", ".join(one.name for one in released_models(place)) or "none"
        raise InputError(f"released model '{name_or_folder}'", "there is none of that name", f"There are: {known}")
    return SentenceTransformer(str(unpack(released, place)), local_files_only=True)


def unpack(released: Released, layout: Layout) -> Path:
    """The folder that ``SentenceTransformer`` loads, made where it is not there, and its weights verified each time.

    Raises:
        InputError: see :func:`restore`.
    """
    folder = layout.restored(released.name, released.fingerprint)
    if not (folder / MODEL_DETAILS).exists() or delta.digest(weights_of(folder)) != released.weights_sha256:
        with atomic_folder(folder) as part:
            restore(released, part)
    return folder


def restore(released: Released, folder: Path) -> None:
    """Write base plus difference to an empty folder.

    Raises:
        InputError: the base is not to be had or is another one, the delta is damaged, or what comes out is not the model.
    """
    path, base_model = released.folder / DELTA, released.manifest["base_model"]
    if not path.exists() or of_file(path) != released.manifest["delta_sha256"]:
        raise InputError(path, "it is not the file that the manifest names", "Check the folder out again, or pack it again")
    base_folder = local_folder(str(base_model["id"]))
    base = weights_of(base_folder)
    if delta.digest(base) != base_model["weights_sha256"]:
        problem = f"the weights are not those of {base_model['id']} that {released.name} was taken from"
        raise InputError(base_folder, problem, "Remove the changed copy, so that the original is found or fetched")
    weights = _decode(base, *delta.load(path))
    if delta.digest(weights) != released.weights_sha256:
        problem = "base and difference make other weights than when it was packed"
        raise InputError(released.folder, problem, "Report it with the versions of numpy and Python, and pack it again")
    _write_model(released.manifest, weights, folder)


def restores_bit_for_bit(layout: Layout) -> Verdict:
    """Base and difference of every released model make the weights that its manifest names, and its folder is small."""
    faults: list[str] = []
    released = released_models(layout)
    for one in released:
        size = sum(file.stat().st_size for file in one.folder.iterdir())
        if size > MOST_BYTES:
            faults.append(f"{one.name} has {size} bytes, {MOST_BYTES} are allowed")
        try:
            with temporary_folder(layout.restored(one.name, "check")) as folder:
                restore(one, folder)
        except InputError as error:
            faults.append(str(error))
    return no_faults("released models that are not what their manifest says", faults, len(released))


def may_be_passed_on(layout: Layout, catalog: Mapping[str, Source]) -> Verdict:
    """Every released model was trained only on sources that the catalogue lets pass on."""
    faults: list[str] = []
    released = released_models(layout)
    for one in released:
        try:
            _sources(
                [one.checkpoint(), *(Checkpoint(one.folder, "", stage) for stage in one.manifest["stages"][1:])], catalog
            )
        except InputError as error:
            faults.append(str(error))
    return no_faults("released models of sources that may not be passed on", faults, len(released))


def _decode(base: delta.Weights, tensors: delta.Weights, encodings: Mapping[str, delta.Encoding]) -> dict[str, delta.Array]:
    of_tokens = {_TOKENS_NAME: tensors[_OF_TOKENS]} if _OF_TOKENS in tensors else {}
    return delta.decode(base, tensors, encodings) | of_tokens


def _write_model(manifest: Mapping[str, Any], weights: delta.Weights, folder: Path) -> None:
    """The base's settings, the weights, and what they were trained with."""
    from safetensors.numpy import save_file

    base = local_folder(str(manifest["base_model"]["id"]))
    for path in sorted(p for p in base.rglob("*") if p.is_file() and p.suffix in _SETTINGS):
        place = path.relative_to(base)
        if place.parts[0] not in _OTHER_RUNTIMES and place.name not in _NOT_SETTINGS:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / place)
    _say_fp32(folder / "config.json")
    if _TOKENS_NAME in weights:
        declare_token_weights(folder, weights[_TOKENS_NAME])
    parts: dict[str, dict[str, Any]] = {}
    for name, value in weights.items():
        place_name, _, tensor = name.rpartition("|")
        parts.setdefault(place_name, {})[tensor] = value
    for place_name, tensors in parts.items():
        save_file(tensors, folder / place_name / _WEIGHTS, {"format": "pt"})
    last = manifest["stages"][0]
    details = {
        "released": manifest["name"],
        "text_format": manifest["text_format"],
        "base_model": manifest["base_model"]["id"],
        "sources": sorted(manifest["sources"]),
        **{key: last[key] for key in ("mix", "stage", "fingerprint")},
    }
    write_text(folder / MODEL_DETAILS, json.dumps(details, indent=1, sort_keys=True) + "\n")


def _say_fp32(path: Path) -> None:
    """A base in half precision names it in its settings, and would be loaded so."""
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    named = {key: "float32" for key in ("dtype", "torch_dtype") if config.get(key) not in (None, "float32")}
    if named:
        write_text(path, json.dumps({**config, **named}, indent=1) + "\n")


def weights_of(folder: Path) -> dict[str, delta.Array]:
    """All tensors of a model folder; a name is the module's folder, ``|`` and the tensor.

    Raises:
        InputError: there are no safetensors, they are damaged, or of a type that numpy does not have.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    files = sorted(folder.rglob(_WEIGHTS))
    if not files:
        raise InputError(folder, f"it has no {_WEIGHTS}", "Name a model whose weights are in one safetensors file")
    weights: dict[str, delta.Array] = {}
    for file in files:
        place = file.parent.relative_to(folder).as_posix().removeprefix(".")
        try:
            weights |= {f"{place}|{name}": value for name, value in load_file(file).items()}
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise InputError(
                file, f"the weights cannot be read ({type(error).__name__}: {error})", "Fetch it again"
            ) from error
    return weights
