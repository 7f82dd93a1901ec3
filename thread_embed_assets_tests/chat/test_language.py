from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.chat import language as module
from thread_embed_assets.chat.language import identify

from .planted import sentences


def test_english_is_told() -> None:
    language, score = identify(sentences(4, "english"))
    assert language == "en"
    assert 0.5 < score <= 1


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("de", ["hat jemand von euch den schlüssel gesehen?", "ja, der liegt noch in der küche auf dem tisch"]),
        ("fr", ["bonjour, est-ce que quelqu'un a vu la clé ?", "oui, elle est encore dans la cuisine"]),
        ("ru", ["кто-нибудь видел ключ?", "да, он на столе"]),
    ],
)
def test_other_languages_are_told(language: str, texts: list[str]) -> None:
    assert identify(texts)[0] == language


def test_a_conversation_is_read_together() -> None:
    foreign_alone = "ok danke"
    assert identify([foreign_alone])[0] != "en"
    assert identify([*sentences(4, "mostly english"), foreign_alone])[0] == "en"


def test_code_links_and_mentions_say_nothing() -> None:
    german = "das geht so nicht, weil der knopf immer noch fehlt und niemand ihn findet"
    noise = "`for each line in the file print the name of the thing` [URL] " * 10 + "<@p_00000000aa> " * 20
    block = "```\nthis is the english text of a program and it is long enough to win over all other words\n```"
    assert identify([noise, block, german])[0] == "de"


def test_no_more_is_read_than_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def predict(words: str) -> tuple[str, float]:
        asked.append(words)
        return answers[len(asked) - 1]

    monkeypatch.setattr(module, "_predict", predict)
    for answers, sizes in (([("de", 0.9)], [150]), ([("de", 0.7), ("en", 0.6)], [150, 1_000])):
        asked.clear()
        left = iter(sentences(100, "long"))
        assert identify(left) == answers[-1]
        assert [len(words) for words in asked] == sizes
        assert asked[-1].startswith(asked[0])
        assert len(list(left)) > 80
    asked.clear()
    assert identify(sentences(1, "short")) == ("de", 0.7)
    assert len(asked) == 1


@pytest.mark.parametrize("texts", [[], [""], ["123 :-) ...", "[URL]"], ["`code only`", "<@p_00000000aa>"]])
def test_without_words_it_is_undetermined(texts: list[str]) -> None:
    assert identify(texts) == ("und", 0.0)


@given(text=st.text())
def test_any_text_has_an_answer(text: str) -> None:
    language, score = identify([text, text])
    assert language
    assert 0 <= score <= 1
