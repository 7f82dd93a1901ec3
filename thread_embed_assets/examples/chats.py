"""What the examples share: a workspace's threads, masked, and the model that reads them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sentence_transformers import SentenceTransformer

from thread_embed_assets.benchmark.contenders import text_format_of
from thread_embed_assets.benchmark.embeddings import Vectors
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Message
from thread_embed_assets.chat.read import StoredConversation, read_conversations
from thread_embed_assets.release.current_model import model_for_search
from thread_embed_assets.search.rooms import workspace_room
from thread_embed_assets.storage.layout import Layout

SAMPLE = "sample_workspace"


@dataclass(frozen=True)
class Reader:
    """The model, and how it was trained to read messages."""

    model: SentenceTransformer
    text_format: str

    def text(self, messages: Sequence[Message]) -> str:
        return FORMATS[self.text_format].render(messages)

    def documents(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors [texts, dimension]."""
        return np.asarray(self.model.encode_document(list(texts), normalize_embeddings=True), dtype=np.float32)

    def query(self, text: str) -> Vectors:
        """A unit vector [dimension]."""
        return np.asarray(self.model.encode_query(text, normalize_embeddings=True), dtype=np.float32)


def open_reader(layout: Layout | None = None) -> Reader:
    """The promoted model, or the released one.

    Raises:
        InputError: there is none.
    """
    folder = model_for_search(layout or Layout.from_environment(), None)
    return Reader(SentenceTransformer(str(folder), local_files_only=True), text_format_of(folder))


def threads_of(workspace: str, layout: Layout | None = None) -> list[StoredConversation]:
    """All threads of a workspace, oldest first.

    Raises:
        InputError: there is no such workspace, or its export cannot be read.
    """
    stored = workspace_room(workspace, layout or Layout.from_environment()).stored
    found = list(read_conversations(stored.conversations, stored.messages))
    return sorted(found, key=lambda thread: thread.start or 0.0)


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows ``--workspace``."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--workspace", default=SAMPLE, help="a workspace's name (default: the sample)")
    return parser
