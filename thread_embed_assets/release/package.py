"""The promoted model: a folder in the hub's format that loads with plain ``SentenceTransformer``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thread_embed_assets.benchmark.contenders import text_format_of
from thread_embed_assets.chat import formats
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.card_facts import Facts
from thread_embed_assets.release.history import new_package
from thread_embed_assets.release.weights import find_released, unpack
from thread_embed_assets.storage.atomic import write_text
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import MODEL_DETAILS, MODEL_FOLDER, identity_of
from thread_embed_assets.verdict import Verdict

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CARD = "README.md"
CHAT_TEXT = "chat_text.py"
LICENCE = "LICENSE"
TOLERANCE = 1e-5  # of any component of a vector
_MODULES = "modules.json"
_POOLING = "1_Pooling"
_LIBRARY = "sentence_transformers."
_REMEDY = "Materialise the checkpoint again, then the model package"
PROBES = (
    "anyone else seeing the nightly build time out?",
    "  which branch has the fix?\nit's on main since monday\n\nok, I'll rebase [SEP] tomorrow ",
    "lunch?",
    "the ingest queue has been full since noon, restart the worker\n" * 60,
)


def publish(model_folder: Path, layout: Layout, facts: Facts, why: str = "") -> Path:
    """Package a model, with its card and the helper for chats, and promote it; the old one stays if anything fails.

    Whether it should be is :mod:`.promotion`'s to say.

    Args:
        model_folder: a folder that SentenceTransformer loads, of a checkpoint or of a released model put together.
        layout: where the promoted model lies.
        facts: for the card.
        why: for the record of promotions.

    Returns:
        The folder of the promoted model.

    Raises:
        InputError: there is no such model, or the copy does not load and embed as it does.
    """
    from thread_embed_assets.release.model_card import model_card

    if not (model_folder / _MODULES).exists():
        raise InputError(model_folder, "this is not the folder of a SentenceTransformer", _REMEDY)
    with new_package(layout, identity_of(model_folder), why) as part:
        shutil.copytree(model_folder, part, dirs_exist_ok=True)
        shutil.copyfile(formats.__file__, part / CHAT_TEXT)
        text_format = text_format_of(part)
        _as_the_hub_has_it(part)
        _say_how_it_reads(part / formats.SETTINGS, text_format, facts)
        _name_all_sources(part / MODEL_DETAILS, facts)
        model = open_model(part, model_folder)
        far = distance(model, open_model(model_folder, model_folder))
        if not far <= TOLERANCE:
            raise InputError(model_folder, f"its copy embeds otherwise, by up to {far:.2g}", _REMEDY)
        write_text(part / CARD, model_card(model, facts, text_format))
        if not facts.withheld:
            shutil.copyfile(Path(__file__).with_name(LICENCE), part / LICENCE)
    return layout.promoted_model


def open_model(folder: Path, named: Path) -> SentenceTransformer:
    """The model of a folder, on the CPU; nothing is fetched, and no code but the library's is run.

    Raises:
        InputError: it does not load, or gives no finite vectors; told of the folder ``named``.
    """
    import numpy as np
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        vector = model.encode(PROBES[0], show_progress_bar=False)
    # Each missing or damaged file of a model folder fails in its own way; none of them is a fault of this function.
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, ImportError, SafetensorError) as error:
        raise InputError(named, f"the model does not load ({type(error).__name__}: {error})", _REMEDY) from error
    if not np.isfinite(vector).all():
        raise InputError(named, "the model's vectors are not finite", _REMEDY)
    return model


def distance(model: SentenceTransformer, other: SentenceTransformer) -> float:
    """The largest difference of a component of their vectors, on a few texts."""
    import numpy as np

    vectors, others = (np.asarray(one.encode(list(PROBES), show_progress_bar=False)) for one in (model, other))
    return float(np.abs(vectors - others).max()) if vectors.shape == others.shape else float("inf")


def _as_the_hub_has_it(folder: Path) -> None:
    """The pooling's settings in ``1_Pooling``, where readers of the hub look, though token weights come before it."""
    path = folder / _MODULES
    modules = json.loads(path.read_text(encoding="utf-8"))
    for module in modules:
        if module["type"].endswith(".Pooling") and module["path"] != _POOLING and not (folder / _POOLING).exists():
            (folder / module["path"]).rename(folder / _POOLING)
            module["path"] = _POOLING
    write_text(path, json.dumps(modules, indent=2) + "\n")


def _say_how_it_reads(path: Path, text_format: str, facts: Facts) -> None:
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    told["prompts"] = {"query": "", "document": ""} | (told.get("prompts") or {})
    told["similarity_fn_name"] = told.get("similarity_fn_name") or "cosine"
    told |= {"text_format": text_format, "matryoshka_dims": facts.dims}
    write_text(path, json.dumps(told, indent=2, sort_keys=True) + "\n")


def _name_all_sources(path: Path, facts: Facts) -> None:
    """Those of every stage: a checkpoint's own details name the last stage's, and who passes it on must know all."""
    if path.exists():
        details: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        write_text(path, json.dumps({**details, "sources": sorted(facts.sources)}, indent=1, sort_keys=True) + "\n")


def loads_plainly_and_encodes_the_same(layout: Layout) -> Verdict:
    """The promoted model needs no code but the library's, reads chat as it was trained to, and embeds as its checkpoint."""
    folder = layout.promoted_model
    try:
        settings = json.loads((folder / formats.SETTINGS).read_text(encoding="utf-8"))
        foreign = [
            m["type"]
            for m in json.loads((folder / _MODULES).read_text(encoding="utf-8"))
            if not m["type"].startswith(_LIBRARY)
        ]
        if foreign:
            return Verdict(False, f"it needs code that is not the library's: {', '.join(foreign)}")
        if settings.get("text_format") != text_format_of(folder):
            return Verdict(False, f"{formats.SETTINGS} and {MODEL_DETAILS} name different text formats")
        trained = trained_folder(layout)
        far = distance(open_model(folder, folder), open_model(trained, trained))
    except (OSError, ValueError, InputError) as error:
        return Verdict(False, str(error))
    description = (
        f"its vectors differ from those of the model it was taken from by {far:.2g} at most, {TOLERANCE} is allowed"
    )
    return Verdict(far <= TOLERANCE, description, {"difference": far})


def export_is_of_promoted(layout: Layout) -> bool:
    """Whether the ONNX package was exported from the model that is promoted now; raises OSError where either is missing."""
    return (layout.onnx_package / MODEL_DETAILS).read_bytes() == (layout.promoted_model / MODEL_DETAILS).read_bytes()


def exported_encodes_the_same(layout: Layout) -> Verdict:
    """The ONNX package is of the promoted model, and embeds as it does."""
    from thread_embed_assets.release import export

    folder = layout.promoted_model
    try:
        if not export_is_of_promoted(layout):
            return Verdict(False, f"{layout.onnx_package.name} was exported from another model. Materialise onnx_model")
        model = open_model(folder, folder)
        far = export.difference(model, layout.onnx_package)
        near = export.least_cosine_int8(model, layout.onnx_package)
    except (OSError, ValueError, InputError) as error:
        return Verdict(False, str(error))
    description = f"its vectors differ from torch's by {far:.2g} at most, {export.TOLERANCE} is allowed"
    if near is None:
        return Verdict(far <= export.TOLERANCE, description, {"difference": far})
    description += f"; the least cosine of its eight-bit vectors with torch's is {near:.3f}, {export.LEAST_COSINE} is asked"
    passed = far <= export.TOLERANCE and near >= export.LEAST_COSINE
    return Verdict(passed, description, {"difference": far, "cosine_int8": near})


def trained_folder(layout: Layout) -> Path:
    """The folder of the model that the promoted one is a copy of.

    Raises:
        InputError: it is not on this machine any more.
    """
    details = json.loads((layout.promoted_model / MODEL_DETAILS).read_text(encoding="utf-8"))
    released = find_released(details["released"], layout) if "released" in details else None
    if released is not None:
        return unpack(released, layout)
    run = layout.checkpoints(details["mix"], details["stage"]) / str(details["fingerprint"])
    if not (run / MODEL_FOLDER).is_dir():
        raise InputError(run, "the checkpoint that the promoted model was taken from is not there", _REMEDY)
    return run / MODEL_FOLDER
