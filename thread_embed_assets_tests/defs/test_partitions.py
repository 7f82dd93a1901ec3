from __future__ import annotations

from pathlib import Path

from thread_embed_assets.defs.partitions import CATALOG, MIXES, mixes_of, mixes_scored_on, source_to_mixes, sources
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets_tests.defs.export import export_source


def _source(name: str, platform: str, **fields: object) -> Source:
    entry = export_source(name, Path("export")).model_dump() | {"platform": platform, "workspace": False}
    return Source.model_validate(entry | fields)


def test_mixes_are_all_open_one_without_each_platform_and_one_for_each_workspace() -> None:
    catalog = {
        "team": _source("team", "slack", workspace=True),
        "talk": _source("talk", "irc", redistribute=True),
        "chat": _source("chat", "slack"),
        "exam": _source("exam", "discord", roles=["benchmark"]),
    }
    assert mixes_of(catalog) == {
        "all": ["team", "talk", "chat"],
        "open": ["talk"],
        "without_slack": ["talk"],
        "without_irc": ["team", "chat"],
        "team": ["team"],
    }


def test_a_source_that_does_not_train_is_in_no_mix() -> None:
    assert mixes_of({"exam": _source("exam", "irc", roles=["benchmark"], workspace=True)}) == {"all": [], "open": []}


def test_each_source_maps_to_the_mixes_that_train_on_it() -> None:
    assert sources.get_partition_keys() == list(CATALOG)
    mapped = source_to_mixes.downstream_partition_keys_by_upstream_partition_key
    assert mapped == {source: {mix for mix, members in MIXES.items() if source in members} for source in CATALOG}
    without = {"without_irc", "without_dialogue", "without_discord"}
    assert mapped["sample_workspace"] == {"all", "open", "sample_workspace", *without}
    assert "open" not in mapped["slack_dev_chats"], "its licence lets nobody pass it on"


def test_a_source_is_scored_by_all_by_open_by_the_mix_that_never_saw_its_platform_and_by_its_own() -> None:
    assert mixes_scored_on("sample_workspace") == ["all", "open", "without_slack", "sample_workspace"]
    assert mixes_scored_on("irc_disentangle") == ["all", "open", "without_irc"]
    assert "irc_disentangle" not in MIXES["without_irc"] and "irc_disentangle" in MIXES["all"]
