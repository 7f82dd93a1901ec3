"""Which split a conversation belongs to, decided before any pair is made."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from thread_embed_assets.chat.model import Split
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.fingerprint import fraction

Assignment = Callable[[str, str, float | None, float | None, str | None], Split | None]


@dataclass(frozen=True)
class Boundaries:
    """Start of dev and of test in one channel, in seconds since 1970."""

    dev: float
    test: float


def published(source: str, dev_share: float) -> Assignment:
    """The publisher's split; where it has no dev, a share of train drawn by conversation id."""

    def assign(conversation: str, channel: str, start: float | None, end: float | None, given: str | None) -> Split:
        if given is None:
            problem = f"conversation {conversation!r} carries no published split"
            raise InputError(f"source {source}", problem, "Declare `split: {by: channel_time, ...}` for it in the catalogue")
        if given == Split.TRAIN and fraction("dev", source, conversation) < dev_share:
            return Split.DEV
        return Split(given)

    return assign


def by_conversation(source: str, *, dev_share: float, test_share: float) -> Assignment:
    """A share of conversations for test and one for dev, drawn by conversation id."""

    def assign(conversation: str, channel: str, start: float | None, end: float | None, given: str | None) -> Split:
        draw = fraction("split", source, conversation)
        if draw < test_share:
            return Split.TEST
        return Split.DEV if draw < test_share + dev_share else Split.TRAIN

    return assign


def boundaries(starts: Iterable[tuple[str, float]], *, dev_share: float, test_share: float) -> dict[str, Boundaries]:
    """Per channel, the times after which the last ``test_share`` and the ``dev_share`` before it begin.

    Args:
        starts: (channel, start time) of every conversation.
    """
    by_channel: dict[str, array[float]] = defaultdict(lambda: array("d"))
    for channel, start in starts:
        by_channel[channel].append(start)
    found = {}
    for channel, times in by_channel.items():
        dev, test = np.quantile(np.frombuffer(times), [1 - test_share - dev_share, 1 - test_share], method="higher")
        found[channel] = Boundaries(float(dev), float(test))
    return found


def by_channel_and_time(
    source: str, limits: Mapping[str, Boundaries], *, embargo_hours: float, test_channels: Iterable[str] = ()
) -> Assignment:
    """Train, then dev, then test along each channel's time line; whole channels of ``test_channels`` are test.

    A conversation that reaches into the embargo before a boundary belongs to no split (None), so that nobody trains on
    the first half of a discussion whose second half is a test.
    """
    embargo = embargo_hours * 3600
    held_out = frozenset(test_channels)

    def assign(conversation: str, channel: str, start: float | None, end: float | None, given: str | None) -> Split | None:
        if channel in held_out:
            return Split.TEST
        if start is None or end is None:
            problem = f"conversation {conversation!r} has no times, but the source is split by time"
            raise InputError(f"source {source}", problem, "Declare `split: {by: published}` for it in the catalogue")
        limit = limits[channel]
        if start >= limit.test:
            return Split.TEST
        if start >= limit.dev:
            return Split.DEV if end < limit.test - embargo else None
        return Split.TRAIN if end < limit.dev - embargo else None

    return assign
