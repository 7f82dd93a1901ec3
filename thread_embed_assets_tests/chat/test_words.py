from __future__ import annotations

import pytest

from thread_embed_assets.chat.words import Sense, is_everyday_word, is_known_word, sense


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("will", Sense.WORD),
        ("Help", Sense.WORD),
        ("the", Sense.WORD),
        ("ubuntu", Sense.TOPIC),
        ("Linux", Sense.TOPIC),
        ("michael", Sense.NAME),  # as frequent as a word
        ("zorkle", Sense.NAME),
        ("will^^", Sense.NAME),
        ("kernel-panic", Sense.NAME),
        ("help2", Sense.NAME),
        ("小林", Sense.NAME),
    ],
)
def test_what_a_name_mostly_is(name: str, expected: Sense) -> None:
    assert sense(name) is expected
    assert is_everyday_word(name) is (expected is not Sense.NAME)


def test_rarer_words_are_known_too() -> None:
    assert is_known_word("kettle")
    assert is_known_word("debian")
    assert not is_everyday_word("kettle")
    assert not any(map(is_known_word, ("zorkle", "sarah", "quandor")))
