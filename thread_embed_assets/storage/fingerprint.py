"""Content fingerprints and the seeds that are drawn from ids."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def of_json(value: Any) -> str:
    """16 hex digits that name a JSON-serialisable value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def of_file(path: Path) -> str:
    """The file's sha256 as 64 hex digits, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_folder(folder: Path, skip: frozenset[str] = frozenset()) -> str:
    """sha256 over the sorted (relative path, sha256) of every file below ``folder``."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in skip:
            digest.update(f"{name}\0{of_file(path)}\n".encode())
    return digest.hexdigest()


def seed(*parts: object) -> int:
    """A 64-bit seed from ids, so that every draw is the same in any order and in any process."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def fraction(*parts: object) -> float:
    """A number in [0, 1) drawn from ids."""
    return seed(*parts) / 2**64
