"""The difference between a trained model and its base in few bits, and the one model that base and difference make.

Restored weights are the same bit for bit on every machine: a product of factors is taken over whole numbers that fp64 holds
exactly, so the order of its sums does not matter, and what follows is one rounded fp32 operation per weight after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import atomic_file

Array = NDArray[Any]
Weights = Mapping[str, Array]

FORMAT = "thread-embed-delta-1"
_BITS = (2, 3, 4, 5, 6, 7, 8)
_RANKS = (8, 16, 32, 64, 128)
_CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
_CLIPPED_BITS = 5  # with more, cutting off the largest weights gains nothing
_SAMPLED_ROWS = 192
_BLOCK_ROWS = 4_096
_HEADER_BYTES = 640  # of a safetensors file for each tensor: names, shapes and encoding, generously


@dataclass(frozen=True)
class Encoding:
    """How one tensor's difference is written.

    Attributes:
        kind: ``half``: fp16. ``rows``: whole numbers of ``bits`` bits and an fp32 scale for each row that changed.
            ``low_rank``: the product of two int8 matrices over ``rank``, with an fp32 scale for each row and each column.
        bits: of each weight (rows).
        rank: of the factors (low_rank).
    """

    kind: Literal["half", "rows", "low_rank"]
    bits: int = 0
    rank: int = 0


def encode(base: Weights, trained: Weights, most_bytes: int) -> tuple[dict[str, Array], dict[str, Encoding]]:
    """The tensors of a delta file and how each is written, chosen so that they fit with the least error in the weights.

    Each matrix gets the encoding that is best at one price per byte, the same for all (a Lagrange multiplier). The rows of
    an embedding table weigh as much as those of a square matrix together: a text reads a few of them only.

    Args:
        base, trained: tensors by name; what only the base has (such as buffers) stays as it is.
        most_bytes: size of the whole file.

    Raises:
        InputError: a tensor is new or of another shape, is not finite, or nothing fits.
    """
    found = {name: _difference(name, base, trained) for name in sorted(trained)}
    changed = {name: difference for name, difference in found.items() if difference.any()}
    encodings = {name: Encoding("half") for name, difference in changed.items() if difference.ndim != 2}
    left = most_bytes - _HEADER_BYTES * len(changed) - sum(2 * changed[name].size for name in encodings)
    encodings |= _cheapest({n: list(_offers(n, d)) for n, d in changed.items() if d.ndim == 2}, left)
    tensors: dict[str, Array] = {}
    for name, encoding in sorted(encodings.items()):
        tensors |= {f"{name}:{part}": value for part, value in _written(changed[name], encoding).items()}
    return tensors, dict(sorted(encodings.items()))


def decode(base: Weights, tensors: Weights, encodings: Mapping[str, Encoding]) -> dict[str, Array]:
    """The restored weights in fp32, in the base's order; integer buffers stay as they are."""
    restored: dict[str, Array] = {}
    for name, value in base.items():
        floating = np.issubdtype(value.dtype, np.floating)
        weights = value.astype(np.float32) if floating else value.copy()
        if name in encodings:
            for rows, difference in _read(tensors, name, encodings[name], weights.shape):
                weights[rows] += difference
        restored[name] = weights
    return restored


def digest(weights: Weights) -> str:
    """sha256 over the sorted tensors' names, types, shapes and values."""
    found = hashlib.sha256()
    for name, value in sorted(weights.items()):
        found.update(f"{name}\0{value.dtype.str}\0{value.shape}\0".encode())
        found.update(np.ascontiguousarray(value).data)
    return found.hexdigest()


def save(path: Path, tensors: Weights, encodings: Mapping[str, Encoding]) -> None:
    from safetensors.numpy import save_file

    told = {name: asdict(encoding) for name, encoding in encodings.items()}
    with atomic_file(path) as part:
        # one entry: safetensors writes several in any order, and the same delta has to be the same file
        save_file(dict(tensors), part, {FORMAT: json.dumps(told, sort_keys=True)})


def load(path: Path) -> tuple[dict[str, Array], dict[str, Encoding]]:
    """What :func:`save` wrote.

    Raises:
        InputError: the file is not there, damaged, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    remedy = "Check the file out again: git checkout -- " + path.name
    try:
        with safe_open(path, framework="numpy") as file:
            told = file.metadata() or {}
            if FORMAT not in told:
                raise InputError(path, f"it is no delta of the format {FORMAT}", remedy)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        encodings = {name: Encoding(**fields) for name, fields in json.loads(told[FORMAT]).items()}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(path, f"the delta cannot be read ({error})", remedy) from error
    return tensors, encodings


def _difference(name: str, base: Weights, trained: Weights) -> Array:
    value = trained[name]
    if name not in base or base[name].shape != value.shape:
        there = f"the shape {base[name].shape}" if name in base else "no such weight"
        raise InputError(
            f"weight '{name}'",
            f"it has the shape {value.shape}, and the base {there}",
            "Name the base that this checkpoint was trained from; a new head or a larger vocabulary is no small delta",
        )
    if not np.issubdtype(value.dtype, np.floating):
        return np.zeros(value.shape, dtype=np.float32)
    difference: Array = value.astype(np.float32) - base[name].astype(np.float32)
    if not np.isfinite(difference).all():
        raise InputError(f"weight '{name}'", "it is not finite", "Train the checkpoint again")
    return difference


@dataclass(frozen=True)
class _Offer:
    encoding: Encoding
    bytes: int
    error: float


def _offers(name: str, difference: Array) -> Iterator[_Offer]:
    """What each encoding costs and how much error it leaves, estimated from at most ``_SAMPLED_ROWS`` rows."""
    rows, columns = difference.shape
    changed = _changed(difference)
    few = changed[:: max(1, len(changed) // _SAMPLED_ROWS)]
    sample = difference[few]
    of_all = len(changed) / len(few)
    if "embeddings" in name:
        of_all *= min(1.0, columns / rows)
    for bits in _BITS:
        numbers, scales = _quantised(sample, bits)
        error = float(np.square(numbers * scales - sample, dtype=np.float64).sum())
        size = -(-len(changed) * columns * bits // 8) + 4 * len(changed) + (-(-rows // 8) if len(changed) < rows else 0)
        yield _Offer(Encoding("rows", bits=bits), size, error * of_all)
    sizes = {rank: (rank + 4) * (rows + columns) for rank in _RANKS}
    sizes = {rank: size for rank, size in sizes.items() if size < rows * columns}  # 8 bits a weight
    parts = _decomposed(difference, max(sizes)) if sizes else None
    for rank, size in sizes.items():
        assert parts is not None
        left, right, left_scales, right_scales = _factors(*parts, rank)
        product = (left[few].astype(np.float64) @ right.T.astype(np.float64)) * left_scales[few] * right_scales.T
        error = float(np.square(product - sample).sum())
        yield _Offer(Encoding("low_rank", rank=rank), size, error * of_all)


def _cheapest(offers: Mapping[str, list[_Offer]], most_bytes: int) -> dict[str, Encoding]:
    """The offers of least error that fit, by bisecting the price of a byte."""

    def taken(price: float) -> dict[str, _Offer]:
        return {
            name: min(of, key=lambda offer: (offer.error + price * offer.bytes, offer.bytes)) for name, of in offers.items()
        }

    least = sum(min(offer.bytes for offer in of) for of in offers.values())
    if least > most_bytes:
        raise InputError(
            "the delta",
            f"its smallest form has {least} bytes, and {most_bytes} are allowed",
            "Train an adapter (adapter: lora), or freeze the word embeddings",
        )
    low, high = -60.0, 60.0  # log2 of the price
    for _ in range(60):
        middle = (low + high) / 2
        size = sum(offer.bytes for offer in taken(2.0**middle).values())
        low, high = (low, middle) if size <= most_bytes else (middle, high)
    return {name: offer.encoding for name, offer in taken(2.0**high).items()}


def _changed(difference: Array) -> NDArray[np.intp]:
    return np.flatnonzero(difference.any(axis=1))


def _quantised(values: Array, bits: int) -> tuple[Array, Array]:
    """Whole numbers of ``bits`` bits, symmetric around 0, and a scale (n, 1) for each row, clipped where that errs least."""
    top = 2 ** (bits - 1) - 1
    largest = np.abs(values).max(axis=1, keepdims=True)
    best = np.full(largest.shape, np.inf)
    scales = np.zeros(largest.shape, dtype=np.float32)
    for clip in _CLIPS if bits <= _CLIPPED_BITS else _CLIPS[:1]:
        tried = (largest * np.float32(clip / top)).astype(np.float32)
        error = np.square(_whole(values, tried, top) * tried - values).sum(axis=1, keepdims=True, dtype=np.float64)
        scales = np.where(error < best, tried, scales)
        best = np.minimum(error, best)
    return _whole(values, scales, top), scales


def _whole(values: Array, scales: Array, top: int) -> Array:
    divided = np.divide(values, scales, out=np.zeros(values.shape, dtype=np.float32), where=scales > 0)
    whole: Array = np.clip(np.rint(divided), -top, top)
    return whole


def _decomposed(difference: Array, rank: int) -> tuple[Array, Array]:
    """Two matrices (rows, rank) and (columns, rank) whose product is the nearest of that rank, the largest parts first."""
    rows, columns = difference.shape
    values = difference.astype(np.float64)
    small = values.T @ values if columns <= rows else values @ values.T
    eigenvalues, vectors = np.linalg.eigh(small)
    kept = np.argsort(eigenvalues)[::-1][:rank]
    vectors, root = vectors[:, kept], np.sqrt(np.sqrt(np.maximum(eigenvalues[kept], 1e-30)))
    other = (values @ vectors if columns <= rows else values.T @ vectors) / root
    return (other, vectors * root) if columns <= rows else (vectors * root, other)


def _factors(left: Array, right: Array, rank: int) -> tuple[Array, Array, Array, Array]:
    """The first ``rank`` columns of both in int8, and the scales of their rows."""
    left_numbers, left_scales = _quantised(left[:, :rank].astype(np.float32), 8)
    right_numbers, right_scales = _quantised(right[:, :rank].astype(np.float32), 8)
    return left_numbers.astype(np.int8), right_numbers.astype(np.int8), left_scales, right_scales


def _written(difference: Array, encoding: Encoding) -> dict[str, Array]:
    if encoding.kind == "half":
        return {"half": difference.astype(np.float16)}
    if encoding.kind == "low_rank":
        left, right, left_scales, right_scales = _factors(*_decomposed(difference, encoding.rank), encoding.rank)
        return {"left": left, "right": right, "left_scales": left_scales, "right_scales": right_scales}
    changed = _changed(difference)
    numbers, scales = _quantised(difference[changed], encoding.bits)
    parts = {"packed": _packed(numbers.astype(np.int8), encoding.bits), "scales": scales}
    if len(changed) < len(difference):
        parts["changed"] = np.packbits(np.isin(np.arange(len(difference)), changed))
    return parts


def _read(tensors: Weights, name: str, encoding: Encoding, shape: tuple[int, ...]) -> Iterator[tuple[Any, Array]]:
    """Places in the tensor, and the fp32 differences there."""
    if encoding.kind == "half":
        yield slice(None), tensors[f"{name}:half"].astype(np.float32)
        return
    if encoding.kind == "low_rank":
        right = tensors[f"{name}:right"].astype(np.float64).T
        left, left_scales = tensors[f"{name}:left"], tensors[f"{name}:left_scales"]
        for start in range(0, shape[0], _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            product = (left[rows].astype(np.float64) @ right).astype(np.float32)
            product *= left_scales[rows]
            product *= tensors[f"{name}:right_scales"].T
            yield rows, product
        return
    mask = tensors.get(f"{name}:changed")
    changed = np.arange(shape[0]) if mask is None else np.flatnonzero(np.unpackbits(mask, count=shape[0]))
    scales = tensors[f"{name}:scales"]
    numbers = _unpacked(tensors[f"{name}:packed"], encoding.bits, len(changed) * shape[1]).reshape(-1, shape[1])
    for start in range(0, len(changed), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        yield changed[block], numbers[block].astype(np.float32) * scales[block]


def _packed(numbers: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """The numbers, moved to 0 and above, one after the other in ``bits`` bits each."""
    unsigned = (numbers.ravel().astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    return np.packbits(np.unpackbits(unsigned[:, None], axis=1)[:, 8 - bits :].ravel())


def _unpacked(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.int8]:
    wide = np.zeros((count, 8), dtype=np.uint8)
    wide[:, 8 - bits :] = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    numbers: NDArray[np.int8] = (np.packbits(wide, axis=1)[:, 0].astype(np.int16) - 2 ** (bits - 1)).astype(np.int8)
    return numbers
