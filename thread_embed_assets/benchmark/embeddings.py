"""Embeddings on disk, keyed by model and text: each distinct text is embedded once, for every task and every run."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import atomic_file, write_text
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.training.token_weights import fit_token_weights

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]
Role = Literal["query", "document"]
Pooling = Literal["mean", "cls", "max", "lasttoken"]
Precision = Literal["fp32", "bf16"]
PRECISION_VARIABLE = "THREAD_EMBED_EMBED_PRECISION"
TIMING = "timing.json"
SHARD_ROWS = 1024
_KEY_BYTES = 16
_Keys = npt.NDArray[np.bytes_]


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


@runtime_checkable
class Preparing(Protocol):
    """An encoder with work to do before its first text, which is not counted as time spent on texts."""

    def prepare(self, texts: Sequence[str]) -> None:
        """Called with all the texts that are about to be encoded, in several parts."""
        ...


@runtime_checkable
class Metered(Protocol):
    """An encoder that is paid for."""

    def usage(self) -> Mapping[str, float]:
        """What was used since the last call, by unit."""
        ...


def precision_wanted() -> Precision:
    """The precision that ``THREAD_EMBED_EMBED_PRECISION`` names, fp32 where it is not set.

    Raises:
        InputError: it names another one.
    """
    named = os.environ.get(PRECISION_VARIABLE) or "fp32"
    if named not in get_args(Precision):
        raise InputError(PRECISION_VARIABLE, f"there is no precision {named!r}", "Set it to fp32 or bf16, or unset it")
    return cast("Precision", named)


class ModelEncoder:
    """A SentenceTransformer, loaded when the first text is not in the cache.

    Queries and documents go through ``encode_query`` and ``encode_document``, so a model gets the prompts it was
    trained with.

    Args:
        model: its folder, or a hub id.
        fingerprint: names its weights.
        device: by default the best there is.
        batch_size: texts that go through the model at once.
        query_prompt, document_prompt: written before every query and document; None leaves the model's own.
        pooling: how token vectors become one vector, where the model's folder does not say it.
        fitted_to: texts, such as the documents of an index, whose idf the model is to weigh its tokens by; None leaves its
            own weights. Only for a model that weighs its tokens.
        precision: bf16 computes matrix products in bfloat16 and keeps weights, norms and pooling in fp32; by default the
            one that ``THREAD_EMBED_EMBED_PRECISION`` names.
    """

    def __init__(
        self,
        model: Path | str,
        fingerprint: str,
        device: str | None = None,
        batch_size: int = 64,
        *,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        pooling: Pooling | None = None,
        precision: Precision | None = None,
        fitted_to: Sequence[str] | None = None,
    ) -> None:
        self._model = str(model)
        self._device = device
        self._batch_size = batch_size
        self._prompts: dict[Role, str | None] = {"query": query_prompt, "document": document_prompt}
        self._pooling = None if (Path(model) / "modules.json").exists() else pooling
        self.precision = precision or precision_wanted()
        self._fitted_to = fitted_to
        self._loaded: Any = None
        self.fingerprint = self._fingerprint(fingerprint)

    def _fingerprint(self, weights: str) -> str:
        """That of the weights alone where nothing else is said."""
        said: dict[str, str] = {role: prompt for role, prompt in self._prompts.items() if prompt is not None}
        said |= {"pooling": self._pooling} if self._pooling else {}
        said |= {"precision": self.precision} if self.precision != "fp32" else {}
        said |= {"fitted_to": of_json(sorted(self._fitted_to))} if self._fitted_to is not None else {}
        return of_json([weights, said]) if said else weights

    def role_key(self, role: Role) -> str:
        folder = Path(self._model)
        modules = folder / "modules.json"
        if modules.exists() and any("Router" in m.get("type", "") for m in json.loads(modules.read_text("utf-8"))):
            return role
        query, document = self._prompts["query"], self._prompts["document"]
        if query is not None and document is not None:
            return role if query != document else ""
        if query or document or not folder.is_dir():
            return role
        settings = folder / "config_sentence_transformers.json"
        own = json.loads(settings.read_text("utf-8")).get("prompts") if settings.exists() else None
        return role if any((own or {}).values()) else ""

    def prepare(self, texts: Sequence[str]) -> None:
        """Load the model.

        Raises:
            InputError: nobody says how its token vectors become one vector.
        """
        if self._loaded is not None:
            return
        from sentence_transformers import SentenceTransformer

        folder = Path(self._model)
        if folder.is_dir() and not (folder / "modules.json").exists():
            if self._pooling is None:
                raise InputError(
                    folder,
                    "it has no modules.json, so nothing says how token vectors become one vector",
                    "Say it: `pooling: mean` or `pooling: cls` in the model's line of own_models.yaml, or --pooling",
                )
            from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

            words = Transformer(self._model)
            pooled = Pooling(words.get_embedding_dimension(), self._pooling)
            self._loaded = SentenceTransformer(modules=[words, pooled], device=self._device)
        else:
            self._loaded = SentenceTransformer(self._model, device=self._device)
        if self._fitted_to is not None:
            fit_token_weights(self._loaded, self._fitted_to)

    def encode(self, texts: Sequence[str], role: Role) -> npt.NDArray[Any]:
        import torch

        self.prepare(texts)
        embed = self._loaded.encode_query if role == "query" else self._loaded.encode_document
        with torch.autocast(self._loaded.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            vectors: npt.NDArray[Any] = embed(
                list(texts),
                prompt=self._prompts[role],
                batch_size=self._batch_size,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        return vectors


class EmbeddingCache:
    """Vectors in shard files, ``folder/<model fingerprint>/<shard>.vectors``.

    A shard is written under a temporary name and renamed, so a kill loses at most one shard of work, and processes
    that share the folder never see half a shard. Two that embed the same text at once write it twice, which is harmless.
    Which text lies where is read once a model, 24 bytes a text; vectors come by memory map.

    Beside the shards ``timing.json`` sums what was really embedded: texts, characters, seconds, and what a paid model used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.embedded = 0
        self._indexes: dict[str, _Index] = {}

    def embed(self, encoder: Encoder, texts: Sequence[str], role: Role = "document") -> Vectors:
        """Unit vectors, float32 [len(texts), dim], in the order of ``texts``; [0, 0] for no texts.

        Raises:
            InputError: the model gave a vector that is not finite, or another number of them than it was given texts.
        """
        role_key = encoder.role_key(role)
        keys = [_key(role_key, text) for text in texts]
        text_of = dict(zip(keys, texts, strict=True))
        rows = {key: row for row, key in enumerate(text_of)}
        index = self._indexes.setdefault(encoder.fingerprint, _Index(self.folder / encoder.fingerprint))
        vectors: Vectors | None = None
        missing = set(rows)
        for found, shard_vectors in index.read(list(rows)):
            vectors = _room(vectors, len(rows), shard_vectors.shape[1])
            vectors[[rows[key] for key in found]] = shard_vectors
            missing.difference_update(found)
        todo = sorted(missing, key=lambda key: (-len(text_of[key]), key))
        if todo and isinstance(encoder, Preparing):
            encoder.prepare([text_of[key] for key in todo])
        for start in range(0, len(todo), SHARD_ROWS):
            part = todo[start : start + SHARD_ROWS]
            fresh = self._encode(encoder, [text_of[key] for key in part], role)
            index.add(part, fresh)
            self.embedded += len(part)
            vectors = _room(vectors, len(rows), fresh.shape[1])
            vectors[[rows[key] for key in part]] = fresh
            logger.info("embedded %d of %d texts (%s)", start + len(part), len(todo), encoder.fingerprint[:12])
        if vectors is None:
            return np.empty((0, 0), dtype=np.float32)
        return vectors[[rows[key] for key in keys]]

    def _encode(self, encoder: Encoder, texts: Sequence[str], role: Role) -> Vectors:
        began = time.perf_counter()
        vectors = checked_unit(encoder.encode(texts, role), len(texts), encoder.fingerprint)
        spent: dict[str, float] = {"texts": len(texts), "characters": sum(map(len, texts))}
        spent["seconds"] = time.perf_counter() - began
        if isinstance(encoder, Metered):
            spent |= encoder.usage()
        self._add_timing(encoder.fingerprint, spent)
        return vectors

    def timing(self, fingerprint: str) -> dict[str, float]:
        """What a model's texts have cost so far: ``texts``, ``characters``, ``seconds``, and the units of a paid one."""
        path = self.folder / fingerprint / TIMING
        try:
            return dict(json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            logger.warning("%s is damaged (%s); its sums start anew", path, error)
            return {}

    def _add_timing(self, fingerprint: str, spent: Mapping[str, float]) -> None:
        total = self.timing(fingerprint)
        summed = {**total, **{unit: total.get(unit, 0) + amount for unit, amount in spent.items()}}
        write_text(self.folder / fingerprint / TIMING, json.dumps(summed, indent=2) + "\n")


@dataclass
class _Index:
    """Where the texts of one model lie: sorted keys, and the shard and row of each."""

    folder: Path
    shards: list[Path] = field(default_factory=list)
    keys: _Keys = field(default_factory=lambda: np.empty(0, dtype=f"S{_KEY_BYTES}"))
    shard: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    row: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    known: set[str] = field(default_factory=set)
    added: list[tuple[int, _Keys]] = field(default_factory=list)

    def read(self, wanted: Sequence[bytes]) -> Iterator[tuple[list[bytes], Vectors]]:
        """The wanted keys that are stored, shard by shard, with their vectors; the folder is looked into if some are not."""
        asked = np.array(wanted, dtype=f"S{_KEY_BYTES}")
        places = self._find(asked)
        if (places < 0).any():
            self._scan()
            places = self._find(asked)
        found = np.flatnonzero(places >= 0)
        found = found[np.argsort(self.shard[places[found]], kind="stable")]
        bounds = np.flatnonzero(np.diff(self.shard[places[found]])) + 1
        for part in np.split(found, bounds) if len(found) else ():
            path = self.shards[self.shard[places[part[0]]]]
            try:
                vectors = _vectors(path)[self.row[places[part]]]
            except (OSError, ValueError, EOFError, IndexError) as error:
                logger.warning("%s cannot be read (%s); its texts are embedded again", path, error)
                continue
            yield [wanted[i] for i in part], vectors

    def add(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Write a shard."""
        name = hashlib.blake2b(b"".join(keys), digest_size=8).hexdigest()
        path = self.folder / f"{name}.vectors"
        stored = np.frombuffer(b"".join(keys), dtype=f"V{_KEY_BYTES}")
        with atomic_file(path) as part, part.open("wb") as file:
            np.save(file, stored)
            np.save(file, vectors)
        self._know(path, stored)

    def _find(self, asked: _Keys) -> npt.NDArray[np.intp]:
        """The place of each key; -1 where it is not stored."""
        self._sort()
        if not len(self.keys):
            return np.full(len(asked), -1, dtype=np.intp)
        places = np.searchsorted(self.keys, asked)
        places[places == len(self.keys)] = 0
        return np.where(self.keys[places] == asked, places, -1)

    def _sort(self) -> None:
        """Sort what was added in; of a key that lies in two shards the one met last counts."""
        if not self.added:
            return
        keys = np.concatenate([self.keys, *(keys for _, keys in self.added)])
        shard = np.concatenate([self.shard, *(np.full(len(k), n, dtype=np.int32) for n, k in self.added)])
        row = np.concatenate([self.row, *(np.arange(len(keys), dtype=np.int32) for _, keys in self.added)])
        order = np.argsort(keys, kind="stable")
        last = np.append(keys[order][1:] != keys[order][:-1], True)
        order = order[last]
        self.keys, self.shard, self.row = keys[order], shard[order], row[order]
        self.added.clear()

    def _scan(self) -> None:
        for path in sorted(self.folder.glob("*.vectors")):
            if path.name in self.known:
                continue
            try:
                with path.open("rb") as file:
                    keys = np.load(file, allow_pickle=False)
                _vectors(path)
            except FileNotFoundError:
                continue
            except (ValueError, EOFError) as error:
                logger.warning("%s is damaged (%s); its texts are embedded again", path, error)
                path.unlink(missing_ok=True)
                continue
            self._know(path, keys)

    def _know(self, path: Path, keys: npt.NDArray[Any]) -> None:
        self.known.add(path.name)
        self.added.append((len(self.shards), keys.view(f"S{_KEY_BYTES}")))
        self.shards.append(path)


def _vectors(path: Path) -> Vectors:
    """A shard's vectors as a memory map; ValueError or EOFError where the file is not whole."""
    with path.open("rb") as file:
        np.load(file, allow_pickle=False)
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"unknown version {version}")
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
        return np.memmap(path, dtype=kind, mode="r", offset=file.tell(), shape=shape)


def _key(role_key: str, text: str) -> bytes:
    return hashlib.blake2b(f"{role_key}\0{text}".encode(), digest_size=_KEY_BYTES).digest()


def _room(vectors: Vectors | None, rows: int, size: int) -> Vectors:
    return np.zeros((rows, size), dtype=np.float32) if vectors is None else vectors


def checked_unit(vectors: npt.NDArray[Any], count: int, fingerprint: str) -> Vectors:
    """What a model gave for ``count`` texts, as unit vectors, float32.

    Raises:
        InputError: it is another number of vectors, or one is not finite.
    """
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
