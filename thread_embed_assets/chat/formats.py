"""How messages become the text a model reads: declared here, chosen on dev, kept with the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from thread_embed_assets.chat.model import Message

MENTION = re.compile(r"<@(p_[0-9a-f]{10})>")
_MENTION_AND_SPACE = re.compile(rf" ?{MENTION.pattern}")
_LEADING_MENTIONS = re.compile(r"^(?:<@p_[0-9a-f]{10}>[\s,:;]*)+")


@dataclass(frozen=True)
class TextFormat:
    """One way to write a window of messages.

    Attributes:
        speaker: start each line with ``speaker_k:``, k counted inside this text.
        mention: what a mention becomes: left out, or ``@speaker_k``.
        time: start each line with the time since the line before, such as ``[+5m]``.
    """

    name: str
    speaker: bool = False
    mention: Literal["drop", "speaker"] = "drop"
    time: bool = False

    def renderer(self, messages: Sequence[Message]) -> Callable[[Sequence[int]], str]:
        """:meth:`render` for many windows of the same messages, each given by the positions of its messages."""
        if self._plain:
            lines = [_without_mentions(m.text) for m in messages]
            return lambda window: "\n".join([lines[i] for i in window])
        return lambda window: self.render([messages[i] for i in window])

    def render(self, messages: Sequence[Message]) -> str:
        """The messages as one text, a line each; the same people in another window get other numbers."""
        if self._plain:
            return "\n".join(_without_mentions(m.text) for m in messages)
        numbers: dict[str, int] = {}

        def number(person: str) -> str:
            return f"speaker_{numbers.setdefault(person, len(numbers) + 1)}"

        lines: list[str] = []
        previous: float | None = None
        for message in messages:
            head = ""
            if self.time:
                head += _gap(previous, message.time)
                previous = message.time if message.time is not None else previous
            if self.speaker:
                head += f"{number(message.author)}: "
            if self.mention == "drop":
                text = _without_mentions(message.text)
            else:
                text = MENTION.sub(lambda found: "@" + number(found[1]), message.text)
            lines.append(head + text)
        return "\n".join(lines)

    @property
    def _plain(self) -> bool:
        """Whether a message is written the same in every window."""
        return not (self.speaker or self.time) and self.mention == "drop"


def _without_mentions(text: str) -> str:
    if "<@p_" not in text:
        return text
    return _MENTION_AND_SPACE.sub("", _LEADING_MENTIONS.sub("", text)).strip()


def _gap(previous: float | None, time: float | None) -> str:
    if previous is None or time is None:
        return ""
    seconds = max(0.0, time - previous)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"[+{int(seconds // size)}{unit}] "
    return "[+0m] "


FORMATS: dict[str, TextFormat] = {
    f.name: f
    for f in (
        TextFormat("plain"),
        TextFormat("speakers", speaker=True, mention="speaker"),
        TextFormat("times", time=True),
        TextFormat("speakers_times", speaker=True, mention="speaker", time=True),
    )
}
DEFAULT_FORMAT = "plain"
