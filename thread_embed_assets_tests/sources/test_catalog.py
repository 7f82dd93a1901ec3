from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.sources.parsers import PARSERS

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


@pytest.mark.parametrize(
    ("change", "place", "problem"),
    [
        ({"licens": "MIT"}, "field 'licens'", "Extra inputs"),
        ({"licence": None}, "field 'licence'", "Field required"),
        ({"truth": "hearsay"}, "field 'truth'", "Input should be"),
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
