"""Whether a text that a checkpoint was trained on stands, whole or in part, among the texts it is scored on.

What counts as standing there is in :mod:`.shared_stretches`.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice, tee
from pathlib import Path

from thread_embed_assets.benchmark.shared_stretches import Kind, Level, StretchIndex, matches, shingled_texts
from thread_embed_assets.chat.formats import DEFAULT_FORMAT
from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.near_copies import batches
from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs.schema import HARD_NEGATIVES_FOLDER
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle, open_table
from thread_embed_assets.training.checkpoint import MODEL_DETAILS, Checkpoint, open_checkpoint
from thread_embed_assets.verdict import Verdict

logger = logging.getLogger(__name__)


_SPLITS = (Split.TEST.value, Split.DEV.value)
_BATCH_CHARACTERS = 1 << 17
_MOST_LISTED = 10_000
_MINED = "mined"


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


@dataclass
class _HeldOut:
    """All queries and documents, each distinct text once."""

    owners: list[Owner]
    owners_of: list[list[int]]  # by text
    index: StretchIndex


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

    index = StretchIndex.of(batches(distinct(), _BATCH_CHARACTERS))
    return _HeldOut(owners, owners_of, index), conversations


def _rows(tasks: Mapping[str, Path]) -> Iterator[tuple[str, Owner, list[str]]]:
    """(conversation id, query or document, its text and its paraphrase if it has one)."""
    for source, path in tasks.items():
        for table, key in (("queries", "query_id"), ("corpus", "doc_id")):
            handle = open_table(path, table)
            texts_of = [name for name in (f"text_{DEFAULT_FORMAT}", "paraphrase") if name in handle.schema.names]
            for batch in handle.scan(["conversation_id", "task", "split", key, *texts_of]):
                for conversation, task, split, name, *texts in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                    yield conversation, Owner(source, task, split, name), [text for text in texts if text]


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
        for here, there, level, kind in matches(shingled_texts(batch), held_out.index):
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
