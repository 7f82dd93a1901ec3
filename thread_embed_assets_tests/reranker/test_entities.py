from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.reranker.entities import Signals, entities, keywords, rarity, runs, signals

SHAPES = {
    "the retry_count of fetchAll and HttpProxy": {"retry_count", "fetchall", "httpproxy"},
    "os.path.join breaks in src/app/main.py": {"os.path.join", "src/app/main.py", "main.py"},
    "look at /etc/fstab and ~/notes.txt or C:\\temp\\x.log": {
        "/etc/fstab",
        "~/notes.txt",
        "notes.txt",
        "c:\\temp\\x.log",
        "x.log",
    },
    "pods of api-gateway-2, gpt-4 and python3.11": {"api-gateway-2", "gpt-4", "python3.11"},
    "since v2.3.1 and 4.0.0-rc.1, not on 22.04": {"2.3.1", "4.0.0-rc.1", "22.04"},
    "ABC-123 blocks #44": {"abc-123", "#44"},
    "it says `Retry Later` or \u201cno seats left\u201d, a 'soft fail'": {
        "retry later",
        "retry",
        "no seats left",
        "soft fail",
    },
    "it costs $1,200, 3 GB for 20% of 40 guests by 4pm": {"$1,200", "3gb", "20%", "40guests", "4pm"},
    "see https://www.norvik.example/a/b?c=d.": {"norvik.example"},
    "https://github.com/brandt-co/Rocket.git/issues/4 is merged": {"brandt-co/rocket", "rocket"},
}
NAMES = {
    "Norvik is down": {"norvik"},
    "the Norvik order, and Norvik's keys": {"norvik"},
    "we moved to Hollow Creek last week": {"hollow creek", "hollow"},
    "ask about the Budget. Please wait": {"budget"},
    "Please ask Tove Brandt about it": {"tove brandt", "tove", "brandt"},
    "Nothing works. Maybe restart it? Then call me": set(),
    "I think I'm right, and He knows": set(),
    "THIS IS NOT WORKING AT ALL": set(),
    "WHY IS NORVIK NOT WORKING": {"norvik"},
    "- First item\n- Second item": set(),
}
NONE = (
    "ok thanks, that works",
    "e.g. and/or 24/7, i.e. the 1st of 30",
    "it is done.Next one please",
    "<@p_0123456789> and <@p_abcdef0123>: can you?",
    "[URL] and [EMAIL] of [SECRET]",
    "",
)


@pytest.mark.parametrize(("text", "wanted"), [*SHAPES.items(), *NAMES.items(), *((text, set()) for text in NONE)])
def test_entities(text: str, wanted: set[str]) -> None:
    assert entities(text) == wanted


def test_an_entity_written_small_is_among_the_runs_of_words() -> None:
    assert {"norvik", "hollow creek", "the hollow creek job"} <= runs("is norvik done with the hollow creek job?")
    assert runs("<@p_0123456789>") == frozenset() and max(len(run.split()) for run in runs("a b c d e f")) == 4


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The invoices of the invoice are late", ("invoice", "late")),
        ("boxes, movies, cities and buses", ("box", "movie", "city", "bus")),
        ("what do you think about that?", ()),
        ("thanks, that's really cool", ()),
        ("the 2nd db of https://norvik.example/path", ("db",)),
        ("<@p_0123456789> paints walls", ("paint", "wall")),
        ("the Müller façade", ("müller", "façade")),
    ],
)
def test_keywords(text: str, wanted: tuple[str, ...]) -> None:
    assert keywords(text) == wanted


def test_rare_words_weigh_more() -> None:
    assert rarity("the") == 0.0 or rarity("the") < 0.5
    assert rarity("people") < rarity("budget") < rarity("scaffold") <= rarity("norvik") == 5.0


ASKS, BACK, TOPIC, REPLY = "is_question", "refers_back", "names_new_topic", "is_short_reply"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("who has the keys", {ASKS}),
        ("ok, and can you shorten the letter", {ASKS}),
        ("The roof leaks. any idea why", {ASKS}),
        ("the roof leaks?", {ASKS}),
        ("can't we paint first", {ASKS}),
        ("does anyone paint", {ASKS}),
        ("when is it dry", {ASKS, BACK}),
        ("when the paint is dry, call", set()),
        ("what a day", set()),
        ("do the roof first", set()),
        ("`ready?` returns a boolean", set()),
        ("see https://norvik.example/?q=1", set()),
        ("thanks a lot!", {REPLY}),
        ("Yes.", {REPLY}),
        ("thanks, the roof is fine", set()),
        ("ok?", {ASKS}),
        ("new topic: paint", {TOPIC}),
        ("Unrelated, but paint is out", {TOPIC}),
        ("different question - who paints", {TOPIC}),
        ("as I said, paint first", {BACK}),
        ("back to the roof", {BACK}),
        ("the other one", {BACK}),
        ("that worked", {BACK, REPLY}),
        ("I know that paint dries", set()),
        ("can you shorten it", {ASKS, BACK}),
        ("", set()),
    ],
)
def test_signals(text: str, wanted: set[str]) -> None:
    assert signals(text) == Signals(**dict.fromkeys(wanted, True))


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert all(name == name.casefold() and name for name in entities(text) | set(keywords(text)) | runs(text))
    assert all(rarity(word) > 0 for word in keywords(text))
    signals(text)


@given(st.lists(st.sampled_from([*SHAPES, *NAMES])), st.sampled_from(["\n", ". ", "\n\n"]))
def test_sentences_keep_their_entities_side_by_side(texts: list[str], between: str) -> None:
    whole = entities(between.join(texts))
    assert all(SHAPES.get(text, set()) <= whole for text in texts)


@pytest.mark.parametrize(
    "piece",
    ["a-", "a.", "a/", "A", "Ab", "1.", "1,", "_", "a_", "`", "'a ", "//", "http://", "A ", "so ", '"', "$1", "- ", "?"],
)
def test_time_does_not_grow_out_of_hand(piece: str) -> None:
    text = piece * 100_000
    start = time.process_time()
    entities(text), keywords(text), signals(text)
    assert time.process_time() - start < 2.0
