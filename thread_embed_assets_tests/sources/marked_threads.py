"""A stand-in for the disentangler that anybody can foresee."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from thread_embed_assets.chat.model import Kind, Message

PAUSE = 300.0
"""Seconds: what comes sooner after the message before, and bears no reply mark, goes on with its thread."""


def disentangle(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Threads by reply marks, else by pauses; they come out when all is read."""
    threads: list[list[Message]] = []
    home: dict[str, list[Message]] = {}
    last: Message | None = None
    for message in messages:
        assert message.kind is Kind.TEXT
        assert message.time is not None
        if not message.parents and last is not None and message.time - (last.time or 0.0) <= PAUSE:
            message = replace(message, parents=(last.id,))
        if message.parents:
            thread = home[message.parents[0]]
        else:
            thread = []
            threads.append(thread)
        thread.append(message)
        home[message.id] = thread
        last = message
    yield from threads
