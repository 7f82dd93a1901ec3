"""Embeddings on disk, keyed by model and text: each distinct text is embedded once, for every task and every run."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import atomic_file

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]
Role = Literal["query", "document"]
SHARD_ROWS = 1024
_KEY_BYTES = 16


class Encoder(Protocol):
    """A model as the cache sees it."""

    @property
    def fingerprint(self) -> str:
        """Names the weights and everything else that decides the vectors; a safe folder name."""
        ...

    def role_key(self, role: Role) -> str:
        """Equal for two roles only where the model embeds a text the same way in both."""
        ...

    def encode(self, texts: Sequence[str], role: Role) -> npt.NDArray[Any]:
        """Vectors [len(texts), dim]."""
        ...


class ModelEncoder:
    """A SentenceTransformer, loaded when the first text is not in the cache.

    Queries and documents go through ``encode_query`` and ``encode_document``, so a model gets the prompts it was
    trained with.
    """

    def __init__(self, model: Path | str, fingerprint: str, device: str | None = None, batch_size: int = 64) -> None:
        self.fingerprint = fingerprint
        self._model = str(model)
        self._device = device
        self._batch_size = batch_size
        self._loaded: Any = None

    def role_key(self, role: Role) -> str:
        folder = Path(self._model)
        if not folder.is_dir():
            return role
        settings = folder / "config_sentence_transformers.json"
        modules = folder / "modules.json"
        prompts = json.loads(settings.read_text("utf-8")).get("prompts") if settings.exists() else None
        routed = modules.exists() and any("Router" in m.get("type", "") for m in json.loads(modules.read_text("utf-8")))
        return role if routed or any((prompts or {}).values()) else ""

    def encode(self, texts: Sequence[str], role: Role) -> npt.NDArray[Any]:
        if self._loaded is None:
            from sentence_transformers import SentenceTransformer

            self._loaded = SentenceTransformer(self._model, device=self._device)
        embed = self._loaded.encode_query if role == "query" else self._loaded.encode_document
        vectors: npt.NDArray[Any] = embed(
            list(texts), batch_size=self._batch_size, convert_to_numpy=True, show_progress_bar=False
        )
        return vectors


class EmbeddingCache:
    """Vectors in shard files, ``folder/<model fingerprint>/<shard>.vectors``.

    A shard is written under a temporary name and renamed, so a kill loses at most one shard of work, and processes
    that share the folder never see half a shard. Two that embed the same text at once write it twice, which is harmless.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.embedded = 0

    def embed(self, encoder: Encoder, texts: Sequence[str], role: Role = "document") -> Vectors:
        """Unit vectors, float32 [len(texts), dim], in the order of ``texts``; [0, 0] for no texts.

        Raises:
            InputError: the model gave a vector that is not finite, or another number of them than it was given texts.
        """
        role_key = encoder.role_key(role)
        keys = [_key(role_key, text) for text in texts]
        text_of = dict(zip(keys, texts, strict=True))
        rows = {key: row for row, key in enumerate(text_of)}
        vectors: Vectors | None = None
        missing = set(rows)
        for shard_keys, shard_vectors in self._stored(encoder.fingerprint, missing):
            vectors = _room(vectors, len(rows), shard_vectors.shape[1])
            for key, vector in zip(shard_keys, shard_vectors, strict=True):
                if key in missing:
                    vectors[rows[key]] = vector
                    missing.discard(key)
        todo = sorted(missing, key=lambda key: (-len(text_of[key]), key))
        for start in range(0, len(todo), SHARD_ROWS):
            part = todo[start : start + SHARD_ROWS]
            fresh = _unit(encoder.encode([text_of[key] for key in part], role), len(part), encoder.fingerprint)
            self._write(encoder.fingerprint, part, fresh)
            self.embedded += len(part)
            vectors = _room(vectors, len(rows), fresh.shape[1])
            vectors[[rows[key] for key in part]] = fresh
            logger.info("embedded %d of %d texts (%s)", start + len(part), len(todo), encoder.fingerprint[:12])
        if vectors is None:
            return np.empty((0, 0), dtype=np.float32)
        return vectors[[rows[key] for key in keys]]

    def _stored(self, fingerprint: str, wanted: set[bytes]) -> Iterator[tuple[list[bytes], Vectors]]:
        for path in sorted((self.folder / fingerprint).glob("*.vectors")):
            if not wanted:
                return
            with path.open("rb") as file:
                try:
                    keys = [bytes(key) for key in _load(file).tolist()]
                    found = [i for i, key in enumerate(keys) if key in wanted]
                    vectors = _load(file)[found] if found else None
                except (ValueError, EOFError) as error:
                    logger.warning("%s is damaged (%s); its texts are embedded again", path, error)
                    path.unlink(missing_ok=True)
                    continue
            if vectors is not None:
                yield [keys[i] for i in found], vectors

    def _write(self, fingerprint: str, keys: Sequence[bytes], vectors: Vectors) -> None:
        name = hashlib.blake2b(b"".join(keys), digest_size=8).hexdigest()
        with atomic_file(self.folder / fingerprint / f"{name}.vectors") as part, part.open("wb") as file:
            np.save(file, np.frombuffer(b"".join(keys), dtype=f"V{_KEY_BYTES}"))
            np.save(file, vectors)


def _load(file: IO[bytes]) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
    return array


def _key(role_key: str, text: str) -> bytes:
    return hashlib.blake2b(f"{role_key}\0{text}".encode(), digest_size=_KEY_BYTES).digest()


def _room(vectors: Vectors | None, rows: int, size: int) -> Vectors:
    return np.zeros((rows, size), dtype=np.float32) if vectors is None else vectors


def _unit(vectors: npt.NDArray[Any], count: int, fingerprint: str) -> Vectors:
    result = np.asarray(vectors, dtype=np.float32)
    if result.ndim != 2 or len(result) != count:
        raise InputError(
            f"model {fingerprint}", f"it gave an array {result.shape} for {count} texts", "Check the model folder"
        )
    if not np.isfinite(result).all():
        raise InputError(
            f"model {fingerprint}", "some of its vectors are not finite", "Train it again, or check its weights"
        )
    return unit(result)


def unit(vectors: Vectors) -> Vectors:
    """The rows divided by their length; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)
