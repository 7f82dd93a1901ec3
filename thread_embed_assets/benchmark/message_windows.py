"""The windows of messages of a task's documents."""

from __future__ import annotations

from collections.abc import Mapping

from thread_embed_assets.benchmark.tasks import Task
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Message
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.read import read_conversations
from thread_embed_assets.errors import InputError


def window_texts(task: Task, messages: Mapping[str, Message], text_format: str, size: int) -> list[list[str]]:
    """The texts of each document's adjacent windows of ``size`` messages, the last one shorter; blank ones are left out.

    Args:
        task: its documents name their messages.
        messages: by id, at least those of the documents.
        text_format: a name of ``FORMATS``; speakers are numbered and times counted anew in each window.
        size: messages in a window.

    Raises:
        InputError: a message of a document is not among ``messages``.
    """
    render = FORMATS[text_format].render
    found = []
    for document, names in zip(task.document_ids, task.document_messages(), strict=True):
        absent = [name for name in names if name not in messages]
        if absent:
            problem = f"document {document} holds the message {absent[0]}, which no {task.split} conversation has"
            raise InputError(task.path, problem, "Materialise benchmark_tasks again")
        said = [messages[name] for name in names]
        texts = [render(said[start : start + size]) for start in range(0, len(said), size)]
        found.append([text for text in texts if text.strip()])
    return found


def messages_of_split(stored: Normalised, split: str) -> dict[str, Message]:
    """The messages of a source's conversations of one split, by id."""
    conversations = read_conversations(stored.conversations, stored.messages, f"c.split = '{split}'")
    return {message.id: message for conversation in conversations for message in conversation.messages}
