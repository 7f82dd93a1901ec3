"""Archives made for tests, good and bad."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

LINK = "-> "  # a content that starts so makes the member a symbolic link


def tar_gz(path: Path, files: Mapping[str, str], top: str = "repo-abc/") -> Path:
    """A gzipped tar of ``files`` (name to content) below one top folder, as GitHub makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(_folder(top.rstrip("/")))
        for name, content in files.items():
            member = tarfile.TarInfo(top + name)
            if content.startswith(LINK):
                member.type, member.linkname = tarfile.SYMTYPE, content.removeprefix(LINK)
                tar.addfile(member)
            else:
                member.size = len(content.encode())
                tar.addfile(member, io.BytesIO(content.encode()))
    return path


def zip_of(path: Path, files: Mapping[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if content.startswith(LINK) else 0o100644) << 16
            archive.writestr(info, content.removeprefix(LINK), zipfile.ZIP_DEFLATED)
    return path


def _folder(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.DIRTYPE
    return member
