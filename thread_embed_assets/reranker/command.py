"""``thread-embed route``: put a message to the thread that it continues, ask, or start a new one."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from thread_embed_assets.chat.model import Message
from thread_embed_assets.chat.normalise import open_normalised
from thread_embed_assets.chat.read import read_conversations
from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.candidates import NEW_THREAD, Thread
from thread_embed_assets.reranker.context import ASSISTANT, LanguageModel, context_of, question
from thread_embed_assets.reranker.features import thread_text
from thread_embed_assets.reranker.package import open_router
from thread_embed_assets.reranker.router import Decision, Embedder, Outcome, Router
from thread_embed_assets.reranker.store import ThreadStore
from thread_embed_assets.storage.layout import Layout

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_SHOWN = 160  # characters of a thread


def add_route_command(commands: Commands) -> None:
    parser = commands.add_parser("route", help="put a message to the thread that it continues, ask, or start a new one")
    parser.add_argument("text", nargs="?", default="", help="the message; without it, only --load is done")
    parser.add_argument("--workspace", default="main", help="whose threads are kept (default: main)")
    parser.add_argument(
        "--load", metavar="SOURCE", help="first take in the conversations of this source that are materialised"
    )
    parser.add_argument("--channel", default="main", help="default: main")
    parser.add_argument("--author", default="user", help="default: user")
    parser.add_argument("--time", help="when it was sent, as in 2026-03-01T09:30 (default: now)")
    parser.add_argument(
        "--to", metavar="THREAD", help=f"do not decide: keep it in this thread, or in a new one with '{NEW_THREAD}'"
    )
    parser.add_argument("--answer", action="store_true", help="let a language model answer (ANTHROPIC_API_KEY)")


def run_route(
    options: argparse.Namespace,
    layout: Layout,
    embed: Embedder | None = None,
    language_model: Callable[[], LanguageModel] | None = None,
) -> str:
    """What the command prints.

    Args:
        embed: of the embedding model, where there is one.
        language_model: opens the one that answers.

    Raises:
        InputError: there is no reranker, no such source or thread, or the time cannot be read.
    """
    lines: list[str] = []
    model = language_model() if options.answer and language_model is not None else None
    with ThreadStore(layout.thread_store(options.workspace)) as store:
        if options.load:
            lines.append(f"{store.load(_threads(options.load, layout))} messages taken in from {options.load}")
        if options.text:
            lines += _route(options, open_router(layout.reranker_package, store, embed), model)
    if not lines:
        raise InputError("thread-embed route", "there is neither a message nor a source to load", "Give a message")
    return "\n".join(lines)


def _threads(source: str, layout: Layout) -> Iterator[tuple[str, Sequence[Message]]]:
    stored = open_normalised(layout.conversations(source))
    for conversation in read_conversations(stored.conversations, stored.messages):
        yield conversation.channel, conversation.messages


def _route(options: argparse.Namespace, router: Router, model: LanguageModel | None) -> Iterator[str]:
    message = _message(options)
    if options.to is None:
        decision = router.route(message, options.channel)
    else:
        thread_id = router.settle(message, options.channel, None if options.to == NEW_THREAD else options.to)
        decision = Decision(Outcome.NEW if options.to == NEW_THREAD else Outcome.ROUTE, thread_id, 1.0, "you")
    if decision.thread_id is None:
        yield f"ask    {decision.confidence:.2f}  {question(decision)}"
        for option in decision.options:
            yield f"         --to {option.candidate_id}  {option.probability:.2f}  {_short(option.text)}"
        return
    [thread] = router.store.threads([decision.thread_id])
    yield f"{decision.outcome:<5}  {decision.confidence:.2f}  {thread.id}  by {decision.by}"
    yield f"         {_short(thread_text(thread))}"
    if model is not None:
        yield _answer(message, thread, model)


def _answer(message: Message, thread: Thread, model: LanguageModel) -> str:
    context = context_of(message, thread, assistant=ASSISTANT)
    return model.reply(context.instructions, context.turns)


def _message(options: argparse.Namespace) -> Message:
    try:
        sent = datetime.fromisoformat(options.time) if options.time else datetime.now(UTC)
    except ValueError as error:
        raise InputError(f"--time {options.time}", "this is no time", "Write it as in 2026-03-01T09:30") from error
    time = (sent if sent.tzinfo else sent.replace(tzinfo=UTC)).timestamp()
    told = f"{options.channel}\0{options.author}\0{options.time or time}\0{options.text}"
    return Message("m_" + hashlib.sha256(told.encode()).hexdigest()[:12], options.author, options.text, time)


def _short(text: str) -> str:
    line = " / ".join(text.split("\n"))
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1].rstrip() + "…"
