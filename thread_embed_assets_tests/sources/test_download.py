from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.sources import download as module
from thread_embed_assets.sources.download import ATTEMPTS, ResumingReader, download

from .local_server import Server, serving

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(Server(CONTENT)) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file.tar.gz"


def part(target: Path) -> Path:
    return target.with_name("file.tar.gz.part")


def test_a_whole_file_arrives_and_is_not_fetched_twice(server: Server, target: Path) -> None:
    download(f"{server.url}/file", target)
    download(f"{server.url}/file", target)
    assert target.read_bytes() == CONTENT
    assert server.requests == [("/file", None)]
    assert not part(target).exists()


def test_a_cut_transfer_continues_where_it_stopped(server: Server, target: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.plan = [1000, 700]
    with caplog.at_level(logging.INFO):
        download(f"{server.url}/file", target)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=1000-", "bytes=1700-"]
    assert "continuing at byte 1,700" in caplog.text


def test_what_an_earlier_process_left_is_continued(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part(target).write_bytes(CONTENT[:777])
    download(f"{server.url}/file", target)
    assert target.read_bytes() == CONTENT
    assert server.requests == [("/file", "bytes=777-")]


@pytest.mark.parametrize("left", [CONTENT[:1000], b"x" * 1000, CONTENT + b"more"])
def test_a_server_without_ranges_starts_again(server: Server, target: Path, left: bytes) -> None:
    server.ranges = False
    target.parent.mkdir()
    part(target).write_bytes(left)
    download(f"{server.url}/file", target)
    assert target.read_bytes() == CONTENT


def test_a_part_that_the_server_cannot_continue_is_dropped(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part(target).write_bytes(CONTENT + b"more")
    download(f"{server.url}/file", target)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [f"bytes={len(CONTENT) + 4}-", None]


def test_an_answer_for_another_range_is_not_appended(server: Server, target: Path) -> None:
    server.shift = 5
    target.parent.mkdir()
    part(target).write_bytes(CONTENT[:100])
    download(f"{server.url}/file", target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_tried_again(server: Server, target: Path, status: int) -> None:
    server.plan = [status] * (ATTEMPTS - 1)
    download(f"{server.url}/file", target)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == ATTEMPTS


def test_pauses_grow(server: Server, target: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.plan = [503] * 3
    with caplog.at_level(logging.WARNING):
        download(f"{server.url}/file", target)
    pauses = [float(record.getMessage().split(" in ")[1].split()[0]) for record in caplog.records]
    assert pauses == pytest.approx([0.001, 0.002, 0.004])


@pytest.mark.parametrize(("status", "requests"), [(403, 1), (404, 1), (503, ATTEMPTS)])
def test_giving_up_says_why_and_leaves_nothing_under_the_name(
    server: Server, target: Path, status: int, requests: int
) -> None:
    server.plan = [status] * ATTEMPTS
    with pytest.raises(InputError, match=f"the server answered {status}"):
        download(f"{server.url}/file", target)
    assert len(server.requests) == requests
    assert not target.exists()


def test_a_connection_that_always_breaks_keeps_the_part_for_the_next_run(server: Server, target: Path) -> None:
    server.plan = [100] * ATTEMPTS
    with pytest.raises(InputError, match="it continues where it stopped"):
        download(f"{server.url}/file", target)
    assert part(target).read_bytes() == CONTENT[: 100 * ATTEMPTS]
    download(f"{server.url}/file", target)
    assert target.read_bytes() == CONTENT


def test_several_at_once_fetch_it_once(server: Server, target: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: download(f"{server.url}/file", target), range(4)))
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_refusal_is_explained_by_the_caller(server: Server, target: Path) -> None:
    server.plan = [403]
    with pytest.raises(InputError, match=r"refused with 403\. Ask nicely"):
        download(f"{server.url}/file", target, explain=lambda status: (f"refused with {status}", "Ask nicely"))


def read_all(reader: ResumingReader, size: int = 5000) -> bytes:
    return b"".join(iter(lambda: reader.read(size), b""))


@pytest.fixture
def reader(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[ResumingReader]:
    monkeypatch.setattr(module, "_BLOCK", 1000)
    with closing(ResumingReader(f"{server.url}/file")) as opened:
        yield opened


def test_a_stream_is_read_in_pieces_of_any_size(server: Server, reader: ResumingReader) -> None:
    assert reader.read(3) == CONTENT[:3]
    assert reader.read(10**6) == CONTENT[3:1000]
    assert read_all(reader) == CONTENT[1000:]
    assert (reader.read(1), reader.done) == (b"", len(CONTENT))
    assert len(server.requests) == 1


def test_a_cut_stream_continues_where_it_stopped(server: Server, reader: ResumingReader) -> None:
    server.plan = [2500, 0, 503, 4000]
    assert read_all(reader) == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, *["bytes=2000-"] * 3, "bytes=6000-"]


def test_a_stream_may_be_cut_more_often_than_one_block_is_tried(server: Server, reader: ResumingReader) -> None:
    server.plan = [1000] * 4 * ATTEMPTS
    assert read_all(reader) == CONTENT


def test_a_stream_from_a_server_without_ranges_passes_over_what_it_had(server: Server, reader: ResumingReader) -> None:
    server.ranges = False
    server.plan = [2500, 1500, 3700]
    assert read_all(reader) == CONTENT


def test_a_stream_that_goes_on_elsewhere_is_refused(server: Server, reader: ResumingReader) -> None:
    server.plan, server.shift = [2500], 5
    with pytest.raises(InputError, match="answered byte 2000 with another one"):
        read_all(reader)


@pytest.mark.parametrize(
    ("plan", "problem", "kind"),
    [
        ([404], "answered 404", InputError),
        ([503] * ATTEMPTS, "answered 503", TransientError),
        ([0] * 6, "failed", TransientError),
    ],
)
def test_a_stream_that_cannot_be_had_is_given_up(
    server: Server, reader: ResumingReader, plan: list[int], problem: str, kind: type[InputError]
) -> None:
    server.plan = list(plan)
    with pytest.raises(InputError, match=problem) as caught:
        reader.read(10)
    assert type(caught.value) is kind
    assert len(server.requests) == len(plan)
