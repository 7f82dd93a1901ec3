"""What is written about each train and dev conversation of a source: a summary, a title and search questions."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.leaks import leaks
from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.near_copies import SHINGLE_WORDS, shingled
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.read import StoredConversation, read_conversations
from thread_embed_assets.errors import InputError
from thread_embed_assets.language_models.cache import AnswerCache, key_of
from thread_embed_assets.language_models.choose import AT_ONCE, WriterName, choose_writer
from thread_embed_assets.language_models.cost import estimate, within_budget
from thread_embed_assets.language_models.extractive import NAME as STAND_IN
from thread_embed_assets.language_models.tokens import cut_to
from thread_embed_assets.language_models.writers import Request, Result, Task, Writer, Written, read_task
from thread_embed_assets.storage.columns import described
from thread_embed_assets.storage.tables import TableHandle, TableWriter, connect_read_only, open_table, write_tables

SUMMARIES = described(
    [
        ("conversation_id", pa.string(), "the conversation it is about"),
        ("source", pa.string(), "the conversation's source"),
        ("split", pa.string(), "train or dev; nobody writes about test conversations"),
        ("written_by", pa.string(), "extractive, or service/model"),
        ("prompt", pa.string(), "fingerprint of what was asked"),
        ("summary", pa.string(), "a sentence or two about the thread"),
        ("title", pa.string(), "a few words"),
        ("questions", pa.list_(pa.string()), "none to two that it answers: copied ones are left out"),
        ("input_tokens", pa.int32(), "paid for when it was written; 0 by the stand-in"),
        ("output_tokens", pa.int32(), "likewise"),
    ]
)
TASK = "summarise"
# Masked, and with speakers: who answers whom tells what came of it.
_FORMAT = FORMATS["speakers"]
COPIED_SHARE = 0.5
_SPEAKER = re.compile(r"\bspeaker[ _]?\d", re.IGNORECASE)
_LOG_EVERY = 1_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SummaryOptions:
    """What is written, by whom, and for how much.

    Attributes:
        writer, model, url, at_once: see :func:`choose_writer`.
        budget_usd: a run that may cost more is refused before anything is sent, and stopped if it turns out to cost more.
        limit: conversations of the source at most; of more, those whose hashed id is smallest.
        fewest_messages: shorter conversations are left out.
        longest_tokens: a conversation is cut to so many by estimate.
    """

    writer: WriterName = "auto"
    model: str = ""
    url: str = ""
    at_once: int = AT_ONCE
    budget_usd: float = 5.0
    limit: int = 20_000
    fewest_messages: int = 3
    longest_tokens: int = 3_000


def build_summaries(
    source: str,
    stored: Normalised,
    options: SummaryOptions,
    path: Path,
    cache_path: Path,
    *,
    served: bool = True,
    dropped: Container[str] = frozenset(),
) -> TableHandle:
    """Write the ``summaries`` table of a source; conversations in stored order.

    What was paid for is in the cache, by content of prompt, text and model, before the table is written: a run that was
    stopped, and the next one, ask only for what is missing.

    Args:
        served: whether the catalogue lets strategy D use the source; otherwise the table is empty.
        dropped: ids of conversations to leave out, since they stand in other sources, too.

    Raises:
        InputError: the writer cannot work, or the run may cost more than the budget.
    """
    with closing(AnswerCache(cache_path)) as cache:
        chosen = None
        counts: Mapping[str, int] = {"strategy_not_served": 1}
        if served:
            writer = choose_writer(options.writer, cache, model=options.model, url=options.url, at_once=options.at_once)
            chosen = _Chosen(source, stored, options, writer, read_task(TASK), dropped)
            counts = _ask(chosen, cache, options.budget_usd) if writer.paid_for else {}
        with write_tables(path, {"summaries": SUMMARIES}) as table:
            for name, count in counts.items():
                table.count(name, count)
            if chosen is not None:
                for conversation, result in _results(chosen, cache):
                    _add(conversation, result, chosen, table)
    handle = open_table(path, "summaries")
    logger.info("summaries of %s: %d rows, %s", source, handle.rows, dict(handle.counts))
    return handle


@dataclass(frozen=True)
class _Chosen:
    """The conversations that are written about, read anew each time: they never are in memory together."""

    source: str
    stored: Normalised
    options: SummaryOptions
    writer: Writer
    task: Task
    dropped: Container[str]

    def __iter__(self) -> Iterator[tuple[StoredConversation, Request]]:
        for conversation in read_conversations(self.stored.conversations, self.stored.messages, self._where()):
            if conversation.id not in self.dropped:
                text = cut_to(_FORMAT.render(conversation.messages), self.options.longest_tokens)
                yield conversation, Request(key_of(self.writer.name, self.task, text), text)

    def _where(self) -> str:
        wanted = f"c.split <> '{Split.TEST}' AND c.message_count >= {self.options.fewest_messages}"
        drawn = "md5_number_lower('summary ' || c.conversation_id)"
        with connect_read_only([self.stored.conversations]) as connection:
            query = f"SELECT {drawn} FROM conversations c WHERE {wanted} ORDER BY 1 LIMIT 1 OFFSET {self.options.limit}"
            beyond = connection.execute(query).fetchall()
        return f"{wanted} AND {drawn} < {beyond[0][0]}::UBIGINT" if beyond else wanted


def _ask(chosen: _Chosen, cache: AnswerCache, budget: float) -> Mapping[str, int]:
    """Get what is missing into the cache; counts of what that took."""
    writer, task = chosen.writer, chosen.task
    spent = _Spent(writer, budget)
    for result in writer.pending(task):
        _keep(result, chosen, cache, spent)

    def missing() -> Iterator[Request]:
        seen: set[str] = set()
        for _, request in chosen:
            if request.key not in seen and cache.get(request.key) is None:
                seen.add(request.key)
                yield request

    expected = estimate(task, missing(), writer.price)
    within_budget(expected, budget - spent.dollars, writer.name)
    if expected.requests:
        logger.info("%s by %s: %s; the budget is $%.2f", task.name, writer.name, expected, budget)
        for result in writer.write(task, missing()):
            _keep(result, chosen, cache, spent)
            spent.check()
    return spent.counts


class _Spent:
    """What this run has cost so far, as the service counts tokens."""

    def __init__(self, writer: Writer, budget: float) -> None:
        self.dollars = 0.0
        self.counts: Counter[str] = Counter()
        self._writer = writer
        self._budget = budget

    def add(self, result: Result) -> None:
        self.counts["answers_bought"] += 1
        self.counts["tokens_in_bought"] += result.input_tokens
        self.counts["tokens_out_bought"] += result.output_tokens
        if self._writer.price is not None:
            self.dollars += self._writer.price.dollars(result.input_tokens, result.output_tokens)
            self.counts["microdollars_spent"] = round(self.dollars * 1e6)
        if self.counts["answers_bought"] % _LOG_EVERY == 0:
            logger.info("%s: %d answers, $%.4f so far", self._writer.name, self.counts["answers_bought"], self.dollars)

    def check(self) -> None:
        """Raises InputError once the budget is spent, whatever the estimate said."""
        if self.dollars > self._budget:
            problem = f"${self.dollars:.4f} is spent, which is more than the budget of ${self._budget:.2f}"
            remedy = "What is written is kept; raise budget_usd to go on"
            raise InputError(f"writer '{self._writer.name}'", problem, remedy)


def _keep(result: Result, chosen: _Chosen, cache: AnswerCache, spent: _Spent) -> None:
    if result.final:
        cache.put(result, chosen.writer.name, chosen.task)
    spent.add(result)


def _results(chosen: _Chosen, cache: AnswerCache) -> Iterator[tuple[StoredConversation, Result]]:
    """Each conversation with what was written about it."""
    for conversation, request in chosen:
        if chosen.writer.paid_for:
            yield conversation, cache.get(request.key) or Result(request.key, None, "not_answered")
        else:
            yield conversation, next(chosen.writer.write(chosen.task, [request]))


def _add(conversation: StoredConversation, result: Result, chosen: _Chosen, table: TableWriter) -> None:
    table.count("asked")
    if result.answer is None:
        table.count(f"no_answer_{result.fault}")
        return
    written, writer = result.answer, chosen.writer.name
    faults = _faults(written, conversation, may_copy=writer == STAND_IN)
    for fault in faults.values():
        table.count(f"dropped_{fault}")
    if written.summary in faults or written.title in faults:
        return
    table.count("written")
    questions = [question for question in written.questions if question not in faults]
    head = (conversation.id, chosen.source, conversation.split, writer, chosen.task.fingerprint)
    tokens = result.input_tokens, result.output_tokens
    table.add("summaries", (*head, written.summary, written.title, questions, *tokens))


def _faults(written: Written, conversation: StoredConversation, *, may_copy: bool) -> dict[str, str]:
    """Lines that cannot be used, each with what is wrong with it."""
    faults: dict[str, str] = {}
    messages = [message.text for message in conversation.messages]
    for line in (written.summary, written.title, *written.questions):
        if any(leaks(line)):
            faults[line] = "private_data"
        elif _SPEAKER.search(line):
            faults[line] = "names_a_speaker"
        elif not may_copy and line != written.title and copied_share(line, messages) >= COPIED_SHARE:
            faults[line] = "copied"
    return faults


def copied_share(line: str, messages: Sequence[str]) -> float:
    """Share of the line's words that stand in five or more in a row as they do in a message; of a shorter line, whether it
    is a message."""
    own, said = shingled([line]), shingled(messages)
    if not len(own.shingles):
        ends = [0, *said.word_ends.tolist()]
        whole = [said.words[start:end] for start, end in pairwise(ends)]
        return float(any(np.array_equal(own.words, words) for words in whole))
    covered = np.zeros(len(own.words), dtype=np.bool_)
    for place in np.isin(own.shingles, said.shingles).nonzero()[0]:
        covered[place : place + SHINGLE_WORDS] = True
    return float(covered.mean())
