from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from thread_embed_assets.chat import quality
from thread_embed_assets.chat.model import CONVERSATIONS, MESSAGES
from thread_embed_assets.chat.normalise import Normalised, open_normalised
from thread_embed_assets.chat.people import PEOPLE
from thread_embed_assets.chat.secrets import mask_secrets
from thread_embed_assets.storage.tables import write_tables
from thread_embed_assets.verdict import Verdict

from .planted import Stored, sentences, store
from .planted_secrets import Planted, planted_secrets

ADA, BEN = "p_00000000aa", "p_00000000bb"
COUNTS = {"parsed_conversations": 50, "kept_conversations": 40}
NAMES = [(ADA, "zorkle"), (ADA, "zorkle vimmel"), (ADA, "will"), (ADA, "zo"), (BEN, "quandor"), ("p_00000000cc", "lurker")]
GERMAN = ["hat jemand den schlüssel gesehen, er war noch hier", "ja, der liegt auf dem tisch", "danke, ich hole ihn gleich"]


def good(count: int = 40) -> list[Stored]:
    return [Stored(f"c{n:02}", sentences(3, n), people=(ADA, BEN)) for n in range(count)]


def people(path: Path, rows: Sequence[tuple[str, str]] = NAMES) -> Path:
    with write_tables(path / "people.duckdb", {"people": PEOPLE}) as writer:
        writer.add_all("people", rows)
    return path / "people.duckdb"


def caught(verdict: Verdict, example: str) -> bool:
    return not verdict.passed and example in verdict.description


def planted(path: Path, text: str, position: int = 7, speakers: tuple[str, ...] = (ADA, BEN)) -> Normalised:
    conversations = good()
    texts = [*conversations[position].texts[:1], text, conversations[position].texts[2]]
    conversations[position] = Stored(conversations[position].id, texts, people=speakers)
    return store(path / "c.duckdb", conversations)


def test_good_data_passes_every_check(tmp_path: Path) -> None:
    stored = store(tmp_path / "c.duckdb", good(), COUNTS)
    verdicts = [
        quality.non_empty(stored),
        quality.schema(stored),
        quality.unique_ids(stored),
        quality.language_share(stored),
        quality.speaker_names_gone(stored, people(tmp_path)),
        quality.filter_rates(stored, (0.1, 0.3)),
        quality.no_private_data(stored),
    ]
    assert [v.description for v in verdicts if not v.passed] == []
    assert verdicts[3].numbers == {"checked": 40, "english_share": 1.0}
    assert verdicts[4].numbers == {"checked": 120, "faults": 0}
    assert verdicts[5].numbers["removed_share"] == pytest.approx(0.2)
    assert verdicts[6].numbers == {"checked": 120, "faults": 0}


def test_no_conversations_are_caught(tmp_path: Path) -> None:
    stored = store(tmp_path / "c.duckdb", [])
    assert caught(quality.non_empty(stored), "conversations")
    assert caught(quality.non_empty(stored), "messages")
    assert caught(quality.language_share(stored), "0.0% of 0")
    assert caught(quality.speaker_names_gone(stored, people(tmp_path)), "nothing to check")
    assert caught(quality.no_private_data(stored), "nothing to check")


@pytest.mark.parametrize("table", ["conversations", "messages"])
def test_another_schema_is_caught(tmp_path: Path, table: str) -> None:
    schemas = {"conversations": CONVERSATIONS, "messages": MESSAGES}
    schemas[table] = schemas[table].set(0, pa.field("conversation_id", pa.int64()))
    with write_tables(tmp_path / "c.duckdb", schemas):
        pass
    assert caught(quality.schema(open_normalised(tmp_path / "c.duckdb")), "conversation_id is int64")


def test_duplicate_ids_are_caught(tmp_path: Path) -> None:
    twice = [*good(3), Stored("c01", sentences(3, "x"), ids=("x", "y", "z"))]
    assert caught(quality.unique_ids(store(tmp_path / "a.duckdb", twice)), "duplicate conversation_id: 1 of 4, such as c01")
    shared = [*good(3), Stored("d", sentences(3, "x"), ids=("x", "c02-1", "z"))]
    assert caught(quality.unique_ids(store(tmp_path / "b.duckdb", shared)), "such as c02-1")


def test_another_language_is_caught(tmp_path: Path) -> None:
    few = [*good(39), Stored("german", GERMAN)]
    assert quality.language_share(store(tmp_path / "a.duckdb", few)).passed
    many = [*good(30), *(Stored(f"german{n}", [f"{GERMAN[0]} {n}", *GERMAN[1:]]) for n in range(3))]
    assert caught(quality.language_share(store(tmp_path / "b.duckdb", many)), "90.9% of 33 sampled conversations")


@pytest.mark.parametrize(
    "text",
    [
        "thanks zorkle that helped a lot",
        "ZORKLE: it is the green one",
        "ask Zorkle Vimmel about the kettle",
        "it was quandor's idea",
    ],
)
def test_a_speakers_name_is_caught(tmp_path: Path, text: str) -> None:
    assert caught(quality.speaker_names_gone(planted(tmp_path, text), people(tmp_path)), "1 of 120, such as message c07-1")


@pytest.mark.parametrize(
    "text",
    [
        "so will it work or not",  # an everyday word
        "the zo is a short word",
        "the lurker speaks elsewhere",
        "zorkles and azorkle and <@p_00000000aa>",
        "the zorklevimmel",
    ],
)
def test_what_is_no_name_of_a_speaker_passes(tmp_path: Path, text: str) -> None:
    assert quality.speaker_names_gone(planted(tmp_path, text), people(tmp_path)).passed


@pytest.mark.parametrize("text", ["ask lurkwell about it", "U077ABC has it", "it is Lurkwell Fenwold's kettle"])
def test_the_name_of_a_member_who_never_speaks_is_caught(tmp_path: Path, text: str) -> None:
    silent = [("p_00000000dd", name) for name in ("lurkwell", "lurkwell fenwold", "u077abc", "page")]
    table = people(tmp_path, [*NAMES, *silent])
    stored = planted(tmp_path, text)
    assert caught(quality.speaker_names_gone(stored, table), "1 of 120, such as message c07-1")
    listed_once = people(tmp_path, [*NAMES, silent[0]])  # a nick met elsewhere, of whom no list says that it is a person
    assert quality.speaker_names_gone(planted(tmp_path, "ask lurkwell about the page"), listed_once).passed


@pytest.mark.parametrize("planted_secret", planted_secrets(each=1), ids=lambda planted: planted.kind)
def test_private_data_is_caught_and_not_told(tmp_path: Path, planted_secret: Planted) -> None:
    verdict = quality.no_private_data(planted(tmp_path, planted_secret.sentence))
    assert caught(verdict, "1 of 120, such as c07-1 (")
    assert all(piece not in verdict.description for piece in planted_secret.distinctive)
    assert quality.no_private_data(planted(tmp_path, mask_secrets(planted_secret.sentence))).passed


def test_a_name_of_two_words_is_caught_where_neither_word_is_a_name(tmp_path: Path) -> None:
    table = people(tmp_path, [(ADA, "fen.vimmel"), (BEN, "quandor")])
    assert caught(quality.speaker_names_gone(planted(tmp_path, "ask fen.vimmel, please"), table), "message c07-1")
    assert quality.speaker_names_gone(planted(tmp_path, "the fen-vimmel, fen.vimmels"), table).passed


def test_a_bare_author_is_caught(tmp_path: Path) -> None:
    stored = planted(tmp_path, "the kettle is still warm", speakers=("zorkle", BEN))
    assert caught(quality.speaker_names_gone(stored, people(tmp_path)), "a bare author in c07")


@pytest.mark.parametrize("bounds", [(0.0, 0.1), (0.25, 0.5)])
def test_filters_that_remove_too_much_or_too_little_are_caught(tmp_path: Path, bounds: tuple[float, float]) -> None:
    verdict = quality.filter_rates(store(tmp_path / "c.duckdb", good(), COUNTS), bounds)
    assert caught(verdict, "20.0% of 50 parsed conversations were removed")


def test_missing_counts_are_caught(tmp_path: Path) -> None:
    assert not quality.filter_rates(store(tmp_path / "c.duckdb", good()), (0.0, 1.0)).passed
