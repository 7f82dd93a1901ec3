from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.language_models.extractive import NAME, ExtractiveWriter, extract
from thread_embed_assets.language_models.writers import Request, read_task

TALK = """speaker_1: hello everybody, does anyone know why the kettle trips the fuse in the kitchen?
speaker_2: is it the old kettle or the copper one?
speaker_1: the copper one. the fuse is a ten ampere one, I think
speaker_2: copper kettles pull twelve ampere, so the fuse is too small. see [SECRET] or https://example.org/kettle-fuses
speaker_3: @speaker_1 swap the fuse for a sixteen ampere one and the kettle will boil"""


def test_the_lines_are_the_threads_telling_words() -> None:
    written = extract(TALK)
    assert written is not None
    assert "kettle" in written.title and "fuse" in written.title
    lines = [written.title, written.summary, *written.questions]
    words = {word for line in lines for word in line.split()}
    assert words <= set(TALK.lower().replace("?", " ").replace(",", " ").replace(".", " ").split())
    assert not words & {"the", "is", "speaker_1", "secret", "https", "hello", "and", "anyone"}
    assert written.questions[0] != written.questions[1]
    assert all(len(line.split()) >= 3 for line in lines)
    assert not any(line in TALK.lower() for line in lines[1:]), "condensed, not copied"


def test_who_speaks_changes_nothing_and_neither_does_another_run() -> None:
    assert extract(TALK.replace("speaker_3: ", "speaker_7: ")) == extract(TALK)
    assert extract(TALK) == extract(TALK)


def test_too_few_telling_words_make_no_lines() -> None:
    assert extract("speaker_1: hi\nspeaker_2: hello you\nspeaker_1: how are you") is None
    assert extract("speaker_1: [SECRET] https://example.org @speaker_2") is None
    assert extract("") is None


def test_a_slip_of_the_keyboard_is_not_telling_but_a_name_of_a_product_is() -> None:
    once, twice = (
        extract(TALK + "\nspeaker_1: thnksalot blortix"),
        extract(TALK + "\nspeaker_1: blortix\nspeaker_2: blortix"),
    )
    assert once is not None and twice is not None
    assert not any("blortix" in line for line in (once.title, once.summary, *once.questions))
    assert "blortix" in twice.title


def test_it_writes_for_nothing_and_says_who_it_is() -> None:
    writer = ExtractiveWriter()
    results = list(writer.write(read_task("summarise"), [Request("a", TALK), Request("b", "speaker_1: hi")]))
    assert [(r.key, r.fault, r.answer is None) for r in results] == [("a", None, False), ("b", "nothing_to_say", True)]
    assert (writer.name, writer.price, writer.paid_for) == (NAME, None, False)


@given(st.lists(st.text(max_size=60), max_size=8).map("\n".join))
def test_nothing_upsets_it(text: str) -> None:
    written = extract(text)
    if written is not None:
        assert len({written.title, written.summary, *written.questions}) == 4
