"""The catalogue's own entries for the hub, from a hub on this machine to conversations, with files of their true shape."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thread_embed_assets.chat.model import Truth
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import download as download_module
from thread_embed_assets.sources import fetch as fetch_module
from thread_embed_assets.sources.catalog import HubOrigin, HubStreamOrigin, Source, load_catalog
from thread_embed_assets.sources.conversations import build_conversations
from thread_embed_assets.sources.fetch import fetch
from thread_embed_assets.sources.hub import folder_name
from thread_embed_assets.sources.parsers import parse
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.chat.planted import sentence

from .fake_hub import COMMIT, FakeHub, hub_in_reach
from .test_server_stream import FIRST, message, tar_zst

CATALOG = load_catalog()
ROWS = 60


def parquet(columns: dict[str, list[object]]) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table(columns), written, row_group_size=20)
    return written.getvalue()


def chatml(draw: Random) -> bytes:
    def text(turns: int) -> str:
        roles = ("user", "assistant")
        return "\n".join(f"<|im_start|>{roles[n % 2]}\n{sentence(draw)}<|im_end|>" for n in range(turns))

    return parquet({"text": [text(2 + row % 3) for row in range(ROWS)], "tokens": list(range(ROWS))})


def question_and_answer(draw: Random) -> bytes:
    return parquet({"input": [sentence(draw) for _ in range(ROWS)], "output": [sentence(draw) for _ in range(ROWS)]})


def ultrachat(draw: Random, rows: int) -> bytes:
    roles = ("user", "assistant")
    talks = [[{"content": sentence(draw), "role": roles[n % 2]} for n in range(4)] for _ in range(rows)]
    ids = [f"{draw.getrandbits(128):032x}" for _ in range(rows)]
    return parquet({"prompt": [talk[0]["content"] for talk in talks], "prompt_id": ids, "messages": talks})


def irc_days(draw: Random, first: date) -> bytes:
    rows = []
    for day in range(20):
        when = (first + timedelta(days=day)).isoformat()
        lines = [f"[10:{n:02}] <{('quillona', 'tibbold')[n % 2]}> {sentence(draw)}" for n in range(6)]
        lines[3] = f"[10:03]  * tibbold {sentence(draw)}"
        metadata = {"license": "Public Domain", "authors": ["quillona", "tibbold"], "url": "", "channel": "#porch"}
        rows.append({"id": f"{when}-#porch", "text": "\n".join(lines), "created": when, "metadata": metadata})
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())


def servers(draw: Random) -> bytes:
    files = {}
    for server in range(60):
        lines = []
        for n in range(12):
            number, reply = FIRST + (n * 60_000 << 22), {"message_id": str(FIRST + ((n - 1) * 60_000 << 22))}
            fields = {"type": 19, "message_reference": reply} if n % 6 else {}
            author = {"id": str(n % 2), "username": ("quillona", "tibbold")[n % 2]}
            lines.append(message(number, str(77 + server), content=sentence(draw), author=author, **fields))
        files[f"./{9000 + server}.json"] = "\n".join(map(json.dumps, lines)).encode()
    files["./large.bin"] = draw.randbytes(2**24)
    return tar_zst(files)


def files_of(name: str) -> dict[str, bytes]:
    """What a source's data set holds: the files we take, and others beside them."""
    draw = Random(name)
    qa = CATALOG[name].origin.include[0] if name.startswith("flyte") else ""
    made: dict[str, Callable[[], dict[str, bytes]]] = {
        "discord_dialogues": lambda: {"data/train.parquet": chatml(draw)},
        "ubuntu_irc": lambda: {
            "v0/documents/00000_ubuntu.jsonl.gz": irc_days(draw, date(2013, 4, 1)),
            "v0/documents/00001_ubuntu.jsonl.gz": irc_days(draw, date(2013, 5, 1)),
            "raw/00000.jsonl.gz": b"not taken",
        },
        "flyte_slack": lambda: {qa: question_and_answer(draw)},
        "flyte_slack_long": lambda: {qa: question_and_answer(draw)},
        "ultrachat_200k": lambda: {
            "data/train_sft-00000-of-00003-aaaa.parquet": ultrachat(draw, ROWS),
            "data/train_sft-00001-of-00003-bbbb.parquet": ultrachat(draw, ROWS),
            "data/test_sft-00000-of-00001-cccc.parquet": ultrachat(draw, 20),
            "data/train_gen-00000-of-00003-dddd.parquet": b"not taken",
        },
        "discord_unveiled": lambda: {"dataset.zst": servers(draw)},
    }
    return {".gitattributes": b"*.parquet filter=lfs", "README.md": b"---\n---\n", **made[name]()}


HUB_SOURCES = [name for name, source in CATALOG.items() if isinstance(source.origin, HubOrigin | HubStreamOrigin)]


def entry(name: str, **origin: object) -> Source:
    """The catalogue's entry without the checksum of the real files."""
    source = CATALOG[name]
    return source.model_copy(update={"sha256": None, "origin": source.origin.model_copy(update=origin)})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    monkeypatch.setenv(fetch_module.OPT_IN_VARIABLE, "discord_unveiled")
    with hub_in_reach(FakeHub({}), monkeypatch, tmp_path / "no token") as running:
        yield running


def publish(hub: FakeHub, name: str) -> dict[str, bytes]:
    source = CATALOG[name]
    commit = COMMIT if source.revision == "main" else source.revision
    files = files_of(name)
    hub.repositories[source.origin.repository] = {commit: files}
    return files


@pytest.mark.parametrize("name", HUB_SOURCES)
def test_from_the_hub_to_conversations(hub: FakeHub, name: str, tmp_path: Path) -> None:
    publish(hub, name)
    source, layout = entry(name), Layout(tmp_path / "root")
    raw = fetch(source, layout)
    assert raw.fetched_from == "origin"
    assert (raw.survey is None) == (source.truth is Truth.GUESSED)
    found = list(parse(raw.folder, source))
    assert sum(len(c.messages) for c in found) >= 2 * len(found)
    built = build_conversations(source, layout)
    assert built.conversations.rows > 0.6 * len(found)
    truths = {row["truth"] for row in built.conversations.rows_as_dicts(["truth"])}
    assert truths <= {str(source.truth), "explicit"}
    if name == "ultrachat_200k":
        assert len(found) == 2 * ROWS + 20
        splits = [row["split"] for row in built.conversations.rows_as_dicts(["split"])]
        assert splits.count("test") == 20


@pytest.mark.parametrize("name", HUB_SOURCES)
def test_from_the_mirror_without_a_network(hub: FakeHub, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = entry(name)
    folder = tmp_path / "mirror" / folder_name(source.origin.repository, source.revision)
    for path, content in files_of(name).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    monkeypatch.setenv(fetch_module.MIRROR_VARIABLE, str(tmp_path / "mirror"))
    mirrored = fetch(source, Layout(tmp_path / "a"))
    assert (mirrored.fetched_from, hub.asked) == ("mirror", [])
    publish(hub, name)
    monkeypatch.delenv(fetch_module.MIRROR_VARIABLE)
    assert fetch(source, Layout(tmp_path / "b")).sha256 == mirrored.sha256


@pytest.mark.parametrize("name", ["discord_dialogues", "ultrachat_200k"])
def test_files_that_are_not_the_pinned_ones_are_refused(hub: FakeHub, name: str, tmp_path: Path) -> None:
    publish(hub, name)
    with pytest.raises(InputError, match=f"but the catalogue says {CATALOG[name].sha256}"):
        fetch(CATALOG[name], Layout(tmp_path))


def test_a_stream_is_sampled_and_closed_early(hub: FakeHub, tmp_path: Path) -> None:
    archive = publish(hub, "discord_unveiled")["dataset.zst"]
    raw = fetch(entry("discord_unveiled", most_servers=3), Layout(tmp_path))
    assert len(list((raw.folder / "servers").glob("*.jsonl"))) == raw.files == 3
    assert hub.sent < len(archive) / 2
    assert not list(tmp_path.rglob("*.zst")) and not list(tmp_path.rglob("*.part"))


def test_a_stream_that_is_cut_goes_on(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub, "discord_unveiled")
    monkeypatch.setattr(download_module, "_BLOCK", 100_000)
    whole = fetch(entry("discord_unveiled"), Layout(tmp_path / "whole"))
    hub.asked.clear()
    hub.file_plan = [150_000, 503, 0, 400_000]
    cut = fetch(entry("discord_unveiled"), Layout(tmp_path / "cut"))
    assert cut.sha256 == whole.sha256
    ranges = [asked.range for asked in hub.asked if asked.kind == "content"]
    assert ranges == [None, *["bytes=100000-"] * 3, "bytes=500000-"]


@pytest.mark.parametrize(
    ("plan", "gated", "problem"),
    [([404], False, "has no dataset.zst"), ([503] * 6, False, "answered 503"), ([], True, "answered 401")],
)
def test_a_stream_that_cannot_be_had_leaves_nothing(
    hub: FakeHub, tmp_path: Path, plan: list[int], gated: bool, problem: str
) -> None:
    publish(hub, "discord_unveiled")
    hub.file_plan, hub.accepted = plan, set() if gated else None
    with pytest.raises(InputError, match=problem):
        fetch(entry("discord_unveiled"), Layout(tmp_path))
    assert not (tmp_path / "data" / "raw" / "discord_unveiled").exists()


def test_discord_unveiled_is_off_until_it_is_opted_in_to(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub, "discord_unveiled")
    monkeypatch.delenv(fetch_module.OPT_IN_VARIABLE)
    with pytest.raises(InputError, match="withdrawn over personal data") as caught:
        fetch(entry("discord_unveiled"), Layout(tmp_path))
    assert "THREAD_EMBED_OPT_IN=discord_unveiled" in caught.value.remedy
    assert hub.asked == []
