from __future__ import annotations

import multiprocessing
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thread_embed_assets.chat.people import Masker, is_everyday_word, salt, write_people
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table

SECRET = bytes(range(16))
PERSON = re.compile(r"p_[0-9a-f]{10}")
TOKEN = re.compile(r"[\w\[\]\\`^{}|-]+")
NICK = st.from_regex(r"[a-z\[\]\\`^{}|_-][a-z0-9\[\]\\`^{}|_-]{2,10}", fullmatch=True).filter(
    lambda nick: not is_everyday_word(nick) and re.search(r"[a-z0-9]", nick) is not None
)
AROUND = st.sampled_from(["", " ", ": ", ", ", ". ", "? ", "'s ", " @", "<@", "> ", " (", ") ", " ok ", "\n", "/", " The "])


def masker(source: str = "made", secret: bytes = SECRET, **aliases: str) -> Masker:
    return Masker(source, secret, aliases)


def test_ids_are_opaque_stable_and_blind_to_case() -> None:
    one = masker()
    assert PERSON.fullmatch(one.person("zorkle"))
    assert one.person("Zorkle") == one.person("zorkle") == masker().person("ZORKLE")
    assert one.person("quandor") != one.person("zorkle")


def test_ids_differ_between_sources_and_salts() -> None:
    found = {masker().person("zorkle"), masker("other").person("zorkle"), masker(secret=bytes(16)).person("zorkle")}
    assert len(found) == 3


def test_every_name_of_a_person_leads_to_one_id() -> None:
    found = masker(U1="Zorkle Vim", zork="Zorkle Vim", Zorkle="Zorkle Vim")
    assert {found.person(name) for name in ("U1", "zork", "Zorkle Vim", "ZORK", "zorkle", "u1")} == {
        found.person("zorkle vim")
    }


@given(
    roster=st.frozensets(NICK, min_size=1, max_size=4),
    picks=st.lists(st.tuples(AROUND, st.integers(0, 7), AROUND, st.booleans()), min_size=1, max_size=5),
)
@example(roster=frozenset({"p_jones"}), picks=[("<@", 0, "> ", False)])
@example(roster=frozenset({"zorkle"}), picks=[("<@", 0, " ok ", True)])
def test_no_roster_name_survives_as_a_token(roster: frozenset[str], picks: list[tuple[str, int, str, bool]]) -> None:
    names = sorted(roster)
    parts = [(before, names[n % len(names)], after, upper) for before, n, after, upper in picks]
    text = "".join(f"{before}{name.upper() if upper else name}{after}" for before, name, after, upper in parts)
    found = masker().mask(text, roster)
    assert not roster & {token.casefold() for token in TOKEN.findall(found)}


@given(
    text=st.lists(st.text(max_size=4) | st.sampled_from(["<@", ">", "|", ":", "lurker"]), max_size=8).map("".join),
    roster=st.frozensets(NICK | st.text(max_size=6), max_size=4),
)
def test_any_text_and_any_roster_can_be_masked(text: str, roster: frozenset[str]) -> None:
    found = masker().mask(text, roster, frozenset({"lurker"}))
    assert all(PERSON.fullmatch(name) for name in re.findall(r"<@([^<>|\s][^<>|]*)>", found))
    assert masker().mask(text, frozenset()) == text or "<@" in text


@given(text=st.text(st.sampled_from("zorkle <@>:,.'W "), max_size=40))
def test_masking_twice_is_masking_once(text: str) -> None:
    one, roster = masker(), frozenset({"zorkle", "will"})
    once = one.mask(text, roster)
    assert one.mask(once, roster) == once


def test_a_mention_is_the_author() -> None:
    one = masker(U1="zorkle")
    person = one.person("zorkle")
    roster = frozenset({"zorkle"})
    for text in ("<@U1> hi", "<@zorkle> hi", "<@U1|zorkle> hi", "zorkle hi", "Zorkle hi", "@zorkle hi", "@ZORKLE hi"):
        assert one.mask(text, roster) == f"<@{person}> hi"
    assert one.mask("zorkle's or (zorkle), zorkle_: -zorkle-", roster).count(f"<@{person}>") == 4
    assert one.mask("zorkles and azorkle", roster) == "zorkles and azorkle"


def test_a_marked_mention_of_a_stranger_is_masked_too() -> None:
    one = masker()
    assert one.mask("ask <@stranger>", frozenset()) == f"ask <@{one.person('stranger')}>"
    assert one.mask("ask <@p_stranger>", frozenset()) == f"ask <@{one.person('p_stranger')}>"


def test_names_of_several_words_are_masked_whole() -> None:
    one = Masker("made", SECRET, {"zorkle": "Zorkle Vimmel", "zorkle.vimmel": "Zorkle Vimmel", "U1": "Zorkle Vimmel"})
    person = f"<@{one.person('Zorkle Vimmel')}>"
    roster = frozenset({"Zorkle Vimmel", "zorkle", "zorkle.vimmel", "U1"})
    assert one.mask("Zorkle Vimmel, zorkle.vimmel and zorkle", roster) == f"{person}, {person} and {person}"
    assert one.mask("ask zorkle vimmel's team, @Zorkle Vimmel", roster) == f"ask {person}'s team, {person}"
    assert one.mask("zorkle vimmelson", roster) == f"{person} vimmelson"


def test_names_of_other_scripts_are_masked() -> None:
    one = masker()
    for name in ("राहुल", "Дмитрий", "小林さん", "Zoë Größe"):
        assert one.mask(f"ask {name}!", frozenset({name})) == f"ask <@{one.person(name)}>!"


def test_an_everyday_name_is_masked_only_where_it_is_a_name() -> None:
    one = masker()
    person, roster = f"<@{one.person('will')}>", frozenset({"will"})
    assert is_everyday_word("will")
    assert one.mask("will: try this", roster) == f"{person}: try this"
    assert one.mask("Will, try this", roster) == f"{person}, try this"
    assert one.mask("I asked Will about it", roster) == f"I asked {person} about it"
    for text in ("I will try", "Will it work?", "so. Will it work?", "IT WILL WORK"):
        assert one.mask(text, roster) == text


def test_two_letters_are_no_name() -> None:
    assert masker().mask("ab: hello xy", frozenset({"ab", "xy"})) == "ab: hello xy"


def test_onlookers_are_masked_only_where_they_are_addressed() -> None:
    one = masker()
    person, onlookers = f"<@{one.person('lurker')}>", frozenset({"lurker", "will"})
    assert one.mask("lurker: hello", frozenset(), onlookers) == f"{person}: hello"
    assert one.mask("@Lurker, hello", frozenset(), onlookers) == f"{person}, hello"
    for text in ("hello lurker", "lurker hello", "so lurker: hello", "will: hello"):
        assert one.mask(text, frozenset(), onlookers) == text


def test_more_rosters_than_are_kept_ready() -> None:
    one = masker()
    for _ in range(2):
        for n in range(40):
            assert one.mask(f"hi nick{n}x", frozenset({f"nick{n}x"})) == f"hi <@{one.person(f'nick{n}x')}>"
            assert one.mask("hi nick0x", frozenset({"nick99x"})) == "hi nick0x"


def test_the_salt_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    first = salt(layout)
    assert len(first) == 16
    assert salt(layout) == first
    assert salt(Layout(tmp_path / "other")) != first
    assert stat.S_IMODE((layout.private / "salt").stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.private.stat().st_mode) == 0o700
    assert [p.name for p in layout.private.iterdir()] == ["salt"]


def ask_for_salt(layout: Layout, gate: Any, answers: Any) -> None:
    gate.wait()
    answers.put(salt(layout))


def test_processes_that_start_together_agree_on_the_salt(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    gate, answers = context.Barrier(4, timeout=30), context.Queue()
    processes = [context.Process(target=ask_for_salt, args=(Layout(tmp_path), gate, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    found = {answers.get(timeout=30) for _ in processes}
    for process in processes:
        process.join(30)
    assert found == {salt(Layout(tmp_path))}


@pytest.mark.parametrize("text", ["", "zz", "0" * 31, "0" * 64])
def test_a_damaged_salt_is_told(tmp_path: Path, text: str) -> None:
    layout = Layout(tmp_path)
    layout.private.mkdir(parents=True)
    (layout.private / "salt").write_text(text)
    with pytest.raises(InputError, match=r"salt of the person ids is damaged.*materialise all conversations again"):
        salt(layout)


def test_the_private_table_names_everybody_and_is_the_owners_alone(tmp_path: Path) -> None:
    one = Masker("made", SECRET, {"U1": "Zorkle"})
    author = one.person("Zorkle")
    one.mask("quandor: hi", frozenset({"quandor"}))
    write_people(tmp_path / "people.duckdb", one)
    rows = {tuple(row.values()) for row in open_table(tmp_path / "people.duckdb", "people").rows_as_dicts()}
    assert rows == {(author, "zorkle"), (author, "u1"), (one.person("quandor"), "quandor")}
    assert stat.S_IMODE((tmp_path / "people.duckdb").stat().st_mode) == 0o600
