"""Checks of a pair table and of the hard negatives; each looks at the stored rows."""

from __future__ import annotations

from collections.abc import Sequence

from thread_embed_assets.chat.leaks import no_leaks
from thread_embed_assets.chat.near_copies import MESSAGE_THRESHOLD, HeldOutShingles, contained
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.read import read_texts
from thread_embed_assets.pairs.schema import HARD_NEGATIVES, PAIRS, Strategy
from thread_embed_assets.pairs.summary import LONGEST_WHOLE
from thread_embed_assets.storage.quality import has_schema, not_empty, unique
from thread_embed_assets.storage.tables import TableHandle, connect_read_only
from thread_embed_assets.verdict import Verdict, no_faults

_WINDOW = "BETWEEN 3 AND 8"
_SIZES = {
    Strategy.THREAD: (f"(anchor_size = 1 OR anchor_size {_WINDOW})", f"positive_size {_WINDOW}"),
    Strategy.RESPONSE: ("anchor_size = 1", "positive_size BETWEEN 1 AND 3"),
    Strategy.TEMPORAL: (f"anchor_size {_WINDOW}", f"positive_size {_WINDOW}"),
    Strategy.SUMMARY: ("anchor_size = 0", f"positive_size BETWEEN 2 AND {LONGEST_WHOLE}"),
}


def non_empty(pairs: TableHandle) -> Verdict:
    """There are pairs."""
    return not_empty(pairs)


def schema(pairs: TableHandle) -> Verdict:
    """The table has the declared columns."""
    return has_schema(pairs, PAIRS)


def unique_ids(pairs: TableHandle) -> Verdict:
    """No pair id stands twice."""
    return unique(pairs, "pair_id")


def _matching(handle: TableHandle, where: str, columns: str = "pair_id") -> list[str]:
    with connect_read_only([handle]) as connection:
        rows = connection.execute(f'SELECT {columns} FROM "{handle.table}" WHERE {where} ORDER BY 1').fetchall()
    return [str(row[0]) for row in rows]


def window_sizes(pairs: TableHandle) -> Verdict:
    """Anchors and positives have as many messages as their strategy allows, and share none."""
    allowed = " OR ".join(f"(strategy = '{s}' AND {anchor} AND {positive})" for s, (anchor, positive) in _SIZES.items())
    with connect_read_only([pairs]) as connection:
        query = (
            "SELECT pair_id FROM (SELECT *, len(anchor_ids) AS anchor_size, len(positive_ids) AS positive_size FROM pairs) "
            f"WHERE NOT ({allowed}) OR len(list_intersect(anchor_ids, positive_ids)) > 0 ORDER BY 1"
        )
        faults = [str(row[0]) for row in connection.execute(query).fetchall()]
    return no_faults("pairs with windows of a wrong size or with a message on both sides", faults, pairs.rows)


def anchor_without_positive(pairs: TableHandle) -> Verdict:
    """Neither text stands inside the other, else the pair is solved by copying."""
    where = "contains(anchor, positive) OR contains(positive, anchor)"
    return no_faults("pairs whose one text contains the other", _matching(pairs, where), pairs.rows)


def no_held_out_text(pairs: TableHandle, stored: Normalised, others: Sequence[Normalised] = ()) -> Verdict:
    """No train text is a test or dev text of any source or a near-copy, no dev text a test text; no pair is of a test one.

    Args:
        stored: the source that the pairs are of.
        others: the other sources, whose held-out texts count just as much.
    """
    faults = _matching(pairs, "split NOT IN ('train', 'dev')")
    with connect_read_only([pairs, stored.conversations]) as connection:
        query = (
            "SELECT pair_id FROM pairs JOIN conversations c USING (conversation_id) WHERE c.split = 'test' "
            "UNION SELECT pair_id FROM pairs JOIN conversations c ON c.conversation_id = negative_conversation_id "
            "WHERE c.split <> pairs.split"
        )
        faults += [str(row[0]) for row in connection.execute(query).fetchall()]
    test, dev = HeldOutShingles(), HeldOutShingles()
    for source in (stored, *others):
        test.add(read_texts(source.conversations, source.messages, "c.split = 'test'"))
        dev.add(read_texts(source.conversations, source.messages, "c.split = 'dev'"))
    held_out = {"train": test | dev, "dev": test}
    for batch in pairs.scan(["pair_id", "split", "anchor", "positive", "negative"]):
        ids, splits, *texts = (column.to_pylist() for column in batch.columns)
        for split, shingles in held_out.items():
            rows = [row for row, found in enumerate(splits) if found == split]
            for column in texts:
                counts = shingles.hits_of_each([column[row] or "" for row in rows])
                copies = (row for row, count in zip(rows, counts, strict=True) if contained(*count) >= MESSAGE_THRESHOLD)
                faults += (ids[row] for row in copies)
    return no_faults("pairs with held-out text", sorted(set(faults)), pairs.rows)


def no_private_data(pairs: TableHandle) -> Verdict:
    """No sampled anchor, positive or negative holds a personal or secret string."""
    columns = ("anchor", "positive", "negative")
    texts = (
        (f"{pair_id}, {column}", text)
        for batch in pairs.scan(["pair_id", *columns])
        for column in columns
        for pair_id, text in zip(batch.column("pair_id").to_pylist(), batch.column(column).to_pylist(), strict=True)
        if text
    )
    return no_leaks(texts, len(columns) * pairs.rows)


def negatives_schema(negatives: TableHandle) -> Verdict:
    """The table has the declared columns."""
    return has_schema(negatives, HARD_NEGATIVES)


def negatives_from_elsewhere(negatives: TableHandle, pairs: Sequence[TableHandle]) -> Verdict:
    """No negative comes from its anchor's conversation, by its id or by its text, and each belongs to a known pair."""
    with connect_read_only([negatives, *pairs]) as connection:
        query = (
            "SELECT n.pair_id FROM hard_negatives n LEFT JOIN pairs p ON p.pair_id = n.pair_id AND p.source = n.source "
            "WHERE p.pair_id IS NULL OR n.negative_conversation_id = p.conversation_id OR n.negative = p.positive "
            "OR n.negative = p.anchor "
            "UNION SELECT n.pair_id FROM hard_negatives n JOIN pairs p ON p.conversation_id = n.conversation_id "
            "AND p.source = n.source AND p.positive = n.negative "
            "UNION SELECT pair_id FROM pairs WHERE negative_conversation_id = conversation_id"
        )
        faults = [str(row[0]) for row in connection.execute(query).fetchall()]
    return no_faults("negatives from the anchor's own conversation", faults, negatives.rows)
