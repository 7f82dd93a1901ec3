from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from random import Random
from typing import Any

import pytest

from thread_embed_assets.chat import quality
from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.read import read_conversations
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source, load_catalog
from thread_embed_assets.sources.conversations import build_conversations, split_plan
from thread_embed_assets.sources.fetch import fetch
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets_tests.chat.planted import DAY, NOON, sentence

from .conftest import MakeSource

USERS = [
    {"id": "U1", "name": "zorkle", "real_name": "Zorkle Vimmel", "profile": {"display_name": "zorkle"}},
    {"id": "U2", "name": "quandor.b", "real_name": "Quandor Brask", "profile": {"display_name": ""}},
]
BY_TIME = {"by": "channel_time", "test_share": 0.2, "dev_share": 0.2, "embargo_hours": 1}


def message(time: float, user: str, text: str, thread: float) -> dict[str, Any]:
    return {"type": "message", "ts": f"{time:.6f}", "thread_ts": f"{thread:.6f}", "user": user, "text": text}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An export of one channel: ten threads of four messages, a day apart, with names and mentions in their texts."""
    layout, draw = Layout(tmp_path), Random(5)
    files = layout.raw("planted") / "files"
    (files / "general").mkdir(parents=True)
    (files / "users.json").write_text(json.dumps(USERS))
    (files / "channels.json").write_text(json.dumps([{"id": "C1", "name": "general"}]))
    said = []
    for day in range(10):
        start = NOON + DAY * day
        texts = ["Quandor Brask: ", "<@U1> ", "ask zorkle, ", "quandor.b and Zorkle Vimmel know, "]
        said += [message(start + 60 * n, f"U{n % 2 + 1}", text + sentence(draw), start) for n, text in enumerate(texts)]
    (files / "general" / "2020-09-13.json").write_text(json.dumps(said))
    return layout


def test_names_go_to_the_private_table_only(layout: Layout, make_source: MakeSource) -> None:
    built = build_conversations(make_source("slack_export", split=BY_TIME), layout)
    people = {row["name"]: row["person_id"] for row in open_table(layout.people("planted"), "people").rows_as_dicts()}
    assert people["zorkle"] == people["zorkle vimmel"] == people["u1"] != people["quandor brask"] == people["u2"]
    assert stat.S_IMODE(layout.people("planted").stat().st_mode) == 0o600
    stored = next(read_conversations(built.conversations, built.messages))
    zorkle, quandor = people["zorkle"], people["u2"]
    assert [m.author for m in stored.messages] == [zorkle, quandor] * 2
    starts = [f"<@{quandor}>: ", f"<@{zorkle}> ", f"ask <@{zorkle}>, ", f"<@{quandor}> and <@{zorkle}> know, "]
    assert [m.text.startswith(start) for m, start in zip(stored.messages, starts, strict=True)] == [True] * 4
    assert [m.parents for m in stored.messages] == [(), *[(stored.messages[0].id,)] * 3]
    assert quality.speaker_names_gone(built, layout.people("planted")).passed
    content = layout.conversations("planted").read_bytes().lower()
    assert b"zorkle" not in content
    assert b"quandor" not in content


def test_the_catalogue_decides_how_it_is_split(layout: Layout, make_source: MakeSource) -> None:
    built = build_conversations(make_source("slack_export", split=BY_TIME), layout)
    found = [c.split for c in read_conversations(built.conversations, built.messages)]
    assert found == ["train"] * 6 + ["dev"] * 2 + ["test"] * 2
    held = make_source("slack_export", split=BY_TIME | {"test_channels": ["general"]})
    built = build_conversations(held, layout)
    assert {c.split for c in read_conversations(built.conversations, built.messages)} == {"test"}


def test_a_second_build_is_the_same(layout: Layout, make_source: MakeSource) -> None:
    source = make_source("slack_export", split=BY_TIME)
    assert build_conversations(source, layout) == build_conversations(source, layout)


def test_a_source_without_published_split_is_told_and_nothing_is_left(layout: Layout, make_source: MakeSource) -> None:
    with pytest.raises(InputError, match="carries no published split"):
        build_conversations(make_source("slack_export"), layout)
    assert list((layout.data / "conversations").iterdir()) == []
    assert not layout.people("planted").exists()


def test_missing_and_broken_raw_files_are_told_and_the_last_good_data_stays(layout: Layout, make_source: MakeSource) -> None:
    source = make_source("slack_export", split=BY_TIME)
    before = build_conversations(source, layout)
    day = layout.raw("planted") / "files" / "general" / "2020-09-13.json"
    day.write_text(day.read_text()[:-50])
    with pytest.raises(InputError, match=r"2020-09-13\.json"):
        build_conversations(source, layout)
    shutil.rmtree(layout.raw("planted") / "files")
    with pytest.raises(InputError, match="Materialise its raw_dataset first"):
        build_conversations(source, layout)
    assert open_table(layout.conversations("planted"), "conversations") == before.conversations


def test_a_plan_of_published_splits(make_source: MakeSource) -> None:
    assign = split_plan(make_source("slack_export", split={"by": "published", "dev_share": 0.5}))([])
    found = {assign(f"c{n}", "x", None, None, "train") for n in range(40)}
    assert found == {Split.TRAIN, Split.DEV}


def test_a_plan_that_draws_by_conversation(make_source: MakeSource) -> None:
    assign = split_plan(make_source("slack_export", split={"by": "conversation", "test_share": 0.2, "dev_share": 0.3}))([])
    found = [assign(f"c{n}", "x", None, None, None) for n in range(1000)]
    assert [round(found.count(split) / 100) for split in (Split.TRAIN, Split.DEV, Split.TEST)] == [5, 3, 2]


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["irc_disentangle", "slack_dev_chats", "topical_chat"])
def test_real_sources_pass_their_checks(name: str, real_source: Any) -> None:
    source, raw = real_source(name)
    layout = Layout(raw.folder.parents[3])
    built = build_conversations(source, layout)
    check(built, source, layout)


def check(built: Normalised, source: Source, layout: Layout) -> None:
    verdicts = [
        quality.non_empty(built),
        quality.schema(built),
        quality.unique_ids(built),
        quality.language_share(built),
        quality.speaker_names_gone(built, layout.people(source.name)),
        quality.filter_rates(built, source.filter_bounds),
    ]
    assert [v.description for v in verdicts if not v.passed] == []


def test_the_sample_passes_its_checks(tmp_path: Path) -> None:
    source, layout = load_catalog()["sample_workspace"], Layout(tmp_path)
    fetch(source, layout)
    built = build_conversations(source, layout)
    check(built, source, layout)
    splits = [c.split for c in read_conversations(built.conversations, built.messages)]
    assert all(splits.count(split) >= 20 for split in ("train", "dev", "test"))
