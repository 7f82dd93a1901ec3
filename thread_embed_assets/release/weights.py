"""Released models: small differences from a base that travel in the repository, below ``models/released``.

A folder there has ``delta.safetensors``, ``manifest.json``, ``results.json`` and ``README.md``. The model that base and
difference make is the released model, the same bit for bit wherever it is put together (see ``release.delta``)::

    from thread_embed_assets.release.weights import load

    model = load("minilm-open")
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thread_embed_assets.errors import InputError
from thread_embed_assets.release import delta
from thread_embed_assets.release.weights_card import card
from thread_embed_assets.storage.atomic import atomic_folder, temporary_folder, write_text
from thread_embed_assets.storage.fingerprint import of_file
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.base_models import local_folder
from thread_embed_assets.training.checkpoint import MODEL_DETAILS, Checkpoint
from thread_embed_assets.training.token_weights import FOLDER as TOKENS_FOLDER
from thread_embed_assets.training.token_weights import TENSOR, declare_token_weights
from thread_embed_assets.verdict import Verdict, no_faults

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

DELTA, MANIFEST, RESULTS, CARD = "delta.safetensors", "manifest.json", "results.json", "README.md"
FORMAT = "thread-embed-release-1"
MOST_BYTES = 12_000_000
_WEIGHTS = "model.safetensors"
OF_TOKENS = "token_weights"  # in the delta file, whole: no base has them
_SETTINGS = frozenset({".json", ".txt", ".model"})
_NOT_SETTINGS = frozenset({"data_config.json", "model.safetensors.index.json"})
TOKENS_NAME = f"{TOKENS_FOLDER}|{TENSOR}"
_OTHER_RUNTIMES = frozenset({"onnx", "openvino"})


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


def write_settings(folder: Path, manifest: Mapping[str, Any], results: Mapping[str, Any]) -> None:
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
    write_settings(released.folder, released.manifest, {**results, "leaderboard": kept})


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


def named_released(name_or_folder: str | Path, layout: Layout) -> Released:
    """A released model by its name or folder.

    Raises:
        InputError: there is none of that name.
    """
    released = find_released(name_or_folder, layout)
    if released is None:
        known = ", ".join(one.name for one in released_models(layout)) or "none"
        raise InputError(f"released model '{name_or_folder}'", "there is none of that name", f"There are: {known}")
    return released


def load(name_or_folder: str | Path, layout: Layout | None = None) -> SentenceTransformer:
    """A released model as a ``SentenceTransformer``, put together on first use.

    Raises:
        InputError: there is none of that name, or :func:`unpack` fails.
    """
    from sentence_transformers import SentenceTransformer

    place = layout or Layout.from_environment()
    return SentenceTransformer(str(unpack(named_released(name_or_folder, place), place)), local_files_only=True)


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
    weights = decode(base, *delta.load(path))
    if delta.digest(weights) != released.weights_sha256:
        problem = "base and difference make other weights than when it was packed"
        raise InputError(released.folder, problem, "Report it with the versions of numpy and Python, and pack it again")
    write_model(released.manifest, weights, folder)


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


def decode(base: delta.Weights, tensors: delta.Weights, encodings: Mapping[str, delta.Encoding]) -> dict[str, delta.Array]:
    of_tokens = {TOKENS_NAME: tensors[OF_TOKENS]} if OF_TOKENS in tensors else {}
    return delta.decode(base, tensors, encodings) | of_tokens


def write_model(manifest: Mapping[str, Any], weights: delta.Weights, folder: Path) -> None:
    """The base's settings, the weights, and what they were trained with."""
    from safetensors.numpy import save_file

    base = local_folder(str(manifest["base_model"]["id"]))
    for path in sorted(p for p in base.rglob("*") if p.is_file() and p.suffix in _SETTINGS):
        place = path.relative_to(base)
        if place.parts[0] not in _OTHER_RUNTIMES and place.name not in _NOT_SETTINGS:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / place)
    _say_fp32(folder / "config.json")
    if TOKENS_NAME in weights:
        declare_token_weights(folder, weights[TOKENS_NAME])
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
