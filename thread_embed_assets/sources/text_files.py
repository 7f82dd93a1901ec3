"""Reading text and JSON files so that damage is reported with file and place."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, Self

import ijson
import numpy as np

from thread_embed_assets.errors import InputError

_BYTE_ORDER_MARKS = {  # the longer first: that of UTF-16 opens that of UTF-32
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_BLOCK = 2**18
DEEPEST = 500  # levels; ijson keeps a path for each, so that memory grows with the square
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_LEVELS = np.zeros(256, dtype=np.int8)
_LEVELS[list(b"[{")], _LEVELS[list(b"]}")] = 1, -1
_CUT_SHORT = "The file may be cut short: fetch the source or make the export again"

_TOO_DEEP, _NO_EXPORT = "its JSON is nested hundreds of levels deep", "No chat program writes this; ask where it comes from"


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
    except RecursionError:
        raise InputError(path, _TOO_DEEP, _NO_EXPORT) from None


def stream_json(path: Path, prefix: str) -> Iterator[Any]:
    """The values at ``prefix`` of one large JSON file, such as ``messages.item``, without holding the file.

    Raises:
        InputError: as for :func:`read_json`, with the number of the value that was not read; those before it were yielded.
    """
    count, encoding = 0, _encoding(path)
    with path.open("rb") if encoding == "utf-8" else _AsUtf8(path, encoding) as file:
        try:
            for value in ijson.items(_Shallow(path, file), prefix, use_float=True, buf_size=_BLOCK):
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
        except RecursionError:
            raise InputError(f"{path}:{number}", _TOO_DEEP, _NO_EXPORT) from None
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


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Shallow:
    """Passes JSON on while its brackets, those in strings left out, are no deeper than ``DEEPEST``."""

    def __init__(self, path: Path, file: Readable) -> None:
        self._path = path
        self._file = file
        self._depth = 0
        self._inside = 0  # 1 inside a string
        self._escape = b""  # the backslash that ended the last block

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        unescaped = _ESCAPED.sub(b"", self._escape + block)
        self._escape = b"\\" if unescaped.endswith(b"\\") else b""
        pieces = unescaped.split(b'"')
        outside = b"".join(pieces[self._inside :: 2])
        self._inside = (self._inside + len(pieces) - 1) % 2
        levels = self._depth + np.cumsum(_LEVELS[np.frombuffer(outside, dtype=np.uint8)], dtype=np.int64)
        if levels.size:
            self._depth = int(levels[-1])
            if levels.max() > DEEPEST:
                raise InputError(self._path, _TOO_DEEP, _NO_EXPORT)
        return block


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
