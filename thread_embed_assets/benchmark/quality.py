"""Checks of tasks and results; each looks at the stored rows."""

from __future__ import annotations

from pathlib import Path

from thread_embed_assets.benchmark.metrics import METRICS
from thread_embed_assets.chat.formats import DEFAULT_FORMAT
from thread_embed_assets.storage.tables import TableHandle, connect_read_only, open_table
from thread_embed_assets.verdict import Verdict, no_faults


def query_not_in_its_document(tasks: Path) -> Verdict:
    """No query's text stands verbatim in a document that is relevant to it."""
    handles = [open_table(tasks, name) for name in ("queries", "corpus", "qrels")]
    text = f"text_{DEFAULT_FORMAT}"
    with connect_read_only(handles) as connection:
        query = (
            "SELECT query_id FROM qrels r JOIN queries q USING (task, split, query_id) "
            "JOIN corpus d USING (task, split, doc_id) "
            f"WHERE r.grade > 0 AND contains(lower(d.{text}), lower(q.{text})) ORDER BY 1"
        )
        faults = [str(row[0]) for row in connection.execute(query).fetchall()]
    return no_faults("queries that stand in their document", faults, handles[0].rows)


def held_out_only(tasks: Path, conversations: TableHandle) -> Verdict:
    """Every query and document is of a conversation of its own split, never of train."""
    handles = [open_table(tasks, "queries"), open_table(tasks, "corpus"), conversations]
    with connect_read_only(handles) as connection:
        query = (
            "SELECT conversation_id FROM (SELECT conversation_id, split FROM queries UNION ALL "
            "SELECT conversation_id, split FROM corpus) t LEFT JOIN conversations c USING (conversation_id) "
            "WHERE c.split IS NULL OR c.split <> t.split ORDER BY 1"
        )
        faults = [str(row[0]) for row in connection.execute(query).fetchall()]
    return no_faults("texts of another split", faults, handles[0].rows + handles[1].rows)


def metrics_in_range(results: Path) -> Verdict:
    """Every per-query metric is a number in [0, 1], and every mean lies in its interval."""
    handles = [open_table(results, "per_query"), open_table(results, "summary")]
    outside = " OR ".join(f'"{m}" IS NULL OR isnan("{m}") OR "{m}" < 0 OR "{m}" > 1' for m in METRICS)
    off = " OR ".join(f'NOT ("{m}_low" <= "{m}" + 1e-9 AND "{m}" <= "{m}_high" + 1e-9)' for m in METRICS)
    with connect_read_only(handles) as connection:
        query = (
            f"SELECT contender || ' ' || task || ' ' || query_id FROM per_query WHERE {outside} "
            f"UNION ALL SELECT contender || ' ' || task || ' interval' FROM summary WHERE status = 'RUN' AND ({off})"
        )
        faults = [str(row[0]) for row in connection.execute(query).fetchall()]
    return no_faults("metrics out of range", faults, handles[0].rows)
