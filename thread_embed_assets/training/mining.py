"""Hard negatives that a model itself takes for positives: what stage 3 learns from.

For each train anchor, the texts that the stage 2 model puts nearest to it, of those that may be negatives at all. Chat is
full of true answers that nobody marked as such, so a text is rejected, in this order,

1. if it stands in several conversations (it is no candidate for anybody),
2. if it comes from the anchor's own conversation,
3. if its conversation went on in the same channel at the same time or within some minutes: guessed threads get torn there,
4. if the model puts it closer to the anchor than a share of what it gives the true positive: the positive-aware margin of
   NV-Retriever (TopK-PercPos, arXiv 2407.15831),
5. if it is a near-copy of the anchor or of the positive, or one holds the other,
6. if a nearer text of its conversation was kept.

Candidates are positives of the same strategy and source: of another strategy they would differ in length and kind, and a
model learns to tell that. ``sentence_transformers.util.mine_hard_negatives`` has the margin (4), but no rule by
conversation, time or near-copy; dropping those afterwards leaves anchors without negatives, since the nearest texts are the
ones dropped.

These are negatives across batches: whatever batch an anchor is in, it meets the worst of the whole sample. Within a batch
every other pair's positive and negatives count as negatives, too, gathered over the devices by the trainer.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from thread_embed_assets.chat.near_copies import overlap, word_set
from thread_embed_assets.pairs.build import NEAR_COPY_SIMILARITY
from thread_embed_assets.pairs.schema import HARD_NEGATIVES
from thread_embed_assets.storage.columns import described
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.tables import TableHandle, TableWriter, connect_read_only, open_table, write_tables
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.data import PairInput, quotas, sampled_rows

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

MINED = "mined"
AUDIT = described(
    [
        ("pair_id", pa.string(), "the pair that was mined for"),
        ("strategy", pa.string(), "the pair's strategy"),
        ("source", pa.string(), "the pair's source"),
        ("anchor", pa.string(), "the pair's anchor"),
        ("positive", pa.string(), "the pair's positive"),
        ("negative", pa.string(), "the nearest of those kept"),
        ("positive_score", pa.float32(), "cosine with the anchor, in [-1, 1]"),
        ("negative_score", pa.float32(), "cosine with the anchor, in [-1, 1]"),
    ]
)
# Texts among which negatives are looked for, over all strategies and sources: as many as the machine of a profile embeds in
# minutes. The anchors are the very pairs that stage 3 trains on.
MOST_DOCUMENTS: Mapping[str, int] = {"quick": 6_000, "hours": 20_000, "standard": 500_000, "full": 2_000_000}

_BLOCK_SCORES = 2**24  # of anchors x texts at once
_EMBEDDED = 4_096  # anchors at once
_LOG_EVERY = 20_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MiningOptions:
    """What is mined for each anchor.

    Attributes:
        per_anchor: negatives kept, at most one of a conversation.
        most_documents: texts looked among; of more, a seeded uniform sample that holds the anchors' own positives.
        most_anchors: anchors mined for where the stage trains on all pairs.
        relative_margin: a negative's similarity is at most this share of the positive's.
        minutes: how far apart two conversations of a channel have to be.
        retrieved: nearest texts looked at for near-copies.
        audited: examples kept for people to look at.
    """

    per_anchor: int = 4
    most_documents: int = 500_000
    most_anchors: int = 1_000_000
    relative_margin: float = 0.95
    minutes: float = 30.0
    retrieved: int = 32
    audited: int = 100


def mine_with_model(
    model: SentenceTransformer,
    config: StageConfig,
    inputs: Sequence[PairInput],
    conversations: Mapping[str, TableHandle],
    options: MiningOptions,
    mix: str,
    path: Path,
) -> TableHandle:
    """Write the ``hard_negatives`` table (kind ``mined``) of a mix, and beside it the table ``audit``.

    Args:
        model: of the stage before; on the device where it shall run.
        config: the stage that will train on the negatives: its strategies, weights, seed and cap say which pairs are mined.
        inputs: the pair tables of the mix.
        conversations: the ``conversations`` tables by source, for the times; without one, rule 3 rejects nothing.
        mix: names the place in errors.

    Raises:
        InputError: there is nothing to mine from, as :func:`training.data.quotas` says it.
    """
    used = sorted((i for i in inputs if i.strategy in config.strategies), key=lambda i: i.name)
    most = options.most_anchors if config.max_pairs is None else min(config.max_pairs, options.most_anchors)
    anchors = quotas(config, used, mix, most).taken
    documents = quotas(config, used, mix, max(most, options.most_documents)).taken
    audit: list[tuple[int, tuple[Any, ...]]] = []
    with write_tables(path, {"hard_negatives": HARD_NEGATIVES, "audit": AUDIT}) as writer:
        for given in used:
            if anchors.get(given.name):
                numbers = anchors[given.name], documents[given.name]
                found = _read(given, inputs, conversations.get(given.source), *numbers, config.seed)
                examples = _mine(model, given, found, options, writer)
                audit = nsmallest(options.audited, (*audit, *examples))
        writer.add_all("audit", (row for _, row in audit))
    return open_table(path, "hard_negatives")


@dataclass(frozen=True, slots=True)
class _Text:
    """A text and where it stands.

    Attributes:
        span: when its conversation began and ended, in whole seconds; None where no times are known.
    """

    text: str
    conversation: str
    channel: str
    span: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class _Anchor:
    pair_id: str
    positive: str
    place: _Text


@dataclass(frozen=True)
class _Found:
    anchors: list[_Anchor]
    documents: list[_Text]
    shared: int  # texts left out because they stand in several conversations


def _read(
    given: PairInput,
    inputs: Sequence[PairInput],
    conversations: TableHandle | None,
    anchors: int,
    documents: int,
    chosen_seed: int,
) -> _Found:
    """Sampled anchors and documents of one input; a text in several conversations of its source is no document."""
    tables = [i.pairs for i in inputs if i.source == given.source]
    with connect_read_only([*tables, *([conversations] if conversations else [])]) as connection:
        everything = f'"{given.pairs.table}"'
        connection.execute(f"CREATE VIEW own AS SELECT * FROM {everything} WHERE strategy = '{given.strategy}'")
        times = "c.started_at, c.ended_at" if conversations else "NULL::TIMESTAMP, NULL::TIMESTAMP"
        join = f'LEFT JOIN "{conversations.table}" c USING (conversation_id)' if conversations else ""
        place = "p.conversation_id, p.channel"
        spans = ", ".join(f"epoch({time})::BIGINT" for time in times.split(", "))
        chosen = sampled_rows(connection, "own", "train", documents, chosen_seed)
        shared = f"""
            SELECT md5_number_lower(positive) FROM {everything} WHERE split = 'train'
            GROUP BY 1 HAVING min(conversation_id) <> max(conversation_id)"""
        once = f"""
            SELECT positive, min(conversation_id) AS conversation_id, min(channel) AS channel FROM ({chosen})
            WHERE md5_number_lower(positive) NOT IN ({shared}) GROUP BY positive"""
        texts = connection.execute(f"SELECT positive, {place}, {spans} FROM ({once}) p {join} ORDER BY 2, 1").fetchall()
        [(left_out,)] = connection.execute(
            f"SELECT count(DISTINCT positive) FROM ({chosen}) WHERE md5_number_lower(positive) IN ({shared})"
        ).fetchall()
        chosen = sampled_rows(connection, "own", "train", anchors, chosen_seed)
        rows = connection.execute(
            f"SELECT pair_id, positive, anchor, {place}, {spans} FROM ({chosen}) p {join} ORDER BY pair_id"
        ).fetchall()
    return _Found(
        [_Anchor(pair_id, positive, _text(*row)) for pair_id, positive, *row in rows],
        [_text(*row) for row in texts],
        int(left_out),
    )


def _text(text: str, conversation: str, channel: str, start: int | None, end: int | None) -> _Text:
    return _Text(text, conversation, channel, None if start is None or end is None else (start, end))


def _mine(
    model: SentenceTransformer, given: PairInput, found: _Found, options: MiningOptions, writer: TableWriter
) -> list[tuple[int, tuple[Any, ...]]]:
    """Write the negatives of one strategy and source; returns its examples for the audit, each after its sampling key."""
    counts = Counter(
        anchors=len(found.anchors), documents=len(found.documents), left_out_in_several_conversations=found.shared
    )
    examples: list[tuple[int, tuple[Any, ...]]] = []
    used: set[str] = set()
    for anchor, positive_score, negatives in _nearest(model, found, options, counts):
        head = (anchor.pair_id, given.strategy, given.source, anchor.place.conversation, MINED)
        for rank, (document, score) in enumerate(negatives, 1):
            writer.add("hard_negatives", (*head, rank, score, document.text, document.conversation))
            used.add(document.text)
        counts["negatives"] += len(negatives)
        counts["anchors_short"] += len(negatives) < options.per_anchor
        counts["anchors_without"] += not negatives
        if negatives:
            nearest, score = negatives[0]
            texts = (anchor.place.text, anchor.positive, nearest.text)
            key = seed("audit", given.strategy, given.source, anchor.pair_id)
            examples.append((key, (*head[:3], *texts, positive_score, score)))
            if len(examples) > 2 * options.audited:
                examples = nsmallest(options.audited, examples)
    counts["different_negatives"] = len(used)
    for name, count in counts.items():
        writer.count(name, count)
        writer.count(f"{given.strategy}_{name}", count)
    logger.info("mined negatives of %s: %s", given.name, dict(counts))
    return examples


def _nearest(
    model: SentenceTransformer, found: _Found, options: MiningOptions, counts: Counter[str]
) -> Iterator[tuple[_Anchor, float, list[tuple[_Text, float]]]]:
    """Each anchor, its positive's similarity, and the negatives with theirs, hardest first."""
    anchors, documents = found.anchors, found.documents
    if not anchors or not documents:
        return
    embedded = _embed(model, [document.text for document in documents])
    codes = _Codes()
    texts = _places(documents, codes, embedded.device)
    done = 0
    for some, queries, positives in _embedded(model, anchors, max(1, _BLOCK_SCORES // len(documents))):
        own = (queries * positives).sum(dim=1)
        places = _places([a.place for a in some], codes, embedded.device)
        scored = _Block(queries @ embedded.T, own, places, texts, options)
        kept = [
            _choose(anchor, candidates, documents, options, counts)
            for anchor, candidates in zip(some, scored.candidates(), strict=True)
        ]
        scored.count([hits[-1][1] if len(hits) == options.per_anchor else None for hits in kept], counts)
        yield from zip(some, own.tolist(), ([(documents[i], score) for i, score in hits] for hits in kept), strict=True)
        done += len(some)
        if done // _LOG_EVERY > (done - len(some)) // _LOG_EVERY:
            logger.info("%d of %d anchors mined", done, len(anchors))


def _embedded(
    model: SentenceTransformer, anchors: Sequence[_Anchor], block: int
) -> Iterator[tuple[Sequence[_Anchor], torch.Tensor, torch.Tensor]]:
    """Anchors, at most ``block`` of them at a time, with their own vectors and those of their positives."""
    for start in range(0, len(anchors), _EMBEDDED):
        some = anchors[start : start + _EMBEDDED]
        queries, positives = _embed(model, [a.place.text for a in some]), _embed(model, [a.positive for a in some])
        for first in range(0, len(some), block):
            part = slice(first, first + block)
            yield some[part], queries[part], positives[part]


def _choose(
    anchor: _Anchor,
    candidates: Iterable[tuple[int, float]],
    documents: Sequence[_Text],
    options: MiningOptions,
    counts: Counter[str],
) -> list[tuple[int, float]]:
    """Numbers and scores of the documents kept, in the order of the candidates."""
    kept: list[tuple[int, float]] = []
    conversations: set[str] = set()
    for number, score in candidates:
        document = documents[number]
        if _near_copy(document.text, anchor.place.text) or _near_copy(document.text, anchor.positive):
            counts["rejected_near_copy"] += 1
        elif document.conversation in conversations:
            counts["rejected_second_of_a_conversation"] += 1
        else:
            conversations.add(document.conversation)
            kept.append((number, score))
            if len(kept) == options.per_anchor:
                break
    return kept


def _near_copy(one: str, other: str) -> bool:
    return one in other or other in one or overlap(_words(one), _words(other)) >= NEAR_COPY_SIMILARITY


_words = lru_cache(maxsize=100_000)(word_set)


def _embed(model: SentenceTransformer, texts: Sequence[str]) -> torch.Tensor:
    """Unit vectors, (texts, dimensions), on the model's device."""
    embedded: torch.Tensor = model.encode(
        list(texts), batch_size=64, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False
    )
    return embedded.float()


class _Codes(dict[str, int]):
    """Numbers for names, the same for the same name."""

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]


@dataclass(frozen=True)
class _Places:
    """Of several texts, each (texts,): conversation and channel as numbers, and when the conversation began and ended."""

    conversations: torch.Tensor
    channels: torch.Tensor
    starts: torch.Tensor
    ends: torch.Tensor


_NEVER = 2**60  # seconds


def _places(texts: Sequence[_Text], codes: _Codes, device: torch.device) -> _Places:
    """A text without times gets a span that is near to no other."""
    import torch

    spans = [text.span or (_NEVER, -_NEVER) for text in texts]
    columns = (
        [codes[f"conversation {text.conversation}"] for text in texts],
        [codes[f"channel {text.channel}"] for text in texts],
        [start for start, _ in spans],
        [end for _, end in spans],
    )
    return _Places(*(torch.tensor(column, dtype=torch.int64, device=device) for column in columns))


class _Block:
    """Some anchors against all documents: (anchors, documents) similarities, and which documents each rule rejects."""

    def __init__(
        self, scores: torch.Tensor, own: torch.Tensor, anchors: _Places, documents: _Places, options: MiningOptions
    ) -> None:
        import torch

        seconds = int(options.minutes * 60)
        starts, ends = anchors.starts[:, None] - seconds, anchors.ends[:, None] + seconds
        limit = own - (1 - options.relative_margin) * own.abs()  # below the positive's even where that is negative
        same = documents.conversations == anchors.conversations[:, None]
        near = (documents.channels == anchors.channels[:, None]) & (documents.starts < ends) & (documents.ends > starts)
        close = scores > limit[:, None]
        self._scores = scores
        self._rejected = {
            "rejected_same_conversation": same,
            "rejected_near_in_time": near & ~same,
            "rejected_too_close_to_the_positive": close & ~near & ~same,
        }
        self._best = torch.where(same | near | close, -torch.inf, scores).topk(min(options.retrieved, scores.shape[1]))

    def candidates(self) -> Iterator[list[tuple[int, float]]]:
        """For each anchor the numbers and scores of the nearest documents that no rule rejects, nearest first."""
        for scores, numbers in zip(self._best.values.tolist(), self._best.indices.tolist(), strict=True):
            found = [(number, score) for number, score in zip(numbers, scores, strict=True) if score > float("-inf")]
            yield sorted(found, key=lambda hit: (-hit[1], hit[0]))

    def count(self, floors: Sequence[float | None], counts: Counter[str]) -> None:
        """Count what each rule rejected above an anchor's floor, the score of its last negative; None counts everything."""
        import torch

        lowest = torch.tensor([-2.0 if floor is None else floor for floor in floors], device=self._scores.device)
        nearer = self._scores >= lowest[:, None]
        for name, rejected in self._rejected.items():
            counts[name] += int((rejected & nearer).sum())
