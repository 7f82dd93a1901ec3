from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import (
    atomic_file,
    atomic_folder,
    readable_disk_errors,
    remove_abandoned,
    temporary_beside,
    temporary_folder,
    this_host,
    write_text,
)

from .processes import dead_pid, message_as_nobody


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_when_the_block_has_ended(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.json"
    with atomic_file(target) as part:
        assert part.parent == target.parent
        part.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(target.parent) == ["report.json"]


def test_an_error_in_the_block_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_text(target, "old")
    with pytest.raises(ZeroDivisionError), atomic_file(target) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["report.json"]


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "grün 🌱")
    assert (tmp_path / "a.txt").read_bytes() == "grün 🌱".encode()


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for text in ("old", "new"):
        with atomic_folder(target) as part:
            (part / text).mkdir()
            (part / text / "weights").write_text(text)
    assert names(target) == ["new"]
    assert names(tmp_path) == ["model"]


def test_an_error_in_the_block_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_folder(target) as part:
        (part / "weights").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as part:
        (part / "weights").write_text("half")
        raise ZeroDivisionError
    assert (target / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_a_temporary_folder_is_gone_after_the_block_and_after_an_error(tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "x.duckdb") as folder:
        (folder / "staged").write_text("x")
    assert names(tmp_path) == []
    with pytest.raises(ZeroDivisionError), temporary_folder(tmp_path / "x.duckdb") as folder:
        (folder / "staged").write_text("x")
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_what_a_dead_process_left_is_removed_and_a_living_ones_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "pairs.duckdb"
    dead = dead_pid()
    here = this_host()
    gone = [f".pairs.duckdb.{here}-{dead}-0123abcd.part", f".pairs.duckdb.{here}-{dead}-0123abcd.part.wal"]
    kept = [
        f".pairs.duckdb.{here}-{os.getpid()}-0123abcd.part",
        f".pairs.duckdb.{here}-{os.getppid()}-0123abcd.part.wal",
        f".pairs.duckdb.old.{here}-{dead}-0123abcd.part",
        f".other.duckdb.{here}-{dead}-0123abcd.part",
        ".pairs.duckdb.notes.part",
    ]
    for name in gone + kept:
        (tmp_path / name).write_text("x")
    folder = tmp_path / f".pairs.duckdb.{here}-{dead}-4567abcd.part"
    folder.mkdir()
    (folder / "staged").write_text("x")
    remove_abandoned(target)
    assert names(tmp_path) == sorted(kept)


def test_what_another_machine_writes_on_a_shared_disk_stays_for_a_week(tmp_path: Path) -> None:
    written = {days: tmp_path / f".pairs.duckdb.0000abcd-{dead_pid()}-{days:08x}.part" for days in (0, 6, 8)}
    for days, path in written.items():
        path.write_text("x")
        os.utime(path, (time.time() - days * 86_400,) * 2)
    remove_abandoned(tmp_path / "pairs.duckdb")
    assert [days for days, path in written.items() if path.exists()] == [0, 6]


def test_a_process_of_another_user_is_alive(public_path: Path) -> None:
    part = public_path / f".x.{this_host()}-1-0123abcd.part"
    part.write_text("x")

    def act() -> None:
        remove_abandoned(public_path / "x")

    assert message_as_nobody(act) == ""
    assert part.exists()


def test_the_next_writer_clears_what_the_last_one_left(tmp_path: Path) -> None:
    left = tmp_path / f".x.{this_host()}-{dead_pid()}-0123abcd.part"
    left.write_text("x")
    assert temporary_beside(tmp_path / "x") != left
    assert not left.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_a_remedy_and_the_old_file_stays(tmp_path: Path, number: int) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(InputError) as caught, atomic_file(target) as part:
        part.write_text("half")
        raise OSError(number, os.strerror(number))
    assert caught.value.place == str(target)
    assert "disk is full" in caught.value.problem
    assert "Free space" in caught.value.remedy
    assert target.read_text() == "old"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_folder_without_permission_is_told_with_a_remedy(tmp_path: Path, number: int) -> None:
    with pytest.raises(InputError, match=r"cannot be written.*THREAD_EMBED_ROOT"), readable_disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))


def test_other_errors_of_the_system_are_not_dressed_up(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), readable_disk_errors(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "no such file")


def test_a_really_full_disk(small_disk: Path) -> None:
    target = small_disk / "a.txt"
    write_text(target, "old")
    with pytest.raises(InputError, match="disk is full"):
        write_text(target, "x" * 2**21)
    assert target.read_text() == "old"
    assert names(small_disk) == ["a.txt"]


def act_on_file(target: Path) -> None:
    write_text(target, "x")


def act_on_folder(target: Path) -> None:
    with atomic_folder(target):
        pass


@pytest.mark.parametrize("act", [act_on_file, act_on_folder])
def test_a_really_unwritable_folder(tmp_path: Path, act: Callable[[Path], None]) -> None:
    tmp_path.chmod(0o500)
    try:
        message = message_as_nobody(lambda: act(tmp_path / "x"))
    finally:
        tmp_path.chmod(0o700)
    assert message.startswith("InputError: ")
    assert "the folder cannot be written" in message
