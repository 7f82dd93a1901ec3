"""One of each fault that fits in seconds, against a process that writes a table; the whole suite does it to the graph."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from thread_embed_assets.storage.tables import open_table
from thread_embed_assets_tests.chaos.__main__ import Moment, _plan, table
from thread_embed_assets_tests.chaos.cluster import happens
from thread_embed_assets_tests.chaos.faults import BOUND_BY_PERMISSIONS, KILLS, OTHERS, Injected, _moment
from thread_embed_assets_tests.chaos.verdict import Verdict, half_tables, leftovers
from thread_embed_assets_tests.chaos.workspace import PROJECT

WRITE = """
import sys; from pathlib import Path; import pyarrow as pa
from thread_embed_assets.storage.tables import write_tables
path, rows, *half_way = sys.argv[1:]
with write_tables(Path(path), {"rows": pa.schema([("id", pa.int64()), ("text", pa.string())])}) as writer:
    writer.add_all("rows", ((number, f"{number:>99}") for number in range(int(rows))))
    writer.flush("rows")
    if half_way:
        Path(half_way[0]).touch()
        sys.stdin.read()
"""


def _writer(path: Path, rows: int, half_way: Path | None = None, within: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """A process that writes a table; where ``half_way`` is named, it makes that file and waits for its stdin to end."""
    command = [*within, sys.executable, "-c", WRITE, str(path), str(rows), *([str(half_way)] if half_way else [])]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def _fails(process: subprocess.Popen[bytes]) -> str:
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    return said.decode()


def _succeeds(process: subprocess.Popen[bytes]) -> None:
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said.decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "root" / "rows.duckdb"
    _succeeds(_writer(path, 10))
    return path


def _is_whole(path: Path, rows: int) -> None:
    assert open_table(path, "rows").rows == rows
    assert list(half_tables(path.parent)) == []


def test_a_writer_that_is_killed_leaves_the_old_table_and_its_leavings_go_with_the_next(path: Path, tmp_path: Path) -> None:
    process = _writer(path, 1_000, tmp_path / "half way")
    assert happens((tmp_path / "half way").exists, 120)
    process.kill()
    process.communicate()
    _is_whole(path, 10)
    assert len(list(leftovers(path.parent))) >= 1, "it was killed while it wrote"
    _succeeds(_writer(path, 20))
    _is_whole(path, 20)
    assert list(leftovers(path.parent)) == []


def test_two_writers_at_once_leave_one_of_two_whole_tables(path: Path, tmp_path: Path) -> None:
    both = [_writer(path, rows, tmp_path / str(rows)) for rows in (30, 40)]
    assert happens(lambda: all((tmp_path / str(rows)).exists() for rows in (30, 40)), 120), "both have begun"
    for process in both:
        _succeeds(process)
    _is_whole(path, 40)
    assert list(leftovers(path.parent)) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted without the rights of root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_old_table(small_disk: Path) -> None:
    path = small_disk / "rows.duckdb"
    _succeeds(_writer(path, 10))
    assert "the disk is full" in _fails(_writer(path, 200_000))
    _is_whole(path, 10)
    assert list(leftovers(small_disk)) == []
    _succeeds(_writer(path, 20))


def test_a_folder_that_has_become_read_only_leaves_the_old_table(path: Path) -> None:
    if os.getuid() == 0 and shutil.which(BOUND_BY_PERMISSIONS[0]) is None:
        pytest.skip("root is bound by permissions only within setpriv")
    path.parent.chmod(0o555)
    assert "the folder cannot be written" in _fails(_writer(path, 20, within=BOUND_BY_PERMISSIONS))
    _is_whole(path, 10)
    path.parent.chmod(0o755)
    _succeeds(_writer(path, 20, within=BOUND_BY_PERMISSIONS))
    _is_whole(path, 20)


def test_moments_are_seeded_and_fall_into_every_job() -> None:
    seconds = {"prepare": 10.0, "pair": 20.0, "train": 30.0}
    drawn = [_moment(seconds, Random(number)) for number in range(50)]
    assert drawn == [_moment(seconds, Random(number)) for number in range(50)]
    assert {job for job, _ in drawn} == set(seconds) and all(0 <= share < 1 for _, share in drawn)


def test_kills_take_turns_and_other_faults_follow() -> None:
    kills, other = list(KILLS), next(iter(OTHERS))
    assert list(_plan([*kills, other], 4, 2)) == [*kills, kills[0], other, other]
    assert list(_plan([other], 20, 1)) == [other]


def test_the_table_counts_what_was_found() -> None:
    well = Moment("kill step", Injected("pair", "", "failure"), True, Verdict((), (), (), (), True), 1.0)
    leaked = Moment(
        "kill step", Injected("pair", "", "failure"), False, Verdict(("a", "b"), ("c",), ("d",), ("e",), False), 1.0
    )
    assert well.well and not leaked.well
    assert not Moment("kill step", Injected("pair", "", "", as_expected=False), True, well.found, 1.0).well
    *_, line = table([well, leaked])
    assert line == "| kill step | 2 | 2 failure | 1 | 2 | 1 | 2 | 1 |"
