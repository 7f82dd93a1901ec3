from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from thread_embed_assets.command_line import main
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout
from thread_embed_assets.storage.remote_root import REMOTE_VARIABLE, RemoteRoot, remote_root, travels
from thread_embed_assets.storage.tables import open_table, write_tables
from thread_embed_assets_tests.cluster import stand_in_for_s3

SCHEMA = pa.schema([("name", pa.string()), ("size", pa.int64())])
TABLE = "data/conversations/team.duckdb"


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty remote root: in memory, in a folder, in the bucket of a server that speaks S3."""
    if request.param == "file":
        return f"file://{tmp_path / 'remote'}"
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    files = fsspec.filesystem("memory")
    if files.exists("/chat"):
        files.rm("/chat", recursive=True)
    return "memory://chat/graph"


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    absent = [name for name in ("s3fs", "moto") if find_spec(name) is None]
    if absent:
        pytest.skip(f"{' and '.join(absent)} not installed: the extra `cluster`, and moto[server]")
    with stand_in_for_s3(tmp_path_factory.mktemp("s3")) as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            if name != REMOTE_VARIABLE:
                patch.setenv(name, value)
        yield "s3://chat"


@pytest.fixture
def machines(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RemoteRoot, RemoteRoot]:
    """Two machines with roots of their own and one remote root."""
    monkeypatch.setenv(REMOTE_VARIABLE, url)
    one, other = (remote_root(Layout(tmp_path / name)) for name in ("one", "other"))
    assert one is not None and other is not None
    return one, other


def put(machine: RemoteRoot, name: str, text: str) -> Path:
    path = machine.layout.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def held(machine: RemoteRoot) -> dict[str, str]:
    """What travels, of what the machine has."""
    root = machine.layout.root
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_text(encoding="utf-8") for name, path in sorted(found.items()) if travels(name)}


def test_a_table_made_on_one_machine_is_the_same_table_on_the_other(machines: tuple[RemoteRoot, RemoteRoot]) -> None:
    one, other = machines
    with write_tables(one.layout.conversations("team"), {"pairs": SCHEMA}) as writer:
        writer.add("pairs", ("a", 1))
    assert one.send().files == 1
    assert other.bring().files == 1
    made, brought = (open_table(machine.layout.conversations("team"), "pairs") for machine in machines)
    assert list(brought.rows_as_dicts()) == list(made.rows_as_dicts()) and brought.fingerprint == made.fingerprint


def test_what_is_in_step_moves_no_more(machines: tuple[RemoteRoot, RemoteRoot]) -> None:
    one, other = machines
    put(one, TABLE, "a")
    one.send()
    other.bring()
    assert [move().files for move in (one.send, one.bring, other.bring, other.send)] == [0, 0, 0, 0]


def test_a_newer_file_takes_the_place_of_the_older_in_both_directions(machines: tuple[RemoteRoot, RemoteRoot]) -> None:
    one, other = machines
    put(one, TABLE, "first")
    one.send()
    other.bring()
    put(other, TABLE, "second")
    assert other.send().files == 1 and one.bring().files == 1
    assert held(one) == held(other) == {TABLE: "second"}


def test_what_is_being_made_here_is_not_overwritten(machines: tuple[RemoteRoot, RemoteRoot]) -> None:
    one, other = machines
    put(one, TABLE, "first")
    one.send()
    other.bring()
    put(one, TABLE, "made there")
    one.send()
    put(other, TABLE, "in the making here")
    assert other.bring().files == 0 and held(other) == {TABLE: "in the making here"}
    other.send()
    assert one.bring().files == 1 and held(one) == {TABLE: "in the making here"}


def test_what_a_folder_lost_is_lost_everywhere(machines: tuple[RemoteRoot, RemoteRoot]) -> None:
    one, other = machines
    kept, gone = "models/thread-embed/README.md", "models/thread-embed/1_Old/config.json"
    put(one, kept, "card")
    path = put(one, gone, "{}")
    one.send()
    other.bring()
    path.unlink()
    path.parent.rmdir()
    assert one.bring().files == 0 and not path.exists(), "deleted here, and not yet there"
    assert one.send().removed == 1
    assert other.bring().removed == 1 and held(other) == {kept: "card"}


def test_a_machine_that_lost_its_folders_gets_them_back_and_deletes_nothing(machines: tuple[RemoteRoot, RemoteRoot]) -> None:
    one, other = machines
    path = put(one, TABLE, "a")
    one.send()
    path.unlink()
    path.parent.rmdir()
    assert one.send().removed == 0
    assert one.bring().files == 1 and path.read_text(encoding="utf-8") == "a"
    assert other.bring().files == 1


def test_two_histories_are_not_mixed(machines: tuple[RemoteRoot, RemoteRoot]) -> None:
    one, other = machines
    put(one, TABLE, "of one")
    put(one, "data/pairs/thread/team.duckdb", "the same")
    one.send()
    path = put(other, TABLE, "of the other")
    put(other, "data/pairs/thread/team.duckdb", "the same")
    with pytest.raises(InputError, match="both were made apart") as caught:
        other.bring()
    assert caught.value.place == str(path) and path.read_text(encoding="utf-8") == "of the other"
    path.unlink()
    other.bring()
    assert held(other) == held(one)


def test_what_is_not_needed_stays_there(machines: tuple[RemoteRoot, RemoteRoot]) -> None:
    one, other = machines
    put(one, "data/raw/team/files/users.json", "[]")
    put(one, TABLE, "a")
    one.send()
    other.bring(leave=lambda name: name.startswith("data/raw/"))
    assert held(other) == {TABLE: "a"}
    assert other.send().removed == 0
    assert other.bring().files == 1 and len(held(other)) == 2


def test_the_first_machines_salt_counts_for_all(machines: tuple[RemoteRoot, RemoteRoot]) -> None:
    one, other = machines
    first, second = put(one, "data/private/salt", "one"), put(other, "data/private/salt", "other")
    one.claim(first)
    other.claim(second)
    one.claim(first)
    assert second.read_text(encoding="utf-8") == first.read_text(encoding="utf-8") == "one"
    assert second.stat().st_mode & 0o777 == 0o600 and second.parent.stat().st_mode & 0o777 == 0o700
    assert other.bring().files == other.send().files == 0


def test_a_failed_transfer_leaves_the_last_good_file(
    machines: tuple[RemoteRoot, RemoteRoot], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = machines
    put(one, TABLE, "good")
    one.send()
    other.bring()
    put(one, TABLE, "better")
    one.send()

    def broken(keys: list[str], paths: list[str], **_: Any) -> None:
        Path(paths[0]).write_text("ha", encoding="utf-8")
        raise ConnectionError("the line went dead")

    with monkeypatch.context() as patch:
        patch.setattr(other.files, "get", broken)
        with pytest.raises(ConnectionError):
            other.bring()
    assert held(other) == {TABLE: "good"}
    assert not list(other.layout.root.rglob("*.part"))
    assert other.bring().files == 1 and held(other) == {TABLE: "better"}


def test_half_a_file_is_never_seen_in_a_folder_that_is_the_remote_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REMOTE_VARIABLE, f"file://{tmp_path / 'remote'}")
    one = remote_root(Layout(tmp_path / "one"))
    assert one is not None
    put(one, TABLE, "good")
    one.send()
    put(one, TABLE, "better")

    def broken(paths: list[str], keys: list[str], **_: Any) -> None:
        Path(keys[0]).write_text("bet", encoding="utf-8")
        raise ConnectionError("the line went dead")

    with monkeypatch.context() as patch:
        patch.setattr(one.files, "put", broken)
        with pytest.raises(ConnectionError):
            one.send()
    assert (tmp_path / "remote" / TABLE).read_text(encoding="utf-8") == "good"
    assert one.send().files == 1 and (tmp_path / "remote" / TABLE).read_text(encoding="utf-8") == "better"


@pytest.mark.parametrize(
    ("name", "goes"),
    [
        (TABLE, True),
        ("data/private/salt", True),
        ("data/cache/language_models/team.sqlite", True),
        ("data/cache/language_models/team.sqlite-wal", False),
        ("data/cache/embeddings/0/vectors.npy", False),
        ("data/cache/remote_root.json", False),
        ("data/private/embeddings/0/vectors.npy", False),
        ("data/dagster_home/history/runs.db", False),
        ("data/search/team/index.duckdb", False),
        ("data/router/team.duckdb", False),
        ("data/stores/chroma/roundtrip.json", True),
        ("data/stores/chroma/chroma.sqlite3", False),
        ("data/pairs/thread/.team.duckdb.0000abcd-1-0123abcd.part", False),
        ("data/pairs/thread/team.duckdb.wal", False),
        ("data/README.md", False),
        ("models/README.md", False),
        ("models/thread-embed/modules.json", True),
        ("models/checkpoints/data/stage1/00ff/model/config.json", True),
        ("models/checkpoints/all/stage1/00ff/trainer/checkpoint-10/optimizer.pt", False),
        ("models/checkpoints/all/stage1/job-1.json", False),
        ("models/checkpoints/reranker/00ff/work/state.pt", False),
        ("own_chat.yaml", False),
    ],
)
def test_what_travels(name: str, goes: bool) -> None:
    assert travels(name) is goes


def test_without_the_variable_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REMOTE_VARIABLE, raising=False)
    assert remote_root(Layout(tmp_path)) is None


@pytest.mark.parametrize("url", ["s3://key:hunter2x@bucket/prefix", "https://host/x?token=hunter2x", "/a/folder"])
def test_an_address_with_a_secret_or_without_a_kind_is_refused_and_not_repeated(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REMOTE_VARIABLE, url)
    with pytest.raises(InputError, match="Give it the form s3://bucket/prefix") as caught:
        remote_root(Layout(tmp_path))
    assert "hunter2x" not in str(caught.value)


def test_an_unknown_kind_of_address_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REMOTE_VARIABLE, "carrier-pigeon://loft")
    with pytest.raises(InputError, match="carrier-pigeon"):
        remote_root(Layout(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_command_brings_and_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "one"))
    monkeypatch.delenv(REMOTE_VARIABLE, raising=False)
    assert main(["sync"]) == 1 and "names no remote root" in capsys.readouterr().err
    monkeypatch.setenv(REMOTE_VARIABLE, f"file://{tmp_path / 'remote'}")
    remote = remote_root(Layout(tmp_path / "one"))
    assert remote is not None
    put(remote, TABLE, "a")
    assert main(["sync"]) == 0
    assert "0 files brought, 0 removed" in (said := capsys.readouterr().out) and "1 files sent, 0 removed" in said
