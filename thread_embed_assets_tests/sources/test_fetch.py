from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.chat.model import Conversation, Truth
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import archives
from thread_embed_assets.sources import download as download_module
from thread_embed_assets.sources import fetch as module
from thread_embed_assets.sources.catalog import OWN_CHAT_VARIABLE, Source, load_catalog
from thread_embed_assets.sources.fetch import RawDataset, Survey, fetch, mirror_from_environment, open_raw
from thread_embed_assets.storage.fingerprint import of_folder
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout

from . import exports, irc_exports
from .archive_makers import tar_gz, zip_of
from .conftest import MakeSource
from .local_server import Server, serving

COMMIT = "c0ffee"
ARCHIVE = f"github/team/chats/{COMMIT}.tar.gz"
FILES = {"talk/valid_freq.json": json.dumps({"t_1": {"content": [{"message": "Hi", "agent": "agent_1"}]}})}
OTHER = {"talk/valid_freq.json": "{}"}


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.delenv(module.MIRROR_VARIABLE, raising=False)
    monkeypatch.setenv(module.GITHUB_VARIABLE, "http://127.0.0.1:9")  # nothing answers there
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download_module, "FIRST_PAUSE", 0.001)
    return Layout(tmp_path / "root")


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    tar_gz(tmp_path / "mirror" / ARCHIVE, FILES | {"README.md": "not included"})
    return tmp_path / "mirror"


@pytest.fixture
def server(tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(Server(tar_gz(tmp_path / "origin.tar.gz", FILES).read_bytes())) as running:
        monkeypatch.setenv(module.GITHUB_VARIABLE, running.url)
        yield running


def digest(folder: Path, files: Mapping[str, str]) -> str:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return of_folder(folder)


@pytest.fixture
def source(tmp_path: Path, make_source: MakeSource) -> Source:
    origin = {"kind": "github", "repository": "team/chats", "include": ["talk/*.json"]}
    return make_source("topical_chat", origin=origin, revision=COMMIT, sha256=digest(tmp_path / "expected", FILES))


def contents(raw: RawDataset) -> dict[str, str]:
    return {p.relative_to(raw.folder).as_posix(): p.read_text() for p in raw.folder.rglob("*") if p.is_file()}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_mirror_comes_first_and_the_manifest_tells(source: Source, layout: Layout, mirror: Path) -> None:
    raw = fetch(source, layout, mirror)
    assert raw.folder == layout.raw("planted") / "files"
    assert contents(raw) == FILES
    assert json.loads((layout.raw("planted") / "manifest.json").read_text()) == {
        "source": "planted",
        "revision": COMMIT,
        "licence": "none",
        "redistribute": False,
        "origin": f"http://127.0.0.1:9/team/chats/tar.gz/{COMMIT}",
        "fetched_from": "mirror",
        "files": 1,
        "bytes": len(FILES["talk/valid_freq.json"]),
        "sha256": source.sha256,
        "commit": "",
        "declared": raw.declared,
        "survey": {"conversations": 1, "messages": 1, "first": None, "last": None},
    }
    assert open_raw(source, layout) == raw
    assert [p.name for p in layout.raw("planted").parent.iterdir()] == ["planted"], "nothing temporary is left"


def test_the_environment_names_the_mirror(
    source: Source, layout: Layout, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(module.MIRROR_VARIABLE, str(mirror))
    assert fetch(source, layout).fetched_from == "mirror"
    monkeypatch.setenv(module.MIRROR_VARIABLE, str(mirror / "nowhere"))
    with pytest.raises(InputError, match="THREAD_EMBED_MIRROR names this folder"):
        mirror_from_environment()


def test_origin_then_cache(source: Source, layout: Layout, server: Server, tmp_path: Path) -> None:
    empty = tmp_path / "empty mirror"
    empty.mkdir()
    assert fetch(source, layout, empty).fetched_from == "origin"
    assert [path for path, _ in server.requests] == [f"/team/chats/tar.gz/{COMMIT}"]
    shutil.rmtree(layout.raw("planted"))
    again = fetch(source, layout)
    assert (again.fetched_from, contents(again)) == ("cache", FILES)
    assert len(server.requests) == 1


def test_what_is_there_with_the_same_revision_and_checksum_is_kept(source: Source, layout: Layout, mirror: Path) -> None:
    fetch(source, layout, mirror)
    shutil.rmtree(mirror)
    kept = fetch(source, layout)
    assert kept.reused
    assert (kept.fetched_from, contents(kept)) == ("mirror", FILES)


@pytest.mark.parametrize("damage", ["file", "manifest", "no manifest", "extra file"])
def test_what_was_damaged_since_is_fetched_again(source: Source, layout: Layout, mirror: Path, damage: str) -> None:
    raw = fetch(source, layout, mirror)
    manifest = raw.folder.with_name("manifest.json")
    match damage:
        case "file":
            (raw.folder / "talk/valid_freq.json").write_text("{")
        case "manifest":
            manifest.write_text('{"revision": ')
        case "no manifest":
            manifest.unlink()
        case "extra file":
            (raw.folder / "more.json").write_text("{}")
    again = fetch(source, layout, mirror)
    assert not again.reused
    assert contents(again) == FILES


def test_another_format_is_fetched_and_surveyed_again(source: Source, layout: Layout, mirror: Path) -> None:
    fetch(source, layout, mirror)
    assert fetch(source, layout, mirror).reused
    with pytest.raises(InputError, match="read as 'irc_annotated'"):
        fetch(source.model_copy(update={"format": "irc_annotated"}), layout, mirror)


def test_another_revision_is_fetched_again(source: Source, layout: Layout, mirror: Path) -> None:
    fetch(source, layout, mirror)
    newer = source.model_copy(update={"revision": "decade"})
    tar_gz(mirror / "github/team/chats/decade.tar.gz", FILES)
    assert not fetch(newer, layout, mirror).reused
    assert open_raw(newer, layout).revision == "decade"


def test_a_wrong_checksum_names_both_and_the_last_good_data_stays(source: Source, layout: Layout, mirror: Path) -> None:
    fetch(source, layout, mirror)
    before = snapshot(layout.raw("planted"))
    newer = source.model_copy(update={"revision": "decade"})
    archive = tar_gz(mirror / "github/team/chats/decade.tar.gz", OTHER)
    with pytest.raises(InputError, match=f"sha256 is [0-9a-f]{{64}}, but the catalogue says {source.sha256}") as caught:
        fetch(newer, layout, mirror)
    assert caught.value.place == str(archive)
    assert archive.exists(), "the mirror is not ours to clean"
    assert snapshot(layout.raw("planted")) == before


def test_a_download_with_a_wrong_checksum_leaves_the_cache_and_the_next_try_is_fresh(
    source: Source, layout: Layout, server: Server, tmp_path: Path
) -> None:
    good, server.content = server.content, tar_gz(tmp_path / "other.tar.gz", OTHER).read_bytes()
    with pytest.raises(InputError, match="sha256"):
        fetch(source, layout)
    assert not (layout.download_cache / ARCHIVE).exists()
    server.content = good
    assert contents(fetch(source, layout)) == FILES


def test_a_truncated_cache_file_is_removed(source: Source, layout: Layout, server: Server) -> None:
    cached = layout.download_cache / ARCHIVE
    cached.parent.mkdir(parents=True)
    cached.write_bytes(server.content[:60])
    with pytest.raises(InputError, match="truncated or damaged"):
        fetch(source, layout)
    assert fetch(source, layout).fetched_from == "origin"


def test_an_origin_out_of_reach_says_what_to_do(source: Source, layout: Layout) -> None:
    with pytest.raises(InputError, match="Check the network"):
        fetch(source, layout)
    assert not layout.raw("planted").exists()


def test_a_full_disk_leaves_the_last_good_data(
    source: Source, layout: Layout, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = fetch(source, layout, mirror)
    (raw.folder.with_name("manifest.json")).write_text("{}")
    before = snapshot(layout.raw("planted"))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives, "_write", full)
    with pytest.raises(InputError, match="disk is full"):
        fetch(source, layout, mirror)
    assert snapshot(layout.raw("planted")) == before
    assert [p.name for p in layout.raw("planted").parent.iterdir()] == ["planted"]


@pytest.fixture
def export(layout: Layout) -> Path:
    message = [{"type": "message", "ts": "1.5", "user": "U1", "text": "hi"}]
    digest(
        layout.root / "export",
        {"users.json": '[{"id": "U1"}]', "general/2025-03-01.json": json.dumps(message), ".DS_Store": "x"},
    )
    return layout.root / "export"


def test_an_export_is_taken_from_a_folder_or_a_zip_alike(layout: Layout, export: Path, make_source: MakeSource) -> None:
    from_folder = fetch(make_source("slack_export"), layout)
    assert (from_folder.fetched_from, from_folder.origin) == ("folder", "export")
    assert sorted(contents(from_folder)) == ["general/2025-03-01.json", "users.json"]
    zip_of(layout.root / "export.zip", {f"top/{name}": content for name, content in contents(from_folder).items()})
    from_zip = fetch(make_source("slack_export", origin={"kind": "folder", "path": "export.zip"}), layout)
    assert from_zip.sha256 == from_folder.sha256


def test_the_times_of_change_come_along(layout: Layout, export: Path, make_source: MakeSource) -> None:
    os.utime(export / "users.json", (1_700_000_000, 1_700_000_000))
    raw = fetch(make_source("slack_export"), layout)
    assert (raw.folder / "users.json").stat().st_mtime == 1_700_000_000
    with zipfile.ZipFile(layout.root / "export.zip", "w") as archive:
        for path in (path for path in export.rglob("*") if path.is_file()):
            archive.write(path, path.relative_to(export))
        archive.writestr(zipfile.ZipInfo("general/2025-03-02.json", (1980, 0, 0, 0, 0, 0)), "[]")
    raw = fetch(make_source("slack_export", origin={"kind": "folder", "path": "export.zip"}), layout)
    assert (raw.folder / "users.json").stat().st_mtime == 1_700_000_000


@pytest.mark.parametrize("name", ["slack_export", "discord_export", "zulip_export", "irc_log"])
@pytest.mark.parametrize("zipped", [False, True])
def test_an_own_chat_of_one_line_becomes_conversations(
    layout: Layout, name: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = layout.root / "exports" / "ours"
    make = irc_exports.irssi_log if name == "irc_log" else getattr(exports, name)
    make(folder)
    path = "exports/ours"
    if zipped:
        shutil.make_archive(str(folder), "zip", folder)
        path = "exports/ours.zip"
    own = tmp_path / "own_chat.yaml"
    own.write_text(f"workspaces:\n  our_team: {{path: {path}}}\n")
    monkeypatch.setenv(OWN_CHAT_VARIABLE, str(own))
    monkeypatch.setenv(ROOT_VARIABLE, str(layout.root))
    source = load_catalog()["our_team"]
    assert source.format == name
    raw = fetch(source, layout)
    assert raw.survey is not None and raw.survey.messages > 10 and raw.survey.first is not None


def test_a_growing_export_is_read_again(layout: Layout, export: Path, make_source: MakeSource) -> None:
    source = make_source("slack_export")
    first = fetch(source, layout)
    (export / "general/2025-03-02.json").write_text("[]")
    second = fetch(source, layout)
    assert (second.files, second.reused) == (first.files + 1, False)


def test_a_hostile_export_replaces_nothing(layout: Layout, export: Path, make_source: MakeSource) -> None:
    fetch(make_source("slack_export"), layout)
    before = snapshot(layout.raw("planted"))
    zip_of(layout.root / "export.zip", {"users.json": "[]", "../../evil.json": "[]"})
    with pytest.raises(InputError, match=r"export\.zip, member '\.\./\.\./evil\.json'"):
        fetch(make_source("slack_export", origin={"kind": "folder", "path": "export.zip"}), layout)
    assert snapshot(layout.raw("planted")) == before
    assert not list(layout.root.parent.rglob("evil.json"))


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [('[{"ts": "1.', "export/general/2025-03-01.json:1:", "not valid JSON"), ("[]", "export", "no conversation")],
)
def test_an_export_that_cannot_be_read_replaces_nothing(
    layout: Layout, export: Path, make_source: MakeSource, content: str, place: str, problem: str
) -> None:
    fetch(make_source("slack_export"), layout)
    before = snapshot(layout.raw("planted"))
    (export / "general/2025-03-01.json").write_text(content)
    with pytest.raises(InputError, match=problem) as caught:
        fetch(make_source("slack_export"), layout)
    assert caught.value.place.startswith(f"{layout.root}/{place}")
    assert snapshot(layout.raw("planted")) == before


def test_a_missing_export_is_named(layout: Layout, make_source: MakeSource) -> None:
    with pytest.raises(InputError, match="no such folder, nor a zip") as caught:
        fetch(make_source("slack_export"), layout)
    assert caught.value.place == str(layout.root / "export")


def test_a_packaged_source_is_copied(
    layout: Layout, export: Path, make_source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PACKAGE", layout.root)
    origin = {"kind": "package", "path": "export"}
    shutil.rmtree(export / "__pycache__", ignore_errors=True)
    (export / ".DS_Store").unlink()
    raw = fetch(make_source("slack_export", origin=origin, sha256=of_folder(export)), layout)
    assert raw.fetched_from == "package"
    assert snapshot(raw.folder) == snapshot(export)


def test_a_survey_counts_and_dates_and_is_kept(layout: Layout, export: Path, make_source: MakeSource) -> None:
    source = make_source("slack_export")
    messages = [{"ts": f"{n}.0", "user": "U1", "text": "x", "thread_ts": "20.0"} for n in (40, 20, 30)]
    (export / "general/2025-03-02.json").write_text(json.dumps(messages))
    assert fetch(source, layout).survey == Survey(conversations=2, messages=4, first=1.5, last=40.0)
    assert open_raw(source, layout).survey == Survey(conversations=2, messages=4, first=1.5, last=40.0)


def test_each_fetch_parses_once_and_a_kept_source_not_at_all(
    source: Source, layout: Layout, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    parse = module.parse

    def counted(folder: Path, source: Source) -> Iterator[Conversation]:
        parsed.append(source.name)
        return parse(folder, source)

    monkeypatch.setattr(module, "parse", counted)
    fetch(source, layout, mirror)
    fetch(source, layout, mirror)
    assert parsed == ["planted"]


@pytest.mark.parametrize(("limit", "truth"), [(10, Truth.EXPLICIT), (10**6, Truth.GUESSED)])
def test_what_takes_long_to_parse_is_not_surveyed_but_an_own_export_is(
    source: Source,
    layout: Layout,
    mirror: Path,
    export: Path,
    make_source: MakeSource,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    truth: Truth,
) -> None:
    monkeypatch.setattr(module, "SURVEYED_UP_TO", limit)
    pinned = source.model_copy(update={"truth": truth})
    assert fetch(pinned, layout, mirror).survey is None
    assert open_raw(pinned, layout).survey is None
    own = fetch(make_source("slack_export", name="own", truth=truth), layout)
    assert own.survey is not None and own.survey.messages == 1


def test_a_source_without_conversations_is_refused_before_it_replaces_the_last(
    source: Source, layout: Layout, mirror: Path, tmp_path: Path
) -> None:
    fetch(source, layout, mirror)
    before = snapshot(layout.raw("planted"))
    archive = tar_gz(mirror / "github/team/chats/decade.tar.gz", OTHER)
    changed = {"revision": "decade", "sha256": digest(tmp_path / "other", OTHER)}
    with pytest.raises(InputError, match="no conversation is found when it is read as 'topical_chat'") as caught:
        fetch(source.model_copy(update=changed), layout, mirror)
    assert caught.value.place == str(archive)
    assert snapshot(layout.raw("planted")) == before


def test_a_single_file_is_an_export(layout: Layout, make_source: MakeSource) -> None:
    source = make_source("topical_chat", origin={"kind": "folder", "path": "talk.json"})
    layout.root.mkdir()
    (layout.root / "talk.json").write_text(FILES["talk/valid_freq.json"])
    assert contents(fetch(source, layout)) == {"talk.json": FILES["talk/valid_freq.json"]}
    (layout.root / "talk.json").write_text('{"t_1": ')
    with pytest.raises(InputError, match="not valid JSON") as caught:
        fetch(source, layout)
    assert caught.value.place.startswith(f"{layout.root / 'talk.json'}:1:")


@pytest.mark.parametrize("named", ["", "other", "plante"])
def test_what_must_be_opted_in_to_is_refused_with_its_reason(
    source: Source, layout: Layout, mirror: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    guarded = source.model_copy(update={"opt_in": "it was withdrawn."})
    monkeypatch.setenv(module.OPT_IN_VARIABLE, named)
    with pytest.raises(InputError, match="off by default: it was withdrawn") as caught:
        fetch(guarded, layout, mirror)
    assert "THREAD_EMBED_OPT_IN=planted" in caught.value.remedy
    assert not layout.raw("planted").exists()
    monkeypatch.setenv(module.OPT_IN_VARIABLE, "other, planted")
    assert contents(fetch(guarded, layout, mirror)) == FILES


def test_what_was_never_fetched_cannot_be_opened(layout: Layout, source: Source) -> None:
    with pytest.raises(InputError, match="was not fetched yet"):
        open_raw(source, layout)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["irc_disentangle", "slack_dev_chats", "topical_chat", "duraspace_irc"])
def test_the_mirror_holds_what_the_catalogue_pins(
    real_source: Callable[[str], tuple[Source, RawDataset]], name: str
) -> None:
    source, raw = real_source(name)
    assert raw.sha256 == load_catalog()[name].sha256 == source.sha256
    assert raw.fetched_from == "mirror"
