from __future__ import annotations

import gzip
import tarfile
import unicodedata
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import archives
from thread_embed_assets.sources.archives import unpack_tar, unpack_zip

from .archive_makers import LINK, tar_gz, zip_of

GOOD = {"README.md": "read me", "data/train/a.txt": "a", "data/train/deep/b.txt": "b", "data/dev/c.txt": "c"}
OUTSIDE = ["../evil.txt", "data/../../evil.txt", "/tmp/evil.txt", "..\\evil.txt", "C:\\evil.txt"]


def found(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "inside" / "target"
    folder.mkdir(parents=True)
    return folder


def test_only_what_matches_is_unpacked_without_the_top_folder(tmp_path: Path, target: Path) -> None:
    unpack_tar(tar_gz(tmp_path / "a.tar.gz", GOOD), target, ["data/*/*.txt"])
    assert found(target) == {"data/train/a.txt": "a", "data/dev/c.txt": "c"}, "a star does not cross a slash"


def test_a_pattern_that_matches_nothing_is_named(tmp_path: Path, target: Path) -> None:
    with pytest.raises(InputError, match=r"no file matches 'data/test/\*\.txt'"):
        unpack_tar(tar_gz(tmp_path / "a.tar.gz", GOOD), target, ["data/*/*.txt", "data/test/*.txt"])


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_tar_member_outside_the_folder_is_refused(tmp_path: Path, target: Path, name: str) -> None:
    archive = tar_gz(tmp_path / "a.tar.gz", {"data/a.txt": "a"} | {name: "evil"}, top="" if name[0] in "/C" else "repo/")
    with pytest.raises(InputError, match="outside its folder") as caught:
        unpack_tar(archive, target, ["*", "*/*"])
    assert "member" in caught.value.place
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_zip_member_outside_the_folder_is_refused_before_anything_is_written(
    tmp_path: Path, target: Path, name: str
) -> None:
    archive = zip_of(tmp_path / "a.zip", {"channels.json": "[]", name: "evil"})
    with pytest.raises(InputError, match="outside its folder") as caught:
        unpack_zip(archive, target)
    assert caught.value.place.startswith(f"{archive}, member")
    assert found(target) == {}
    assert not list(tmp_path.rglob("evil.txt"))


def test_links_are_refused_where_they_would_be_unpacked(tmp_path: Path, target: Path) -> None:
    archive = tar_gz(tmp_path / "a.tar.gz", {"data/a.txt": "a", "data/b.txt": LINK + "/etc/passwd", "doc/c": LINK + "x"})
    with pytest.raises(InputError, match=r"data/b\.txt.*link or a device"):
        unpack_tar(archive, target, ["data/*"])
    with pytest.raises(InputError, match="link or a device"):
        unpack_zip(zip_of(tmp_path / "a.zip", {"a.json": "[]", "b.json": LINK + "/etc/passwd"}), target)
    other = target.with_name("other")
    other.mkdir()
    unpack_tar(archive, other, ["data/a.txt"])
    assert found(other) == {"data/a.txt": "a"}


def test_devices_are_refused(tmp_path: Path, target: Path) -> None:
    device = tarfile.TarInfo("repo/data/null")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.addfile(device)
    with pytest.raises(InputError, match="link or a device"):
        unpack_tar(tmp_path / "a.tar.gz", target, ["data/*"])


def test_a_bomb_is_stopped_while_it_is_unpacked(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_APPLIES_FROM", 2**20)
    monkeypatch.setattr(archives, "_BLOCK", 2**16)
    bomb = {"data/a.json": "a", "data/bomb.json": "0" * 2**23}
    with pytest.raises(InputError, match=r"bomb\.json.*larger than the"):
        unpack_tar(tar_gz(tmp_path / "a.tar.gz", bomb), target, ["data/*"])
    with pytest.raises(InputError, match=r"bomb\.json.*larger than the"):
        unpack_zip(zip_of(tmp_path / "a.zip", {"x" + name: content for name, content in bomb.items()}), target)
    assert max(p.stat().st_size for p in target.rglob("*bomb.json")) <= 200 * 2**14


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_that_is_a_bomb_is_refused_before_it_is_read(tmp_path: Path, target: Path, kind: bytes) -> None:
    """tarfile holds a header whole: a megabyte of archive can ask for a gigabyte of memory."""
    header = tarfile.TarInfo("repo/x")
    header.type, header.size = kind, 2**40
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**20))
    with pytest.raises(InputError, match="header takes 1,099,511,627,776 bytes"):
        unpack_tar(tmp_path / "a.tar.gz", target, ["data/*"])


def test_a_long_name_is_no_bomb(tmp_path: Path, target: Path) -> None:
    name = "/".join(["data", "long" * 40, "n" * 200])
    unpack_tar(tar_gz(tmp_path / "a.tar.gz", {name: "a"}), target, ["data/*/*"])
    assert found(target) == {name: "a"}


def test_the_total_is_bounded_whatever_the_ratio(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 10)
    unpack_zip(zip_of(tmp_path / "a.zip", {"a": "12345", "b": "12345"}), target)
    with pytest.raises(InputError, match="10 bytes allowed"):
        unpack_zip(zip_of(tmp_path / "b.zip", {"c": "12345", "d": "123456"}), target)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_truncated_archives_are_named(tmp_path: Path, target: Path, share: float) -> None:
    many = {f"data/{n}.txt": f"{n * 7919}" * 50 for n in range(200)}
    for archive in (tar_gz(tmp_path / "a.tar.gz", many), zip_of(tmp_path / "a.zip", many)):
        whole = archive.read_bytes()
        archive.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match="truncated or damaged"):
        unpack_tar(tmp_path / "a.tar.gz", target, ["data/*.txt"])
    with pytest.raises(InputError, match="truncated or damaged"):
        unpack_zip(tmp_path / "a.zip", target)


def test_a_zip_with_changed_content_is_damaged(tmp_path: Path, target: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"a.json": "".join(str(n) for n in range(3000))})
    content = bytearray(archive.read_bytes())
    content[2000] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(InputError, match="truncated or damaged"):
        unpack_zip(archive, target)


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path, target: Path) -> None:
    with pytest.raises(InputError, match="in the archive twice"):
        unpack_zip(zip_of(tmp_path / "a.zip", {"a/b.json": "1", "a//b.json": "2", "c": "3"}), target)


def test_a_zip_that_was_made_of_a_folder_loses_that_folder_and_hidden_files(tmp_path: Path, target: Path) -> None:
    files = {"Acme export/users.json": "[]", "Acme export/general/2025-03-01.json": "[]"}
    hidden = {"__MACOSX/Acme export/._users.json": "x", "Acme export/.DS_Store": "x"}
    unpack_zip(zip_of(tmp_path / "a.zip", files | hidden), target)
    assert found(target) == {"users.json": "[]", "general/2025-03-01.json": "[]"}


def test_a_zip_with_files_at_its_top_keeps_its_folders(tmp_path: Path, target: Path) -> None:
    files = {"users.json": "[]", "general/2025-03-01.json": "[]"}
    unpack_zip(zip_of(tmp_path / "a.zip", files), target)
    assert found(target) == files


def test_an_encrypted_zip_is_named(tmp_path: Path, target: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"a.json": "[]"})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(InputError, match="is encrypted"):
        unpack_zip(archive, target)


def unsaid(path: Path, name: bytes) -> Path:
    """A zip of one file whose name does not say in which encoding it is."""
    placeholder = "x" * len(name)
    content = zip_of(path, {placeholder: "[]"}).read_bytes()
    path.write_bytes(content.replace(placeholder.encode(), name))
    return path


@pytest.mark.parametrize(
    "name",
    [
        "top/café/days.json".encode(),
        unicodedata.normalize("NFD", "top/café/days.json").encode(),  # as macOS may write it
        "top/café/days.json".encode("cp437"),  # as old Windows writes it
    ],
)
def test_a_name_of_unsaid_encoding_is_what_its_maker_meant(tmp_path: Path, target: Path, name: bytes) -> None:
    unpack_zip(unsaid(tmp_path / "a.zip", name), target)
    assert found(target) == {"café/days.json": "[]"}
