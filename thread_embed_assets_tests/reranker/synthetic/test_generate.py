from __future__ import annotations

from pathlib import Path

import pytest

from thread_embed_assets.chat.model import Split
from thread_embed_assets.reranker.candidates import EXAMPLES, FEATURES, NEW_THREAD
from thread_embed_assets.reranker.features import NEW_THREAD_TEXT
from thread_embed_assets.reranker.quality import leaks
from thread_embed_assets.reranker.synthetic.generate import CANDIDATES, write_examples
from thread_embed_assets.storage.quality import has_schema
from thread_embed_assets.storage.tables import TableHandle, connect_read_only

GROUPS = (
    "SELECT split, count(*) AS n, sum(label) AS rights, max(candidate_id = 'new' AND label = 1) AS opens, "
    "count(*) FILTER (candidate_id = 'new') AS news, count(DISTINCT candidate_id) AS different "
    "FROM examples GROUP BY group_id, split"
)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> TableHandle:
    return write_examples(tmp_path_factory.mktemp("examples") / "quick.duckdb", "quick")


def _count(handle: TableHandle, query: str) -> int:
    with connect_read_only([handle]) as connection:
        return int(connection.execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0])


def test_quick_has_about_four_thousand_rows_of_the_schema_in_every_split_and_tier(quick: TableHandle) -> None:
    assert 3_500 < quick.rows < 6_000
    assert has_schema(quick, EXAMPLES).passed
    assert set(quick.counts) == {f"{split}/{tier}" for split in Split for tier in ("easy", "medium", "hard")}


def test_a_train_message_has_three_wrong_candidates_and_others_have_all_threads(quick: TableHandle) -> None:
    assert not _count(quick, f"SELECT * FROM ({GROUPS}) WHERE rights <> 1 OR different <> n OR n > {CANDIDATES}")
    assert not _count(quick, f"SELECT * FROM ({GROUPS}) WHERE split = 'train' AND n <> 4")
    assert not _count(quick, f"SELECT * FROM ({GROUPS}) WHERE split <> 'train' AND news <> 1")
    assert _count(quick, f"SELECT * FROM ({GROUPS}) WHERE split <> 'train' AND n > 7")


def test_wrong_candidates_of_train_are_drawn_evenly(quick: TableHandle) -> None:
    train = f"SELECT * FROM ({GROUPS}) WHERE split = 'train' AND NOT opens"
    share = _count(quick, f"{train} AND news = 1") / _count(quick, train)
    with connect_read_only([quick]) as connection:
        mean = f"SELECT avg(3 / (n - 1)) FROM ({GROUPS}) WHERE split <> 'train' AND NOT opens"
        assert abs(share - float(connection.execute(mean).fetchall()[0][0])) < 0.12


def test_one_message_in_eight_starts_a_thread(quick: TableHandle) -> None:
    share = _count(quick, f"SELECT * FROM ({GROUPS}) WHERE opens") / _count(quick, GROUPS)
    assert 0.09 < share < 0.17


def test_nothing_is_from_the_future_and_a_new_thread_has_its_fixed_text(quick: TableHandle) -> None:
    assert not _count(quick, "SELECT * FROM examples WHERE known_until >= sent_at")
    assert not _count(
        quick, f"SELECT * FROM examples WHERE (candidate_id = '{NEW_THREAD}') <> (thread = '{NEW_THREAD_TEXT}')"
    )
    off = " OR ".join(f"{name} IS NULL OR isnan({name}) OR {name} < 0" for name in FEATURES)
    assert not _count(quick, f"SELECT * FROM examples WHERE {off}")


def test_no_text_of_a_message_stands_in_a_candidate_of_it_in_full(quick: TableHandle) -> None:
    long = "tier <> 'hard' AND length(message) > 40 AND contains(lower(thread), lower(message))"
    assert not _count(quick, f"SELECT * FROM examples WHERE {long}")


def test_no_user_wording_or_message_is_in_two_splits(quick: TableHandle) -> None:
    assert leaks(quick) == []


def test_the_same_seed_gives_the_same_rows(quick: TableHandle, tmp_path: Path) -> None:
    assert write_examples(tmp_path / "again.duckdb", "quick").fingerprint == quick.fingerprint
    assert write_examples(tmp_path / "other.duckdb", "quick", seed=1).fingerprint != quick.fingerprint
