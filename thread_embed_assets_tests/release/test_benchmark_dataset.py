from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from thread_embed_assets.chat.people import PEOPLE
from thread_embed_assets.errors import InputError
from thread_embed_assets.release import benchmark_dataset
from thread_embed_assets.release.benchmark_dataset import (
    Package,
    fill,
    main,
    no_people,
    no_withheld_text,
    package_benchmark,
)
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table, write_tables
from thread_embed_assets_tests.benchmark.stored import person
from thread_embed_assets_tests.benchmark.task_files import write_task_file
from thread_embed_assets_tests.sources.fake_hub import COMMIT, FakeHub

FREE, WITHHELD = "irc_disentangle", "slack_dev_chats"
CATALOG = load_catalog()
TEXTS = ("text", "text_speakers", "text_times", "text_speakers_times")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    made = Layout(tmp_path_factory.mktemp("root"))
    for seed, source in enumerate((FREE, WITHHELD)):
        write_task_file(made.tasks(source), source, seed, near=source == FREE)
    return made


@pytest.fixture(scope="module")
def tasks(layout: Layout) -> dict[str, Path]:
    return {source: layout.tasks(source) for source in (FREE, WITHHELD)}


@pytest.fixture(scope="module")
def package(tasks: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Package:
    return package_benchmark(tasks, CATALOG, tmp_path_factory.mktemp("out") / "benchmark")


@pytest.fixture
def copied(package: Package, tmp_path: Path) -> Path:
    return Path(shutil.copytree(package.folder, tmp_path / "copied"))


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _table(folder: Path, source: str, task: str, part: str, split: str = "test") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / "data" / source / task / f"{part}-{split}.parquet").to_pylist()
    return rows


def test_two_builds_are_the_same_bytes(package: Package, tasks: dict[str, Path], tmp_path: Path) -> None:
    """Also from tasks whose rows were written in another order, and with row groups fed in other batches."""
    other = {FREE: _shuffled(tasks[FREE], tmp_path / "shuffled.duckdb"), WITHHELD: tasks[WITHHELD]}
    again = package_benchmark(dict(reversed(other.items())), CATALOG, tmp_path / "elsewhere" / "again")
    assert _bytes(again.folder) == _bytes(package.folder)
    assert again.sizes == package.sizes and again.withheld == (WITHHELD,)


def _shuffled(path: Path, target: Path) -> Path:
    handles = {name: open_table(path, name) for name in ("queries", "corpus", "qrels", "candidates")}
    with write_tables(target, {name: handle.schema for name, handle in handles.items()}) as writer:
        for name, handle in handles.items():
            for row in reversed(list(handle.rows_as_dicts())):
                writer.add(name, tuple(row.values()))
    return target


def test_row_groups_do_not_depend_on_batches(
    tasks: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_dataset, "_ROW_GROUP", 5)
    folder = package_benchmark({FREE: tasks[FREE]}, CATALOG, tmp_path / "small").folder
    metadata = pq.read_metadata(folder / "data" / FREE / "reply" / "corpus-test.parquet")
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [5, 5, 5, 5, 4]
    ids = [row["_id"] for row in _table(folder, FREE, "reply", "corpus")]
    assert ids == sorted(ids) and len(set(ids)) == 24


def test_files_hold_the_tasks(package: Package, tasks: dict[str, Path]) -> None:
    where = "task = 'reply' AND split = 'test'"
    stored = {row["doc_id"]: row for row in open_table(tasks[FREE], "corpus").rows_as_dicts(where=where)}
    found = {row["_id"]: row for row in _table(package.folder, FREE, "reply", "corpus")}
    assert found.keys() == stored.keys()
    for key, row in found.items():
        assert row["title"] == "" and row["text"] == stored[key]["text_plain"]
        same = (
            "text_speakers",
            "text_times",
            "text_speakers_times",
            "conversation_id",
            "message_ids",
            "started_at",
            "channel",
        )
        assert {name: row[name] for name in same} == {name: stored[key][name] for name in same}
        assert not {"text_people", "person_ids"} & row.keys()
    grades = {(r["query_id"], r["doc_id"], r["grade"]) for r in open_table(tasks[FREE], "qrels").rows_as_dicts(where=where)}
    assert {tuple(row.values()) for row in _table(package.folder, FREE, "reply", "qrels")} == grades
    assert {grade for *_, grade in grades} == {1, 2}
    near = {(r["query_id"], r["doc_id"]) for r in open_table(tasks[FREE], "candidates").rows_as_dicts(where=where)}
    rows = _table(package.folder, FREE, "reply", "candidates")
    assert {(row["query-id"], key) for row in rows for key in row["corpus-ids"]} == near


def test_of_a_withheld_source_only_ids_leave(package: Package, tasks: dict[str, Path]) -> None:
    for part, kept in (("corpus", {"title"}), ("queries", {"tier"})):
        rows = _table(package.folder, WITHHELD, "reply", part)
        assert len(rows) in (12, 24)
        for row in rows:
            filled = {name for name, value in row.items() if value is not None}
            assert filled == {"_id", "conversation_id", "message_ids"} | kept
    assert len(_table(package.folder, WITHHELD, "reply", "qrels")) == 24
    ours = _table(package.folder, WITHHELD, "summary", "queries")
    assert all(row["text"] and row["paraphrase"] and row["channel"] is None for row in ours)
    assert all(row["text"] is None for row in _table(package.folder, WITHHELD, "summary", "corpus"))
    about = json.loads((package.folder / "rebuild.json").read_text())["sources"]
    assert about[WITHHELD]["revision"] == CATALOG[WITHHELD].revision and not about[WITHHELD]["texts"]
    assert any("--fill" in command for command in about[WITHHELD]["rebuild"]) and not about[FREE]["rebuild"]


def test_datasheet_says_what_is_there(package: Package) -> None:
    text = (package.folder / "README.md").read_text()
    for heading in ("Motivation", "Composition", "Collection", "Preprocessing", "Uses", "Distribution", "Maintenance"):
        assert f"\n## {heading}\n" in text
    assert f"| {FREE} | reply | test | 12 | gold 8, silver 4 | 24 | 24 | 11 |" in text
    assert f"| {WITHHELD} | summary | dev | 12 | gold 8, silver 4 | 24 | 12 | - |" in text
    assert f"| {FREE} | CC-BY-4.0 | texts |" in text
    assert f"| {WITHHELD} | {CATALOG[WITHHELD].licence} | ids only |" in text
    front = yaml.safe_load(text.split("---\n")[1])
    named = {config["config_name"] for config in front["configs"]}
    parts = ("corpus", "queries", "qrels", "candidates")
    assert {f"{FREE}-{task}-{part}" for task in ("reply", "summary") for part in parts} <= named
    assert f"{WITHHELD}-reply-candidates" not in named and f"{WITHHELD}-reply-corpus" in named
    assert all((package.folder / file["path"]).exists() for config in front["configs"] for file in config["data_files"])


def test_a_teams_own_folder_is_not_told(tasks: dict[str, Path], tmp_path: Path) -> None:
    origin = {"kind": "folder", "path": "/home/ada/export.zip"}
    own = type(CATALOG[FREE]).model_validate({"name": "own", "title": "Own", "format": "slack_export", "origin": origin})
    folder = package_benchmark({"own": tasks[FREE]}, {"own": own}, tmp_path / "own").folder
    assert not [name for name, content in _bytes(folder).items() if b"export.zip" in content]
    assert _table(folder, "own", "reply", "corpus")[0]["text"] is None


def test_an_unknown_source_leaves_the_old_folder(tasks: dict[str, Path], copied: Path) -> None:
    before = _bytes(copied)
    with pytest.raises(InputError, match="no source 'gone'"):
        package_benchmark({**tasks, "gone": tasks[FREE]}, CATALOG, copied)
    with pytest.raises(InputError):
        package_benchmark({FREE: copied / "gone.duckdb"}, CATALOG, copied)
    assert _bytes(copied) == before and list(copied.parent.iterdir()) == [copied]


# Checks


def test_checks_pass_on_a_fresh_package(package: Package, tasks: dict[str, Path]) -> None:
    verdict = no_withheld_text(package.folder, tasks, CATALOG)
    assert verdict.passed and verdict.numbers["checked"] > 1000, verdict
    assert no_people(package.folder, tasks, {}).passed


def _withheld_line(tasks: dict[str, Path]) -> str:
    rows = open_table(tasks[WITHHELD], "corpus").rows_as_dicts(["text_speakers"], "task = 'reply'", "doc_id")
    return str(next(rows)["text_speakers"])


def _plant(folder: Path, source: str, task: str, part: str, column: str, value: Any) -> None:
    path = folder / "data" / source / task / f"{part}-test.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    values = table.column(column).to_pylist()
    values[3] = value
    pq.write_table(
        table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type)), path
    )


@pytest.mark.parametrize(
    "place", ["own_corpus", "own_ids", "other_source", "readme", "extra_file", "metadata", "head_cut_off"]
)
def test_a_planted_withheld_text_is_caught(copied: Path, tasks: dict[str, Path], place: str) -> None:
    line = _withheld_line(tasks)
    words = line.split()
    match place:
        case "own_corpus":
            _plant(copied, WITHHELD, "reply", "corpus", "text", line)
        case "own_ids":
            _plant(copied, WITHHELD, "reply", "corpus", "message_ids", ["a-1", line])
        case "other_source":
            _plant(copied, FREE, "summary", "queries", "paraphrase", f"somebody said: {line.upper()}!")
        case "readme":
            (copied / "README.md").open("a").write(f"> {line}\n")
        case "extra_file":
            (copied / "notes.txt").write_text(line)
        case "metadata":
            path = copied / "data" / FREE / "reply" / "qrels-test.parquet"
            pq.write_table(pq.read_table(path).replace_schema_metadata({"example": line}), path)
        case "head_cut_off":  # eight words out of nine
            _plant(copied, FREE, "reply", "corpus", "text", " ".join(words[2:]))
    verdict = no_withheld_text(copied, tasks, CATALOG)
    assert not verdict.passed and verdict.numbers["faults"] == 1, verdict
    assert line not in verdict.description


def test_what_a_free_source_says_itself_is_not_withheld(package: Package, tasks: dict[str, Path]) -> None:
    """The same words may stand in both: then they are in the package because of the free one."""
    assert no_withheld_text(package.folder, {**tasks, WITHHELD: tasks[FREE]}, CATALOG).passed
    assert not no_withheld_text(package.folder, {WITHHELD: tasks[FREE]}, CATALOG).passed


@pytest.mark.parametrize(
    ("column", "value"),
    [("text", f"ask <@{person(7)}> about it"), ("conversation_id", person(3)), ("message_ids", [person(1)])],
)
def test_a_planted_person_id_is_caught(copied: Path, tasks: dict[str, Path], column: str, value: Any) -> None:
    _plant(copied, FREE, "reply", "corpus", column, value)
    verdict = no_people(copied, tasks, {})
    assert not verdict.passed and verdict.numbers["faults"] == 1


def test_names_of_those_in_the_conversation_and_of_members_are_caught(
    copied: Path, tasks: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "people.duckdb"
    with write_tables(path, {"people": PEOPLE}) as writer:
        for number in range(12):
            writer.add("people", (person(number), f"Quillon{number:02d}"))
        writer.add("people", (person(900), "zanthippe"))  # several names: on the member list
        writer.add("people", (person(900), "Zan Thimble-Ott"))
        writer.add("people", (person(900), "Summer"))  # an everyday word
    people = {FREE: path}
    assert no_people(copied, tasks, people).passed
    rows = _table(copied, FREE, "reply", "corpus")
    speaker = int(rows[3]["conversation_id"].rpartition(":")[2])
    other = (speaker + 1) % 12
    for said, caught in (
        (f"thanks, quillon{speaker:02d}!", True),
        (f"thanks, quillon{other:02d}!", False),
        ("so says zan thimble-ott, too", True),
        ("ZANTHIPPE did", True),
        ("in summer", False),
    ):
        _plant(copied, FREE, "reply", "corpus", "text_times", said)
        verdict = no_people(copied, tasks, people)
        assert verdict.passed is not caught, (said, verdict)
        assert "uillon" not in verdict.description


def test_checks_of_nothing_do_not_pass(tmp_path: Path, tasks: dict[str, Path]) -> None:
    (tmp_path / "empty").mkdir()
    assert not no_withheld_text(tmp_path / "empty", tasks, CATALOG).passed
    assert not no_people(tmp_path / "empty", tasks, {}).passed


# Rebuilding


def test_fill_puts_the_withheld_texts_in(
    copied: Path, layout: Layout, tasks: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--fill", str(copied), "--root", str(layout.root)]) == 0
    assert "8 files filled in" in capsys.readouterr().out
    where = "task = 'reply' AND split = 'test'"
    for part, key in (("corpus", "doc_id"), ("queries", "query_id")):
        stored = {row[key]: row for row in open_table(tasks[WITHHELD], part).rows_as_dicts(where=where)}
        for row in _table(copied, WITHHELD, "reply", part):
            assert row["text"] == stored[row["_id"]]["text_plain"] and row["channel"] == "general"
    assert not no_withheld_text(copied, tasks, CATALOG).passed
    once = _bytes(copied)
    fill(copied, layout)
    assert _bytes(copied) == once


def test_fill_refuses_other_texts_and_leaves_the_folder(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Layout(tmp_path / "other")
    before = _bytes(copied)
    with pytest.raises(InputError, match=r"tasks of 'slack_dev_chats' are not here.*dg launch"):
        fill(copied, other)
    write_task_file(other.tasks(WITHHELD), WITHHELD, seed=5, near=False)
    assert main(["--fill", str(copied), "--root", str(other.root)]) == 1
    assert re.search(r"sha256 .* packaged were 24 .* at revision 88044159", capsys.readouterr().err)
    assert _bytes(copied) == before
    with pytest.raises(InputError, match=r"rebuild\.json"):
        fill(tmp_path / "nothing", other)


# Loading


@contextmanager
def _hub_of(folder: Path) -> Iterator[str]:
    """The hub stand-in with what ``datasets`` asks beyond it: HEAD of a file, and a folder's listing."""
    files = _bytes(folder)
    hub = FakeHub({"made/benchmark": {COMMIT: files}})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listed = re.fullmatch(r"/api/datasets/made/benchmark/tree/[^/]+/?(.*)", unquote(urlsplit(self.path).path))
            if listed is None:
                hub.answer(self)
                return
            inside = [name for name in files if name.startswith(listed[1])]
            content = [{"type": "file", "path": n, "size": len(files[n]), "oid": _oid(files[n])} for n in inside]
            body = json.dumps(content).encode()
            self._reply(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            asked = re.fullmatch(r"/datasets/made/benchmark/resolve/[^/]+/(.+)", unquote(urlsplit(self.path).path))
            if asked is None or asked[1] not in files:
                self._reply(404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
                return
            content = files[asked[1]]
            tag = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(content))}
            self._reply(200, tag)

        def _reply(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        hub.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield hub.url
        finally:
            http.shutdown()
            thread.join()
    assert "content" in hub.kinds()


def _oid(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


_LOAD = """
import json, sys
from datasets import load_dataset
place, *configs = sys.argv[1:]
print(json.dumps({c: load_dataset(place, c, split="test").to_list() for c in configs}, default=str))
"""


def _loaded(place: str, configs: list[str], cache: Path, endpoint: str) -> dict[str, list[dict[str, Any]]]:
    """In a process of its own: the library reads its settings when it is imported."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_") and "proxy" not in name.lower()},
        "HF_HOME": str(cache),
        "HF_ENDPOINT": endpoint,
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, "-W", "ignore", "-c", _LOAD, place, *configs]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return found


def test_loads_from_the_folder_and_through_the_hub(package: Package, tmp_path: Path) -> None:
    configs = [f"{FREE}-reply-{part}" for part in ("corpus", "queries", "qrels", "candidates")]
    configs += [f"{WITHHELD}-summary-queries", f"{WITHHELD}-reply-corpus"]
    nowhere = "http://127.0.0.1:9"  # nobody listens there: the folder needs no hub
    from_folder = _loaded(str(package.folder), configs, tmp_path / "a", nowhere)
    with _hub_of(package.folder) as url:
        from_hub = _loaded("made/benchmark", configs, tmp_path / "b", url)
    assert from_hub == from_folder
    for config, rows in from_folder.items():
        source, task, part = config.split("-")
        assert rows == json.loads(json.dumps(_table(package.folder, source, task, part), default=str))
