from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thread_embed_assets.errors import InputError
from thread_embed_assets.release import delta
from thread_embed_assets.release.delta import Array, decode, digest, encode

ROOM = 10_000_000


def _model(seed: int = 0, rows: int = 96, columns: int = 64) -> dict[str, Array]:
    draw = np.random.default_rng(seed)
    shapes = {
        "embeddings.word.weight": (4 * rows, columns),
        "layer.dense.weight": (rows, columns),
        "layer.dense.bias": (rows,),
        "layer.wide.weight": (columns, 2 * rows),
    }
    weights: dict[str, Array] = {name: draw.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    weights["embeddings.position_ids"] = np.arange(7, dtype=np.int64)[None]
    return weights


def _trained(base: dict[str, Array], size: float = 1e-3, seed: int = 1) -> dict[str, Array]:
    draw = np.random.default_rng(seed)
    return {
        name: value + draw.normal(0, size, value.shape).astype(np.float32)
        for name, value in base.items()
        if value.dtype == np.float32
    }


def _error(base: dict[str, Array], trained: dict[str, Array], restored: dict[str, Array]) -> float:
    """What is lost, as a share of what training changed."""
    lost = sum(float(np.square(trained[name] - restored[name]).sum()) for name in trained)
    return float(np.sqrt(lost / sum(float(np.square(trained[name] - base[name]).sum()) for name in trained)))


def test_base_and_difference_make_the_trained_model() -> None:
    base = _model()
    trained = _trained(base)
    tensors, encodings = encode(base, trained, ROOM)
    restored = decode(base, tensors, encodings)
    assert list(restored) == list(base), "buffers of the base stay, in its order"
    np.testing.assert_array_equal(restored["embeddings.position_ids"], base["embeddings.position_ids"])
    assert _error(base, trained, restored) < 0.01
    for name, value in trained.items():
        np.testing.assert_allclose(restored[name], value, atol=3e-5)


def test_fewer_bytes_cost_error_and_are_kept_to(tmp_path: Path) -> None:
    base = _model()
    trained = _trained(base)
    errors = []
    for room in (50_000, 35_000, 20_000):
        tensors, encodings = encode(base, trained, room)
        delta.save(tmp_path / "delta.safetensors", tensors, encodings)
        assert (tmp_path / "delta.safetensors").stat().st_size <= room
        errors.append(_error(base, trained, decode(base, tensors, encodings)))
    assert errors == sorted(errors) and errors[0] < 0.05 < errors[-1] < 0.7


def test_what_cannot_fit_is_refused() -> None:
    base = _model()
    with pytest.raises(InputError, match=r"smallest form has .* are allowed.*freeze the word embeddings"):
        encode(base, _trained(base), 5_000)


def test_a_low_rank_change_is_written_as_one_and_restored_exactly_alike() -> None:
    draw = np.random.default_rng(3)
    base = {"dense.weight": draw.normal(0, 0.05, (512, 256)).astype(np.float32)}
    change = draw.normal(0, 0.02, (512, 4)) @ draw.normal(0, 0.02, (4, 256))
    trained = {"dense.weight": (base["dense.weight"] + change).astype(np.float32)}
    tensors, encodings = encode(base, trained, 16_000)
    assert encodings["dense.weight"].kind == "low_rank"
    restored = decode(base, tensors, encodings)
    assert _error(base, trained, restored) < 0.02
    left, right = tensors["dense.weight:left"], tensors["dense.weight:right"]
    whole = left.astype(np.int64) @ right.astype(np.int64).T
    by_hand = whole.astype(np.float32) * tensors["dense.weight:left_scales"] * tensors["dense.weight:right_scales"].T
    np.testing.assert_array_equal(restored["dense.weight"], base["dense.weight"] + by_hand, "sums of whole numbers")


def test_rows_that_did_not_change_take_no_room_and_stay_bit_for_bit() -> None:
    base = _model()
    trained = _trained(base)
    name = "embeddings.word.weight"
    still = np.arange(len(base[name])) % 4 != 0
    trained[name][still] = base[name][still]
    trained["layer.dense.weight"] = base["layer.dense.weight"].copy()
    tensors, encodings = encode(base, trained, ROOM)
    assert "layer.dense.weight" not in encodings
    assert len(tensors[f"{name}:scales"]) == (~still).sum()
    restored = decode(base, tensors, encodings)
    np.testing.assert_array_equal(restored[name][still], base[name][still])
    np.testing.assert_array_equal(restored["layer.dense.weight"], base["layer.dense.weight"])
    assert np.abs(restored[name] - trained[name])[~still].max() < 3e-5


def test_the_rows_of_a_large_embedding_table_get_fewer_bits_than_a_matrix() -> None:
    draw = np.random.default_rng(0)
    shapes = {"embeddings.word.weight": (6_000, 32), "dense.weight": (2_000, 32)}
    base: dict[str, Array] = {name: draw.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    _, encodings = encode(base, _trained(base), 170_000)
    assert encodings["embeddings.word.weight"].bits < encodings["dense.weight"].bits


@settings(max_examples=30, deadline=None)
@given(bits=st.integers(2, 8), data=st.data())
def test_packed_numbers_come_back(bits: int, data: st.DataObject) -> None:
    top = 2 ** (bits - 1) - 1
    numbers = np.array(data.draw(st.lists(st.integers(-top, top), min_size=1, max_size=50)), dtype=np.int8)
    packed = delta._packed(numbers, bits)
    assert len(packed) == -(-len(numbers) * bits // 8)
    np.testing.assert_array_equal(delta._unpacked(packed, bits, len(numbers)), numbers)


def test_a_base_in_half_precision_is_restored_in_fp32() -> None:
    base = {"dense.weight": np.ones((8, 8), dtype=np.float16)}
    trained = {"dense.weight": np.full((8, 8), 1.0001, dtype=np.float32)}
    restored = decode(base, *encode(base, trained, ROOM))["dense.weight"]
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, 1.0001, atol=1e-6)


def test_the_file_tells_how_to_read_it_and_damage_is_named(tmp_path: Path) -> None:
    base = _model()
    trained = _trained(base)
    path = tmp_path / "delta.safetensors"
    delta.save(path, *encode(base, trained, 40_000))
    whole = path.read_bytes()
    for _ in range(5):
        delta.save(path, *encode(base, trained, 40_000))
        assert path.read_bytes() == whole, "the same delta is the same file"
    restored = decode(base, *delta.load(path))
    assert digest(restored) == digest(decode(base, *encode(base, trained, 40_000)))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match="the delta cannot be read"):
        delta.load(path)
    from safetensors.numpy import save_file

    save_file(base, path, {"format": "pt"})
    with pytest.raises(InputError, match="it is no delta of the format"):
        delta.load(path)


def test_the_digest_sees_values_names_and_shapes() -> None:
    weights: dict[str, Array] = {"a": np.zeros(4, dtype=np.float32), "b": np.ones((2, 2), dtype=np.float32)}
    others: list[dict[str, Array]] = [
        {**weights, "a": np.array([0, 0, 0, 1e-30], dtype=np.float32)},
        {**weights, "b": np.ones(4, dtype=np.float32)},
        {"a": weights["a"], "c": weights["b"]},
        {**weights, "a": np.zeros(4, dtype=np.int32)},
    ]
    assert digest({"b": weights["b"], "a": weights["a"]}) == digest(weights)
    assert len({digest(w) for w in [weights, *others]}) == 5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"head.weight": np.zeros((2, 2), dtype=np.float32)}, "no such weight"),
        ({"layer.dense.bias": np.zeros(3, dtype=np.float32)}, r"the shape \(96,\)"),
        ({"layer.dense.bias": np.full(96, np.nan, dtype=np.float32)}, "not finite"),
    ],
)
def test_another_architecture_and_damaged_weights_are_refused(changed: dict[str, Array], message: str) -> None:
    base = _model()
    with pytest.raises(InputError, match=message):
        encode(base, {**_trained(base), **changed}, ROOM)


def test_nothing_changed_is_an_empty_delta() -> None:
    base = _model()
    tensors, encodings = encode(base, base, ROOM)
    assert tensors == {} and encodings == {}
    assert digest(decode(base, tensors, encodings)) == digest(base)
