from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.errors import InputError
from thread_embed_assets.language_models import summaries
from thread_embed_assets.language_models.quality import (
    coverage,
    no_held_out_conversation,
    no_private_data,
    not_copied,
    schema,
    unique_ids,
)
from thread_embed_assets.language_models.summaries import SummaryOptions, build_summaries, copied_share
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets.verdict import Verdict
from thread_embed_assets_tests.chat.planted import Stored, sentences, store

from .local_services import FakeAnthropic, FakeOpenAi, made_up

ANTHROPIC = SummaryOptions(writer="anthropic", at_once=1)
PEOPLE = ("p_00000000aa", "p_00000000bb")


def talks(count: int = 8, messages: int = 5, splits: Sequence[str] = ("train",) * 6 + ("dev", "test")) -> list[Stored]:
    return [
        Stored(f"c{n:02}", sentences(messages, f"s{n}"), split=splits[n % len(splits)], people=PEOPLE) for n in range(count)
    ]


class Made:
    """A source and its summaries below one folder, built again at will."""

    def __init__(self, folder: Path, planted: Sequence[Stored]) -> None:
        self.folder = folder
        self.stored: Normalised = store(folder / "c.duckdb", planted)

    def build(self, options: SummaryOptions = ANTHROPIC, **more: Any) -> TableHandle:
        return build_summaries(
            "made", self.stored, options, self.folder / "s.duckdb", self.folder / "answers.sqlite", **more
        )

    def verdicts(self, table: TableHandle) -> list[Verdict]:
        alone = [check(table) for check in (schema, unique_ids, coverage, no_private_data)]
        return [*alone, no_held_out_conversation(table, self.stored), not_copied(table, self.stored)]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path, talks())


def rows(table: TableHandle) -> list[dict[str, Any]]:
    return list(table.rows_as_dicts())


def test_train_and_dev_conversations_are_written_about_in_stored_order(made: Made, anthropic: FakeAnthropic) -> None:
    table = made.build()
    assert [row["conversation_id"] for row in rows(table)] == [f"c{n:02}" for n in range(7)]
    assert {row["split"] for row in rows(table)} == {"train", "dev"}
    assert {row["written_by"] for row in rows(table)} == {"anthropic/claude-haiku-5-5"}
    assert {(row["input_tokens"], row["output_tokens"]) for row in rows(table)} == {(1000, 100)}
    assert table.counts["asked"] == table.counts["written"] == table.counts["answers_bought"] == 7
    assert table.counts["microdollars_spent"] == round(7 * (1000 * 0.10 + 100 * 0.50))
    assert [v.description for v in made.verdicts(table) if not v.passed] == []


def test_only_masked_text_leaves_and_nothing_of_test_conversations(tmp_path: Path, anthropic: FakeAnthropic) -> None:
    planted = talks()
    texts = ["so <@p_00000000bb> what now", *planted[0].texts[1:]]
    planted[0] = Stored(planted[0].id, texts, people=PEOPLE)
    Made(tmp_path, planted).build()
    sent = json.dumps(anthropic.bodies)
    assert "speaker_1: so @speaker_2 what now" in sent
    assert not any(secret in sent for secret in ("p_0000", "c00", "general", "made up", "1600000000"))
    assert all(text not in sent for text in planted[7].texts)


def test_what_was_paid_for_is_not_asked_again(made: Made, anthropic: FakeAnthropic) -> None:
    first = made.build()
    anthropic.plan = [500] * 99
    again = made.build()
    assert again.fingerprint == first.fingerprint
    assert "answers_bought" not in again.counts
    assert anthropic.came == 7


def test_a_killed_run_goes_on_where_it_stopped(made: Made, anthropic: FakeAnthropic) -> None:
    anthropic.plan = [None, None, None, 400]
    with pytest.raises(InputError, match="refuses to work"):
        made.build()
    assert not (made.folder / "s.duckdb").exists()
    assert 3 <= len(anthropic.bodies) <= 4
    anthropic.plan = []
    assert made.build().rows == 7
    assert len(anthropic.bodies) == 7, "each was answered once"


def test_a_stopped_batch_run_pays_once(
    made: Made, anthropic: FakeAnthropic, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = SummaryOptions(writer="anthropic_batch")
    anthropic.looks = 2
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", _killed)
        with pytest.raises(KeyboardInterrupt):
            made.build(options)
    table = made.build(options)
    assert len(anthropic.batches) == 1 and len(anthropic.bodies) == 7
    assert table.rows == 7
    assert table.counts["microdollars_spent"] == round(7 * (1000 * 0.10 + 100 * 0.50) / 2)
    assert made.build().fingerprint == table.fingerprint, "answers are kept by model, however it was asked"


def _killed(seconds: float) -> None:
    raise KeyboardInterrupt


def test_a_run_that_may_cost_more_than_the_budget_sends_nothing(made: Made, anthropic: FakeAnthropic) -> None:
    with pytest.raises(InputError, match=r"7 requests, at most .*more than the budget of \$0.00; nothing was sent"):
        made.build(SummaryOptions(writer="anthropic", budget_usd=0.0001))
    assert anthropic.came == 0
    assert made.build(SummaryOptions(writer="extractive", budget_usd=0.0)).rows == 7


def test_a_run_that_turns_out_dearer_is_stopped_and_keeps_what_it_has(made: Made, anthropic: FakeAnthropic) -> None:
    def dear(answer: dict[str, Any]) -> dict[str, Any]:
        return answer | {"usage": {"input_tokens": 40_000_000, "output_tokens": 0}}

    anthropic.plan = [None, dear]
    with pytest.raises(InputError, match=r"\$4.00\d+ is spent, which is more than the budget of \$3.00"):
        made.build(SummaryOptions(writer="anthropic", at_once=1, budget_usd=3.0))
    came = anthropic.came
    assert came < 7
    assert made.build().rows == 7
    assert anthropic.came - came == 5, "the two that were paid for are kept"


def test_the_cost_is_told_before(made: Made, anthropic: FakeAnthropic, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made.build()
    [line] = [r.message for r in caplog.records if "at most" in r.message]
    assert line.startswith("summarise by anthropic/claude-haiku-5-5: 7 requests, at most ") and "budget is $5.00" in line


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        ({"summary": "Write to pellwyn@example.org about it"}, "dropped_private_data"),
        ({"summary": "speaker_2 mends the printer"}, "dropped_names_a_speaker"),
        ({"title": "Speaker 1 and the printer"}, "dropped_names_a_speaker"),
        ("I cannot do that", "no_answer_not_as_asked"),
    ],
)
def test_an_answer_that_cannot_be_used_makes_no_row(made: Made, anthropic: FakeAnthropic, answer: Any, count: str) -> None:
    def spoiled(text: str) -> Any:
        if sentences(5, "s3")[0] not in text:
            return made_up(text)
        return answer if isinstance(answer, str) else made_up(text) | answer

    anthropic.answer = spoiled
    table = made.build()
    assert table.counts[count] == 1
    assert [row["conversation_id"] for row in rows(table)] == [f"c{n:02}" for n in range(7) if n != 3]


def test_a_copied_summary_makes_no_row_and_a_copied_question_no_question(made: Made, anthropic: FakeAnthropic) -> None:
    def copying(text: str) -> Any:
        message = text.split("\n")[2].partition(": ")[2]
        if sentences(5, "s3")[0] in text:
            return made_up(text) | {"summary": message}
        return made_up(text) | {"questions": [message, "which matter was it"]}

    anthropic.answer = copying
    table = made.build()
    assert table.counts["dropped_copied"] == 7
    assert table.rows == 6
    assert {tuple(row["questions"]) for row in rows(table)} == {("which matter was it",)}


def test_a_refusal_is_counted_and_not_asked_again(made: Made, anthropic: FakeAnthropic) -> None:
    anthropic.plan = [lambda answer: answer | {"stop_reason": "refusal", "content": []}]
    assert made.build().counts["no_answer_refused"] == 1
    assert made.build().rows == 6 and anthropic.came == 7


def test_a_local_model_is_asked_when_it_is_named(made: Made, local_model: FakeOpenAi) -> None:
    table = made.build(SummaryOptions(writer="openai_compatible", model="tiny-chat", budget_usd=0.0))
    assert {row["written_by"] for row in rows(table)} == {"openai_compatible/tiny-chat"}
    assert len(local_model.bodies) == table.rows == 7


def test_the_stand_in_says_so_and_needs_nobody(made: Made, anthropic: FakeAnthropic) -> None:
    table = made.build(SummaryOptions())
    assert {row["written_by"] for row in rows(table)} == {"extractive"}
    assert [v.description for v in made.verdicts(table) if not v.passed] == []
    assert anthropic.came == 0
    assert made.build(SummaryOptions()).fingerprint == table.fingerprint


def test_the_limit_draws_by_id_and_short_or_dropped_ones_are_left_out(tmp_path: Path) -> None:
    made = Made(tmp_path, [*talks(30), Stored("c99", sentences(2, "short"))])
    ids = [[row["conversation_id"] for row in rows(made.build(SummaryOptions(limit=limit)))] for limit in (20_000, 10, 5)]
    assert [len(found) for found in ids] == [27, 10, 5]
    assert set(ids[2]) < set(ids[1]) < set(ids[0]) and ids[1] == sorted(ids[1])
    assert ids[1] != ids[0][:10], "not the head of the file"
    assert "c99" not in ids[0]
    assert "c99" in [row["conversation_id"] for row in rows(made.build(SummaryOptions(fewest_messages=2)))]
    left = made.build(SummaryOptions(), dropped={"c00", "c01"})
    assert [row["conversation_id"] for row in rows(left)][:1] == ["c02"]


def test_a_source_that_strategy_d_cannot_use_gets_an_empty_table(made: Made, anthropic: FakeAnthropic) -> None:
    table = made.build(served=False)
    assert table.rows == 0 and table.counts == {"strategy_not_served": 1}
    assert anthropic.came == 0


def test_a_long_conversation_is_cut(tmp_path: Path, anthropic: FakeAnthropic) -> None:
    Made(tmp_path, [Stored("c", sentences(60, "long"))]).build(SummaryOptions(writer="anthropic", longest_tokens=200))
    assert 300 < len(anthropic.bodies[0]["messages"][0]["content"]) < 1000


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("the red kettle broke the fuse again", 1.0),
        ("somebody says the red kettle broke the fuse", 6 / 8),
        ("Lunch?", 1.0),
        ("kettle", 0.0),
        ("a kettle trips a fuse in the kitchen", 0.0),
        ("", 0.0),
    ],
)
def test_a_copy_is_told_by_runs_of_five_words(line: str, share: float) -> None:
    assert copied_share(line, ["The red kettle broke the fuse, again!", "lunch"]) == pytest.approx(share)


def test_no_benchmark_reads_what_was_written_here() -> None:
    package = Path(summaries.__file__).parents[1]
    found = [*package.glob("benchmark/**/*.py"), *package.glob("defs/benchmark/*.py")]
    modules = [path for path in found if path.name != "ablations.py"]  # which builds pairs to train on
    readers = [path.name for path in modules if "models.summaries" in (text := path.read_text()) or ".summaries(" in text]
    assert len(modules) > 10 and readers == [], "the truth of the benchmark is written by people"


def test_the_folder_of_prompts_and_the_table_of_prices_travel_with_the_package() -> None:
    import tomllib

    root = Path(summaries.__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    data = project["tool"]["setuptools"]["package-data"]["thread_embed_assets"]
    assert {"language_models/prices.yaml", "language_models/prompts/*.md"} <= set(data)
