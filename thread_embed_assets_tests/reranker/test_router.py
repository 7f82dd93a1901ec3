from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.chat.model import Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.calibration import Calibration, Thresholds
from thread_embed_assets.reranker.candidates import NEW_THREAD, Candidate, Floats
from thread_embed_assets.reranker.router import Outcome, Router
from thread_embed_assets.reranker.store import SIZE, ThreadStore

HOUR = 3600.0


def said(number: int, text: str, author: str = "user", hour: float = 0.0) -> Message:
    return Message(f"m{number}", author, text, hour * HOUR)


class Words:
    """Scores a candidate by the words it shares with the message; a new thread by a constant."""

    def __init__(self, new: float = 0.5) -> None:
        self.new = new
        self.asked: list[list[str]] = []

    def __call__(self, message: str, candidates: Sequence[Candidate]) -> Floats:
        self.asked.append([candidate.id for candidate in candidates])
        words = set(message.split())
        shared = [len(words & set(c.text.split())) if c.id != NEW_THREAD else self.new for c in candidates]
        return np.array(shared, dtype=np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ThreadStore]:
    with ThreadStore(tmp_path / "threads.duckdb") as store:
        yield store


def router(store: ThreadStore, scorer: Words | None = None, sure: float = 0.6) -> Router:
    return Router(store, scorer or Words(), Calibration(sharpness=2.0), Thresholds(sure, sure))


def two_threads(routes: Router) -> tuple[str, str]:
    roof = routes.route(said(0, "what would a slate roof for the barn cost"), "chat").thread_id
    cake = routes.settle(said(1, "how long must a sponge cake rest before it is cut", hour=1), "chat", None)
    assert roof is not None
    return roof, cake


def test_the_first_message_starts_a_thread_and_asks_no_model(store: ThreadStore) -> None:
    scorer = Words()
    decision = router(store, scorer).route(said(0, "what would a slate roof cost"), "chat")
    assert (decision.outcome, decision.by, decision.confidence) == (Outcome.NEW, "nothing_to_continue", 1.0)
    assert decision.thread_id == store.thread_of("m0") and scorer.asked == []


def test_a_sure_message_is_routed_and_kept_where_it_belongs(store: ThreadStore) -> None:
    routes = router(store)
    roof, cake = two_threads(routes)
    decision = routes.route(said(2, "and would the slate for the barn last longer", hour=2), "chat")
    assert (decision.outcome, decision.thread_id, decision.by) == (Outcome.ROUTE, roof, "reranker")
    assert decision.options[0].candidate_id == roof and decision.confidence == decision.options[0].probability > 0.6
    assert sum(option.probability for option in decision.options) == pytest.approx(1)
    assert {option.candidate_id for option in decision.options} == {roof, cake, NEW_THREAD}
    assert store.thread_of("m2") == roof


def test_an_unsure_message_is_asked_about_and_kept_once_somebody_has_answered(store: ThreadStore) -> None:
    routes = router(store)
    _, cake = two_threads(routes)
    unsure = said(2, "please say more", hour=2)
    decision = routes.route(unsure, "chat")
    assert (decision.outcome, decision.thread_id) == (Outcome.ASK, None) and store.thread_of("m2") is None
    assert routes.settle(unsure, "chat", cake) == cake == store.thread_of("m2")
    again = routes.route(unsure, "chat")
    assert (again.outcome, again.thread_id, again.by) == (Outcome.ROUTE, cake, "store")


def test_a_message_about_something_else_starts_a_thread(store: ThreadStore) -> None:
    routes = router(store, Words(new=3.0))
    threads = two_threads(routes)
    decision = routes.route(said(2, "my bicycle squeaks", hour=2), "chat")
    assert decision.outcome is Outcome.NEW and decision.thread_id not in (None, *threads)


def test_what_was_cut_off_is_done_again_with_the_same_end(store: ThreadStore) -> None:
    routes = router(store)
    two_threads(routes)
    message = said(2, "and would the slate for the barn last longer", hour=2)
    first = routes.route(message, "chat")
    assert routes.route(message, "chat").thread_id == first.thread_id
    assert sum(len(thread.messages) for thread in store.threads_before("chat", 99 * HOUR)) == 3


def test_threads_have_vectors_where_there_is_an_embedding_model(store: ThreadStore) -> None:
    def embed(text: str) -> Floats:
        vector = np.zeros(SIZE, dtype=np.float32)
        for word in text.split():
            vector[sum(map(ord, word)) % SIZE] += 1
        return vector

    routes = Router(store, Words(), Calibration(), Thresholds(0.4, 0.4), embed)
    roof, _ = two_threads(routes)
    assert store.without_vector() == []
    assert store.nearest(embed("a slate roof for the barn"), 1)[0][0] == roof


def test_channels_are_apart(store: ThreadStore) -> None:
    routes = router(store)
    roof, _ = two_threads(routes)
    other = routes.route(said(2, "what would a slate roof for the barn cost", hour=2), "another chat")
    assert other.outcome is Outcome.NEW and other.thread_id != roof


def test_a_message_without_a_time_is_refused_and_nothing_is_kept(store: ThreadStore) -> None:
    with pytest.raises(InputError, match="has no time"):
        router(store).route(Message("m0", "user", "hello"), "chat")
    assert store.thread_of("m0") is None
