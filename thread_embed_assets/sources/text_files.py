"""Reading text and JSON files so that damage is reported with file and place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thread_embed_assets.errors import InputError


def read_text(path: Path) -> str:
    """The file's text, line ends as they are.

    Raises:
        InputError: the file is missing or not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise InputError(path, "the file is missing", "Fetch the source again, or complete the export") from error
    except UnicodeDecodeError as error:
        remedy = "Fetch the source again, or save the file as UTF-8"
        raise InputError(path, f"byte {error.start} is not UTF-8", remedy) from error


def read_json(path: Path) -> Any:
    """The file's JSON value.

    Raises:
        InputError: the file is missing, not UTF-8, truncated or otherwise not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        remedy = "The file may be cut short: fetch the source or make the export again"
        raise InputError(place, f"not valid JSON ({error.msg})", remedy) from error
