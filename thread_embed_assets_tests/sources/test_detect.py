from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import detect as module
from thread_embed_assets.sources.detect import detect

from . import exports, irc_exports
from .archive_makers import LINK, zip_of

DISCORD = json.dumps(
    {
        "guild": {"id": "1", "name": "Porch {talk}", "iconUrl": "https://example.org/a.png"},
        "channel": {"id": "2", "type": "GuildTextChat", "name": "general", "topic": None},
        "dateRange": {"after": None, "before": None},
        "messages": [],
    },
    indent=2,
)
ZULIP = json.dumps([{"content": "<p>hi</p>", "id": 1, "sender_full_name": "Quillona", "timestamp": 1}], indent=4)
LOGS = {
    "irssi": "--- Log opened Sat Mar 01 10:00:00 2025\n10:00 -!- quillona [q@example.org] has joined #porch\n"
    "10:01 <@quillona> morning\n10:02 < tibbold> hello\n10:03  * quillona waves\n",
    "weechat": "2025-03-01 10:00:00\t-->\tquillona (q@example.org) has joined #porch\n"
    "2025-03-01 10:01:00\t@quillona\tmorning\n2025-03-01 10:02:00\ttibbold\thello\n"
    "2025-03-01 10:03:00\t *\tquillona waves\n",
    "znc": "[10:00:00] *** Joins: quillona (q@example.org)\n[10:01:00] <quillona> morning\n[10:02:00] <tibbold> hello\n",
    "plain": "[10:01] <quillona> morning\n[10:02] <tibbold> hello\n[10:03] * quillona waves\n",
    "dated": "2025-03-01T10:01:00+01:00 <quillona> morning\n2025-03-01T10:02:00+01:00 <tibbold> hello\n",
    "hexchat": "**** BEGIN LOGGING AT Sat Mar  1 10:00:00 2025\n\nMar 01 10:01:00 <quillona>\tmorning\n"
    "Mar 01 10:02:00 *\tquillona waves\n",
}
SLACK = {"users.json": "[]", "channels.json": "[]", "general/2025-03-01.json": "[]"}
EXPORTS: dict[str, Mapping[str, str]] = {
    "slack_export": SLACK,
    "discord_export": {"Porch - general [2].json": DISCORD, "Porch - general [2].json_Files/a.png": "PNG"},
    "zulip_export": {"stream_index.json": "{}", "12-general/kettle.json": ZULIP},
    "irc_log": {"#porch.log": LOGS["znc"]},
}


def folder_of(folder: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", EXPORTS)
def test_a_folder_and_a_zip_are_recognised(tmp_path: Path, name: str) -> None:
    assert detect(folder_of(tmp_path / "folder", EXPORTS[name])) == name
    assert detect(zip_of(tmp_path / "a.zip", EXPORTS[name])) == name
    assert detect(zip_of(tmp_path / "b.zip", {f"top/{path}": text for path, text in EXPORTS[name].items()})) == name


@pytest.mark.parametrize("name", ["slack_export", "discord_export", "zulip_export"])
def test_exports_true_to_their_tools_are_recognised(tmp_path: Path, name: str) -> None:
    assert detect(getattr(exports, name)(tmp_path)) == name


@pytest.mark.parametrize("program", irc_exports.LOGS)
def test_logs_true_to_their_programs_are_recognised(tmp_path: Path, program: str) -> None:
    irc_exports.LOGS[program](tmp_path)
    assert detect(tmp_path) == "irc_log"


@pytest.mark.parametrize("client", LOGS)
@pytest.mark.parametrize("name", ["porch.log", "irc.porch.weechatlog", "#porch", "irc.net.#porch", "2025/03/01.txt"])
def test_logs_of_each_client_are_recognised(tmp_path: Path, client: str, name: str) -> None:
    assert detect(folder_of(tmp_path, {name: LOGS[client]})) == "irc_log"


@pytest.mark.parametrize(
    ("file", "content", "expected"), [("a.json", DISCORD, "discord_export"), ("a.log", LOGS["plain"], "irc_log")]
)
def test_a_single_file_is_recognised(tmp_path: Path, file: str, content: str, expected: str) -> None:
    assert detect(folder_of(tmp_path, {file: content}) / file) == expected
    (tmp_path / file).write_text("\ufeff" + content, encoding="utf-8")
    assert detect(tmp_path / file) == expected


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"users.json": "[]"},
        {"general/2025-03-01.json": "[]"},
        {"a.json": '{"channel": {}, "guild": {}}'},
        {"a.json": "{"},
        {"12-general/kettle.json": "[]"},
        {"notes.txt": "A diary.\n10:00 got up\n11:30 went out <again>\n"},
        {"notes.txt": "Read this again today:\n[10:01] <quillona> morning\nWent out.\n"},
        {"talk.txt": "01/03/2025, 10:00 - Quillona: morning\n01/03/2025, 10:01 - Tibbold: hello\n"},
        {"a.csv": LOGS["znc"]},
        {".hidden/a.log": LOGS["znc"]},
        {"image.log": "\x89PNG\r\n\x1a\n\0\0"},
    ],
)
def test_what_is_no_export_is_told_with_what_was_looked_for(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(InputError, match="no export of a format that is known here") as caught:
        detect(folder_of(tmp_path, files))
    assert caught.value.place == str(tmp_path)
    for name in EXPORTS:
        assert name in caught.value.remedy
    assert "name the format" in caught.value.remedy


def test_two_formats_in_one_place_are_told_apart_by_the_owner(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this may be slack_export or irc_log") as caught:
        detect(folder_of(tmp_path, SLACK | {"old/porch.log": LOGS["irssi"]}))
    assert "add `format: slack_export`" in caught.value.remedy


def test_an_export_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder") as caught:
        detect(tmp_path / "export.zip")
    assert "name the format" in caught.value.remedy


def test_damaged_and_hostile_zips_are_named(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", SLACK)
    archive.write_bytes(archive.read_bytes()[:50])
    with pytest.raises(InputError, match="truncated or damaged"):
        detect(archive)
    with pytest.raises(InputError, match="outside its folder"):
        detect(zip_of(tmp_path / "b.zip", SLACK | {"../evil": "x"}))
    with pytest.raises(InputError, match="link or a device"):
        detect(zip_of(tmp_path / "c.zip", SLACK | {"a.log": LINK + "/etc/passwd"}))


def test_only_heads_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path / "logs", {f"{n}.log": "x" * 200_000 for n in range(20)})
    read: list[int] = []
    head = module._head

    def counted(path: Path) -> bytes:
        read.append(len(head(path)))
        return head(path)

    monkeypatch.setattr(module, "_head", counted)
    with pytest.raises(InputError):
        detect(tmp_path / "logs")
    assert read == [64 * 1024] * 5


LINES = st.text(st.characters(codec="utf-8"), max_size=200)


@given(st.dictionaries(st.sampled_from(["a.json", "1-x/y.json", "b.log", "c", "users.json"]), LINES, max_size=3))
def test_wild_content_is_either_recognised_or_told(tmp_path_factory: Any, files: dict[str, str]) -> None:
    folder = folder_of(tmp_path_factory.mktemp("wild"), files)
    with suppress(InputError):
        assert detect(folder) in EXPORTS
