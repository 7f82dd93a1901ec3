from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.chat import formats
from thread_embed_assets.chat.formats import DEFAULT_FORMAT, FORMATS, TextFormat, chat_text
from thread_embed_assets.chat.model import Message

A, B, C = "p_00000000aa", "p_00000000bb", "p_00000000cc"
TALK = [
    Message("1", A, "does it start?", 0.0),
    Message("2", B, f"<@{A}>: not here, ask <@{C}> or <@{A}>", 300.0),
    Message("3", A, f"<@{C}>, <@{B}> is it you?", 7_500.0),
    Message("4", C, "no", 180_400.0),
]
MESSAGES = st.lists(
    st.builds(
        Message,
        id=st.just("x"),
        author=st.sampled_from([A, B, C]),
        text=st.lists(st.sampled_from([f"<@{A}>", f"<@{B}>", f"<@{C}>:", "hello", "you", "@", " ", "\n"]), max_size=6).map(
            " ".join
        ),
        time=st.none() | st.floats(0, 1e6),
    ),
    min_size=1,
    max_size=6,
)


def test_plain_text_is_the_default_and_shows_nobody() -> None:
    assert DEFAULT_FORMAT == "plain"
    assert FORMATS["plain"].render(TALK) == "does it start?\nnot here, ask or\nis it you?\nno"


def test_speakers_are_numbered_as_they_appear() -> None:
    assert FORMATS["speakers"].render(TALK) == (
        "speaker_1: does it start?\n"
        "speaker_2: @speaker_1: not here, ask @speaker_3 or @speaker_1\n"
        "speaker_1: @speaker_3, @speaker_2 is it you?\n"
        "speaker_3: no"
    )


def test_the_same_people_get_other_numbers_in_another_window() -> None:
    assert FORMATS["speakers"].render(TALK[2:]) == "speaker_1: @speaker_2, @speaker_3 is it you?\nspeaker_2: no"


def test_times_are_relative_and_in_the_largest_unit() -> None:
    assert FORMATS["times"].render(TALK) == "does it start?\n[+5m] not here, ask or\n[+2h] is it you?\n[+2d] no"
    assert FORMATS["speakers_times"].render(TALK[:2]).splitlines()[1].startswith("[+5m] speaker_2: @speaker_1: not")


def test_missing_and_backward_times() -> None:
    said = [Message("1", A, "a", 600.0), Message("2", A, "b"), Message("3", A, "c", 660.0), Message("4", A, "d", 0.0)]
    assert FORMATS["times"].render(said) == "a\nb\n[+1m] c\n[+0m] d"


def test_a_mention_takes_its_space_along_and_indent_stays() -> None:
    said = [Message("1", A, f"thanks <@{B}>! and <@{B}> <@{C}> too"), Message("2", A, f"ask <@{B}>: ```\n    x\n```")]
    assert FORMATS["plain"].render(said) == "thanks! and too\nask: ```\n    x\n```"


@pytest.mark.parametrize("name", list(FORMATS))
def test_formats_are_found_by_their_names(name: str) -> None:
    assert FORMATS[name].name == name


@given(messages=MESSAGES)
def test_no_format_shows_a_person_id(messages: list[Message]) -> None:
    for text_format in FORMATS.values():
        assert "p_" not in text_format.render(messages)


@given(messages=MESSAGES)
def test_without_mentions_no_speaker_is_told_apart(messages: list[Message]) -> None:
    """Plain and timed texts are the same whoever speaks and is spoken to."""
    turned = [
        Message(m.id, {A: B, B: C, C: A}[m.author], m.text.replace(A, "p_00000000dd").replace(B, A), m.time)
        for m in messages
    ]
    for name in ("plain", "times"):
        assert FORMATS[name].render(turned) == FORMATS[name].render(messages)
        assert "speaker_" not in FORMATS[name].render(messages)


@given(messages=MESSAGES)
def test_numbers_start_at_one_without_gaps(messages: list[Message]) -> None:
    found = [int(n) for n in re.findall(r"speaker_(\d+)", FORMATS["speakers"].render(messages))]
    assert list(dict.fromkeys(found)) == list(range(1, max(found) + 1))


def test_speakers_with_mentions_dropped() -> None:
    mixed = TextFormat("mixed", speaker=True)
    assert mixed.render(TALK[:2]) == "speaker_1: does it start?\nspeaker_2: not here, ask or"


CHAT = [
    {"author": "Ann", "text": "bo: is the build red?", "time": 60.0},
    {"author": "bo", "text": "<@Ann> yes, ask @ann-lee or @cy; mail me@ann", "time": datetime(1970, 1, 1, 0, 6, tzinfo=UTC)},
]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain", "is the build red?\nyes, ask @ann-lee or; mail me@ann"),
        (
            "speakers",
            "speaker_1: @speaker_2: is the build red?\nspeaker_2: @speaker_1 yes, ask @ann-lee or @speaker_3; mail me@ann",
        ),
        ("times", "is the build red?\n[+5m] yes, ask @ann-lee or; mail me@ann"),
    ],
)
def test_a_chat_of_plain_messages_is_masked_and_written(name: str, text: str) -> None:
    assert chat_text(CHAT, name, people=["cy"]) == text


def test_a_chat_is_written_as_training_wrote_it() -> None:
    """Whoever wrote the tables called people p_...; the same people by name give the same text."""
    messages = [
        Message("1", "p_00000000aa", "<@p_00000000bb>: red?", 0.0),
        Message("2", "p_00000000bb", "no <@p_00000000aa>", 90.0),
    ]
    named = [{"author": "ann", "text": "<@bo>: red?", "time": 0.0}, {"author": "bo", "text": "no <@ann>", "time": 90.0}]
    for name, text_format in FORMATS.items():
        assert chat_text(named, name) == text_format.render(messages)


def test_a_copy_beside_a_model_reads_its_format_and_needs_no_package(tmp_path: Path) -> None:
    shutil.copyfile(formats.__file__, tmp_path / "chat_text.py")
    (tmp_path / "config_sentence_transformers.json").write_text('{"text_format": "speakers"}')
    code = """
import sys, chat_text
print(chat_text.chat_text([{"author": "ann", "text": "red?"}]), "thread_embed_assets" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "speaker_1: red? False\n"


def test_what_is_no_chat_is_refused() -> None:
    with pytest.raises(ValueError, match="message 1 has no 'author'"):
        chat_text([CHAT[0], {"text": "hi"}])
    with pytest.raises(ValueError, match="Known formats: plain"):
        chat_text(CHAT, "prose")
