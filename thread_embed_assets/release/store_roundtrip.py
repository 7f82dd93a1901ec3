"""A vector store built from held-out threads, closed, opened again and asked: what it finds beside exact search."""

from __future__ import annotations

import heapq
import json
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thread_embed_assets.benchmark.contenders import text_format_of
from thread_embed_assets.benchmark.embeddings import EmbeddingCache, Encoder, ModelEncoder, Vectors, unit
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.read import read_conversations
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.current_model import model_for_search
from thread_embed_assets.release.stores.choose import STORES, open_store
from thread_embed_assets.release.stores.vector_store import EVERYTHING, Found, IndexedThread, VectorStore, Where
from thread_embed_assets.storage.atomic import write_text
from thread_embed_assets.storage.fingerprint import of_json, seed
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.base_models import model_fingerprint
from thread_embed_assets.verdict import Verdict

logger = logging.getLogger(__name__)

TOP = 10
GOAL = 0.99
HELD_OUT_THREADS = 5_000
QUERIES = 200
_COLLECTION = "thread_embed_roundtrip"  # beside what somebody may keep on the same server
_NEARBY = 30 * 86_400.0  # seconds before and after a thread that a filter on time admits
_EQUAL = 1e-5  # cosines that differ by less are equal: stores compute in float32, in an order of their own
_WRONG = 1e-3


@dataclass(frozen=True)
class HeldOut:
    """Threads of the test split, and sentences that are looked for among them.

    Attributes:
        queries: float32 [n, dimension].
        filters: one for each query, of what is known of the thread that its sentence opened.
    """

    threads: Sequence[IndexedThread]
    queries: Vectors
    filters: Sequence[Where]


@dataclass(frozen=True)
class RoundTrip:
    """What one store did.

    Attributes:
        kept: threads that were there when the store was opened again.
        recall: share of the ten nearest that it found, mean over the queries.
        filtered_recall: the same where each query had a filter.
        score_error: the largest difference between a score and the cosine.
        build_seconds, reopen_seconds: of wall time.
        p50, p95: milliseconds a query.
        filtered_p50, filtered_p95: milliseconds a query with a filter.
        bytes: on disk; None where the store cannot tell.
        fingerprint: of the threads' vectors and what the store found.
    """

    store: str
    threads: int
    dimension: int
    queries: int
    kept: int
    recall: float
    filtered_recall: float
    score_error: float
    build_seconds: float
    reopen_seconds: float
    p50: float
    p95: float
    filtered_p50: float
    filtered_p95: float
    bytes: int | None
    fingerprint: str


def round_trip_of(store: str, layout: Layout, model: str | None, threads: int, queries: int) -> RoundTrip:
    """Build a store from held-out threads by the model that search uses, and keep what it did in ``roundtrip.json``.

    Raises:
        InputError: the store is not available, there is no model, or no source has held-out threads.
    """
    folder = layout.store_roundtrip(store).parent
    open_store(store, folder / "index", _COLLECTION).close()  # before anything is embedded for it
    place = model_for_search(layout, model)
    encoder = ModelEncoder(place, model_fingerprint(place))
    result = round_trip(store, folder / "index", held_out(layout, text_format_of(place), encoder, threads, queries))
    write_text(layout.store_roundtrip(store), json.dumps(asdict(result), indent=2) + "\n")
    return result


def held_out(layout: Layout, text_format: str, encoder: Encoder, threads: int, queries: int) -> HeldOut:
    """Up to ``threads`` threads of the test split, drawn by their ids from all sources; queries are opening messages.

    Raises:
        InputError: no source has any.
    """
    drawn = heapq.nsmallest(threads, _candidates(layout, text_format), key=lambda found: seed(found[0].id))
    if not drawn:
        problem = "no source has held-out threads"
        raise InputError(layout.conversations("*"), problem, "Materialise the conversations of a source")
    asked = heapq.nsmallest(queries, range(len(drawn)), key=lambda place: seed("query", drawn[place][0].id))
    cache = EmbeddingCache(layout.embedding_cache)
    vectors = cache.embed(encoder, [thread.text for thread, _ in drawn], "document")
    known = [
        IndexedThread(thread.id, vector, thread.text, thread.channel, thread.time, thread.participants)
        for (thread, _), vector in zip(drawn, vectors, strict=True)
    ]
    sentences = cache.embed(encoder, [drawn[place][1] for place in asked], "query")
    filters = [_filter(known[place], number) for number, place in enumerate(asked)]
    return HeldOut(known, sentences, filters)


def _candidates(layout: Layout, text_format: str) -> Iterator[tuple[IndexedThread, str]]:
    """Threads without a vector, and the first message of each."""
    form = FORMATS[text_format]
    for path in sorted(layout.conversations("*").parent.glob("*.duckdb")):
        source = path.stem
        tables = open_table(path, "conversations"), open_table(path, "messages")
        for found in read_conversations(*tables, where=f"c.split = '{Split.TEST}'"):
            text, opening = form.render(found.messages), form.render(found.messages[:1])
            if opening.strip():
                people = len({message.author for message in found.messages})
                name, channel = f"{source}/{found.id}", f"{source}/{found.channel}"
                yield IndexedThread(name, _NO_VECTOR, text, channel, found.start, people), opening


_NO_VECTOR: Vectors = np.empty(0, dtype=np.float32)


def _filter(thread: IndexedThread, number: int) -> Where:
    """By channel, time and participants in turn, and by all three."""
    near = Where() if thread.time is None else Where(since=thread.time - _NEARBY, until=thread.time + _NEARBY)
    several = Where(participants=thread.participants)
    together = Where(thread.channel, near.since, near.until, thread.participants)
    return (Where(channel=thread.channel), near, several, together)[number % 4]


def round_trip(store: str, folder: Path, held: HeldOut) -> RoundTrip:
    """Build the store anew in ``folder``, close it, open it again, and ask it with filters and without.

    Raises:
        InputError: the store is not available.
    """
    shutil.rmtree(folder, ignore_errors=True)
    dimension = held.queries.shape[1]
    began = time.perf_counter()
    with open_store(store, folder, _COLLECTION) as built:
        built.replace(held.threads, dimension)
        build_seconds = time.perf_counter() - began
    logger.info("%s: %d threads built in %.1f s", store, len(held.threads), build_seconds)
    began = time.perf_counter()
    with open_store(store, folder, _COLLECTION) as opened:
        kept, size = opened.count(), opened.size()
        reopen_seconds = time.perf_counter() - began
        plain = _ask(opened, held, [EVERYTHING] * len(held.queries))
        filtered = _ask(opened, held, held.filters)
    content = [[thread.id for thread in held.threads], plain.names, filtered.names]
    return RoundTrip(
        store,
        len(held.threads),
        dimension,
        len(held.queries),
        kept,
        plain.recall,
        filtered.recall,
        max(plain.score_error, filtered.score_error),
        build_seconds,
        reopen_seconds,
        *plain.milliseconds,
        *filtered.milliseconds,
        size,
        of_json(content),
    )


@dataclass(frozen=True)
class _Answers:
    names: list[list[str]]
    recall: float
    score_error: float
    milliseconds: tuple[float, float]


def _ask(store: VectorStore, held: HeldOut, filters: Sequence[Where]) -> _Answers:
    places = {thread.id: place for place, thread in enumerate(held.threads)}
    exact = unit(held.queries) @ unit(np.stack([thread.vector for thread in held.threads])).T
    seconds, answers, recalls, errors = [], [], [], [0.0]
    for query, cosines, where in zip(held.queries, exact, filters, strict=True):
        began = time.perf_counter()
        answer = store.query(query, TOP, where)
        seconds.append(time.perf_counter() - began)
        answers.append([found.id for found in answer])
        admitted = np.array([where.admits(thread) for thread in held.threads])
        recalls.append(recall(answer, np.where(admitted, cosines, -np.inf), places))
        errors += [abs(found.score - float(cosines[places[found.id]])) for found in answer if found.id in places]
    p50, p95 = (float(value) for value in np.percentile(np.array(seconds) * 1_000, [50, 95]))
    return _Answers(answers, float(np.mean(recalls)), max(errors), (p50, p95))


def recall(answer: Sequence[Found], cosines: NDArray[np.floating], places: dict[str, int]) -> float:
    """Share of the ``TOP`` nearest that were found.

    Of threads that are equally near as the last of them any counts, none twice.

    Args:
        cosines: exact similarity to each thread; -inf for those that a filter keeps out.
        places: of each thread's id in it.
    """
    right = min(TOP, int(np.isfinite(cosines).sum()))
    if not right:
        return float(not answer)
    last = np.partition(cosines, -right)[-right]
    hits = {found.id for found in answer if found.id in places and cosines[places[found.id]] >= last - _EQUAL}
    return min(len(hits), right) / right


def finds_what_exact_search_finds(layout: Layout, store: str) -> Verdict:
    """The store, opened again, holds every thread and finds 99 % of the ten nearest, with filters and without."""
    result = read_result(layout, store)
    numbers: dict[str, int | float] = {
        "recall@10": result.recall,
        "recall@10 with filters": result.filtered_recall,
        "threads": result.threads,
        "kept": result.kept,
        "largest score error": result.score_error,
    }
    faults = [
        f"{what} is {value:.3f}, below {GOAL}"
        for what, value in [("recall@10", result.recall), ("recall@10 with filters", result.filtered_recall)]
        if value < GOAL
    ]
    if result.kept != result.threads:
        faults.append(f"{result.kept} of {result.threads} threads were there when it was opened again")
    if result.score_error > _WRONG:
        faults.append(f"a score is {result.score_error:.4f} from the cosine")
    if faults:
        return Verdict(False, f"{store}: {'; '.join(faults)}", numbers)
    return Verdict(True, f"{store}: {result.recall:.3f} and {result.filtered_recall:.3f} with filters", numbers)


def read_result(layout: Layout, store: str) -> RoundTrip:
    """What the store did the last time.

    Raises:
        InputError: it has not been asked yet, or the file is damaged.
    """
    path = layout.store_roundtrip(store)
    remedy = f"Materialise vector_store_roundtrip of {store}"
    if not path.exists():
        raise InputError(path, "this store has not been asked yet", remedy)
    try:
        return RoundTrip(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(path, f"the file is damaged ({error})", remedy) from error


def results_table(layout: Layout) -> str:
    """All stores as Markdown; one that has not been asked here is NOT RUN."""
    lines = [
        "| store | threads | recall@10 | with filters | build s | query ms p50 / p95 | with filter | MiB on disk |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for store in STORES:
        if not layout.store_roundtrip(store).exists():
            lines.append(f"| {store} | NOT RUN | | | | | | |")
            continue
        r = read_result(layout, store)
        size = "" if r.bytes is None else f"{r.bytes / 2**20:.1f}"
        lines.append(
            f"| {store} | {r.threads:,} | {r.recall:.3f} | {r.filtered_recall:.3f} | {r.build_seconds:.1f} | "
            f"{r.p50:.1f} / {r.p95:.1f} | {r.filtered_p50:.1f} / {r.filtered_p95:.1f} | {size} |"
        )
    return "\n".join(lines)
