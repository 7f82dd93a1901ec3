"""Data sets of the hub, through ``fetch``, against a hub on this machine."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.sources import hub as module
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.download import ATTEMPTS
from thread_embed_assets.sources.fetch import RawDataset, fetch, open_raw
from thread_embed_assets.storage.fingerprint import of_folder
from thread_embed_assets.storage.layout import Layout

from .conftest import MakeSource
from .fake_hub import COMMIT, FakeHub, hub_in_reach

NAME = "team/chats"
LATER = "b2" * 20
SMALL, LARGE = "talk/valid_freq.json", "talk/valid_rare.json"


def talk(word: str, turns: int) -> bytes:
    content = [{"message": f"{word} {n}", "agent": f"agent_{n % 2 + 1}"} for n in range(turns)]
    return json.dumps({f"t_{word}": {"content": content}}).encode()


FILES = {SMALL: talk("hello", 3), LARGE: talk("goodbye", 300), "talk/deep/x.json": b"{}", "README.md": b"read me"}
WANTED = {SMALL: FILES[SMALL], LARGE: FILES[LARGE]}
OTHER = FILES | {LARGE: talk("another", 300)}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with hub_in_reach(FakeHub({NAME: {COMMIT: FILES}}), monkeypatch, tmp_path / "no token") as running:
        yield running


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "root")


@pytest.fixture
def make(make_source: MakeSource) -> MakeSource:
    def made(**fields: Any) -> Source:
        origin = {"kind": "hub", "repository": NAME, "include": ["talk/*.json"]}
        return make_source("topical_chat", **{"origin": origin, "revision": COMMIT, **fields})

    return made


@pytest.fixture
def digest(tmp_path: Path) -> str:
    put(tmp_path / "expected", WANTED)
    return of_folder(tmp_path / "expected")


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def contents(raw: RawDataset) -> dict[str, bytes]:
    return {p.relative_to(raw.folder).as_posix(): p.read_bytes() for p in raw.folder.rglob("*") if p.is_file()}


def test_files_come_from_the_hub_and_then_from_the_cache(
    hub: FakeHub, layout: Layout, make: MakeSource, digest: str
) -> None:
    source = make(sha256=digest)
    raw = fetch(source, layout)
    assert contents(raw) == WANTED
    assert (raw.fetched_from, raw.commit, raw.sha256) == ("origin", COMMIT, digest)
    assert raw.origin == f"{hub.url}/datasets/{NAME}/tree/{COMMIT}"
    assert raw.survey is not None and (raw.survey.conversations, raw.survey.messages) == (2, 303)
    assert hub.kinds() == ["info", *["file", "content"] * 2]
    assert open_raw(source, layout) == raw
    shutil.rmtree(layout.raw("planted"))
    again = fetch(source, layout)
    assert (again.fetched_from, contents(again)) == ("cache", WANTED)
    assert len(hub.asked) == 5, "at a commit, nothing is asked again"


def test_what_is_there_is_kept_without_asking(hub: FakeHub, layout: Layout, make: MakeSource) -> None:
    source = make(revision="main")
    first = fetch(source, layout)
    shutil.rmtree(layout.download_cache)
    hub.asked.clear()
    kept = fetch(source, layout)
    assert (kept.reused, kept) == (True, first)
    assert hub.asked == []


def test_the_cache_and_the_files_share_their_bytes(
    hub: FakeHub, layout: Layout, make: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = fetch(make(), layout)
    assert (raw.folder / LARGE).stat().st_nlink == 2
    shutil.rmtree(layout.raw("planted"))

    def refuse(*_: Any) -> None:
        raise OSError("no links on this file system")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert contents(fetch(make(), layout)) == WANTED


def test_a_branch_is_resolved_once_and_its_commit_held_to(
    hub: FakeHub, layout: Layout, make: MakeSource, tmp_path: Path
) -> None:
    source = make(revision="main")
    assert fetch(source, layout).commit == COMMIT
    hub.repositories[NAME][LATER] = OTHER
    (layout.raw("planted") / "files" / SMALL).unlink()
    mended = fetch(source, layout)
    assert (mended.commit, contents(mended)) == (COMMIT, WANTED)
    shutil.rmtree(layout.raw("planted"))
    moved = fetch(source, layout)
    assert (moved.commit, contents(moved)[LARGE]) == (LATER, OTHER[LARGE])


def test_the_mirror_comes_first_and_needs_no_hub(
    hub: FakeHub, layout: Layout, make: MakeSource, tmp_path: Path, digest: str
) -> None:
    mirror = tmp_path / "mirror"
    put(mirror / "hub" / "datasets" / NAME / COMMIT, FILES)
    raw = fetch(make(sha256=digest), layout, mirror)
    assert (raw.fetched_from, raw.commit, contents(raw)) == ("mirror", "", WANTED)
    assert hub.asked == []
    assert (raw.folder / LARGE).stat().st_nlink == 1, "the mirror is not ours to share"
    with pytest.raises(InputError, match=r"no file matches 'data/\*'.*There are: README\.md, talk/deep/x\.json, talk/v"):
        fetch(make(origin={"kind": "hub", "repository": NAME, "include": ["data/*"]}), layout, mirror)


def test_a_mirror_of_another_revision_does_not_serve(hub: FakeHub, layout: Layout, make: MakeSource, tmp_path: Path) -> None:
    put(tmp_path / "mirror" / "hub" / "datasets" / NAME / LATER, OTHER)
    raw = fetch(make(), layout, tmp_path / "mirror")
    assert (raw.fetched_from, contents(raw)) == ("origin", WANTED)


@pytest.mark.parametrize(
    ("fields", "problem", "remedy"),
    [
        ({"revision": LATER}, f"answered 404: {NAME} has no revision {LATER}", "correct the catalogue"),
        ({"origin": {"repository": "no/body"}}, "answered 404: no/body has no revision", "datasets/no/body"),
        (
            {"origin": {"include": ["talk/test_*.json"]}},
            r"no file matches 'talk/test_\*\.json'",
            "There are: README.md, talk/",
        ),
    ],
)
def test_what_is_not_there_is_named(
    hub: FakeHub, layout: Layout, make: MakeSource, fields: dict[str, Any], problem: str, remedy: str
) -> None:
    origin = {"kind": "hub", "repository": NAME, "include": ["talk/*.json"]} | fields.get("origin", {})
    with pytest.raises(InputError, match=problem) as caught:
        fetch(make(**fields | {"origin": origin}), layout)
    assert remedy in caught.value.remedy
    assert caught.value.place.startswith(f"{hub.url}/datasets/")
    assert not layout.raw("planted").exists()


def test_a_file_that_has_gone_is_named(hub: FakeHub, layout: Layout, make: MakeSource) -> None:
    hub.file_plan = [404]
    with pytest.raises(InputError, match=f"{NAME} has no {SMALL} at revision {COMMIT}"):
        fetch(make(), layout)
    assert hub.kinds().count("content") == 1, "a 404 is not tried again"


def test_a_gated_data_set_says_how_to_get_in(
    hub: FakeHub, layout: Layout, make: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.accepted = {"hf_accepted"}
    with pytest.raises(InputError, match="answered 401") as caught:
        fetch(make(), layout)
    assert f"Accept its terms at {hub.url}/datasets/{NAME} with your account" in caught.value.remedy
    assert f"make a token at {hub.url}/settings/tokens and set HF_TOKEN" in caught.value.remedy
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    with pytest.raises(InputError, match="answered 403") as caught:
        fetch(make(), layout)
    assert f"{hub.url}/datasets/{NAME} with the account of your HF_TOKEN; then run again" in caught.value.remedy
    assert "hf_stranger" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_accepted")
    assert contents(fetch(make(), layout)) == WANTED
    assert {asked.token for asked in hub.asked if asked.kind == "content"} == {None}, "the token stays with the hub"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_hub_is_tried_again(hub: FakeHub, layout: Layout, make: MakeSource, status: int) -> None:
    hub.info_plan = [status] * (ATTEMPTS - 1)
    hub.file_plan = [status] * (ATTEMPTS - 1)
    assert contents(fetch(make(), layout)) == WANTED


def test_pauses_grow(hub: FakeHub, layout: Layout, make: MakeSource, caplog: pytest.LogCaptureFixture) -> None:
    hub.info_plan = [503] * 3
    with caplog.at_level(logging.WARNING):
        fetch(make(), layout)
    pauses = [float(record.getMessage().split(" in ")[1].split()[0]) for record in caplog.records]
    assert pauses == pytest.approx([0.001, 0.002, 0.004])


@pytest.mark.parametrize(("plan", "kind"), [("info_plan", "info"), ("file_plan", "content")])
def test_a_hub_that_stays_busy_is_given_up(hub: FakeHub, layout: Layout, make: MakeSource, plan: str, kind: str) -> None:
    setattr(hub, plan, [503] * ATTEMPTS)
    with pytest.raises(TransientError, match="the server answered 503") as caught:
        fetch(make(), layout)
    assert "run again later" in caught.value.remedy
    assert hub.kinds().count(kind) == ATTEMPTS
    assert not layout.raw("planted").exists()


def test_a_hub_out_of_reach_says_what_to_do(
    hub: FakeHub, layout: Layout, make: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(module.ENDPOINT_VARIABLE, "http://127.0.0.1:9")
    with pytest.raises(TransientError, match="could not be reached in 6 attempts") as caught:
        fetch(make(), layout)
    assert "HF_ENDPOINT" in caught.value.remedy and "THREAD_EMBED_MIRROR" in caught.value.remedy


def test_an_offline_setting_is_told(hub: FakeHub, layout: Layout, make: MakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        fetch(make(), layout)
    huggingface_hub.close_session()


def test_a_cut_transfer_continues(hub: FakeHub, layout: Layout, make: MakeSource) -> None:
    hub.file_plan = [50, 2**20, 700]
    assert contents(fetch(make(), layout)) == WANTED
    ranges = [asked.range for asked in hub.asked if asked.kind == "content"]
    assert ranges == [None, "bytes=50-", None, "bytes=700-"]


def test_a_cut_transfer_starts_again_where_there_are_no_ranges(hub: FakeHub, layout: Layout, make: MakeSource) -> None:
    hub.ranges = False
    hub.file_plan = [50, 2**20, 700]
    assert contents(fetch(make(), layout)) == WANTED


def test_a_file_that_is_not_what_the_hub_says_is_not_kept(hub: FakeHub, layout: Layout, make: MakeSource) -> None:
    hub.told = {LARGE: "0" * 64}
    with pytest.raises(InputError, match=f"the file's sha256 is [0-9a-f]{{64}}, but the hub says {'0' * 64}") as caught:
        fetch(make(), layout)
    assert caught.value.place == f"{hub.url}/datasets/{NAME}/resolve/{COMMIT}/{LARGE}"
    assert not layout.raw("planted").exists()
    assert not list(layout.download_cache.rglob("valid_rare.json"))


def test_a_file_of_another_size_is_not_kept(hub: FakeHub, layout: Layout, make: MakeSource) -> None:
    listing = layout.download_cache / "hub" / "datasets" / NAME / f"{COMMIT}.json"
    fetch(make(), layout)
    listing.write_text(listing.read_text().replace(f'"size": {len(FILES[SMALL])}', '"size": 5'))
    shutil.rmtree(layout.raw("planted"))
    with pytest.raises(InputError, match=f"the file has {len(FILES[SMALL])} bytes, but the hub says 5"):
        fetch(make(), layout)


@pytest.mark.parametrize("name", [SMALL, LARGE])
@pytest.mark.parametrize("shorter", [0, 10])
def test_a_damaged_cache_is_mended(hub: FakeHub, layout: Layout, make: MakeSource, name: str, shorter: int) -> None:
    cached = fetch(make(), layout).folder / name
    cached.write_bytes(b"x" * (len(FILES[name]) - shorter))  # the same bytes on disk as the cache's
    mended = fetch(make(), layout)
    assert (mended.fetched_from, contents(mended)) == ("origin", WANTED)


@pytest.mark.parametrize("content", ["", "[]", '{"commit": 1}'])
def test_a_damaged_listing_is_asked_for_again(hub: FakeHub, layout: Layout, make: MakeSource, content: str) -> None:
    listing = layout.download_cache / "hub" / "datasets" / NAME / f"{COMMIT}.json"
    listing.parent.mkdir(parents=True)
    listing.write_text(content)
    assert contents(fetch(make(), layout)) == WANTED


def test_a_path_that_leads_outside_is_refused(hub: FakeHub, layout: Layout, make: MakeSource) -> None:
    hub.repositories[NAME][COMMIT] = {"../evil.json": b"{}"}
    with pytest.raises(InputError, match="outside its folder"):
        fetch(make(origin={"kind": "hub", "repository": NAME, "include": ["../*.json"]}), layout)
    assert not list(layout.root.rglob("evil.json"))


def test_another_checksum_than_the_catalogue_s_leaves_the_last_good_data(
    hub: FakeHub, layout: Layout, make: MakeSource, digest: str
) -> None:
    fetch(make(sha256=digest), layout)
    hub.repositories[NAME][LATER] = OTHER
    with pytest.raises(InputError, match=f"sha256 is [0-9a-f]{{64}}, but the catalogue says {digest}"):
        fetch(make(sha256=digest, revision=LATER), layout)
    assert contents(open_raw(make(), layout)) == WANTED


def test_a_changed_checksum_is_an_error_that_names_both(hub: FakeHub, layout: Layout, make: MakeSource) -> None:
    first = fetch(make(), layout)
    shutil.rmtree(first.folder)
    shutil.rmtree(layout.download_cache)
    hub.repositories[NAME][COMMIT] = OTHER
    with pytest.raises(
        InputError, match=f"changed checksum: .*sha256 is [0-9a-f]{{64}}, but it was {first.sha256}"
    ) as caught:
        fetch(make(), layout)
    assert f"delete {layout.raw('planted')}" in caught.value.remedy
    shutil.rmtree(layout.raw("planted"))
    assert contents(fetch(make(), layout))[LARGE] == OTHER[LARGE]


def test_another_choice_of_files_is_not_a_changed_checksum(hub: FakeHub, layout: Layout, make: MakeSource) -> None:
    fetch(make(), layout)
    fewer = fetch(make(origin={"kind": "hub", "repository": NAME, "include": [SMALL]}), layout)
    assert contents(fewer) == {SMALL: FILES[SMALL]}
