"""What a trained reranker is worth beside simpler ones: on simulated users, on real chat, and as links of annotated logs."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.people import Masker, salt
from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.baselines import features_only, text_only
from thread_embed_assets.reranker.evaluate import Evaluated, Population, evaluate
from thread_embed_assets.reranker.groups import RowScorer, read_groups, score_rows
from thread_embed_assets.reranker.linking import Fusion, Linked, Log, compare_links, read_log
from thread_embed_assets.reranker.origins import SYNTHETIC
from thread_embed_assets.reranker.real import Scorer
from thread_embed_assets.reranker.replay import SILVER, masked
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.irc import annotated_logs
from thread_embed_assets.sources.parsers import aliases
from thread_embed_assets.storage.atomic import write_text
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle, connect_read_only

FUSED, FEATURES_ONLY, TEXT_ONLY = "fused", "features only", "text only (TF-IDF)"
LINKS = "links.json"

logger = logging.getLogger(__name__)


def measure_all(
    scorer: RowScorer, examples: Mapping[str, TableHandle], path: Path, most_messages: int | None = None
) -> Evaluated:
    """The reranker, the features alone and the words alone, on every origin that has test messages.

    A source without train or dev messages of its own, such as one whose threads are predicted, borrows those of the first
    real source that has some, else the simulated users': to calibrate on, and to teach what is measured beside the reranker.

    Args:
        scorer: the reranker.
        examples: by origin.
        path: of the file that the tables are written to.
        most_messages: of an origin's dev and test each, a sample by id; None takes all.

    Raises:
        InputError: no origin has test messages.
    """
    splits = {origin: _splits(table) for origin, table in examples.items()}
    taught = [origin for origin in examples if {"train", "dev"} <= splits[origin]]
    lender = next((origin for origin in taught if origin != SYNTHETIC), SYNTHETIC)
    populations = []
    for origin in (origin for origin in examples if "test" in splits[origin]):
        test, own = examples[origin], origin in taught
        dev = test if own else examples[lender]
        where = {split: _sample(table, split, most_messages) for split, table in (("dev", dev), ("test", test))}
        scorers = {FUSED: scorer, FEATURES_ONLY: features_only(dev), TEXT_ONLY: text_only(dev)}
        systems = {}
        for name, system in scorers.items():
            systems[name] = score_rows(dev, where["dev"], system), score_rows(test, where["test"], system)
            logger.info("%s: %s has scored %d and %d candidates of dev and test", origin, name, *map(len, systems[name]))
        unreachable = sum(count for place, count in test.counts.items() if place.endswith("/test/unreachable"))
        groups = read_groups(dev, where["dev"]), read_groups(test, where["test"])
        populations.append(Population(origin if own else f"{origin}{SILVER}", *groups, systems, unreachable))
    if not populations:
        raise InputError(path, "no origin has test messages", "Materialise reranker_examples")
    return evaluate(path, populations)


def _splits(table: TableHandle) -> set[str]:
    with connect_read_only([table]) as connection:
        return {str(split) for (split,) in connection.execute("SELECT DISTINCT split FROM examples").fetchall()}


def _sample(table: TableHandle, split: str, most: int | None) -> str:
    """SQL for the messages of a split, or for those of them whose ids' hashes are smallest."""
    rows = f"split = '{split}'"
    if most is None:
        return rows
    hashed = "md5_number_lower(group_id)"
    with connect_read_only([table]) as connection:
        query = f"SELECT max(h) FROM (SELECT DISTINCT {hashed} AS h FROM examples WHERE {rows} ORDER BY h LIMIT {most})"
        [(limit,)] = connection.execute(query).fetchall()
    return f"{rows} AND {hashed} <= {limit}::UBIGINT"


def link_annotated(scorers: Mapping[str, Scorer], source: Source, layout: Layout, candidates: int = 5) -> Linked:
    """Link the annotated logs of dev and test by each reranker, alone and added to the disentangler; dev chooses how.

    A thread is as likely as its messages together, which dev prefers for the disentangler alone, too (1-1 81.5 to 79.3).

    Args:
        scorers: by name.
        candidates: threads that a reranker is asked about.

    Raises:
        InputError: there are no such logs.
    """
    dev, test = (_logs(source, layout, split) for split in (Split.DEV, Split.TEST))
    if not dev or not test:
        raise InputError(layout.raw(source.name), "there are no annotated logs of dev and test", "Fetch the source whole")
    return compare_links(dev, test, scorers, Fusion(whole=True, candidates=candidates))


def write_links(linked: Linked, path: Path) -> None:
    """As JSON: what was chosen by method, and scores by split and method."""
    told = {
        "fusions": {method: asdict(fusion) for method, fusion in linked.fusions.items()},
        "rows": {str(split): [asdict(row) for row in rows] for split, rows in linked.rows.items()},
    }
    write_text(path, json.dumps(told, indent=1) + "\n")


def _logs(source: Source, layout: Layout, split: Split) -> list[Log]:
    files = layout.raw(source.name) / "files"
    masker = Masker(source.name, salt(layout), aliases(files, source))
    return [read_log(log, masked(log, masker, source.platform)) for log in annotated_logs(files, split)]
