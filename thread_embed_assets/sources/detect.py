"""Which chat format an export has, from the names in it and the first bytes of a few of its files."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.archives import open_zip, visible_members

_HEAD = 64 * 2**10
_MOST_NAMES = 50_000
_MOST_HEADS = 5
_IRC_LINES = 40

_SLACK_DAY = re.compile(r"[^/]+/\d{4}-\d\d-\d\d\.json")
_ZULIP_TOPIC = re.compile(r"(?:.*/)?\d+-[^/]+/[^/]+\.json")
_IRC_FILE = re.compile(r".*(?:\.(?:log|txt|weechatlog)|(?:^|/)[^./]+|#[^/]*)", re.IGNORECASE)
_IRC_LINE = re.compile(
    r"""
      ---\ (?:Log|Day)\ \w+                            # irssi: --- Log opened Sat Mar 01 10:00:00 2025
    | \*{4}\ (?:BEGIN|ENDING)\ LOGGING                 # HexChat
    | [^<>]{0,30}?\b\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?   # a date, if any, and a time
      (?:\s+(?:<[^>]{1,64}>|\*{1,3}\s|-!-|-->|<--|--\s)   # <nick>, an action, joins and quits
       | \t[^\t]{1,64}\t)                              # WeeChat: columns
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class _Export:
    """Names of the files, without a top folder that holds everything, and their first bytes."""

    names: list[str]
    head: Callable[[str], bytes]

    def heads(self, pattern: re.Pattern[str]) -> Iterator[str]:
        """The first bytes, as text, of the first few files whose whole name matches."""
        for name in islice((name for name in self.names if pattern.fullmatch(name)), _MOST_HEADS):
            yield self.head(name).decode("utf-8", errors="replace").removeprefix("\ufeff")


def _is_slack(export: _Export) -> bool:
    return "users.json" in export.names and any(map(_SLACK_DAY.fullmatch, export.names))


def _is_discord(export: _Export) -> bool:
    start = re.compile(r'\s*\{\s*"guild"\s*:\s*\{.*?"channel"\s*:\s*\{', re.DOTALL)
    return any(map(start.match, export.heads(re.compile(r".*\.json", re.IGNORECASE))))


def _is_zulip(export: _Export) -> bool:
    return any('"sender_full_name"' in head for head in export.heads(_ZULIP_TOPIC))


def _is_irc(export: _Export) -> bool:
    return any(map(_looks_like_irc, export.heads(_IRC_FILE)))


def _looks_like_irc(head: str) -> bool:
    lines = [line for line in head.splitlines() if line.strip()][:_IRC_LINES]
    return bool(lines) and sum(1 for line in lines if _IRC_LINE.match(line)) > len(lines) / 2


_FORMATS: dict[str, tuple[Callable[[_Export], bool], str]] = {
    "slack_export": (_is_slack, "users.json beside <channel>/<YYYY-MM-DD>.json"),
    "discord_export": (_is_discord, 'a .json file that starts with "guild" and "channel"'),
    "zulip_export": (_is_zulip, '<id>-<channel>/<topic>.json whose messages have a "sender_full_name"'),
    "irc_log": (_is_irc, "a .log or .txt file of lines such as [10:00] <nick> text"),
}


def detect(path: Path) -> str:
    """The format of a team's own export: a folder, a zip or a single file. Reads names and heads only, whatever its size.

    Raises:
        InputError: there is nothing at the path, a zip is damaged, or no format fits, or more than one does.
    """
    with _opened(path) as export:
        found = [name for name, (fits, _) in _FORMATS.items() if fits(export)]
    if len(found) > 1:
        raise InputError(path, f"this may be {' or '.join(found)}", f"Say which: add `format: {found[0]}`, for example")
    if not found:
        looked = "; ".join(f"{name}: {sign}" for name, (_, sign) in _FORMATS.items())
        remedy = f"Correct the path, or name the format. Looked for {looked}"
        raise InputError(path, "this is no export of a format that is known here", remedy)
    return found[0]


@contextmanager
def _opened(path: Path) -> Iterator[_Export]:
    if path.is_dir():
        yield _Export(sorted(islice(_names_below(path), _MOST_NAMES)), lambda name: _head(path / name))
    elif not path.is_file():
        remedy = (
            "Put the export there, correct the path, or name the format, so that the file is wanted only when it is fetched"
        )
        raise InputError(path, "there is no such file or folder", remedy)
    elif zipfile.is_zipfile(path) or path.suffix.lower() == ".zip":
        with open_zip(path) as archive:
            members = {"/".join(parts): info for info, parts in visible_members(path, archive)}

            def head(name: str) -> bytes:
                with archive.open(members[name]) as file:
                    return file.read(_HEAD)

            yield _Export(sorted(members), head)
    else:
        yield _Export([path.name], lambda name: _head(path))


def _names_below(folder: Path) -> Iterator[str]:
    for directory, subfolders, files in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = Path(directory).relative_to(folder)
        yield from ((relative / name).as_posix() for name in sorted(files) if not name.startswith("."))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)
