from __future__ import annotations

from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.text_files import read_json, read_text


def test_line_ends_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"one\r\ntwo\rthree\n")
    assert read_text(path) == "one\r\ntwo\rthree\n"


def test_bytes_that_are_not_utf8_are_named_by_their_place(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match="byte 3 is not UTF-8"):
        read_text(path)


def test_json_damage_is_named_by_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "day.json"
    path.write_text('[\n {"ts": }\n]', encoding="utf-8")
    with pytest.raises(InputError, match="not valid JSON") as caught:
        read_json(path)
    assert caught.value.place == f"{path}:2:9"
