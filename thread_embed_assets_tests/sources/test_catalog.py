from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from thread_embed_assets.chat.model import Truth
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import OWN_CHAT_VARIABLE, PRIORITIES, Source, load_catalog, select
from thread_embed_assets.sources.parsers import PARSERS
from thread_embed_assets.storage.layout import ROOT_VARIABLE

from .archive_makers import zip_of

ENTRY: dict[str, Any] = {
    "title": "A team's export",
    "platform": "slack",
    "format": "slack_export",
    "origin": {"kind": "package", "path": "export"},
    "sha256": "0" * 64,
    "revision": "1",
    "licence": "none",
    "redistribute": False,
    "truth": "explicit",
    "roles": ["train", "benchmark"],
    "priority": "P1",
    "split": {"by": "published"},
}
STREAM = {
    "kind": "hub_stream",
    "repository": "team/servers",
    "path": "all.tar.zst",
    "server_share": 0.1,
    "channel_day_share": 0.5,
    "most_messages_per_server": 10,
    "most_servers": 10,
    "most_messages": 100,
}


def write(folder: Path, content: Any) -> Path:
    path = folder / "catalog.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_the_shipped_catalogue_is_valid_and_every_format_has_a_parser() -> None:
    sources = load_catalog()
    assert {"sample_workspace", "irc_disentangle", "slack_dev_chats", "topical_chat"} <= set(sources)
    assert {source.format for source in sources.values()} <= set(PARSERS)
    assert not sources["slack_dev_chats"].redistribute
    assert [source.name for source in sources.values()] == list(sources)
    assert {name for name, source in sources.items() if source.truth is Truth.GUESSED} == {
        "duraspace_irc",
        "ubuntu_irc",
        "discord_unveiled",
    }
    assert {name for name, source in sources.items() if source.opt_in} == {"discord_unveiled"}


@pytest.mark.parametrize(
    ("change", "place", "problem"),
    [
        ({"licens": "MIT"}, "field 'licens'", "Extra inputs"),
        ({"licence": None}, "field 'licence'", "Field required"),
        ({"truth": "hearsay"}, "field 'truth'", "Input should be"),
        ({"timezone": "Mars/Olympus"}, "field '(entry)'", "unknown timezone 'Mars/Olympus'"),
        (
            {"origin": {"kind": "github", "repository": "no-slash", "include": ["*"]}},
            "field 'origin.github.repository'",
            "match",
        ),
        ({"origin": {"kind": "ftp"}}, "field 'origin'", "ftp"),
        ({"split": {"by": "coin"}}, "field 'split'", "coin"),
        (
            {"split": {"by": "channel_time", "test_share": 1.5, "dev_share": 0.1, "embargo_hours": 1}},
            "field 'split.channel_time.test_share'",
            "less than 1",
        ),
        ({"sha256": "abc"}, "field 'sha256'", "match"),
        ({"truth": "guessed"}, "field '(entry)'", "never become benchmark truth"),
        ({"sha256": None}, "field '(entry)'", "sha256 is required"),
        ({"origin": {"kind": "hub", "repository": "team/chats", "include": []}}, "field 'origin.hub.include'", "at least 1"),
        ({"origin": STREAM | {"server_share": 0}}, "field 'origin.hub_stream.server_share'", "greater than 0"),
        ({"origin": STREAM | {"most_servers": 0}}, "field 'origin.hub_stream.most_servers'", "greater than or equal to 1"),
        (
            {"split": {"by": "conversation", "test_share": 0.5, "dev_share": 0.5}},
            "field 'split.conversation'",
            "nothing to train on",
        ),
    ],
)
def test_an_error_names_the_entry_and_the_field(tmp_path: Path, change: dict[str, Any], place: str, problem: str) -> None:
    entry = {name: value for name, value in (ENTRY | change).items() if value is not None}
    path = write(tmp_path, {"sources": {"good": ENTRY, "bad": entry}})
    with pytest.raises(InputError) as caught:
        load_catalog(path)
    assert "entry 'bad'" in caught.value.place
    assert place in caught.value.place
    assert problem in caught.value.problem
    assert "Known fields: title" in caught.value.remedy


def test_a_name_that_cannot_name_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lower-case letters"):
        load_catalog(write(tmp_path, {"sources": {"../up": ENTRY}}))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"source": {}}, "no mapping 'sources'"),
        ([1], "no mapping 'sources'"),
        ({"sources": {}, "defaults": {}}, "unknown top-level field 'defaults'"),
        ({"sources": {"team": "slack"}}, "not a mapping of fields"),
    ],
)
def test_a_catalogue_of_another_shape_is_refused(tmp_path: Path, content: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        load_catalog(write(tmp_path, content))


def test_what_is_not_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text("sources:\n  team: {title: 'open\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"(?s)not valid YAML.*line 2"):
        load_catalog(path)


def test_five_lines_declare_a_teams_own_export(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(
        "sources:\n  our_team:\n    title: Ours\n    platform: slack\n    format: slack_export\n"
        "    origin: {kind: folder, path: exports/ours.zip}\n"
    )
    ours = load_catalog(path)["our_team"]
    assert (ours.workspace, ours.redistribute, ours.licence, ours.split.by) == (True, False, "internal", "channel_time")


def test_a_hub_s_files_need_no_checksum(tmp_path: Path) -> None:
    origin = {"kind": "hub", "repository": "team/chats", "include": ["*.parquet"]}
    entry = {name: value for name, value in ENTRY.items() if name != "sha256"} | {"origin": origin}
    assert load_catalog(write(tmp_path, {"sources": {"talk": entry}}))["talk"].sha256 is None


@pytest.mark.parametrize(
    ("priority", "names"), [("P0", ["first"]), ("P1", ["first", "second"]), ("P2", ["first", "second", "third"])]
)
def test_a_priority_selects_what_is_as_urgent_but_nothing_to_be_opted_in_to(
    tmp_path: Path, priority: Any, names: list[str]
) -> None:
    entries = {
        "third": ENTRY | {"priority": "P2"},
        "first": ENTRY | {"priority": "P0"},
        "second": ENTRY,
        "guarded": ENTRY | {"priority": "P0", "opt_in": "it was withdrawn"},
    }
    path = tmp_path / "catalog.yaml"
    path.write_text(yaml.safe_dump({"sources": entries}, sort_keys=False))
    assert priority in PRIORITIES
    assert sorted(select(load_catalog(path), priority)) == sorted(names)
    assert select(load_catalog(path), "P2") == ["third", "first", "second"], "in the catalogue's order"


SLACK = {"users.json": "[]", "general/2025-03-01.json": "[]"}
LOG = "[10:01] <quillona> morning\n[10:02] <tibbold> hello\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root folder, with a catalogue of one source and two exports."""
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    monkeypatch.delenv(OWN_CHAT_VARIABLE, raising=False)
    write(tmp_path, {"sources": {"talk": ENTRY}})
    zip_of(tmp_path / "exports" / "team.zip", SLACK)
    (tmp_path / "exports" / "porch.log").write_text(LOG)
    return tmp_path


def own(root: Path, text: str) -> dict[str, Source]:
    (root / "own_chat.yaml").write_text(text, encoding="utf-8")
    return load_catalog(root / "catalog.yaml")


def test_a_name_and_a_path_declare_a_team_s_own_chat(root: Path) -> None:
    found = own(root, "workspaces:\n  our_team: {path: exports/team.zip}\n  porch: {path: exports/porch.log}\n")
    assert list(found) == ["talk", "our_team", "porch"]
    team, porch = found["our_team"], found["porch"]
    assert (team.title, team.format, team.platform, team.truth) == ("Our team", "slack_export", "slack", "explicit")
    assert team.roles == {"train", "benchmark"} and team.workspace and not team.redistribute
    assert (porch.format, porch.platform, porch.truth, porch.roles) == ("irc_log", "irc", "guessed", {"train"})
    assert team.origin.kind == "folder" and team.origin.path == "exports/team.zip", "taken from the root when it is fetched"


def test_an_own_entry_may_say_more(root: Path) -> None:
    found = own(
        root,
        "workspaces:\n  porch:\n    path: /somewhere/else\n    format: zulip_export\n    title: The porch\n"
        "    timezone: Europe/Berlin\n    licence: ours\n    roles: [benchmark]\n"
        "    split: {by: conversation, test_share: 0.1, dev_share: 0.1}\n",
    )["porch"]
    assert (found.platform, found.timezone, found.licence, found.roles) == ("zulip", "Europe/Berlin", "ours", {"benchmark"})
    assert (found.title, found.split.by) == ("The porch", "conversation")


def test_the_format_s_defaults_hold_in_the_catalogue_too(tmp_path: Path) -> None:
    entry = {"title": "Logs", "format": "irc_log", "origin": {"kind": "folder", "path": "logs"}}
    logs = load_catalog(write(tmp_path, {"sources": {"logs": entry}}))["logs"]
    assert (logs.platform, logs.truth, logs.roles) == ("irc", "guessed", {"train"})


def test_the_environment_names_another_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = root / "elsewhere.yaml"
    elsewhere.write_text("workspaces:\n  team: {path: exports/team.zip}\n")
    monkeypatch.setenv(OWN_CHAT_VARIABLE, str(elsewhere))
    assert list(own(root, "workspaces:\n  porch: {path: exports/porch.log}\n")) == ["talk", "team"]
    elsewhere.unlink()
    with pytest.raises(InputError, match="THREAD_EMBED_OWN_CHAT names this file, but it is not there"):
        load_catalog(root / "catalog.yaml")


@pytest.mark.parametrize(
    ("text", "place", "problem", "remedy"),
    [
        ("workspaces:\n  a: {path: 'x\n", "own_chat.yaml", "not valid YAML", "Mend"),
        ("workspaces: !!python/object/apply:os.system ['true']\n", "own_chat.yaml", "could not determine a cons", "Mend"),
        ("workspaces: " + "[" * 5_000, "own_chat.yaml", "not valid YAML", "Mend"),
        ("sources:\n  a: {path: x}\n", "own_chat.yaml", "no mapping 'workspaces'", "workspaces:"),
        ("workspaces:\n  a: exports/team.zip\n", "entry 'a'", "not a mapping", "fields"),
        ("workspaces:\n  a: {title: A}\n", "entry 'a', field 'path'", "has a path", "path: exports/team.zip"),
        ("workspaces:\n  a: {path: x, origin: {}}\n", "entry 'a', field 'path'", "no origin", "path: exports/team.zip"),
        ("workspaces:\n  A B: {path: exports/team.zip}\n", "entry 'A B'", "lower-case", "Known fields"),
        ("workspaces:\n  a: {path: exports/team.zip, tile: A}\n", "entry 'a', field 'tile'", "Extra", "Known fields"),
        ("workspaces:\n  talk: {path: exports/team.zip}\n", "entry 'talk'", "catalog.yaml has a source", "another name"),
        (
            "workspaces:\n  a: {path: exports/gone.zip}\n",
            "entry 'a'",
            "exports/gone.zip: there is no such",
            "name the format",
        ),
        ("workspaces:\n  a: {path: exports}\n", "entry 'a'", "no export of a format", "Looked for slack_export"),
    ],
)
def test_a_mistake_names_file_entry_and_remedy(root: Path, text: str, place: str, problem: str, remedy: str) -> None:
    (root / "exports" / "porch.log").unlink()
    with pytest.raises(InputError) as caught:
        own(root, text)
    assert caught.value.place.startswith(str(root / "own_chat.yaml"))
    assert place in caught.value.place
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


def test_an_export_that_is_not_there_yet_may_name_its_format(root: Path) -> None:
    assert own(root, "workspaces:\n  a: {path: exports/gone.zip, format: slack_export}\n")["a"].format == "slack_export"
