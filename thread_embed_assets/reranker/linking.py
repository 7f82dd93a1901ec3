"""From the thread chosen for a message to the message it answers: links of a whole log, as published work measures them.

The log is read once, in order, and threads are what was decided so far: nothing is taken back, and nothing looks ahead. The
disentangler (``chat/disentangle.py``) says how likely each of the messages before is the one answered, and how likely none
is. A reranker says which of their threads the message continues. Both are added as log-probabilities, and the message is
linked to the message of the chosen thread that the disentangler finds likeliest. The disentangler reads names as they are in
the log, the reranker masked texts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import log_softmax, logsumexp

from thread_embed_assets.benchmark.disentangling import DISENTANGLER, Row, markdown, score
from thread_embed_assets.chat.antecedents import WINDOW, Floats, Reader
from thread_embed_assets.chat.disentangle import Weights, load_weights
from thread_embed_assets.chat.model import Kind, Message, Split
from thread_embed_assets.reranker.candidates import NEW_THREAD, Candidate
from thread_embed_assets.reranker.features import candidates_of
from thread_embed_assets.reranker.real import CANDIDATES, Scorer, plain
from thread_embed_assets.reranker.replay import OpenThreads, Turn
from thread_embed_assets.sources.irc import AnnotatedLog
from thread_embed_assets.training.disentangler import Links

WEIGHTS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)
OFFSETS = (-1.5, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 1.5)

_BLOCK = 256
_BARRED = -1e8  # the disentangler's score of what is no candidate is below

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fusion:
    """How the two are added.

    Attributes:
        disentangler: weight of its log-probabilities; 0 leaves it only the choice within the thread.
        reranker: weight of its log-probabilities; with 0, and a thread as likely as its likeliest message, the links are
            those of ``disentangle``.
        new: added to the score of a new thread.
        whole: a thread is as likely as all its messages together, not as the likeliest of them.
        candidates: threads that the reranker is asked about, those that the disentangler finds likeliest.
    """

    disentangler: float = 1.0
    reranker: float = 0.5
    new: float = 0.0
    whole: bool = False
    candidates: int = CANDIDATES


@dataclass(frozen=True)
class Log:
    """An annotated log made ready for linking.

    Attributes:
        annotated: as it was written, with names.
        masked: its lines as the reranker may read them.
        lines: those that people or bots spoke.
        answers: float32 [lines, WINDOW + 1], the disentangler's log-probabilities that a line answers the one before it, the
            one before that and so on; last, that it answers none. Very low where there is no such line.
    """

    annotated: AnnotatedLog
    masked: Sequence[Message] = field(repr=False)
    lines: Sequence[int] = field(repr=False)
    answers: Floats = field(repr=False)


def read_log(log: AnnotatedLog, masked: Sequence[Message], weights: Weights | None = None) -> Log:
    """What the disentangler says of all lines of a log.

    Args:
        masked: the log's lines as ``replay.masked`` gives them.
        weights: of the disentangler; by default those that come with the package.
    """
    weights, reader = weights or load_weights(), Reader()
    lines = [line for line, message in enumerate(log.messages) if message.kind is not Kind.SYSTEM]
    blocks = []
    for start in range(0, len(lines), _BLOCK):
        messages = [log.messages[line] for line in lines[start : start + _BLOCK]]
        blocks.append(weights.scores(reader.read(messages, [()] * len(messages))))
    scores = np.concatenate(blocks) if blocks else np.empty((0, WINDOW + 1), np.float32)
    barred = scores < _BARRED
    answers = np.where(barred, scores, log_softmax(scores, axis=1)).astype(np.float32)
    return Log(log, masked, lines, answers)


def link(log: Log, scorer: Scorer, fusion: Fusion) -> Links:
    """The links of a log's annotated lines, to nothing where a line begins a thread; the server's lines do.

    Its context, where nothing is asked, is linked by the disentangler alone.
    """
    alone = replace(fusion, disentangler=1.0, reranker=0.0, new=0.0)
    threads = OpenThreads()
    thread_of: list[str] = []
    links: dict[int, Collection[int]] = dict.fromkeys(log.annotated.parents, ())
    for place, line in enumerate(log.lines):
        message = log.masked[line]
        near = _near(thread_of, log.answers[place], place)
        asked = line in links
        chosen = _choose(message, near, float(log.answers[place, -1]), threads, scorer, fusion if asked else alone)
        if chosen == NEW_THREAD:
            turn = Turn(message, message.id, (), Split.TEST)
        else:
            turn = Turn(message, message.id, (chosen,), Split.TEST)
            if asked:
                links[line] = (log.lines[max(near[chosen], key=near[chosen].__getitem__)],)
        thread_of.append(threads.take(turn))
    return links


def _near(thread_of: Sequence[str], answers: Floats, place: int) -> dict[str, dict[int, float]]:
    """The threads of the messages that may be answered, to these messages' places and log-probabilities."""
    found: dict[str, dict[int, float]] = {}
    for steps, likely in enumerate(answers[: min(WINDOW, place)].tolist(), 1):
        if likely > _BARRED:
            found.setdefault(thread_of[place - steps], {})[place - steps] = likely
    return found


def _choose(
    message: Message,
    near: Mapping[str, Mapping[int, float]],
    new: float,
    threads: OpenThreads,
    scorer: Scorer,
    fusion: Fusion,
) -> str:
    together: Callable[[Collection[float]], float] = _all_together if fusion.whole else max
    prior = {thread: together(answers.values()) for thread, answers in near.items()}
    total = {thread: fusion.disentangler * likely for thread, likely in prior.items()}
    total[NEW_THREAD] = fusion.disentangler * new + fusion.new
    if near and fusion.reranker:
        likeliest = sorted(prior, key=prior.__getitem__, reverse=True)[: fusion.candidates]
        candidates = candidates_of(message, threads.named(likeliest))
        scores = log_softmax(np.asarray(scorer(plain(message), candidates), np.float64))
        total = {c.id: total[c.id] + fusion.reranker * float(s) for c, s in zip(candidates, scores, strict=True)}
    return max(total, key=total.__getitem__)


def _all_together(values: Collection[float]) -> float:
    return float(logsumexp(list(values)))


def remembered(scorer: Scorer) -> Scorer:
    """The scorer, not asked again about what it has scored: the same log is linked many times to choose how.

    Args:
        scorer: scores each candidate by itself.
    """
    known: dict[tuple[str, str, bytes], float] = {}

    def score_new(text: str, candidates: Sequence[Candidate]) -> Floats:
        keys = [(text, candidate.text, candidate.features.tobytes()) for candidate in candidates]
        new = [place for place, key in enumerate(keys) if key not in known]
        if new:
            scores = scorer(text, [candidates[place] for place in new])
            known.update(zip((keys[place] for place in new), map(float, scores), strict=True))
        return np.array([known[key] for key in keys], np.float32)

    return score_new


@dataclass(frozen=True)
class Linked:
    """What links are worth, of the disentangler alone and of each reranker alone and added to it.

    Attributes:
        rows: split to scores, a row a method.
        fusions: method to how it was added, chosen on dev.
    """

    rows: dict[str, list[Row]]
    fusions: dict[str, Fusion]


def compare_links(
    dev: Sequence[Log],
    test: Sequence[Log],
    scorers: Mapping[str, Scorer],
    start: Fusion,
    weights: Sequence[float] = WEIGHTS,
    offsets: Sequence[float] = OFFSETS,
) -> Linked:
    """Measure rerankers on both splits; all that is chosen is chosen on dev.

    Args:
        scorers: name to reranker; each scores a candidate by itself.
        start: how they are added, but for the weights.
        weights, offsets: tried, of the reranker and of a new thread.
    """
    fusions = {DISENTANGLER: replace(start, disentangler=1.0, reranker=0.0, new=0.0)}
    for name, scorer in scorers.items():
        alone = replace(start, disentangler=0.0)
        fusions[f"{name}, threads alone"] = choose_fusion(dev, scorer, alone, (1.0,), offsets)[0]
        fusions[f"{name} + {DISENTANGLER}"] = choose_fusion(dev, scorer, replace(start, disentangler=1.0), weights, offsets)[
            0
        ]
    rows: dict[str, list[Row]] = {}
    for split, logs in ((Split.DEV, dev), (Split.TEST, test)):
        rows[split] = [measure(DISENTANGLER, logs, _nothing, fusions[DISENTANGLER])]
        for name, scorer in scorers.items():
            for method in (f"{name}, threads alone", f"{name} + {DISENTANGLER}"):
                rows[split].append(measure(method, logs, scorer, fusions[method]))
        logger.info("%s\n%s", split, markdown(rows[split]))
    return Linked(rows, fusions)


def _nothing(text: str, candidates: Sequence[Candidate]) -> Floats:
    return np.zeros(len(candidates), np.float32)


def choose_fusion(
    logs: Sequence[Log],
    scorer: Scorer,
    start: Fusion | None = None,
    weights: Sequence[float] = WEIGHTS,
    offsets: Sequence[float] = OFFSETS,
) -> tuple[Fusion, Row]:
    """The fusion with the best link F1 on these logs, and its scores: first the reranker's weight, then the new thread's.

    Args:
        logs: of the dev split.
        start: what is not tried stays as it is there.
        weights: of the reranker; one where there is nothing to choose.
        offsets: added to ``new`` of the start.
    """
    start, scorer = start or Fusion(), remembered(scorer)
    best = max(_tried(logs, scorer, (replace(start, reranker=weight) for weight in weights)), key=_link_f1)
    others = (replace(best[0], new=start.new + offset) for offset in offsets)
    return max((best, *_tried(logs, scorer, others)), key=_link_f1)


def _tried(logs: Sequence[Log], scorer: Scorer, fusions: Iterable[Fusion]) -> Iterator[tuple[Fusion, Row]]:
    for fusion in fusions:
        row = measure("fused", logs, scorer, fusion)
        logger.info("%s: link F1 %.2f, 1-1 %.2f, exact F1 %.2f", fusion, row.link_f1, row.one_to_one, row.exact_f1)
        yield fusion, row


def _link_f1(tried: tuple[Fusion, Row]) -> float:
    return tried[1].link_f1


def measure(method: str, logs: Sequence[Log], scorer: Scorer, fusion: Fusion) -> Row:
    """All measures of ``benchmark/disentangling.py``, under the definitions of those who published the annotation."""
    return score(method, [(log.annotated.parents, link(log, scorer, fusion)) for log in logs])
