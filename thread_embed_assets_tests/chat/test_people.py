from __future__ import annotations

import multiprocessing
import re
import stat
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thread_embed_assets.chat.people import Masker, salt, write_people
from thread_embed_assets.chat.words import is_everyday_word
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


def test_a_name_of_one_or_two_letters_is_masked_only_where_it_addresses() -> None:
    one, roster = masker(), frozenset({"zo", "q"})
    zo, q = (f"<@{one.person(name)}>" for name in ("zo", "q"))
    assert one.mask("zo: hello", roster) == f"{zo}: hello"
    assert one.mask("@Zo hello, ask @q", roster) == f"{zo} hello, ask {q}"
    for text in ("zo, hello", "hello zo", "hello Zo there", "q hello", "it is q: no"):
        assert one.mask(text, roster) == text


@pytest.mark.parametrize(
    ("nick", "typed"),
    [
        ("zorkle_", "zorkle"),
        ("zorkle", "zorkle__"),
        ("zorkle|away", "zorkle"),
        ("zorkle_away", "zorkle"),
        ("zorkle-work2", "Zorkle"),
        ("zorkle", "zorkle|lunch"),
        ("zorkle_", "Zorkle`afk"),
        ("zorkle`", "Zorkle"),
        ("zorkle^work", "zorkle^work"),
        ("_zorkle_", "zorkle"),
        ("zorkle23", "zorkle"),
        ("[zorkle]", "zorkle"),
        ("Eric^^", "eric^^"),
        ("Eric^^", "eric"),
        ("half-left", "half-left"),
    ],
)
def test_what_hangs_on_a_nick_does_not_hide_it(nick: str, typed: str) -> None:
    one = masker()
    text = one.mask(f"so thanks {typed} that works", frozenset({nick}))
    assert re.fullmatch(rf"so thanks [_\[]*<@{one.person(nick)}>[_\]]* that works", text)


def test_what_is_left_of_a_nick_must_be_long_and_no_word() -> None:
    one, roster = masker(), frozenset({"zor_1", "kettle_2", "garden|away", "python3", "bridge"})
    for text in ("ask zor about it", "the kettle in the garden", "the Garden and the Kettle", "I like python and bridge|x"):
        assert one.mask(text, roster) == text
    assert one.mask("ask kettle_2", roster) == f"ask <@{one.person('kettle_2')}>"


def test_a_form_that_two_share_is_masked_as_neither() -> None:
    one, roster = masker(), frozenset({"zorkle_", "zorkle|away", "Ada Vimmel", "Ben Vimmel"})
    ids = {one.person(name) for name in roster}
    for name in ("zorkle", "vimmel"):
        (found,) = PERSON.findall(one.mask(f"ask {name} about it", roster))
        assert found not in ids
        assert found == one.person(name)


def test_first_and_last_names_are_names() -> None:
    one, roster = masker(), frozenset({"Zorkle Vimmel-Brask", "quandor.fenwold", "Sarah Green"})
    zorkle, quandor, sarah = (f"<@{one.person(name)}>" for name in ("Zorkle Vimmel-Brask", "quandor.fenwold", "Sarah Green"))
    assert one.mask("Zorkle said, and zorkle's team", roster) == f"{zorkle} said, and {zorkle}'s team"
    assert one.mask("ask fenwold and FENWOLD", roster) == f"ask {quandor} and {quandor}"
    assert one.mask("sarah asked Green about the green one", roster) == f"{sarah} asked {sarah} about the green one"
    assert one.mask("Zorkle\n   Vimmel-Brask, quandor.fenwold", roster) == f"{zorkle}, {quandor}"


def test_names_are_found_in_any_composition_and_without_their_accents() -> None:
    one, roster = masker(), frozenset({"Zoë Grünwald", "bjørk"})
    zoe = f"<@{one.person('Zoë Grünwald')}>"
    decomposed = unicodedata.normalize("NFD", "Zoë Grünwald")
    assert one.person(decomposed) == one.person("Zoë Grünwald")
    for text in ("Zoë Grünwald", decomposed, "ZOË GRÜNWALD", "zoe grunwald", "Grünwald", "grunwald", "zoë"):
        assert one.mask(f"ask {text}!", roster) == f"ask {zoe}!"
    assert one.mask("bjørk", frozenset({"bjørk"})) == f"<@{one.person('bjørk')}>"
    assert Masker("made", SECRET, {}).mask("ask zoë", frozenset({decomposed})) == f"ask {zoe}"


@pytest.mark.parametrize(
    "text",
    [
        "/home/zorkle/x",
        "user=zorkle",
        "(zorkle)",
        "zorkle's",
        "zorkle’s",
        "`ls zorkle`",
        "```\nzorkle\n```",
        "zorkle:zorkle",
    ],
)
def test_names_in_paths_code_and_possessives(text: str) -> None:
    one = masker()
    assert one.mask(text, frozenset({"zorkle"})) == text.replace("zorkle", f"<@{one.person('zorkle')}>")


def test_an_everyday_name_is_always_masked_where_it_is_called() -> None:
    one, roster = masker(), frozenset({"will", "ubuntu"})
    will, ubuntu = (f"<@{one.person(name)}>" for name in ("will", "ubuntu"))
    assert one.mask("it will work, ask @will or @Will", roster) == f"it will work, ask {will} or {will}"
    assert one.mask("in /home/will/garden", roster) == f"in /home/{will}/garden"
    assert one.mask("ubuntu: hello", roster) == f"{ubuntu}: hello"
    for text in ("I installed Ubuntu on ubuntu", "user@will", "they Don't"):
        assert one.mask(text, roster | {"don"}) == text


def test_common_given_names_are_names_wherever_they_stand() -> None:
    one, roster = masker(), frozenset({"michael", "Sarah", "will^^"})
    for name in ("michael", "Sarah", "will^^"):
        assert one.mask(f"{name} said so, thanks {name}", roster).count(f"<@{one.person(name)}>") == 2


def test_marks_are_no_names() -> None:
    one, roster = masker(), frozenset({"url", "email", "secret"})
    assert one.mask("see [URL], write to [EMAIL]", roster) == "see [URL], write to [EMAIL]"
    assert one.mask("thanks url", roster) == f"thanks <@{one.person('url')}>"


def test_only_the_name_of_the_roster_matters_for_a_name_of_signs() -> None:
    one = masker()
    assert one.mask("ask ^_^ about it", frozenset({"^_^"})) == f"ask <@{one.person('^_^')}> about it"


@given(text=st.text(max_size=30), roster=st.frozensets(st.text(max_size=6), max_size=3))
@example(text="ﬁx İt zoë", roster=frozenset({"ﬁx", "İt", "zoë"}))
@example(text="ß", roster=frozenset({"SS"}))
def test_the_quick_look_misses_no_name(text: str, roster: frozenset[str]) -> None:
    """The masker looks for runs of letters before it looks for names; without that look it finds the same."""

    class Slow(Masker):
        def _names(self, roster: frozenset[str]) -> Any:
            names = super()._names(roster)
            names._of_signs_only = True
            return names

    assert masker().mask(text, roster) == Slow("made", SECRET, {}).mask(text, roster)


def test_time_grows_with_the_length_only() -> None:
    roster = frozenset({"will", "a", "zorkle", "Zorkle Vimmel", "the"})
    words = ("will ", "the Will ", "zorkle ", "zorkle vimme ", "will\n")
    for unit in (*words, "a", "1", "zorkle", "zorkle1", "a_", "a|", "@", "@a", "<@", ":", " "):
        start = time.process_time()
        masker().mask(unit * (200_000 // len(unit)), roster)
        assert time.process_time() - start < 3, unit


def test_maskers_of_other_processes_hand_over_whom_they_met() -> None:
    aliases = {"U1": "Zorkle Vimmel", "zork": "Zorkle Vimmel"}
    here, there = Masker("made", SECRET, aliases), Masker("made", SECRET, aliases)
    here.person("quandor")
    author = there.person("U1")
    text = there.mask("thanks quandor, lurker and zork", frozenset({"quandor", "zork", "lurker"}))
    met = there.take_met()
    assert sorted(met) == ["lurker", "quandor", "zorkle vimmel"]
    assert there.take_met() == []
    here.meet(met)
    assert {(author, "zorkle vimmel"), (author, "u1"), (author, "zork")} <= set(here.people())
    assert set(PERSON.findall(text)) == {here.person(name) for name in ("quandor", "lurker", "U1")}
    assert there.take_met() == []
    there.person("newcomer")
    assert there.take_met() == ["newcomer"]


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
