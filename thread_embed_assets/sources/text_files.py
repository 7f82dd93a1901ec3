"""Reading text and JSON files so that damage is reported with file and place."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import ijson

from thread_embed_assets.errors import InputError

_BYTE_ORDER_MARKS = {  # the longer first: that of UTF-16 opens that of UTF-32
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_BLOCK = 2**18
_CUT_SHORT = "The file may be cut short: fetch the source or make the export again"


def read_text(path: Path) -> str:
    """The file's text, line ends as they are: UTF-8, or what its byte order mark says.

    Raises:
        InputError: the file is missing or in another encoding.
    """
    encoding = _encoding(path)
    try:
        return path.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        raise _wrong_byte(path, error.start, encoding) from error


def read_json(path: Path) -> Any:
    """The file's JSON value.

    Raises:
        InputError: as for :func:`read_text`; or the file is truncated or otherwise not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}:{error.colno}", f"not valid JSON ({error.msg})", _CUT_SHORT) from error


def stream_json(path: Path, prefix: str) -> Iterator[Any]:
    """The values at ``prefix`` of one large JSON file, such as ``messages.item``, without holding the file.

    Raises:
        InputError: as for :func:`read_json`, with the number of the value that was not read; those before it were yielded.
    """
    count, encoding = 0, _encoding(path)
    with path.open("rb") if encoding == "utf-8" else _AsUtf8(path, encoding) as file:
        try:
            for value in ijson.items(file, prefix, use_float=True, buf_size=_BLOCK):
                yield value
                count += 1
        except (ijson.JSONError, UnicodeDecodeError) as error:
            wrong = _first_wrong_byte(path, encoding)
            if wrong is not None:
                raise _wrong_byte(path, wrong, encoding) from error
            raise InputError(f"{path}, {prefix} {count}", f"not valid JSON ({_first_line(error)})", _CUT_SHORT) from error


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """``file:line`` and the JSON value of each line that is not blank.

    Raises:
        InputError: as for :func:`read_json`.
    """
    encoding = _encoding(path)
    with path.open(encoding=encoding, newline="\n") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if not line.isspace():
                    yield f"{path}:{number}", json.loads(line)
        except json.JSONDecodeError as error:
            place = f"{path}:{number}:{error.colno}"
            raise InputError(place, f"not valid JSON ({error.msg})", _CUT_SHORT) from error
        except UnicodeDecodeError as error:
            raise _wrong_byte(path, _first_wrong_byte(path, encoding) or 0, encoding) from error


def _encoding(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except FileNotFoundError as error:
        raise InputError(path, "the file is missing", "Fetch the source again, or complete the export") from error
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        raise InputError(path, f"byte {head.index(0)} is zero, as in UTF-16 without its mark", "Save the file as UTF-8")
    return "utf-8"


class _AsUtf8:
    """A file of another encoding, for a reader of UTF-8."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._text = path.open(encoding=encoding, newline="")

    def read(self, size: int) -> bytes:
        return self._text.read(size).encode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()


def _first_line(error: Exception) -> str:
    """What is wrong; on further lines the parser shows a piece of the file, which is no matter for a log."""
    told = error.args[0] if error.args else ""
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
    return text.partition("\n")[0]


def _first_wrong_byte(path: Path, encoding: str) -> int | None:
    """Where the file stops being what its encoding allows."""
    decoder, before = codecs.getincrementaldecoder(encoding)(), 0
    with path.open("rb") as file:
        while True:
            block = file.read(_BLOCK)
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                return before - held + error.start
            if not block:
                return None
            before += len(block)


def _wrong_byte(path: Path, byte: int, encoding: str) -> InputError:
    name = encoding.removesuffix("-sig").upper()
    return InputError(path, f"byte {byte} is not {name}", "Fetch the source again, or save the file as UTF-8")
