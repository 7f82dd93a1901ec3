from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.benchmark.views import intact, names_only, read_names, with_people, with_typos
from thread_embed_assets.chat.model import Message
from thread_embed_assets.chat.people import PEOPLE
from thread_embed_assets.storage.tables import write_tables
from thread_embed_assets_tests.benchmark.stored import person

TALK = [
    Message("m1", person(1), f"<@{person(2)}>: is the printer back?"),
    Message("m2", person(2), "not yet"),
]
NAMES = {person(1): "quillfern", person(2): "Oda Brackwater"}


def test_names_come_back_in_the_intact_view_and_stand_alone_in_the_other() -> None:
    text = with_people(TALK)
    assert person(1) in text
    assert intact(text, NAMES) == "<quillfern> Oda Brackwater: is the printer back?\n<Oda Brackwater> not yet"
    assert names_only(text, NAMES) == "quillfern Oda Brackwater Oda Brackwater"


def test_an_unknown_person_stays_unknown() -> None:
    assert intact(with_people(TALK), {}) == "<> : is the printer back?\n<> not yet"
    assert "p_" not in names_only(with_people(TALK), {})


def test_the_first_of_a_persons_names_is_shown(tmp_path: Path) -> None:
    assert read_names(tmp_path / "people.duckdb") == {}
    with write_tables(tmp_path / "people.duckdb", {"people": PEOPLE}) as writer:
        writer.add_all("people", [(person(2), "zed"), (person(1), "quillfern"), (person(2), "Oda")])
    assert read_names(tmp_path / "people.duckdb") == {person(1): "quillfern", person(2): "Oda"}


@given(st.text(max_size=80), st.integers(0, 99))
def test_typos_are_the_same_each_time_and_few(text: str, number: int) -> None:
    spoiled = with_typos(text, f"q{number}")
    assert spoiled == with_typos(text, f"q{number}")
    letters = sum(c.isascii() and c.isalpha() for c in text)
    assert abs(len(spoiled) - len(text)) <= max(1, letters // 12)


def test_typos_of_every_kind_are_made_and_words_stay_readable() -> None:
    text = "the nightly build of the installer times out on every second machine since friday"
    spoiled = [with_typos(text, f"q{n}") for n in range(200)]
    assert {len(s) - len(text) for s in spoiled} >= {-2, -1, 0, 1, 2}
    assert all(s != text for s in spoiled)
    kept = [sum(word in text.split() for word in s.split()) / len(text.split()) for s in spoiled]
    assert 0.5 < sum(kept) / len(kept) < 0.8
    assert with_typos("10.04 ++ 42", "q") == "10.04 ++ 42"
