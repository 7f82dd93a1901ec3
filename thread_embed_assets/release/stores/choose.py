"""The stores there are, declared in one place, and how one is opened by its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.chroma_store import open_chroma, open_chroma_server
from thread_embed_assets.release.stores.duckdb_store import open_duckdb
from thread_embed_assets.release.stores.pgvector_store import open_pgvector
from thread_embed_assets.release.stores.qdrant_edge_store import open_qdrant_edge
from thread_embed_assets.release.stores.qdrant_store import open_qdrant, open_qdrant_server
from thread_embed_assets.release.stores.vector_store import COLLECTION, VectorStore
from thread_embed_assets.release.stores.weaviate_store import open_weaviate
from thread_embed_assets.storage.addresses import fault_of


@dataclass(frozen=True)
class Kind:
    """A store that can be chosen.

    Attributes:
        open: from its folder, the name of its collection and its server's URL ("" where there is none).
        url_variable: names the variable with the server's URL.
        url_needed: no server can be started from a package.
        url_with_password: it is no URL of HTTP but a connection string, whose user and password are never shown.
    """

    open: Callable[[Path, str, str], VectorStore]
    url_variable: str = ""
    url_needed: bool = False
    url_with_password: bool = False


STORES: dict[str, Kind] = {
    "duckdb": Kind(open_duckdb),
    "chroma": Kind(open_chroma),
    "chroma_server": Kind(open_chroma_server, "THREAD_EMBED_CHROMA_URL"),
    "qdrant": Kind(open_qdrant),
    "qdrant_edge": Kind(open_qdrant_edge),
    "qdrant_server": Kind(open_qdrant_server, "THREAD_EMBED_QDRANT_URL", url_needed=True),
    "pgvector": Kind(open_pgvector, "THREAD_EMBED_POSTGRES_URL", url_with_password=True),
    "weaviate": Kind(open_weaviate, "THREAD_EMBED_WEAVIATE_URL", url_needed=True),
}


def open_store(name: str, folder: Path, collection: str = COLLECTION) -> VectorStore:
    """The store of that name, with what it holds.

    Args:
        folder: where a store that keeps its own files keeps them.
        collection: letters, digits and underscores; several live side by side in one store.

    Raises:
        InputError: there is no such store, its package is not installed, its server is not named or does not answer.
    """
    if name not in STORES:
        raise InputError("stores", f"there is no store {name!r}", f"Choose one of {', '.join(STORES)}")
    if not collection.isidentifier():
        raise InputError(f"store {name}", f"the collection's name is {collection!r}", "Use letters, digits and underscores")
    kind = STORES[name]
    url = os.environ.get(kind.url_variable, "") if kind.url_variable else ""
    if kind.url_needed and not url:
        raise InputError(f"store {name}", "NOT RUN: no server is named", f"Set {kind.url_variable} to its URL")
    if url and not kind.url_with_password and (fault := fault_of(url)):
        raise InputError(
            f"store {name}", fault, f"Set {kind.url_variable} to its URL without them, such as http://HOST:PORT"
        )
    return kind.open(folder, collection, url)
