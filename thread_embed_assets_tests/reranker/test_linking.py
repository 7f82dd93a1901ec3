from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.benchmark.disentangling import threads_of
from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.people import Masker
from thread_embed_assets.reranker.candidates import NEW_THREAD, Candidate, Floats
from thread_embed_assets.reranker.linking import (
    Fusion,
    Log,
    choose_fusion,
    compare_links,
    link,
    measure,
    read_log,
    remembered,
)
from thread_embed_assets.reranker.real import plain
from thread_embed_assets.reranker.replay import masked
from thread_embed_assets.sources.irc import AnnotatedLog, annotated_logs, components
from thread_embed_assets.training.disentangler import guess_links
from thread_embed_assets_tests.chat.talks import annotated_babble, write_log

ALONE = Fusion(reranker=0.0)
FEW = {"weights": (0.1, 8.0), "offsets": (0.5,)}
CHOOSES = Fusion(disentangler=0.0, reranker=1.0)


def never(text: str, candidates: Sequence[Candidate]) -> Floats:
    raise AssertionError("the reranker was asked")


def prepared(log: AnnotatedLog) -> Log:
    return read_log(log, masked(log, Masker("made", b"0123456789abcdef", {}), "irc"))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Log]:
    folder = tmp_path_factory.mktemp("logs")
    for seed in range(2):
        messages = annotated_babble(170, seed)
        for message in messages:  # half of the names that give links away are taken off
            message.text = message.text.partition(": ")[2] or message.text if int(message.id) % 2 else message.text
        write_log(folder, f"dev/2013-03-0{seed + 1}_10", messages, first_annotated=60)
    return [prepared(log) for log in annotated_logs(folder, Split.DEV)]


class Oracle:
    """Knows the annotated threads, and finds a candidate by the last line of its text; all texts differ."""

    def __init__(self, log: Log) -> None:
        self._thread_of = {
            plain(log.masked[line]): thread[0] for thread in components(log.annotated.parents) for line in thread
        }

    def __call__(self, text: str, candidates: Sequence[Candidate]) -> Floats:
        mine = self._thread_of[text]
        right = [self._thread_of.get(c.text.split("\n")[-1]) == mine for c in candidates]
        return np.array([1.0 if r else 0.5 * (c.id == NEW_THREAD) for r, c in zip(right, candidates, strict=True)])


def test_without_the_reranker_the_links_are_the_disentanglers(logs: list[Log]) -> None:
    for log in logs:
        links = link(log, never, ALONE)
        guessed = guess_links(log.annotated)
        assert {line: tuple(parents) for line, parents in links.items()} == {n: tuple(p) for n, p in guessed.items()}
        assert links.keys() == log.annotated.parents.keys()


def test_a_reranker_that_knows_the_threads_finds_them(logs: list[Log]) -> None:
    """What it chooses is linked to the message of that thread that the disentangler finds likeliest."""
    for log in logs:
        links = link(log, Oracle(log), replace(CHOOSES, reranker=50.0))
        right = set(threads_of(log.annotated.parents))
        alone = set(threads_of(link(log, never, ALONE)))
        assert len(set(threads_of(links)) & right) > 0.7 * len(right)
        assert len(alone & right) < len(set(threads_of(links)) & right), "half of the names are gone"
        assert any(parents for parents in links.values())


def test_links_lie_in_the_thread_that_was_chosen(logs: list[Log]) -> None:
    """A reranker that always takes the thread last spoken in makes one thread of all."""

    def latest(text: str, candidates: Sequence[Candidate]) -> Floats:
        assert candidates[-1].id == NEW_THREAD
        return np.array([1.0] + [0.0] * (len(candidates) - 1))

    annotated = logs[0].annotated
    all_asked = prepared(replace(annotated, parents={line: set() for line in range(len(annotated.messages))}))
    links = link(all_asked, latest, replace(CHOOSES, reranker=50.0))
    assert [line for line, parents in links.items() if not parents] == [0]
    assert len(threads_of(links)) == 1
    assert len({line - parents[0] for line, parents in links.items() if parents}) > 5, "the disentangler chooses within it"


def test_no_link_depends_on_what_comes_later(logs: list[Log]) -> None:
    annotated = logs[0].annotated
    cut = 110
    parents = {line: found for line, found in annotated.parents.items() if line < cut}
    early = prepared(replace(annotated, messages=annotated.messages[:cut], parents=parents))
    oracle = Oracle(logs[0])
    whole = link(logs[0], oracle, Fusion())
    assert {line: whole[line] for line in parents} == link(early, oracle, Fusion())


def test_the_new_thread_is_taken_more_often_the_more_is_added_to_it(logs: list[Log]) -> None:
    def indifferent(text: str, candidates: Sequence[Candidate]) -> Floats:
        return np.zeros(len(candidates))

    begun = [
        sum(not parents for parents in link(logs[0], indifferent, replace(ALONE, new=new)).values()) for new in (-9, 0, 9)
    ]
    assert begun[0] < begun[1] < begun[2] == len(logs[0].annotated.parents)


def test_the_reranker_is_asked_about_the_likeliest_threads_of_annotated_lines_only(logs: list[Log]) -> None:
    sizes: list[int] = []

    def counted(text: str, candidates: Sequence[Candidate]) -> Floats:
        sizes.append(len(candidates))
        return np.zeros(len(candidates))

    link(logs[0], counted, replace(Fusion(), candidates=3))
    assert max(sizes) == 4, "three and a new thread"
    assert len(sizes) <= len(logs[0].annotated.parents)


def test_a_remembered_scorer_is_not_asked_twice() -> None:
    asked: list[str] = []

    def scorer(text: str, candidates: Sequence[Candidate]) -> Floats:
        asked.extend(f"{text}/{c.text}" for c in candidates)
        return np.array([len(c.text) for c in candidates], np.float32)

    one, two, three = (Candidate(t, t, np.full(5, len(t), np.float32)) for t in ("a", "bb", "ccc"))
    again = remembered(scorer)
    assert again("m", [one, two]).tolist() == [1.0, 2.0]
    assert again("m", [three, one]).tolist() == [3.0, 1.0]
    assert again("n", [one]).tolist() == [1.0]
    assert asked == ["m/a", "m/bb", "m/ccc", "n/a"]
    assert again("m", [replace(one, features=one.features + 1)]).tolist() == [1.0]
    assert asked[-1] == "m/a", "other features are another question"


def test_the_weight_is_chosen_by_link_f1(logs: list[Log]) -> None:
    best, row = choose_fusion(logs[:1], Oracle(logs[0]), **FEW)
    assert best.reranker == 8.0
    assert best.new in (0.0, *FEW["offsets"])
    assert row == measure("fused", logs[:1], Oracle(logs[0]), best)
    assert row.link_f1 > measure("alone", logs[:1], never, ALONE).link_f1


def test_an_empty_log_has_no_links(tmp_path: Path, logs: list[Log]) -> None:
    nothing = prepared(replace(logs[0].annotated, messages=[], parents={}))
    assert nothing.answers.shape[0] == 0
    assert link(nothing, never, Fusion()) == {}


def test_rerankers_are_compared_on_both_splits_with_what_dev_chose(logs: list[Log]) -> None:
    def backwards(text: str, candidates: Sequence[Candidate]) -> Floats:
        return -Oracle(logs[0])(text, candidates)

    found = compare_links(
        logs[:1], logs[:1], {"oracle": Oracle(logs[0]), "backwards": backwards}, Fusion(candidates=8), **FEW
    )
    assert found.rows["dev"] == found.rows["test"], "the same logs"
    rows = {row.method: row for row in found.rows["test"]}
    assert list(rows) == list(found.fusions)
    assert rows["disentangler"].link_f1 == measure("alone", logs[:1], never, ALONE).link_f1
    assert rows["oracle + disentangler"].link_f1 > rows["disentangler"].link_f1
    assert rows["oracle, threads alone"].one_to_one > rows["backwards, threads alone"].one_to_one
    assert found.fusions["backwards + disentangler"].reranker < found.fusions["oracle + disentangler"].reranker
