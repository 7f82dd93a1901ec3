"""What a language model is given to answer a message: the thread that it continues, and what other threads may tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Message
from thread_embed_assets.reranker.candidates import NEW_THREAD, Thread
from thread_embed_assets.reranker.features import thread_text
from thread_embed_assets.reranker.router import Decision

ASSISTANT = "assistant"  # the author of what the language model said
CHARACTERS = 12_000  # of the thread, some 3,000 tokens
_RELATED_CHARACTERS = 400
_LABEL_CHARACTERS = 60
_INSTRUCTIONS = Path(__file__).parent / "prompts" / "answer.md"

Role = Literal["user", "assistant"]


@dataclass(frozen=True)
class Context:
    """What is sent: instructions, and the turns, which alternate and begin and end with the user's."""

    instructions: str
    turns: tuple[tuple[Role, str], ...]


class LanguageModel(Protocol):
    """Answers a context."""

    def reply(self, instructions: str, turns: Sequence[tuple[Role, str]]) -> str: ...


def context_of(
    message: Message,
    thread: Thread | None,
    related: Sequence[Thread] = (),
    assistant: str = ASSISTANT,
    characters: int = CHARACTERS,
) -> Context:
    """The thread's first message, its last ones that fit, and the message; then a few lines of each related thread.

    Args:
        message: to be answered.
        thread: that it continues; None where it starts one.
        related: other threads that may tell something.
        assistant: whose messages are the language model's own.
        characters: of the thread at most; the message itself is whole.
    """
    said = [m for m in (thread.messages if thread else ()) if m.id != message.id]
    turns: list[tuple[Role, str]] = []
    for one in [*_that_fit(said, characters), message]:
        role: Role = "assistant" if one.author == assistant else "user"
        if turns and turns[-1][0] == role:
            turns[-1] = role, f"{turns[-1][1]}\n{_line(one)}"
        else:
            turns.append((role, _line(one)))
    if turns[0][0] == "assistant":
        turns.insert(0, ("user", "(the thread begins with your message)"))
    notes = [f"<thread>\n{thread_text(other, _RELATED_CHARACTERS)}\n</thread>" for other in related]
    return Context("\n\n".join([_INSTRUCTIONS.read_text(encoding="utf-8").strip(), *notes]), tuple(turns))


def _that_fit(said: Sequence[Message], characters: int) -> list[Message]:
    if not said:
        return []
    first, *rest = said
    left = characters - len(_line(first))
    kept: list[Message] = []
    for one in reversed(rest):
        left -= len(_line(one)) + 1
        if left < 0:
            break
        kept.append(one)
    return [first, *reversed(kept)]


def _line(message: Message) -> str:
    return FORMATS["plain"].render([message])


def question(decision: Decision) -> str:
    """What the router asks the writer of a message that it is not sure of."""
    known = [option for option in decision.options if option.candidate_id != NEW_THREAD]
    choices = [*(f"“{_label(option.text)}”" for option in known), "something new"]
    return f"Is this about {', '.join(choices[:-1])} or {choices[-1]}?" if known else "Is this something new?"


def _label(text: str) -> str:
    line = text.split("\n", 1)[0]
    return line if len(line) <= _LABEL_CHARACTERS else line[: _LABEL_CHARACTERS - 1].rstrip() + "…"
