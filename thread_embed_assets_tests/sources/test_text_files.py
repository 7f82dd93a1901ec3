from __future__ import annotations

import codecs
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import text_files
from thread_embed_assets.sources.text_files import DEEPEST, read_json, read_json_lines, read_text, stream_json


def _all_of(path: Path) -> Iterator[Any]:
    return stream_json(path, "item")


def _lines_of(path: Path) -> Iterator[Any]:
    return (value for _, value in read_json_lines(path))


READERS: list[Callable[[Path], Any]] = [read_text, read_json, _all_of, _lines_of]


def test_line_ends_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"one\r\ntwo\rthree\n")
    assert read_text(path) == "one\r\ntwo\rthree\n"


@pytest.mark.parametrize("read", READERS)
def test_bytes_that_are_not_utf8_are_named_by_their_place(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes('["café"]'.encode("latin-1"))
    with pytest.raises(InputError, match="byte 5 is not UTF-8") as caught:
        list(read(path))
    assert caught.value.place == str(path)


@pytest.mark.parametrize("before", [300_000, 2**18 - 3, 2**18 - 4, 2**18 - 2])
def test_a_wrong_byte_is_named_by_its_place_in_a_large_file(tmp_path: Path, before: int) -> None:
    path = tmp_path / "large.json"
    path.write_bytes(b'["' + b"a" * before + b'\xc3\xa9\xe9"]')
    for read in READERS:
        with pytest.raises(InputError, match=f"byte {before + 4} is not UTF-8"):
            list(read(path))


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, mark: bytes, encoding: str) -> None:
    path = tmp_path / "day.json"
    path.write_bytes(mark + '["é", "שלום 👍"]\n'.encode(encoding))
    assert read_text(path) == '["é", "שלום 👍"]\n'
    assert read_json(path) == ["é", "שלום 👍"]
    assert list(_all_of(path)) == ["é", "שלום 👍"]
    assert list(_lines_of(path)) == [["é", "שלום 👍"]]


@pytest.mark.parametrize("read", READERS)
def test_utf16_without_its_mark_is_told_by_its_zeros(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    path = tmp_path / "day.json"
    path.write_bytes('["a"]'.encode("utf-16-le"))
    with pytest.raises(InputError, match="byte 1 is zero, as in UTF-16 without its mark"):
        list(read(path))


@pytest.mark.parametrize("read", READERS)
def test_a_missing_file_is_named(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    with pytest.raises(InputError, match="missing") as caught:
        list(read(tmp_path / "nothing.json"))
    assert caught.value.place == str(tmp_path / "nothing.json")


def test_json_damage_is_named_by_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "day.json"
    path.write_text('[\n {"ts": }\n]', encoding="utf-8")
    with pytest.raises(InputError, match="not valid JSON") as caught:
        read_json(path)
    assert caught.value.place == f"{path}:2:9"


def test_values_are_streamed_from_within_a_file(tmp_path: Path) -> None:
    path = tmp_path / "channel.json"
    entries = [{"id": str(number), "text": "é" * number, "share": 0.5} for number in range(20)]
    path.write_text(json.dumps({"channel": {"id": "7"}, "messages": entries, "count": 20}, indent=2), encoding="utf-8")
    assert list(stream_json(path, "messages.item")) == entries
    assert list(stream_json(path, "channel")) == [{"id": "7"}]
    assert list(stream_json(path, "nothing.item")) == []


def test_of_a_truncated_file_the_value_that_was_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "channel.json"
    path.write_text('{"messages": [{"id": 0}, {"id": 1}, {"id": "2', encoding="utf-8")
    values = stream_json(path, "messages.item")
    assert [next(values), next(values)] == [{"id": 0}, {"id": 1}]
    with pytest.raises(InputError, match="not valid JSON") as caught:
        next(values)
    assert caught.value.place == f"{path}, messages.item 2"


def test_lines_of_json_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "server.jsonl"
    path.write_text('{"a": "\u2028"}\r\n\n[1,\r2]\n{"a": ', encoding="utf-8", newline="")
    lines = read_json_lines(path)
    assert [next(lines), next(lines)] == [(f"{path}:1", {"a": "\u2028"}), (f"{path}:3", [1, 2])]
    with pytest.raises(InputError, match="not valid JSON") as caught:
        next(lines)
    assert caught.value.place.startswith(f"{path}:4:")


@pytest.mark.parametrize("read", [read_json, lambda path: list(read_json_lines(path))])
def test_json_that_is_nested_to_exhaust_the_stack_is_an_error_like_others(
    tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    (tmp_path / "deep.json").write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(InputError, match=r"deep\.json.*nested hundreds of levels deep"):
        read(tmp_path / "deep.json")


DEEP = DEEPEST + 1
SOUND = ["", "[", "]]]}", 'a "quoted [[" bracket', "back\\slash [", "ends with \\", '\\"[', "{" * 2_000, "ümlaut ["]


@pytest.mark.parametrize("nested", ["[" * DEEP, '[{"a":' * DEEP, '["]",' * DEEP, "[ " * DEEP + "1" + "]" * DEEP])
@pytest.mark.parametrize("block", [7, 2**18])
def test_a_stream_that_is_nested_to_exhaust_memory_is_refused_before(
    tmp_path: Path, nested: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ijson keeps a path for each level: 100 kB of brackets took all the memory of a machine."""
    monkeypatch.setattr(text_files, "_BLOCK", block)
    (tmp_path / "deep.json").write_text(f'{{"messages": [{{"text": "a"}}, {nested}', encoding="utf-8")
    with pytest.raises(InputError, match=r"deep\.json.*nested hundreds of levels deep"):
        list(stream_json(tmp_path / "deep.json", "messages.item"))


@pytest.mark.parametrize("block", [1, 2, 3, 64, 2**18])
def test_brackets_in_strings_are_no_levels(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_BLOCK", block)
    values = [{"text": text, "more": [text, {"deep": [[text]]}]} for text in SOUND] * 3
    (tmp_path / "a.json").write_text(json.dumps({"messages": values}), encoding="utf-8")
    assert list(stream_json(tmp_path / "a.json", "messages.item")) == values


@given(st.lists(st.text(alphabet='[]{}"\\a', max_size=30), max_size=8), st.integers(1, 40))
def test_whatever_strings_hold_the_values_come_through(texts: list[str], block: int) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_BLOCK", block)
        patch.setattr(text_files, "DEEPEST", 3)
        json.dump({"messages": texts}, file)
        file.flush()
        assert list(stream_json(Path(file.name), "messages.item")) == texts
