"""Every example runs as somebody would run it, on the sample workspace and the released model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest

import thread_embed_assets.examples as package
from thread_embed_assets.errors import InputError
from thread_embed_assets.examples.agent_memory import Memory
from thread_embed_assets.examples.chats import SAMPLE, Reader, open_reader, threads_of
from thread_embed_assets.examples.cluster_week import busiest_week, clusters
from thread_embed_assets.examples.duplicate_questions import asked_before, questions
from thread_embed_assets.examples.find_answer import FEWEST_WORDS, find_answers
from thread_embed_assets.examples.hybrid_search import rankings
from thread_embed_assets.examples.time_aware import as_of
from thread_embed_assets.search.filters import time_of
from thread_embed_assets.search.searcher import Searcher, open_workspace
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout

RELEASED = Path(__file__).parents[2] / "models" / "released"
# What each prints of the sample: the words that somebody looks for.
SAYS = {
    "agent_memory": "148 MB",
    "cluster_week": "1. 3 threads",
    "duplicate_questions": "asked in platform: CI is 31 minutes",
    "find_answer": "GlyphsEverything.ttf",
    "find_thread": "> ines: `/var/log/mqttd/trace.log` is 211 GB",
    "hybrid_search": "platform: Redis is at 91% of maxmemory",
    "time_aware": "2025-04-25  incidents: the glasshouse siren",
}


@pytest.fixture(scope="module", autouse=True)
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(RELEASED, root / "models" / "released")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT_VARIABLE, str(root))
        yield Layout(root)


@pytest.fixture(scope="module")
def reader(layout: Layout) -> Reader:
    return open_reader(layout)


@pytest.fixture(scope="module")
def searcher(layout: Layout) -> Searcher:
    return open_workspace(SAMPLE, layout)


def test_each_example_is_run_here() -> None:
    files = {path.stem for path in Path(package.__path__[0]).glob("*.py")} - {"__init__", "chats"}
    assert files == set(SAYS)


@pytest.mark.parametrize(("name", "said"), SAYS.items())
def test_it_prints_what_somebody_looks_for(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    import_module(f"thread_embed_assets.examples.{name}").main([])
    assert said in capsys.readouterr().out


def test_a_workspace_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="nowhere"):
        import_module("thread_embed_assets.examples.find_thread").main(["--workspace", "nowhere"])


def test_answers_are_no_questions_and_no_mere_ok(searcher: Searcher, reader: Reader) -> None:
    answers = find_answers(searcher, reader, "why did staging have pauses of five seconds?", top=20)
    assert len(answers) == 20
    assert all(len(a.text.split()) >= FEWEST_WORDS and not a.text.endswith("?") for a in answers)
    assert [a.score for a in answers] == sorted((a.score for a in answers), reverse=True)


def test_clusters_hold_each_thread_once(reader: Reader) -> None:
    week = busiest_week(threads_of(SAMPLE), "platform")
    assert len(week) > 5 and max(t.start or 0 for t in week) - min(t.start or 0 for t in week) < 7 * 86_400
    for near, groups in ((-1.0, 1), (0.999, len(week))):
        found = clusters(reader, week, near)
        assert len(found) == groups
        assert sorted(t.id for group in found for t in group) == sorted(t.id for t in week)
    assert busiest_week(week, "nowhere") == [] and clusters(reader, []) == []


def test_a_question_is_found_again_and_a_new_one_is_new(reader: Reader) -> None:
    threads = threads_of(SAMPLE)
    asked = questions(reader, threads)
    for thread in asked.threads[:10]:
        again = asked_before(reader, asked, reader.text(thread.messages[:1]))
        assert again is not None and again.id == thread.id
    assert asked_before(reader, asked, "which sauce goes with the noodles?") is None
    assert questions(reader, threads, alarms=0.5).threshold < asked.threshold


def test_hybrid_search_finds_what_either_side_finds(reader: Reader) -> None:
    texts = ["the oven is hot", "zx81 manual lost", "somebody set the building on fire"]
    assert rankings(reader, texts, "zx81")["both"][0] == 1
    found = rankings(reader, texts, "flames in the house")
    assert found["meaning"][0] == found["both"][0] == 2


def test_memory_stays_and_keeps_to_the_budget_and_to_the_past(reader: Reader, tmp_path: Path) -> None:
    thread = next(t for t in threads_of(SAMPLE) if "211 GB" in " ".join(m.text for m in t.messages))
    path = tmp_path / "memory.duckdb"
    with Memory(path, reader) as memory:
        memory.remember(thread.id, thread.messages)
        memory.remember(thread.id, thread.messages)
    with Memory(path, reader) as memory:
        last = thread.end or 0.0
        everything = memory.recall("trace logs on the disk", last + 1, words=10_000)
        assert [text for _, _, text in everything] == [m.text for m in thread.messages]
        few = memory.recall("trace logs on the disk", last + 1, words=40)
        assert 0 < sum(len(text.split()) for _, _, text in few) <= 40
        assert any("211 GB" in text for _, _, text in few)
        assert all(at < last for at, _, _ in memory.recall("trace logs", last, words=10_000))


def test_nothing_is_found_before_it_was_said(searcher: Searcher) -> None:
    moments = [_end_of("2025-03-10"), _end_of("2025-04-25")]
    found = [as_of(searcher, "frost alarm", moment, top=5) for moment in moments]
    for moment, hits in zip(moments, found, strict=True):
        assert hits and all(hit.started is not None and hit.started <= moment for hit in hits)
    assert found[0][0].started != found[1][0].started, "what is recent comes first"


def _end_of(day: str) -> datetime:
    return datetime.fromtimestamp(time_of(day, "--at", end=True), UTC)
