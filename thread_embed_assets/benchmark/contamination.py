"""Whether a text that a checkpoint was trained on stands, whole or in part, among the texts it is scored on.

Two texts share a stretch where the same word 5-grams follow one another in about the same order. Words are compared after
NFKC and in lower case, without punctuation, labels and mentions; a line's end is a space like any other, so neither case nor
spacing nor the breaking of lines hides anything. Each Chinese character and each Japanese kana counts as a word; languages
written without spaces in other scripts are compared by what stands between their spaces.

What is long enough was set by looking at all that 151,000 train texts of five sources share with 10,000 held-out ones:

- ``RUN_WORDS`` = 12 words in a row, wherever they stand. Up to 11 words people say the same without having read it ("can you
  say more about what you're trying to do"): outside Topical-Chat there are 108 different longest runs of 8 words, 4 of 11,
  and from 12 on five, all of them error messages or program code. In Topical-Chat, from 12 on, these are the facts that the
  talkers were given to read, and long farewells.
- ``NEAR_WORDS`` = 15 words in stretches of 5 or more, in about the same order, that make up half of a message, of a window
  or of a whole text. So many are left of 24 words when one word in six is changed, wherever that falls; two stock phrases
  are fewer ("it was nice chatting with you" and "hope you have a good day": 12).
- A message of ``MESSAGE_WORDS`` = 8 words that is also a whole message there. Shorter ones recur in any chat;
  ``chat.near_copies`` tells nothing from fewer either.
"""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import blake2b
from itertools import islice, pairwise, tee
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thread_embed_assets.chat.formats import DEFAULT_FORMAT
from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.near_copies import (
    CONVERSATION_THRESHOLD,
    FEWEST_SHINGLES,
    NEAR_WORDS,
    RUN_WORDS,
    SHINGLE_WORDS,
    Hashes,
    HeldOutShingles,
    Places,
    batches,
    shingled,
)
from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs.schema import HARD_NEGATIVES_FOLDER
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle, open_table
from thread_embed_assets.training.checkpoint import MODEL_DETAILS, Checkpoint, open_checkpoint
from thread_embed_assets.verdict import Verdict

logger = logging.getLogger(__name__)

MESSAGE_WORDS = SHINGLE_WORDS + FEWEST_SHINGLES - 1
NEAR_SHARE = CONVERSATION_THRESHOLD

_SPLITS = (Split.TEST.value, Split.DEV.value)
_SHIFT = 18  # words put in or left out between two stretches of one copy
_APART = 36  # words from the start of one stretch to that of the next, beyond which they are not looked at together
_BATCH_CHARACTERS = 1 << 17
_PAIRS_AT_ONCE = 1 << 20
_MOST_LISTED = 10_000
_MOST_REPEATS = 32
_MINED = "mined"
_OF_WORDS = np.uint64(0xC2B2AE3D27D4EB4F)  # odd, about half of its bits set

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_OWN_WORD = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f])")


class Level(StrEnum):
    """How much of a held-out text stands in training: all of it, several messages in a row, or (a part of) one message.

    ``CONVERSATION``: its id is one that was trained on, whatever the text.
    """

    CONVERSATION = "conversation"
    DOCUMENT = "document"
    WINDOW = "window"
    MESSAGE = "message"


class Kind(StrEnum):
    """How it stands there.

    ``EXACT``: word for word, and as whole messages on both sides. ``QUOTED``: word for word, inside a longer message on one
    side, or a part of a message. ``NEAR``: half of its words or more, in about the same order.
    """

    EXACT = "exact"
    NEAR = "near"
    QUOTED = "quoted"


@dataclass(frozen=True, slots=True)
class Owner:
    """A query or document of a tasks file."""

    source: str
    task: str
    split: str
    id: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A held-out text in a training text.

    Attributes:
        held_out: the query or document; for a conversation its own id.
        checkpoints: ``mix/stage/fingerprint`` of all that were trained on that table.
        strategy, source: name the pair table.
        part: anchor, positive, negative or hard_negative of the pair; conversation_id or negative_conversation_id.
    """

    held_out: Owner
    level: Level
    kind: Kind
    checkpoints: tuple[str, ...]
    strategy: str
    source: str
    pair_id: str
    part: str

    def __str__(self) -> str:
        held_out = self.held_out
        return (
            f"{held_out.split} {held_out.id} ({held_out.source}, {held_out.task}), {self.level}, {self.kind}: "
            f"{self.part} of {self.pair_id} ({self.strategy}, {self.source}) in {', '.join(self.checkpoints)}"
        )


@dataclass
class Findings:
    """What was compared, and what was found.

    Attributes:
        hits: the first 10,000 of each split; ``counts`` has all by (split, level, kind).
        texts_hit: ids of the held-out texts with at least one hit, by split.
        unproved: why training texts could not be compared; each names the remedy.
    """

    checkpoints: int
    tables: int = 0
    training_texts: int = 0
    held_out_texts: Counter[str] = field(default_factory=Counter)
    hits: list[Hit] = field(default_factory=list)
    counts: Counter[tuple[str, Level, Kind]] = field(default_factory=Counter)
    texts_hit: dict[str, set[Owner]] = field(default_factory=lambda: {split: set() for split in _SPLITS})
    unproved: list[str] = field(default_factory=list)

    def add(self, hit: Hit) -> None:
        split = hit.held_out.split
        if self.found(split) < _MOST_LISTED:
            self.hits.append(hit)
        self.counts[split, hit.level, hit.kind] += 1
        self.texts_hit[split].add(hit.held_out)

    def found(self, split: str) -> int:
        """How many hits there are on a split."""
        return sum(count for (of, _, _), count in self.counts.items() if of == split)

    def verdict(self) -> Verdict:
        """Passed when no test text was found, all training texts could be compared, and there was something to compare."""
        found = {split: self.found(split) for split in _SPLITS}
        numbers: dict[str, int | float] = {
            "checkpoints": self.checkpoints,
            "pair_tables": self.tables,
            "training_texts": self.training_texts,
            **{f"{split}_texts": self.held_out_texts[split] for split in _SPLITS},
            **{f"{split}_hits": found[split] for split in _SPLITS},
            **{f"{split}_texts_hit": len(self.texts_hit[split]) for split in _SPLITS},
            **{f"{split}_{level}_{kind}": n for (split, level, kind), n in sorted(self.counts.items())},
            "unproved": len(self.unproved),
        }
        compared = (
            f"{self.held_out_texts[Split.TEST]} test and {self.held_out_texts[Split.DEV]} dev texts with "
            f"{self.training_texts} training texts of {self.checkpoints} checkpoints"
        )
        if self.unproved:
            more = f" (and {len(self.unproved) - 3} more)" if len(self.unproved) > 3 else ""
            return Verdict(False, f"not proved clean: {'; '.join(self.unproved[:3])}{more}", numbers)
        if not (self.checkpoints and self.training_texts and self.held_out_texts[Split.TEST]):
            return Verdict(False, f"there was nothing to compare: {compared}", numbers)
        on_dev = f"{found[Split.DEV]} times on dev" if found[Split.DEV] else "never on dev"
        if found[Split.TEST]:
            test = [str(hit) for hit in self.hits if hit.held_out.split == Split.TEST]
            texts_hit = len(self.texts_hit[Split.TEST])
            problem = f"{texts_hit} test texts stand in training texts, {found[Split.TEST]} times, and {on_dev}"
            remedy = "Build the pairs again without them and train again"
            return Verdict(False, f"{problem} ({compared}), such as {'; '.join(test[:3])}. {remedy}", numbers)
        return Verdict(True, f"no test text stands in a training text, {on_dev}: {compared}", numbers)


def contamination(tasks: Mapping[str, Path], checkpoints: Sequence[Checkpoint], layout: Layout) -> Verdict:
    """No test text stands in a text that any of the checkpoints was trained on, be it exact, nearly or quoted."""
    return examine(tasks, checkpoints, layout).verdict()


def examine(tasks: Mapping[str, Path], checkpoints: Sequence[Checkpoint], layout: Layout) -> Findings:
    """Compare all held-out texts with all train rows of the tables that the checkpoints were trained on.

    A row counts whether or not the checkpoint's sample drew it. An earlier stage that a checkpoint started from counts as
    the checkpoint itself. The held-out texts are in memory, at about 50 bytes a word; the tables stream by.

    Args:
        tasks: source to its tasks file.
        checkpoints: those that are scored.
        layout: where the pair tables are.
    """
    held_out, conversations = _held_out(tasks)
    findings = Findings(len(checkpoints), held_out_texts=Counter(owner.split for owner in held_out.owners))
    for table in _tables(checkpoints, layout, findings.unproved):
        findings.tables += 1
        _compare_table(table, held_out, conversations.get(table.source, {}), findings)
        logger.info("%s: %d training texts in all, hits %s", table.name, findings.training_texts, dict(findings.counts))
    return findings


@dataclass
class _Table:
    """A pair table or a table of hard negatives, and whose training it was part of."""

    strategy: str
    source: str
    handle: TableHandle
    parts: Mapping[str, str]  # column of text to its name in a hit
    where: str
    checkpoints: list[str]

    @property
    def name(self) -> str:
        return f"{self.handle.table} {self.strategy} of {self.source}"


def not_here(checkpoints: Sequence[Checkpoint], layout: Layout) -> list[str]:
    """Why training texts of the checkpoints cannot be compared on this machine; empty where all their tables are there."""
    found: list[str] = []
    _tables(checkpoints, layout, found)
    return found


def _tables(checkpoints: Sequence[Checkpoint], layout: Layout, unproved: list[str]) -> list[_Table]:
    """Each table once; what cannot be opened or is no longer what was trained on is added to ``unproved``."""
    found: dict[tuple[str, str, str], _Table] = {}
    for checkpoint in checkpoints:
        name = _name(checkpoint)
        for stage in lineage(checkpoint, layout, unproved):
            negatives = {(str(d["strategy"]), str(d["source"])): d["hard_negatives"] for d in stage.manifest["data"]}
            mined = stage.manifest.get("config", {}).get("hard_negatives") == "mined"
            of_negatives = f"{_MINED} {stage.manifest['mix']}" if mined else "hard_negatives"
            for given in stage.manifest["inputs"]:
                strategy, source = str(given["strategy"]), str(given["source"])
                if not given["rows_used"]:
                    continue
                wanted = [("pairs", str(given["fingerprint"]))]
                if negatives.get((strategy, source)):
                    wanted.append((of_negatives, str(negatives[strategy, source])))
                for kind, fingerprint in wanted:
                    table = found.get((kind, strategy, source)) or _open(kind, strategy, source, layout)
                    if isinstance(table, str):
                        unproved.append(f"{name}: {table}")
                    elif table.handle.fingerprint != fingerprint:
                        unproved.append(
                            f"{name}: {table.name} ({table.handle.path}) is not the table it was trained on "
                            f"({table.handle.fingerprint}, not {fingerprint}). Train it again"
                        )
                    else:
                        found.setdefault((kind, strategy, source), table)
                        if name not in table.checkpoints:
                            table.checkpoints.append(name)
    return list(found.values())


def _open(kind: str, strategy: str, source: str, layout: Layout) -> _Table | str:
    """The table of a kind: ``pairs``, ``hard_negatives``, or ``mined`` and the mix it was mined for."""
    kind, _, mix = kind.partition(" ")
    if mix:
        path = layout.mined_negatives(mix)
    else:
        path = layout.pairs(strategy if kind == "pairs" else HARD_NEGATIVES_FOLDER, source)
    try:
        handle = open_table(path, "pairs" if kind == "pairs" else "hard_negatives")
    except InputError as error:
        return f"{kind} {strategy} of {source}: {error}. Then train it again"
    if kind == "pairs":
        parts = {name: name for name in ("anchor", "positive", "negative")}
        return _Table(strategy, source, handle, parts, f"split = '{Split.TRAIN}'", [])
    where = f"strategy = '{strategy}' AND source = '{source}'"
    return _Table(strategy, source, handle, {"negative": "hard_negative"}, where, [])


def lineage(checkpoint: Checkpoint, layout: Layout, unproved: list[str]) -> Iterator[Checkpoint]:
    """The checkpoint, the one it started from, and so on to a base model that is not ours.

    A manifest may carry those of the stages before it as ``earlier``, last first, as a released model's does. A stage whose
    manifest is nowhere is added to ``unproved``.
    """
    stage: Checkpoint | None = checkpoint
    while stage is not None:
        yield stage
        if "earlier" in stage.manifest:
            for manifest in stage.manifest["earlier"]:
                yield Checkpoint(stage.folder, str(manifest["fingerprint"]), manifest)
            return
        base = str(stage.manifest["base_model"]["id"])
        named = base.split("/") if stage.manifest.get("parent") else _named_in(Path(base))
        if not named:
            return
        earlier = open_checkpoint(Path(base).parent) or open_checkpoint(layout.checkpoints(*named[:2]) / named[2])
        if earlier is None:
            unproved.append(f"{_name(stage)}: its base {base} has no manifest. Train the earlier stage again, then this one")
        stage = earlier


def _named_in(folder: Path) -> list[str]:
    """Mix, stage and fingerprint that a stage's model names beside its weights; nothing for other models."""
    details = folder / MODEL_DETAILS
    if not details.exists():
        return []
    told = json.loads(details.read_text(encoding="utf-8"))
    return [str(told.get(key, "")) for key in ("mix", "stage", "fingerprint")]


def _name(checkpoint: Checkpoint) -> str:
    return f"{checkpoint.manifest['mix']}/{checkpoint.manifest['stage']}/{checkpoint.fingerprint}"


@dataclass(frozen=True)
class _Texts:
    """Several texts, one after the other: their words by number, and where 5-grams, lines and texts are.

    Attributes:
        hashes, places: of each 5-gram that lies in one text, its hash and its first word.
        lines: number of the first word of each line that has words, and the number of words in the end.
        ends: where each text ends.
    """

    hashes: Hashes
    places: Places
    lines: Places
    ends: Places

    def text_of(self, places: Places) -> Places:
        return self.ends.searchsorted(places, side="right")

    def bounds(self, text: int) -> Places:
        """Where the lines of a text start, and where it ends."""
        start, end = int(self.ends[text - 1]) if text else 0, int(self.ends[text])
        return self.lines[self.lines.searchsorted(start) : self.lines.searchsorted(end, side="right")]


def _texts(texts: Iterable[str]) -> _Texts:
    of_each = [_normalised(text).split("\n") for text in texts]
    hashed = shingled([line for lines in of_each for line in lines])
    words, line_ends = hashed.words, hashed.word_ends
    ends = line_ends[np.cumsum([len(lines) for lines in of_each]) - 1]
    count = max(0, len(words) - SHINGLE_WORDS + 1)
    hashes = words[:count].copy()
    for later in range(1, SHINGLE_WORDS):
        hashes *= _OF_WORDS
        hashes += words[later : later + count]
    in_one_text = np.ones(len(words), dtype=np.bool_)
    for before in range(1, SHINGLE_WORDS):
        in_one_text[ends[ends >= before] - before] = False
    places = in_one_text[:count].nonzero()[0]
    places = places[_not_repeated(hashes[places], ends.searchsorted(places, side="right"))]
    return _Texts(hashes[places], places, np.unique(np.append(line_ends, 0)), ends)


def _normalised(text: str) -> str:
    if text.isascii():
        return text
    return _OWN_WORD.sub(r" \1 ", _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))).casefold()


@dataclass
class _HeldOut:
    """All queries and documents, each distinct text once."""

    owners: list[Owner]
    owners_of: list[list[int]]  # by text
    texts: _Texts  # its 5-grams in the order of their hashes
    known: HeldOutShingles


Conversations = dict[str, dict[str, str]]
"""Source to the ids of its held-out conversations, each with its split."""


def _held_out(tasks: Mapping[str, Path]) -> tuple[_HeldOut, Conversations]:
    owners: list[Owner] = []
    owners_of: list[list[int]] = []
    conversations: Conversations = {}
    numbers: dict[bytes, int] = {}

    def distinct() -> Iterator[str]:
        for conversation, owner, texts in _rows(tasks):
            conversations.setdefault(owner.source, {})[conversation] = owner.split
            for text in texts:
                digest = blake2b(text.encode(), digest_size=16).digest()
                number = numbers.setdefault(digest, len(numbers))
                if number == len(owners_of):
                    owners_of.append([])
                    yield text
                owners_of[number].append(len(owners))
            owners.append(owner)

    texts = _by_hash(_joined([_texts(batch) for batch in batches(distinct(), _BATCH_CHARACTERS)]))
    known = HeldOutShingles()
    known.add_hashes(texts.hashes)
    return _HeldOut(owners, owners_of, texts, known), conversations


def _rows(tasks: Mapping[str, Path]) -> Iterator[tuple[str, Owner, list[str]]]:
    """(conversation id, query or document, its text and its paraphrase if it has one)."""
    for source, path in tasks.items():
        for table, key in (("queries", "query_id"), ("corpus", "doc_id")):
            handle = open_table(path, table)
            texts_of = [name for name in (f"text_{DEFAULT_FORMAT}", "paraphrase") if name in handle.schema.names]
            for batch in handle.scan(["conversation_id", "task", "split", key, *texts_of]):
                for conversation, task, split, name, *texts in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                    yield conversation, Owner(source, task, split, name), [text for text in texts if text]


def _by_hash(texts: _Texts) -> _Texts:
    order = texts.hashes.argsort(kind="stable")
    return replace(texts, hashes=texts.hashes[order], places=texts.places[order])


def _joined(parts: Sequence[_Texts]) -> _Texts:
    """The texts of all parts, one after the other."""
    start = 0
    moved = [_Texts(np.empty(0, np.uint64), *(np.empty(0, np.int64) for _ in range(3)))]
    for part in parts:
        moved.append(_Texts(part.hashes, part.places + start, part.lines + start, part.ends + start))
        start += int(part.lines[-1])
    hashes = np.concatenate([part.hashes for part in moved])
    places, lines, ends = (np.concatenate(of) for of in zip(*((p.places, p.lines, p.ends) for p in moved), strict=True))
    return _Texts(hashes, places, np.unique(lines), ends)


def _compare_table(table: _Table, held_out: _HeldOut, conversations: Mapping[str, str], findings: Findings) -> None:
    checkpoints = tuple(sorted(table.checkpoints))

    def add(owner: Owner, level: Level, kind: Kind, pair_id: str, part: str) -> None:
        findings.add(Hit(owner, level, kind, checkpoints, table.strategy, table.source, pair_id, part))

    for pair_id, part, conversation in _conversations(table):
        if conversation in conversations:
            owner = Owner(table.source, "all tasks", conversations[conversation], conversation)
            add(owner, Level.CONVERSATION, Kind.EXACT, pair_id, part)
    named, texts = tee(_training_texts(table))
    for batch in batches((text for _, _, text in texts), _BATCH_CHARACTERS):
        names = list(islice(named, len(batch)))
        for here, there, level, kind in _matches(_texts(batch), held_out):
            for number in held_out.owners_of[there]:
                add(held_out.owners[number], level, kind, *names[here][:2])
        findings.training_texts += len(batch)


def _training_texts(table: _Table) -> Iterator[tuple[str, str, str]]:
    """(pair id, part, text) of all texts of the table."""
    for batch in table.handle.scan(["pair_id", *table.parts], table.where):
        pair_ids, *texts = (column.to_pylist() for column in batch.columns)
        for part, of_part in zip(table.parts.values(), texts, strict=True):
            yield from ((pair_id, part, text) for pair_id, text in zip(pair_ids, of_part, strict=True) if text)


def _conversations(table: _Table) -> Iterator[tuple[str, str, str]]:
    """(pair id, column, conversation id) of all rows of the table."""
    parts = ("conversation_id", "negative_conversation_id")
    for batch in table.handle.scan(["pair_id", *parts], table.where):
        pair_ids, *ids = (column.to_pylist() for column in batch.columns)
        for part, of_part in zip(parts, ids, strict=True):
            yield from ((pair_id, part, name) for pair_id, name in zip(pair_ids, of_part, strict=True) if name)


def _matches(texts: _Texts, held_out: _HeldOut) -> Iterator[tuple[int, int, Level, Kind]]:
    """(number of the text, number of the held-out text, level, kind) of all that share enough."""
    known = held_out.texts
    shared = held_out.known.found(texts.hashes).nonzero()[0]
    shared = shared[_dense(texts.places[shared])]
    first = known.hashes.searchsorted(texts.hashes[shared])
    counts = known.hashes.searchsorted(texts.hashes[shared], side="right") - first
    places = texts.places[shared]
    text = texts.text_of(places)
    before = counts.cumsum() - counts
    starts = np.flatnonzero(np.diff(text, prepend=-1))
    chunk = np.repeat(before[starts] // _PAIRS_AT_ONCE, np.diff(np.append(starts, len(text))))
    for number in np.unique(chunk):
        chosen = chunk == number
        times = counts[chosen]
        here = places[chosen].repeat(times)
        within = np.arange(len(here)) - (times.cumsum() - times).repeat(times)
        there = known.places[first[chosen].repeat(times) + within]
        yield from _judged(_runs(here, there, texts, known), texts, known)


def _dense(places: Places) -> NDArray[np.bool_]:
    """Which of the 5-grams stand where ``MESSAGE_WORDS`` words or more are shared, in stretches at most ``_APART`` apart."""
    if not len(places):
        return np.zeros(0, dtype=np.bool_)
    gaps = np.diff(places)
    group = np.cumsum(np.append(0, gaps > _APART))
    covered = np.append(np.minimum(gaps, SHINGLE_WORDS), SHINGLE_WORDS)
    dense: NDArray[np.bool_] = (np.bincount(group, covered) >= MESSAGE_WORDS)[group]
    return dense


@dataclass(frozen=True)
class _Runs:
    """Runs of words that two texts share: first word here, first word there, number of words."""

    text: Places
    known: Places
    here: Places
    there: Places
    words: Places


def _runs(here: Places, there: Places, texts: _Texts, known: _Texts) -> _Runs:
    """The longest runs, ordered by text, held-out text and the distance between ``there`` and ``here``."""
    text, of = texts.text_of(here), known.text_of(there)
    order = np.lexsort((here, there - here, of, text))
    text, of, here, there = text[order], of[order], here[order], there[order]
    starts = np.ones(len(here), dtype=np.bool_)
    starts[1:] = (np.diff(here) != 1) | (np.diff(there) != 1) | (np.diff(text) != 0) | (np.diff(of) != 0)
    at = starts.nonzero()[0]
    words = np.diff(np.append(at, len(here))) + SHINGLE_WORDS - 1
    return _Runs(text[at], of[at], here[at], there[at], words)


def _judged(runs: _Runs, texts: _Texts, known: _Texts) -> Iterator[tuple[int, int, Level, Kind]]:
    if not len(runs.words):
        return
    new_pair = np.append(True, (np.diff(runs.text) != 0) | (np.diff(runs.known) != 0))
    starts = new_pair.nonzero()[0]
    shifts = runs.there - runs.here
    together = np.append(False, (np.diff(shifts) <= _SHIFT) & ~new_pair[1:])
    longest = np.maximum.reduceat(runs.words, starts)
    several = np.logical_or.reduceat(together, starts)
    enough = np.add.reduceat(runs.words, starts) >= NEAR_WORDS
    ends = np.append(starts[1:], len(runs.words))
    for group in ((longest >= MESSAGE_WORDS) | (several & enough)).nonzero()[0]:
        chosen = slice(starts[group], ends[group])
        here, there, words = runs.here[chosen], runs.there[chosen], runs.words[chosen]
        number, of = int(runs.text[chosen.start]), int(runs.known[chosen.start])
        verdict = _judge(here, there, words, texts.bounds(number), known.bounds(of))
        if verdict is not None:
            yield number, of, *verdict


def _judge(here: Places, there: Places, words: Places, text: Places, known: Places) -> tuple[Level, Kind] | None:
    """What the runs that a text shares with a held-out one amount to; None if they are too short.

    Args:
        here, there, words: the runs.
        text, known: bounds of the lines of either.
    """
    copied = any(
        last - first >= MESSAGE_WORDS and _verbatim(first, last, here, there, words, text) is Kind.EXACT
        for first, last in pairwise(known.tolist())
    )
    quoted = bool(words.max() >= RUN_WORDS)
    here, there, words = _in_order(here, there, words)
    covered = _covered(there, words, known)
    unit = _widest(covered, known, NEAR_WORDS)
    whole_text = words.sum() >= max(NEAR_WORDS, NEAR_SHARE * (text[-1] - text[0]))
    if not (copied or quoted or unit or whole_text):
        return None
    unit = unit or _widest(covered, known, 1)
    if unit is None:
        return Level.MESSAGE, Kind.QUOTED
    first, last = unit
    lines = int(((known >= first) & (known < last)).sum())
    level = Level.MESSAGE if lines == 1 else Level.DOCUMENT if unit == (known[0], known[-1]) else Level.WINDOW
    return level, _verbatim(first, last, here, there, words, text) or Kind.NEAR


def _in_order(here: Places, there: Places, words: Places) -> tuple[Places, Places, Places]:
    """Those runs of a pair that no other overlaps on either side, the longer first, about as far apart here as there."""
    shifts = there - here
    alike = np.abs(shifts[:, None] - shifts[None, :]) <= _SHIFT
    chosen: list[int] = []
    for run in sorted(alike[(alike * words).sum(axis=1).argmax()].nonzero()[0].tolist(), key=lambda run: -words[run]):
        apart = (
            (np.abs(2 * (side[chosen] - side[run]) + words[chosen] - words[run]) >= words[chosen] + words[run]).all()
            for side in (here, there)
        )
        if all(apart):
            chosen.append(run)
    return here[chosen], there[chosen], words[chosen]


def _verbatim(first: int, last: int, here: Places, there: Places, words: Places, text: Places) -> Kind | None:
    """How the held-out words from ``first`` to ``last``, or else the whole text, stand on the other side word for word."""
    within = np.flatnonzero((there <= first) & (there + words >= last))
    for run in within:
        start = here[run] + first - there[run]
        if start in text and start + last - first in text:
            return Kind.EXACT
    if len(within) or ((here <= text[0]) & (here + words >= text[-1])).any():
        return Kind.QUOTED
    return None


def _covered(starts: Places, words: Places, bounds: Places) -> Places:
    """How many words the runs cover up to each of the bounds."""
    open_runs = np.zeros(bounds[-1] - bounds[0] + 1, dtype=np.int64)
    np.add.at(open_runs, starts - bounds[0], 1)
    np.subtract.at(open_runs, starts + words - bounds[0], 1)
    covered: Places = np.append(0, (open_runs.cumsum() > 0).cumsum())[bounds - bounds[0]]
    return covered


def _widest(covered: Places, bounds: Places, fewest: int) -> tuple[int, int] | None:
    """The longest window of lines with at least ``fewest`` words covered and ``NEAR_SHARE`` of its words, as of the words of
    its first and its last line; its first word and its end."""
    good = np.flatnonzero(np.diff(covered) >= NEAR_SHARE * np.diff(bounds))
    words = bounds[good + 1][None, :] - bounds[good][:, None]
    shared = covered[good + 1][None, :] - covered[good][:, None]
    fitting = np.where((words > 0) & (shared >= np.maximum(fewest, NEAR_SHARE * words)), words, 0)
    if not fitting.any():
        return None
    start, end = np.unravel_index(fitting.argmax(), fitting.shape)
    return int(bounds[good[start]]), int(bounds[good[end] + 1])


def _not_repeated(hashes: Hashes, texts: Places) -> NDArray[np.bool_]:
    """Which of some 5-grams to keep: of one that stands again and again in a text, the first ``_MOST_REPEATS``."""
    order = np.lexsort((hashes, texts))
    starts = np.append(True, (np.diff(hashes[order]) != 0) | (np.diff(texts[order]) != 0))[: len(order)].nonzero()[0]
    counts = np.diff(np.append(starts, len(order)))
    kept = np.empty(len(order), dtype=np.bool_)
    kept[order] = np.arange(len(order)) - starts.repeat(counts) < _MOST_REPEATS
    return kept
