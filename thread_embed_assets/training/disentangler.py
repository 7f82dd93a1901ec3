"""Fits the weights of ``chat/disentangle.py`` on the train split of annotated Ubuntu IRC, and scores them on dev.

    python -m thread_embed_assets.training.disentangler

In #ubuntu, many talks go on at once and 45 % of the replies begin with a name. So that the weights also fit rooms where
little is said and nobody is named, they see some logs again with those names taken off, and with most threads left out.
The same data give the same weights: one thread, one seed, a fixed number of epochs.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thread_embed_assets.chat.antecedents import CUES, PAIRS, STARTS, WINDOW, Bools, Floats, Ints, Reader
from thread_embed_assets.chat.disentangle import WEIGHTS, Weights, disentangle
from thread_embed_assets.chat.model import Kind, Message, Split
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.sources.fetch import fetch
from thread_embed_assets.sources.irc import AnnotatedLog, annotated_logs, components
from thread_embed_assets.storage.atomic import write_text
from thread_embed_assets.storage.fingerprint import fraction
from thread_embed_assets.storage.layout import Layout

SOURCE = "irc_disentangle"
Links = Mapping[int, Collection[int]]  # line of each annotated message to the lines it answers; none if it starts a thread

_READ_AT_ONCE = 256
_ADDRESS = re.compile(r"^[\w\[\]\\`^{}|-]+[:,] ?")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """How the weights are fitted: Adam with a one-cycle learning rate, on batches of messages.

    Attributes:
        nameless_every: each so many-th log is seen again as :func:`nameless`.
        quiet_shares: all logs are seen again as :func:`quiet` and nameless, once with each of these shares of threads.
        reluctance: taken off the score of starting a thread. Links do not suffer on train and dev up to here, the threads of
            quiet rooms gain.
    """

    hidden: int = 32
    start_hidden: int = 16
    epochs: int = 14
    batch: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 1e-5
    seed: int = 0
    nameless_every: int = 4
    quiet_shares: tuple[float, ...] = (0.3, 0.1)
    reluctance: float = 0.6


@dataclass(frozen=True)
class LinkScores:
    """Of the links of all annotated lines, in per cent; a line that answers nobody is linked to itself."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Examples:
    """Annotated messages; as in :class:`antecedents.Features`, of many logs.

    Attributes:
        cues: [rows, CUES], of all lines of all logs, with WINDOW empty rows before each log.
        rows: [n], the row of each example.
        pairs: [n, WINDOW, PAIRS].
        starts: [n, STARTS].
        near: [n, WINDOW].
        answers: [n, WINDOW + 1], which candidates it answers; last, whether it starts a thread.
    """

    cues: npt.NDArray[np.float16]
    rows: Ints
    pairs: npt.NDArray[np.float16]
    starts: Floats
    near: Bools
    answers: Bools

    @classmethod
    def of(cls, logs: Iterable[AnnotatedLog]) -> Examples:
        """Without the messages whose parents are all out of the window."""
        read = [_read(log) for log in logs]
        if not read:
            raise InputError(SOURCE, "there are no logs to fit the weights on", "Fetch the source whole")
        first_rows = np.cumsum([0, *(len(log.cues) for log in read)])
        return cls(
            cues=np.concatenate([log.cues for log in read]),
            rows=np.concatenate([log.rows + first for log, first in zip(read, first_rows, strict=False)]),
            pairs=np.concatenate([log.pairs for log in read]),
            starts=np.concatenate([log.starts for log in read]),
            near=np.concatenate([log.near for log in read]),
            answers=np.concatenate([log.answers for log in read]),
        )


def _read(log: AnnotatedLog) -> Examples:
    lines = _spoken_lines(log)
    place = {line: number for number, line in enumerate(lines)}
    annotated = np.array([line in log.parents for line in lines], np.bool_)
    answers = np.zeros((len(lines), WINDOW + 1), np.bool_)
    for number, line in enumerate(lines):
        parents = log.parents.get(line, ())
        steps = [number - place[parent] for parent in parents if parent in place]
        answers[number, [step - 1 for step in steps if step <= WINDOW]] = True
        answers[number, WINDOW] = not parents
    used = annotated & answers.any(axis=1)
    reader = Reader()
    blocks = []
    for start in range(0, len(lines), _READ_AT_ONCE):
        messages = [log.messages[line] for line in lines[start : start + _READ_AT_ONCE]]
        features = reader.read(messages, [()] * len(messages))
        kept = used[start : start + _READ_AT_ONCE]
        pairs = features.pairs.transpose(1, 2, 0)[kept].astype(np.float16)
        blocks.append((features.cues[WINDOW:].astype(np.float16), pairs, features.starts[kept], features.near[kept]))
    cues, pairs, starts, near = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    before = np.zeros((WINDOW, len(CUES)), np.float16)
    return Examples(np.concatenate([before, cues]), np.flatnonzero(used) + WINDOW, pairs, starts, near, answers[used])


def _spoken_lines(log: AnnotatedLog) -> list[int]:
    return [line for line, message in enumerate(log.messages) if message.kind is not Kind.SYSTEM]


def rooms(logs: Iterable[AnnotatedLog], how: Fit) -> Iterator[AnnotatedLog]:
    """The logs, and what is made of them to fit the weights on."""
    for number, log in enumerate(logs):
        yield log
        if number % how.nameless_every == 0:
            yield nameless(log)
        for share in how.quiet_shares:
            if (less := quiet(log, share)).parents:
                yield nameless(less)


def nameless(log: AnnotatedLog) -> AnnotatedLog:
    """The log without the names that its texts begin with."""
    return replace(log, messages=[replace(message, text=_ADDRESS.sub("", message.text)) for message in log.messages])


def quiet(log: AnnotatedLog, share: float) -> AnnotatedLog:
    """The log with a share of its annotated threads, drawn by line, and nothing else; the lines are counted anew."""
    threads = [thread for thread in components(log.parents) if fraction("quiet", log.name, share, thread[0]) < share]
    kept = sorted(line for thread in threads for line in thread if log.messages[line].kind is not Kind.SYSTEM)
    place = {line: number for number, line in enumerate(kept)}
    parents = {
        place[line]: {place[parent] for parent in log.parents[line] if parent in place}
        for line in kept
        if line in log.parents
    }
    return replace(log, messages=[log.messages[line] for line in kept], parents=parents)


def fit(examples: Examples, how: Fit) -> Weights:
    """The weights, rounded as they are stored, that make the least of the mean of -log p(any of a message's answers)."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(how.seed)
    data = {name: torch.from_numpy(value) for name, value in vars(examples).items()}
    widths = {
        "asking": (len(CUES), how.hidden),
        "candidate": (len(CUES), how.hidden),
        "pair": (len(PAIRS), how.hidden),
        "bias": (how.hidden,),
        "out": (how.hidden,),
        "start": (len(CUES) + len(STARTS), how.start_hidden),
        "start_bias": (how.start_hidden,),
        "start_out": (how.start_hidden,),
        "start_offset": (1,),
    }
    scale = {name: 0.0 if name in ("bias", "start_bias", "start_offset") else 0.15 for name in widths}
    net = {name: (torch.randn(shape) * scale[name]).requires_grad_() for name, shape in widths.items()}
    optimizer = torch.optim.AdamW(net.values(), how.learning_rate, weight_decay=how.weight_decay)
    batches = len(examples.rows) // how.batch or 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, how.learning_rate, total_steps=how.epochs * batches)
    steps = torch.arange(1, WINDOW + 1)
    for epoch in range(how.epochs):
        total = 0.0
        for chosen in torch.randperm(len(examples.rows)).tensor_split(batches):
            rows = data["rows"][chosen]
            asking = data["cues"][rows].float()
            candidates = data["cues"][rows[:, None] - steps].float()
            hidden = (asking @ net["asking"] + net["bias"])[:, None] + candidates @ net["candidate"]
            hidden = torch.relu(hidden + data["pairs"][chosen].float() @ net["pair"])
            answered = (hidden @ net["out"]).masked_fill(~data["near"][chosen], -1e9)
            start = torch.relu(torch.hstack([asking, data["starts"][chosen]]) @ net["start"] + net["start_bias"])
            scores = torch.hstack([answered, (start @ net["start_out"] + net["start_offset"])[:, None]])
            right = scores.masked_fill(~data["answers"][chosen], -1e9)
            loss = (scores.logsumexp(1) - right.logsumexp(1)).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        logger.info("epoch %d of %d: loss %.4f", epoch + 1, how.epochs, total / batches)
    fitted = Weights(**{name: value.detach().numpy() for name, value in net.items()})
    reluctant = replace(fitted, start_offset=fitted.start_offset - np.float32(how.reluctance))
    return Weights.from_json(reluctant.as_json())


def guess_links(log: AnnotatedLog, weights: Weights | None = None) -> Links:
    """What :func:`disentangle` makes of a log, for its annotated lines; lines of the server are linked to nothing."""
    lines = _spoken_lines(log)
    line_of = {log.messages[line].id: line for line in lines}
    spoken: list[Message] = [log.messages[line] for line in lines]
    guessed = {
        line_of[message.id]: tuple(line_of[parent] for parent in message.parents)
        for thread in disentangle(spoken, weights)
        for message in thread
    }
    return {line: guessed.get(line, ()) for line in log.parents}


def link_scores(pairs: Iterable[tuple[Links, Links]]) -> LinkScores:
    """Precision, recall and F1 of links, over all (annotated, guessed) logs together.

    A link is a pair (line, line it answers); a line that answers nothing has one link, to itself. This is the measure of
    Kummerfeld et al. (2019, https://aclanthology.org/P19-1374) as their ``graph-eval.py`` takes it: every annotated line
    counts, those of servers and bots too, a line with two parents has two links, and parents may lie in the context.
    """
    annotated = guessed = right = 0
    for gold, guess in pairs:
        gold_links, guessed_links = _links(gold), _links(guess)
        annotated += len(gold_links)
        guessed += len(guessed_links)
        right += len(gold_links & guessed_links)
    precision, recall = (100 * right / total if total else 0.0 for total in (guessed, annotated))
    return LinkScores(precision, recall, 200 * right / (annotated + guessed) if annotated + guessed else 0.0)


def _links(links: Links) -> set[tuple[int, int]]:
    return {(line, parent) for line, parents in links.items() for parent in (parents or (line,))}


def fit_and_write(folder: Path, out: Path, how: Fit, **about: Any) -> LinkScores:
    """Fit on the train logs below ``folder``, score on dev, and write weights, scores and ``about`` as JSON.

    Raises:
        InputError: there are no train logs, or one is damaged.
    """
    examples = Examples.of(rooms(annotated_logs(folder, Split.TRAIN), how))
    logger.info("%d messages, %d features of a candidate", len(examples.rows), 2 * len(CUES) + len(PAIRS))
    weights = fit(examples, how)
    dev = link_scores((log.parents, guess_links(log, weights)) for log in annotated_logs(folder, Split.DEV))
    logger.info("dev links: precision %.1f, recall %.1f, F1 %.1f", dev.precision, dev.recall, dev.f1)
    told = about | {
        "fitted": datetime.now(UTC).date().isoformat(),
        "examples": len(examples.rows),
        "fit": asdict(how),
        "dev_links": {name: round(value, 2) for name, value in asdict(dev).items()},
        "weights": weights.as_json(),
    }
    line_by_line = json.dumps(told, separators=(",", ":")).replace('],"', '],\n"').replace('},"', '},\n"')
    write_text(out, line_by_line + "\n")
    logger.info("wrote %s", out)
    return dev


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where to write the weights (default: into the package)")
    out: Path = parser.parse_args().out
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    raw = fetch(load_catalog()[SOURCE], Layout.from_environment())
    fit_and_write(raw.folder, out, Fit(), source=SOURCE, revision=raw.revision, licence=raw.licence)


if __name__ == "__main__":
    main()
