from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import archives
from thread_embed_assets.sources import download as download_module
from thread_embed_assets.sources import fetch as module
from thread_embed_assets.sources.catalog import Source, load_catalog
from thread_embed_assets.sources.fetch import RawDataset, fetch, mirror_from_environment, open_raw, survey
from thread_embed_assets.storage.fingerprint import of_folder
from thread_embed_assets.storage.layout import Layout

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
    with pytest.raises(InputError, match="no such folder, nor a zip file") as caught:
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


def test_a_survey_counts_and_dates(layout: Layout, export: Path, make_source: MakeSource) -> None:
    source = make_source("slack_export")
    messages = [{"ts": f"{n}.0", "user": "U1", "text": "x", "thread_ts": "20.0"} for n in (40, 20, 30)]
    (export / "general/2025-03-02.json").write_text(json.dumps(messages))
    found = survey(fetch(source, layout), source)
    assert (found.conversations, found.messages, found.first, found.last) == (2, 4, 1.5, 40.0)


def test_a_survey_of_a_source_without_times_has_none(source: Source, layout: Layout, mirror: Path) -> None:
    found = survey(fetch(source, layout, mirror), source)
    assert (found.conversations, found.messages, found.first, found.last) == (1, 1, None, None)


def test_a_source_that_yields_no_conversation_is_an_error(layout: Layout, export: Path, make_source: MakeSource) -> None:
    source = make_source("slack_export")
    raw = fetch(source, layout)
    (raw.folder / "general/2025-03-01.json").unlink()
    with pytest.raises(InputError, match="no conversation is found when it is read as 'slack_export'"):
        survey(raw, source)
    with pytest.raises(InputError, match="read as 'irc_annotated'"):
        survey(replace(raw), make_source("irc_annotated"))


def test_what_was_never_fetched_cannot_be_opened(layout: Layout, source: Source) -> None:
    with pytest.raises(InputError, match="was not fetched yet"):
        open_raw(source, layout)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["irc_disentangle", "slack_dev_chats", "topical_chat"])
def test_the_mirror_holds_what_the_catalogue_pins(
    real_source: Callable[[str], tuple[Source, RawDataset]], name: str
) -> None:
    source, raw = real_source(name)
    assert raw.sha256 == load_catalog()[name].sha256 == source.sha256
    assert raw.fetched_from == "mirror"
