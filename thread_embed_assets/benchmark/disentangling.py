"""How well ``chat/disentangle.py`` finds threads, on Ubuntu IRC annotated by people, beside two simple rules.

The measures are those of Kummerfeld et al. (2019, https://aclanthology.org/P19-1374), taken as their programs take them
(``tools/evaluation`` of jkkummerfeld/irc-disentanglement), so that the numbers can be laid beside published ones: every
annotated line counts, also those of servers, which each method leaves alone, and of bots. Threads are the connected
components of the links, parents in the unannotated context included, and then cut down to the annotated lines.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from thread_embed_assets.chat.model import Kind, Split
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.irc import AnnotatedLog, annotated_logs, components
from thread_embed_assets.storage.atomic import write_text
from thread_embed_assets.training.disentangler import Links, guess_links, link_scores

GAPS = (1, 2, 3, 5, 10, 15, 20, 30, 60)  # minutes of silence tried on train
DISENTANGLER = "disentangler"
PREVIOUS = "previous message"

logger = logging.getLogger(__name__)

Threads = list[frozenset[int]]
Guess = Callable[[AnnotatedLog], Links]


@dataclass(frozen=True)
class Row:
    """One method's scores, in per cent; more is better.

    Attributes:
        link_precision, link_recall, link_f1: see :func:`link_scores`.
        variation_of_information: see :func:`variation_of_information`.
        one_to_one: see :func:`one_to_one`.
        exact_precision, exact_recall, exact_f1: see :func:`exact_match`.
    """

    method: str
    link_precision: float
    link_recall: float
    link_f1: float
    variation_of_information: float
    one_to_one: float
    exact_precision: float
    exact_recall: float
    exact_f1: float


def evaluate_disentangling(folder: Path, split: str = "dev") -> list[Row]:
    """The disentangler, the time-gap rule and the previous-message rule on one split of the annotated logs.

    The time-gap rule starts a thread after so many minutes of silence, and else links to the message before; how many is
    chosen on train by link F1. Look at the test split only to report it.

    Args:
        folder: the files of ``irc_disentangle``.
        split: train, dev or test.

    Raises:
        InputError: there are no such logs, or one is damaged.
    """
    logs = list(annotated_logs(folder, Split(split)))
    if not logs:
        raise InputError(folder, f"there are no annotated logs of the {split} split", "Fetch irc_disentangle whole")
    gap = best_gap(annotated_logs(folder, Split.TRAIN))
    methods: dict[str, Guess] = {
        DISENTANGLER: guess_links,
        f"silence of {gap} minutes": lambda log: time_gap_links(log, gap),
        PREVIOUS: lambda log: time_gap_links(log, math.inf),
    }
    rows = [score(name, [(log.parents, guess(log)) for log in logs]) for name, guess in methods.items()]
    logger.info("%s, %d logs:\n%s", split, len(logs), markdown(rows))
    return rows


def best_gap(logs: Iterable[AnnotatedLog]) -> int:
    """The number of minutes of ``GAPS`` with the highest link F1; of equals the fewest.

    Raises:
        InputError: there are no logs.
    """
    pairs: dict[int, list[tuple[Links, Links]]] = {gap: [] for gap in GAPS}
    for log in logs:
        for gap, guessed in pairs.items():
            guessed.append((log.parents, time_gap_links(log, gap)))
    if not pairs[GAPS[0]]:
        raise InputError("irc_disentangle", "there are no train logs to choose the time gap on", "Fetch the source whole")
    return max(GAPS, key=lambda gap: link_scores(pairs[gap]).f1)


def time_gap_links(log: AnnotatedLog, gap: float) -> Links:
    """Each message linked to the one before, unless that is ``gap`` minutes or more ago; servers' lines are passed over."""
    links: dict[int, Collection[int]] = {}
    before: tuple[int, float] | None = None
    for line, message in enumerate(log.messages):
        spoken = message.kind is not Kind.SYSTEM
        if line in log.parents:
            time = message.time or 0.0
            links[line] = (before[0],) if spoken and before is not None and time - before[1] < gap * 60 else ()
        if spoken:
            before = line, message.time or 0.0
    return links


def score(method: str, pairs: Sequence[tuple[Links, Links]]) -> Row:
    """All measures of a method's links; ``pairs`` are (annotated, guessed) of each log, over the same lines."""
    links = link_scores(pairs)
    threads = [(threads_of(annotated), threads_of(guessed)) for annotated, guessed in pairs]
    exact = exact_match(threads)
    return Row(
        method,
        links.precision,
        links.recall,
        links.f1,
        variation_of_information(threads),
        one_to_one(threads),
        *exact,
    )


def threads_of(links: Links) -> Threads:
    """The lines that have links (even if to nothing), by connected component."""
    return [frozenset(kept) for component in components(links) if (kept := [line for line in component if line in links])]


def variation_of_information(threads: Sequence[tuple[Threads, Threads]]) -> float:
    """100 (1 - VI / log2 n), n lines in all logs, of the annotated threads A and the guessed threads G of all logs together.

    VI = H(A|G) + H(G|A) = - sum over a, g of p(a, g) [log2 (p(a, g) / p(g)) + log2 (p(a, g) / p(a))] (Meila 2007,
    https://doi.org/10.1016/j.jmva.2006.11.013); log2 n is the most it can be.
    """
    tables = [_overlaps(annotated, guessed) for annotated, guessed in threads]
    total = sum(int(table.sum()) for table in tables)
    if total < 2:
        return 100.0
    information = 0.0
    for table in tables:
        rows, columns = np.nonzero(table)
        both = table[rows, columns]
        information -= float((both * np.log2(both**2 / (table.sum(axis=1)[rows] * table.sum(axis=0)[columns]))).sum())
    return 100 * (1 - information / total / math.log2(total))


def one_to_one(threads: Sequence[tuple[Threads, Threads]]) -> float:
    """Per cent of the lines in common when each annotated thread is paired with at most one guessed, for the most in common.

    Elsner and Charniak (2008, https://aclanthology.org/P08-1095). Threads of different logs share nothing, so the best
    pairing is found log by log.
    """
    common = total = 0
    for annotated, guessed in threads:
        table = _overlaps(annotated, guessed)
        total += int(table.sum())
        common += int(table[linear_sum_assignment(table, maximize=True)].sum())
    return 100 * common / total if total else 100.0


def exact_match(threads: Sequence[tuple[Threads, Threads]]) -> tuple[float, float, float]:
    """Precision, recall and F1, in per cent, of threads found with exactly their lines; those of one line do not count."""
    annotated = guessed = right = 0
    for gold, guess in threads:
        gold_long, guess_long = ({thread for thread in side if len(thread) > 1} for side in (gold, guess))
        annotated += len(gold_long)
        guessed += len(guess_long)
        right += len(gold_long & guess_long)
    precision, recall = (100 * right / total if total else 0.0 for total in (guessed, annotated))
    return precision, recall, 200 * right / (annotated + guessed) if annotated + guessed else 0.0


def _overlaps(annotated: Threads, guessed: Threads) -> npt.NDArray[np.int64]:
    """[annotated, guessed] lines in common.

    Raises:
        ValueError: they are not over the same lines.
    """
    place = {line: column for column, thread in enumerate(guessed) for line in thread}
    table = np.zeros((len(annotated), len(guessed)), np.int64)
    lines = 0
    for row, thread in enumerate(annotated):
        lines += len(thread)
        for line in thread:
            if line not in place:
                raise ValueError(f"line {line} is annotated, but not guessed")
            table[row, place[line]] += 1
    if lines != len(place):
        raise ValueError(f"{len(place)} lines are guessed, but {lines} annotated")
    return table


_COLUMNS = {
    "link_precision": "link P",
    "link_recall": "link R",
    "link_f1": "link F1",
    "variation_of_information": "1 - VI",
    "one_to_one": "1-1",
    "exact_precision": "exact P",
    "exact_recall": "exact R",
    "exact_f1": "exact F1",
}


def markdown(rows: Sequence[Row]) -> str:
    """A table, a line a method, scores in per cent."""
    lines = [f"| method | {' | '.join(_COLUMNS.values())} |", f"|---|{'---:|' * len(_COLUMNS)}"]
    lines += [f"| {row.method} | {' | '.join(f'{getattr(row, name):.1f}' for name in _COLUMNS)} |" for row in rows]
    return "\n".join(lines)


def write_results(path: Path, rows: Sequence[Row], **about: Any) -> None:
    """The rows as JSON, ``{**about, "rows": [...]}``; ``about`` may name split and revision."""
    write_text(path, json.dumps(about | {"rows": [asdict(row) for row in rows]}, indent=1) + "\n")
