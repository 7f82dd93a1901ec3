from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.storage import fingerprint

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
JSON = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=5), LEAVES, max_size=3)


@given(content=st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_key_order_does_not_matter(content: dict[str, object]) -> None:
    turned = dict(reversed(content.items()))
    assert fingerprint.of_json(turned) == fingerprint.of_json(content)
    assert len(fingerprint.of_json(content)) == 16


def test_other_values_have_other_names() -> None:
    values = [{}, [], "", None, 0, False, "0", [0], {"a": 1}, {"a": 2}, {"b": 1}, [1, 2], [2, 1]]
    assert len({fingerprint.of_json(value) for value in values}) == len(values)


def test_a_file_is_named_by_its_sha256(tmp_path: Path) -> None:
    content = b"0123456789" * 500_000
    (tmp_path / "f").write_bytes(content)
    assert fingerprint.of_file(tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_a_folder_is_named_by_the_names_and_contents_of_its_files(tmp_path: Path) -> None:
    def name(files: dict[str, str], skip: frozenset[str] = frozenset()) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return fingerprint.of_folder(folder, skip)

    base = {"a": "1", "sub/b": "2"}
    assert name(base) == name(dict(reversed(base.items())))
    others = [{"a": "1"}, {"a": "2", "sub/b": "1"}, {"a": "1", "b": "2"}, {**base, "c": ""}]
    assert len({name(files) for files in [base, *others]}) == 5
    assert name({**base, "c": ""}, frozenset({"c"})) == name(base)


def test_seeds_are_the_same_in_every_process() -> None:
    code = "from thread_embed_assets.storage.fingerprint import seed; print(seed('thread', 'irc', 7))"
    found = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert found == {f"{fingerprint.seed('thread', 'irc', 7)}\n".encode()}


@given(parts=st.lists(st.text() | st.integers(), min_size=1, max_size=4))
def test_seeds_have_64_bits_and_fractions_lie_below_one(parts: list[object]) -> None:
    assert 0 <= fingerprint.seed(*parts) < 2**64
    assert 0 <= fingerprint.fraction(*parts) < 1


def test_ids_do_not_run_together_and_order_counts() -> None:
    seeds = [fingerprint.seed(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("c", "ab"), ("ab", "c", ""))]
    assert len(set(seeds)) == 5


def test_fractions_are_spread_evenly() -> None:
    found = [fingerprint.fraction("keep", n) for n in range(4_000)]
    for tenth in range(10):
        assert 320 < sum(tenth / 10 <= f < (tenth + 1) / 10 for f in found) < 480
