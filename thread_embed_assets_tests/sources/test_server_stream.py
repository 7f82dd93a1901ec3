from __future__ import annotations

import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import server_stream as module
from thread_embed_assets.sources.catalog import HubStreamOrigin
from thread_embed_assets.sources.server_stream import Sampled, sample_servers

DAY = 86_400_000 << 22  # one day, in the upper bits of an id
FIRST = 1_000 * DAY
SERVERS = [str(10_000 + n) for n in range(40)]
CHANNELS, DAYS, PER_DAY = 3, 6, 5


def message(number: int, channel: str, **fields: Any) -> dict[str, Any]:
    author = {"id": "7", "username": "quillona", "global_name": "Quillona", "discriminator": "0001", "avatar": "a1"}
    return {
        "id": str(number),
        "channel_id": channel,
        "channel_name": "porch",
        "author": author,
        "content": f"said {number}",
        "timestamp": "2021-05-01T10:00:00.000000+00:00",
        "type": 0,
        "is_bot": False,
        "embeds": [{"url": "https://example.org"}],
        **fields,
    }


def server(number: str) -> bytes:
    """Three channels, each with five messages on each of six days, shuffled."""
    said = [
        message(FIRST + day * DAY + (channel << 12) + n, f"{number}{channel}")
        for channel in range(CHANNELS)
        for day in range(DAYS)
        for n in range(PER_DAY)
    ]
    Random(number).shuffle(said)
    return b"".join(json.dumps(m).encode() + b"\n" for m in said)


def tar_of(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def tar_zst(files: Mapping[str, bytes]) -> bytes:
    return zstandard.ZstdCompressor().compress(tar_of(files))


@pytest.fixture(scope="module")
def archive() -> bytes:
    return tar_zst({f"./{number}.json": server(number) for number in SERVERS})


def origin(**fields: Any) -> HubStreamOrigin:
    wide = {
        "kind": "hub_stream",
        "repository": "team/servers",
        "path": "all.tar.zst",
        "server_share": 1.0,
        "channel_day_share": 1.0,
        "most_messages_per_server": 10_000,
        "most_servers": 10_000,
        "most_messages": 10_000,
    }
    return HubStreamOrigin.model_validate(wide | fields)


def sample(archive: bytes, folder: Path, **fields: Any) -> Sampled:
    folder.mkdir(exist_ok=True)
    return sample_servers(io.BytesIO(archive), folder, origin(**fields), "planted", "all.tar.zst")


def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {p.stem: [json.loads(line) for line in p.read_text().splitlines()] for p in sorted(folder.iterdir())}


def test_everything_is_kept_when_everything_is_asked_for(archive: bytes, tmp_path: Path) -> None:
    found = sample(archive, tmp_path)
    kept = read(tmp_path)
    assert (found.servers_met, found.servers, found.messages) == (40, 40, 40 * CHANNELS * DAYS * PER_DAY)
    assert list(kept) == sorted(SERVERS)
    for messages in kept.values():
        order = [(int(m["channel_id"]), int(m["id"])) for m in messages]
        assert order == sorted(order) and len(order) == CHANNELS * DAYS * PER_DAY


def test_only_the_fields_we_read_are_kept(tmp_path: Path) -> None:
    reply = message(
        FIRST,
        "5",
        type=19,
        message_reference={"message_id": "3", "channel_id": "5", "guild_id": "1"},
        mentions=[{"id": "8", "username": "tibbold", "avatar": "b2", "email": "tibbold@example.org"}],
        thread={"id": "9", "name": "the kettle", "member_count": 3},
        edited_timestamp=None,
        id=FIRST,
    )
    sample(tar_zst({"1.json": json.dumps(reply).encode()}), tmp_path)
    assert read(tmp_path) == {
        "1": [
            {
                "id": str(FIRST),
                "channel_id": "5",
                "channel_name": "porch",
                "content": f"said {FIRST}",
                "timestamp": "2021-05-01T10:00:00.000000+00:00",
                "type": 19,
                "is_bot": False,
                "author": {"id": "7", "username": "quillona", "global_name": "Quillona", "discriminator": "0001"},
                "message_reference": {"message_id": "3", "channel_id": "5"},
                "thread": {"id": "9", "name": "the kettle"},
                "mentions": [{"id": "8", "username": "tibbold"}],
            }
        ]
    }


def test_servers_are_drawn_by_their_ids_whatever_their_order(archive: bytes, tmp_path: Path) -> None:
    found = sample(archive, tmp_path / "a", server_share=0.3)
    assert 4 <= found.servers <= 20, "of 40, 12 are expected"
    backwards = tar_zst({f"{number}.json": server(number) for number in reversed(SERVERS)})
    sample(backwards, tmp_path / "b", server_share=0.3)
    assert read(tmp_path / "b") == read(tmp_path / "a")
    more = sample(archive, tmp_path / "c", server_share=0.6)
    assert set(read(tmp_path / "a")) < set(read(tmp_path / "c")) and more.servers > found.servers


def by_channel_day(messages: list[dict[str, Any]]) -> dict[tuple[str, int], int]:
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for m in messages:
        counts[m["channel_id"], int(m["id"]) // DAY] += 1
    return dict(counts)


def test_a_channel_s_day_is_taken_whole_or_not_at_all(archive: bytes, tmp_path: Path) -> None:
    sample(archive, tmp_path, channel_day_share=0.5)
    days = [by_channel_day(messages) for messages in read(tmp_path).values()]
    assert {count for found in days for count in found.values()} == {PER_DAY}
    assert 0.35 < sum(map(len, days)) / (40 * CHANNELS * DAYS) < 0.65


def test_a_large_server_gives_no_more_than_its_bound_and_from_all_its_channels(archive: bytes, tmp_path: Path) -> None:
    sample(archive, tmp_path / "bounded", most_messages_per_server=22)
    servers = read(tmp_path / "bounded")
    assert {len(messages) for messages in servers.values()} == {20}, "four whole days"
    channels = [len({m["channel_id"] for m in messages}) for messages in servers.values()]
    assert sum(channels) > 1.8 * len(channels), "not the first channel only"
    reversed_lines = {f"{n}.json": b"\n".join(reversed(server(n).splitlines())) for n in SERVERS}
    sample(tar_zst(reversed_lines), tmp_path / "backwards", most_messages_per_server=22)
    assert read(tmp_path / "backwards") == servers


def test_one_day_that_is_too_long_keeps_its_first_messages(tmp_path: Path) -> None:
    said = b"".join(json.dumps(message(FIRST + n, "5")).encode() + b"\n" for n in range(30))
    found = sample(tar_zst({"1.json": said}), tmp_path, most_messages_per_server=7)
    assert found.messages == 7
    assert [int(m["id"]) for m in read(tmp_path)["1"]] == [FIRST + n for n in range(7)]


class Counted(io.BytesIO):
    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        self.taken += len(block)
        return block


@pytest.mark.parametrize(
    ("fields", "servers", "messages"), [({"most_servers": 3}, 3, 270), ({"most_messages": 100}, 2, 100)]
)
def test_it_stops_early(archive: bytes, tmp_path: Path, fields: dict[str, int], servers: int, messages: int) -> None:
    padded = tar_zst({f"{n}.json": server(n) for n in SERVERS} | {"9.json": Random(1).randbytes(2**22)})
    counted = Counted(padded)
    found = sample_servers(counted, tmp_path, origin(**fields), "planted", "all.tar.zst")
    assert (found.servers, found.messages) == (servers, messages)
    assert counted.taken < len(padded) / 4


def test_malformed_lines_and_other_members_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = json.dumps(message(FIRST, "5")).encode()
    bad = [
        b"{",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b'{"id": "x", "channel_id": "5"}',
        b'{"id": "1"}',
        json.dumps(message(FIRST, "5", author=None)).encode(),
        b'{"id": "' + b"9" * 5000 + b'", "channel_id": "5", "author": {}}',
        b"[" * 100_000,
    ]
    files = {
        "metadata/servers_metadata.txt": b"{}",
        "metadata/names.json": b"{}",
        "./1.json": b"\n".join([good, b"", b"  ", *bad]),
        "2.json": b"",
    }
    found = sample(tar_zst(files), tmp_path)
    assert found == Sampled(servers_met=2, servers=1, messages=1, malformed_lines=len(bad), other_members=2)
    assert "1.jsonl: left out 9 malformed lines" in caplog.text
    assert [p.name for p in tmp_path.iterdir()] == ["1.jsonl"]


def test_a_line_without_end_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_LINE", 1000)
    lines = [message(FIRST, "5"), message(FIRST + 1, "5", content="x" * 5000), message(FIRST + 2, "5")]
    found = sample(tar_zst({"1.json": b"\n".join(json.dumps(m).encode() for m in lines)}), tmp_path)
    assert (found.messages, found.malformed_lines) == (2, 1)


def test_half_a_surrogate_can_be_written(tmp_path: Path) -> None:
    sample(tar_zst({"1.json": json.dumps(message(FIRST, "5", content="a\ud800b")).encode()}), tmp_path)
    assert read(tmp_path)["1"][0]["content"] == "a?b"


def test_several_frames_are_one_archive(tmp_path: Path) -> None:
    packed = tar_of({f"{n}.json": server(n) for n in SERVERS[:4]})
    frames = [zstandard.ZstdCompressor().compress(packed[n : n + 7000]) for n in range(0, len(packed), 7000)]
    assert sample(b"".join(frames), tmp_path).servers == 4


@pytest.mark.parametrize("servers", range(1, 22))
def test_a_whole_archive_is_never_called_truncated(tmp_path: Path, servers: int) -> None:
    """The end mark may stand anywhere in tar's records of 20 blocks."""
    small = json.dumps(message(FIRST, "5")).encode()
    assert sample(tar_zst({f"{n}.json": small for n in range(servers)}), tmp_path).servers == servers


@given(st.floats(0, 0.98), st.booleans())
def test_a_truncated_archive_is_named(share: float, before_compression: bool) -> None:
    packed = tar_of({f"{n}.json": server(n) for n in SERVERS[:3]})
    if before_compression:
        cut = zstandard.ZstdCompressor().compress(packed[: int(len(packed.rstrip(b"\0")) * share) // 512 * 512])
    else:
        whole = zstandard.ZstdCompressor().compress(packed)
        cut = whole[: int(len(whole) * share)]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match="truncated or damaged") as caught:
        patch.setattr(Path, "open", lambda *_, **__: io.StringIO())
        sample_servers(io.BytesIO(cut), Path("nowhere"), origin(), "planted", "all.tar.zst")
    assert caught.value.place == "all.tar.zst"


@pytest.mark.parametrize("content", [b"", b"not an archive" * 100, zstandard.ZstdCompressor().compress(b"no tar" * 500)])
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="truncated or damaged"):
        sample(content, tmp_path)


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    packed = bytearray(tar_of({f"{n}.json": server(n) for n in SERVERS[:3]}))
    second = packed.index(SERVERS[1].encode() + b".json")
    packed[second : second + 5] = b"junk!"
    with pytest.raises(InputError, match="truncated or damaged"):
        sample(zstandard.ZstdCompressor().compress(bytes(packed)), tmp_path)


def test_nothing_taken_is_an_error_that_says_what_was_met(archive: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no message was taken .*servers_met=40") as caught:
        sample(archive, tmp_path, server_share=1e-9)
    assert "Raise the shares" in caught.value.remedy
