from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from thread_embed_assets.benchmark import contamination as engine
from thread_embed_assets.benchmark import shared_stretches
from thread_embed_assets.benchmark.contamination import Findings, contamination, examine
from thread_embed_assets.benchmark.shared_stretches import Kind, Level
from thread_embed_assets.pairs.schema import HARD_NEGATIVES_FOLDER
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table, write_tables
from thread_embed_assets.training.checkpoint import MANIFEST, MODEL_DETAILS, MODEL_FOLDER, Checkpoint
from thread_embed_assets_tests.benchmark.leaks import (
    LEAKS,
    QUERY,
    STOCK,
    THREAD,
    message,
    one_in_six_changed,
)
from thread_embed_assets_tests.pairs.made import NEGATIVE, pair, write_negatives, write_pairs

DEV_QUERY = message("dev query", 26)
PARAPHRASE = message("a summary in other words")


def strings(*names: str) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in ("task", "split", *names)])


def write_tasks(path: Path, queries: Iterable[tuple[str, ...]], corpus: Iterable[tuple[str, ...]]) -> Path:
    own = ("conversation_id", "text_plain")
    schemas = {"queries": strings("query_id", *own, "paraphrase"), "corpus": strings("doc_id", *own)}
    with write_tables(path, schemas) as writer:
        writer.add_all("queries", queries)
        writer.add_all("corpus", corpus)
    return path


@dataclass
class World:
    """One source's tasks and tables, and the checkpoints trained on them."""

    layout: Layout
    corpus: list[str] = field(default_factory=lambda: ["\n".join(THREAD), message("another document", 60)])

    @cached_property
    def tasks(self) -> dict[str, Path]:
        queries = [
            ("thread", "test", "q_test", "held:1", QUERY, ""),
            ("thread", "dev", "q_dev", "held:2", DEV_QUERY, ""),
            ("summary", "test", "q_summary", "held:1", STOCK, PARAPHRASE),
        ]
        documents = [("thread", "test", f"d_{n}", f"held:{n}", text) for n, text in enumerate(self.corpus)]
        return {"made": write_tasks(self.layout.tasks("made"), queries, documents)}

    def pairs(self, rows: Sequence[Mapping[str, Any]] = (), strategy: str = "thread", source: str = "made") -> None:
        """A table of clean pairs and the given ones."""
        clean = [pair(n, anchor=message(f"{strategy}{n}", 40), positive=message(f"+{n}", 50)) for n in range(20)]
        write_pairs(self.layout.pairs(strategy, source), [*clean, *map(dict, rows)])

    def leak(self, text: str, column: str = "anchor") -> None:
        self.pairs([pair(100, **{"anchor": message("clean"), column: text})])

    def checkpoint(
        self, mix: str = "all", strategy: str = "thread", source: str = "made", mined: bool = False, **manifest: Any
    ) -> Checkpoint:
        """One that was trained on the tables as they now are."""
        table = open_table(self.layout.pairs(strategy, source), "pairs")
        negatives = self.layout.pairs(HARD_NEGATIVES_FOLDER, source)
        place = {"strategy": strategy, "source": source}
        contents = {
            "mix": mix,
            "stage": "stage1",
            "fingerprint": "f0",
            "base_model": {"id": "sentence-transformers/all-MiniLM-L6-v2", "fingerprint": "c0"},
            "data": [
                {**place, "hard_negatives": open_table(negatives, "hard_negatives").fingerprint if mined else None},
            ],
            "inputs": [{**place, "fingerprint": table.fingerprint, "rows": table.rows, "rows_used": table.rows}],
        }
        return Checkpoint(self.layout.checkpoints(mix, "stage1") / "f0", "f0", {**contents, **manifest})

    def examine(self, *checkpoints: Checkpoint) -> Findings:
        return examine(self.tasks, checkpoints or [self.checkpoint()], self.layout)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Layout(tmp_path))


def test_a_clean_corpus_passes_and_tells_how_much_was_compared(world: World) -> None:
    world.pairs([pair(100, anchor=f"{message('a')} {STOCK}", positive=STOCK)])
    verdict = contamination(world.tasks, [world.checkpoint()], world.layout)
    assert verdict.passed, verdict.description
    assert verdict.numbers == {
        "checkpoints": 1,
        "pair_tables": 1,
        "training_texts": 42,
        "test_texts": 4,
        "dev_texts": 1,
        "test_hits": 0,
        "dev_hits": 0,
        "test_texts_hit": 0,
        "dev_texts_hit": 0,
        "unproved": 0,
    }
    assert "4 test and 1 dev texts with 42 training texts of 1 checkpoints" in verdict.description


def test_planted_leaks_are_caught_where_they_are(world: World) -> None:
    world.pairs([pair(100 + n, anchor=text) for n, text in enumerate(LEAKS)])
    findings = world.examine()
    assert {hit.pair_id: (hit.held_out.id, hit.level, hit.kind) for hit in findings.hits} == {
        f"c{100 + n}#thread0": expected for n, expected in enumerate(LEAKS.values())
    }
    assert len(findings.hits) == len(LEAKS)
    verdict = findings.verdict()
    assert not verdict.passed
    assert verdict.numbers["test_hits"] == len(LEAKS)
    assert verdict.numbers["test_texts_hit"] == 2
    assert verdict.numbers["test_window_near"] == 1


def test_the_verdict_names_what_was_hit_and_shows_no_text(world: World) -> None:
    world.leak(QUERY)
    verdict = contamination(world.tasks, [world.checkpoint()], world.layout)
    assert not verdict.passed
    assert verdict.numbers["test_hits"] == verdict.numbers["test_message_exact"] == 1
    assert "test q_test (made, thread), message, exact: anchor of c100#thread0 (thread, made) in all/stage1/f0" in (
        verdict.description
    )
    assert not any(word in verdict.description for word in QUERY.split())


def test_the_second_wording_of_a_query_is_compared_too(world: World) -> None:
    world.leak(PARAPHRASE)
    [hit] = world.examine().hits
    assert (hit.held_out.id, hit.level, hit.kind) == ("q_summary", Level.MESSAGE, Kind.EXACT)


def test_every_text_of_a_pair_is_compared(world: World) -> None:
    columns = ("anchor", "positive", "negative")
    clean = dict.fromkeys(columns, message("clean"))
    world.pairs([pair(100 + n, **clean | {column: QUERY}) for n, column in enumerate(columns)])
    hits = world.examine().hits
    assert {(hit.held_out.id, hit.pair_id, hit.part) for hit in hits} == {
        ("q_test", f"c{100 + n}#thread0", column) for n, column in enumerate(columns)
    }


def test_a_leak_in_the_negative_of_a_temporal_pair_is_caught(world: World) -> None:
    world.pairs([pair(3, pair_id="c3#temporal0", negative="\n".join(THREAD[:2]))], "temporal")
    [hit] = world.examine(world.checkpoint(strategy="temporal")).hits
    assert (hit.strategy, hit.part, hit.level, hit.kind) == ("temporal", "negative", Level.WINDOW, Kind.EXACT)


def test_a_line_about_a_thread_that_repeats_a_query_is_caught(world: World) -> None:
    row = pair(3, pair_id="c3#summary0", strategy="summary", anchor=PARAPHRASE, anchor_ids=[], gap_seconds=None)
    world.pairs([row], "summary")
    [hit] = world.examine(world.checkpoint(strategy="summary")).hits
    assert (hit.strategy, hit.part, hit.held_out.id) == ("summary", "anchor", "q_summary")


def test_dev_rows_are_no_training_texts(world: World) -> None:
    world.pairs([pair(3, anchor=QUERY, split="dev")])
    assert world.examine().verdict().passed


def test_a_leak_of_dev_is_told_and_does_not_block(world: World) -> None:
    world.leak(DEV_QUERY)
    verdict = world.examine().verdict()
    assert verdict.passed
    assert verdict.numbers["dev_hits"] == 1
    assert "1 times on dev" in verdict.description


def test_hard_negatives_are_compared_where_they_were_trained_on(world: World) -> None:
    world.pairs()
    row = NEGATIVE | {"pair_id": "c7#thread0", "negative": one_in_six_changed(QUERY)}
    other = NEGATIVE | {"pair_id": "c7#response0", "strategy": "response", "negative": THREAD[0]}
    write_negatives(world.layout.pairs(HARD_NEGATIVES_FOLDER, "made"), [row, other])
    assert world.examine().verdict().passed
    [hit] = world.examine(world.checkpoint(mined=True)).hits
    assert (hit.held_out.id, hit.part, hit.pair_id, hit.kind) == ("q_test", "hard_negative", "c7#thread0", Kind.NEAR)


def test_a_leak_in_a_second_checkpoint_only_is_caught_and_named(world: World) -> None:
    world.pairs()
    world.pairs([pair(100, anchor=QUERY)], source="elsewhere")
    clean, leaking = world.checkpoint("clean"), world.checkpoint("leaking", source="elsewhere")
    assert world.examine(clean).verdict().passed
    [hit] = world.examine(clean, leaking).hits
    assert (hit.checkpoints, hit.source) == (("leaking/stage1/f0",), "elsewhere")


def test_a_table_of_two_checkpoints_is_read_once_and_names_both(world: World) -> None:
    world.leak(QUERY)
    findings = world.examine(world.checkpoint("one"), world.checkpoint("two"))
    [hit] = findings.hits
    assert hit.checkpoints == ("one/stage1/f0", "two/stage1/f0")
    assert (findings.tables, findings.checkpoints) == (1, 2)


def test_an_altered_table_proves_nothing(world: World) -> None:
    world.leak(QUERY)
    checkpoint = world.checkpoint()
    world.pairs()
    verdict = world.examine(checkpoint).verdict()
    assert not verdict.passed
    assert verdict.numbers["unproved"] == 1
    assert "is not the table it was trained on" in verdict.description
    assert "Train it again" in verdict.description


def test_altered_hard_negatives_prove_nothing(world: World) -> None:
    world.pairs()
    negatives = world.layout.pairs(HARD_NEGATIVES_FOLDER, "made")
    write_negatives(negatives, [NEGATIVE])
    checkpoint = world.checkpoint(mined=True)
    assert world.examine(checkpoint).verdict().passed
    write_negatives(negatives, [NEGATIVE | {"rank": 2}])
    assert "is not the table it was trained on" in world.examine(checkpoint).verdict().description


def test_a_table_that_is_gone_proves_nothing(world: World) -> None:
    world.pairs()
    checkpoint = world.checkpoint()
    world.layout.pairs("thread", "made").unlink()
    verdict = world.examine(checkpoint).verdict()
    assert not verdict.passed
    assert "there is no such table yet" in verdict.description
    assert "Then train it again" in verdict.description


def test_what_no_row_was_taken_from_is_not_asked_for(world: World) -> None:
    world.pairs()
    checkpoint = world.checkpoint()
    unused = {"strategy": "thread", "source": "gone", "fingerprint": "e0", "rows": 3, "rows_used": 0}
    manifest = {**checkpoint.manifest, "inputs": [*checkpoint.manifest["inputs"], unused]}
    assert world.examine(Checkpoint(checkpoint.folder, "f0", manifest)).verdict().passed


def save(checkpoint: Checkpoint, with_manifest: bool = True) -> Path:
    checkpoint.model.mkdir(parents=True)
    details = {name: checkpoint.manifest[name] for name in ("mix", "stage", "fingerprint")}
    (checkpoint.model / MODEL_DETAILS).write_text(json.dumps(details))
    if with_manifest:
        (checkpoint.folder / MANIFEST).write_text(json.dumps(checkpoint.manifest))
    return checkpoint.model


def second_stage(world: World, base: Path) -> Checkpoint:
    world.pairs(source="clean")
    return world.checkpoint("later", source="clean", stage="stage2", base_model={"id": str(base), "fingerprint": "x"})


def test_an_earlier_stage_counts_too(world: World) -> None:
    world.leak(QUERY)
    [hit] = world.examine(second_stage(world, save(world.checkpoint("first")))).hits
    assert hit.checkpoints == ("later/stage2/f0",)


def named_stage(world: World, parent: str) -> Checkpoint:
    """A stage whose manifest names the one before it by what it is, not by a folder."""
    world.pairs(source="clean")
    base = {"id": f"all/stage1/{parent}", "fingerprint": "x"}
    return world.checkpoint("later", source="clean", stage="stage2", parent=parent, base_model=base)


def test_an_earlier_stage_is_found_by_its_name(world: World) -> None:
    world.leak(QUERY)
    save(world.checkpoint())
    [hit] = world.examine(named_stage(world, "f0")).hits
    assert hit.checkpoints == ("later/stage2/f0",)


def test_a_named_stage_that_is_gone_proves_nothing(world: World) -> None:
    world.pairs()
    verdict = world.examine(named_stage(world, "f1")).verdict()
    assert not verdict.passed and "its base all/stage1/f1 has no manifest" in verdict.description


def test_earlier_stages_that_travel_with_a_manifest_count_too(world: World) -> None:
    world.leak(QUERY)
    first = world.checkpoint()
    world.pairs(source="clean")
    [hit] = world.examine(world.checkpoint("later", source="clean", earlier=[first.manifest])).hits
    assert hit.source == "made" and hit.checkpoints == ("later/stage1/f0",)


def test_negatives_that_a_model_mined_are_compared_in_the_table_of_their_mix(world: World) -> None:
    world.pairs()
    row = NEGATIVE | {"kind": "mined", "negative": QUERY}
    elsewhere = row | {"source": "elsewhere", "negative": THREAD[0]}
    mined = write_negatives(world.layout.mined_negatives("all"), [row, elsewhere])
    place = {"strategy": "thread", "source": "made", "hard_negatives": mined.fingerprint}
    stage3 = world.checkpoint(data=[place], config={"hard_negatives": "mined"})
    [hit] = world.examine(stage3).hits
    assert (hit.part, hit.held_out.id) == ("hard_negative", "q_test")
    world.layout.mined_negatives("all").unlink()
    assert "mined thread of made" in world.examine(stage3).verdict().description


def test_an_earlier_stage_is_found_from_a_copy_of_its_model(world: World, tmp_path: Path) -> None:
    world.leak(QUERY)
    copy = tmp_path / "elsewhere" / MODEL_FOLDER
    copy.parent.mkdir()
    save(world.checkpoint("first")).rename(copy)
    assert len(world.examine(second_stage(world, copy)).hits) == 1


def test_an_earlier_stage_without_a_manifest_proves_nothing(world: World) -> None:
    world.pairs()
    verdict = world.examine(second_stage(world, save(world.checkpoint("first"), with_manifest=False))).verdict()
    assert not verdict.passed
    assert "has no manifest. Train the earlier stage again" in verdict.description


def test_no_test_conversation_is_trained_on_whatever_its_texts(world: World) -> None:
    columns = ("conversation_id", "negative_conversation_id")
    texts = {"anchor": message("a"), "positive": message("b")}
    world.pairs([pair(100 + n, **texts, **{column: "held:1"}) for n, column in enumerate(columns)])
    findings = world.examine()
    assert {(hit.held_out.id, hit.level, hit.pair_id, hit.part) for hit in findings.hits} == {
        ("held:1", Level.CONVERSATION, f"c{100 + n}#thread0", column) for n, column in enumerate(columns)
    }
    assert not findings.verdict().passed


def test_the_same_conversation_id_in_another_source_is_another_conversation(world: World) -> None:
    world.pairs([pair(100, anchor=message("a"), positive=message("b"), conversation_id="held:1")], source="elsewhere")
    assert world.examine(world.checkpoint(source="elsewhere")).verdict().passed


def test_nothing_to_compare_does_not_pass(world: World) -> None:
    world.pairs()
    assert not contamination(world.tasks, [], world.layout).passed
    empty = {"made": write_tasks(world.layout.tasks("made"), [], [])}
    verdict = contamination(empty, [world.checkpoint()], world.layout)
    assert not verdict.passed
    assert "there was nothing to compare" in verdict.description


def test_batches_and_portions_change_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.pairs([pair(100 + n, anchor=text) for n, text in enumerate(LEAKS)])
    whole = world.examine()
    monkeypatch.setattr(engine, "_BATCH_CHARACTERS", 200)
    monkeypatch.setattr(shared_stretches, "_PAIRS_AT_ONCE", 16)
    assert world.examine() == whole
    assert len(whole.hits) == len(LEAKS)
