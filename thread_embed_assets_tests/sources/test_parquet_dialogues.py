from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thread_embed_assets.chat.model import Conversation, Split, Truth
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import parquet_dialogues

from .conftest import MakeSource

TRAIN = "data/train.parquet"
Parse = Callable[[str], list[Conversation]]
MESSAGES = pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))


def chatml(*turns: tuple[str, str]) -> str:
    """A row's text as it is published."""
    return "\n".join(f"<|im_start|>{role}\n{text}<|im_end|>" for role, text in turns)


def save(folder: Path, columns: dict[str, Any], name: str = TRAIN, row_group_size: int | None = None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def turns(*given: tuple[str | None, str | None]) -> list[dict[str, str | None]]:
    return [{"content": content, "role": role} for role, content in given]


@pytest.fixture
def parse(tmp_path: Path, make_source: MakeSource) -> Parse:
    return lambda chat_format: list(parquet_dialogues.parse(tmp_path, make_source(chat_format, platform="discord")))


def said(found: Sequence[Conversation]) -> list[list[tuple[str, str]]]:
    return [[(message.author, message.text) for message in conversation.messages] for conversation in found]


def test_chatml(tmp_path: Path, parse: Parse) -> None:
    texts = [
        chatml(("user", "anyone up?"), ("assistant", "sure\nwhat game")),
        chatml(("user", "a <b> & c"), ("assistant", "d"), ("user", "🎉 مرحبا")),
    ]
    save(tmp_path, {"text": texts, "tokens": [9, 9], "characters": [1, 2]})
    found = parse("chatml_parquet")
    assert said(found) == [
        [("user", "anyone up?"), ("assistant", "sure\nwhat game")],
        [("user", "a <b> & c"), ("assistant", "d"), ("user", "🎉 مرحبا")],
    ]
    first, second = found
    assert (first.id, second.id) == ("data/train:0", "data/train:1")
    assert [(m.id, m.parents, m.time) for m in second.messages] == [
        ("data/train:1:0", (), None),
        ("data/train:1:1", ("data/train:1:0",), None),
        ("data/train:1:2", ("data/train:1:1",), None),
    ]
    assert (first.channel, first.origin, first.truth) == ("planted", TRAIN, Truth.EXPLICIT)
    assert not first.roster and not first.onlookers, "'user' is nobody's name, and an everyday word"


@pytest.mark.parametrize(
    ("text", "found", "counted"),
    [
        (None, [], "rows without a turn"),
        ("", [], "rows without a turn"),
        ("no markup at all", [], "text between turns"),
        ("<|im_start|>user\nhello", [("user", "hello")], "turns without an end"),
        ("<|im_start|>user\nhello<|im_start|>assistant\nhi<|im_end|>", [("user", "hello"), ("assistant", "hi")], "an end"),
        (chatml(("system", "be nice"), ("user", "hello")), [("user", "hello")], "turns of other roles"),
        (chatml(("tool", "{}"), ("user", "hello")), [("user", "hello")], "turns of other roles"),
        (chatml(("user", ""), ("assistant", "hi")), [("assistant", "hi")], "turns without text"),
        (chatml(("user", "\n \n"), ("assistant", "hi")), [("assistant", "hi")], "turns without text"),
        ("<|im_start|>user<|im_end|>", [], "turns without text"),
        (chatml(("user", "hi")) + " stray\n" + chatml(("user", "yo")), [("user", "hi"), ("user", "yo")], "between"),
        ("before <|im_start|>user \nhi<|im_end|>", [("user", "hi")], "text between turns"),
    ],
)
def test_malformed_chatml_is_counted_and_never_fatal(
    tmp_path: Path, parse: Parse, caplog: pytest.LogCaptureFixture, text: str | None, found: list[Any], counted: str
) -> None:
    caplog.set_level(logging.INFO)
    save(tmp_path, {"text": pa.array([text, chatml(("user", "whole"))], pa.string())})
    assert said(parse("chatml_parquet")) == [*([found] if found else []), [("user", "whole")]]
    assert counted in caplog.text
    assert "hello" not in caplog.text and "stray" not in caplog.text


def test_a_turn_that_is_left_out_leaves_the_links_whole(tmp_path: Path, parse: Parse) -> None:
    save(tmp_path, {"text": [chatml(("user", "one"), ("system", "x"), ("assistant", ""), ("user", "two"))]})
    [conversation] = parse("chatml_parquet")
    assert [(m.id[-1], m.parents) for m in conversation.messages] == [("0", ()), ("3", ("data/train:0:0",))]


@given(st.lists(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=20)), max_size=5), max_size=8))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_chatml_and_message_lists_tell_the_same(
    tmp_path: Path, make_source: MakeSource, rows: list[list[tuple[str, str]]]
) -> None:
    rows = [[(role, text.replace("<|", "").encode("utf-8", "ignore").decode()) for role, text in row] for row in rows]
    listed = pa.array([turns(*row) for row in rows], MESSAGES)
    save(tmp_path, {"text": pa.array([chatml(*row) for row in rows], pa.string()), "messages": listed})
    one, other = (
        list(parquet_dialogues.parse(tmp_path, make_source(name))) for name in ("chatml_parquet", "messages_parquet")
    )
    kept = [[(role, text) for role, text in row if text.strip()] for row in rows]
    assert said(one) == said(other) == [row for row in kept if row]
    assert [c.id for c in one] == [c.id for c in other] == [f"data/train:{n}" for n, row in enumerate(kept) if row]


def test_message_lists_with_ids_and_published_splits(tmp_path: Path, parse: Parse) -> None:
    talk = [turns(("user", "why?"), ("assistant", "because")), turns(("system", "be nice"), ("user", "and so?"))]
    rest = [None, turns(), turns((None, "x"), ("user", None)), [None]]
    save(
        tmp_path,
        {
            "prompt": ["why?"] * 6,
            "prompt_id": ["aa", "bb", "cc", "dd", "ee", "ff"],
            "messages": pa.array(talk + rest, MESSAGES),
        },
        "data/train_sft-00000-of-00003-abc.parquet",
    )
    again = pa.array([talk[0], talk[0], talk[1]], MESSAGES)
    save(tmp_path, {"prompt_id": ["aa", "gg", None], "messages": again}, "data/test_sft-00000-of-00001-def.parquet")
    found = parse("messages_parquet")
    test = "data/test_sft-00000-of-00001-def"
    assert [(c.id, c.published_split) for c in found] == [
        ("aa", Split.TEST),
        ("gg", Split.TEST),
        (f"{test}:2", Split.TEST),
        ("data/train_sft-00000-of-00003-abc:0", Split.TRAIN),
        ("bb", Split.TRAIN),
    ]
    assert said(found)[-1] == [("user", "and so?")]


def test_questions_and_answers(tmp_path: Path, parse: Parse) -> None:
    questions = pa.array(["how do I cache <@U1>?", None, "lonely", ""], pa.string())
    answers = pa.array(["set `cache=True`", None, None, "to nothing"], pa.string())
    save(tmp_path, {"input": questions, "output": answers}, "data/train-00000-of-00001-eee.parquet")
    found = parse("question_answer_parquet")
    assert said(found) == [
        [("user", "how do I cache <@U1>?"), ("assistant", "set `cache=True`")],
        [("user", "lonely")],
        [("assistant", "to nothing")],
    ]
    assert found[0].messages[1].parents == (found[0].messages[0].id,)
    assert {c.published_split for c in found} == {Split.TRAIN}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.parquet", Split.TRAIN),
        ("train-00000-of-00001.parquet", Split.TRAIN),
        ("test_sft-00000-of-00001.parquet", Split.TEST),
        ("validation.parquet", Split.DEV),
        ("dev-0.parquet", Split.DEV),
        ("training.parquet", None),
        ("chats.parquet", None),
        ("latest.parquet", None),
    ],
)
def test_only_the_files_name_publishes_a_split(tmp_path: Path, parse: Parse, name: str, split: Split | None) -> None:
    save(tmp_path, {"text": [chatml(("user", "hi"))]}, name)
    assert [c.published_split for c in parse("chatml_parquet")] == [split]


def test_ids_are_unique_over_files_and_batches_and_the_same_each_time(
    tmp_path: Path, parse: Parse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_dialogues, "_BATCH_ROWS", 7)
    for name in ("a/train.parquet", "b/train.parquet"):
        save(
            tmp_path,
            {"text": [chatml(("user", f"{name} {n}"), ("assistant", "x")) for n in range(50)]},
            name,
            row_group_size=20,
        )
    found = parse("chatml_parquet")
    assert [c.id for c in found] == [f"{name}/train:{n}" for name in "ab" for n in range(50)]
    assert [c.messages[0].text for c in found] == [f"{name}/train.parquet {n}" for name in "ab" for n in range(50)]
    assert len({m.id for c in found for m in c.messages}) == 200
    assert [c.id for c in parse("chatml_parquet")] == [c.id for c in found]


def test_a_row_of_two_megabytes_and_large_strings_are_read(tmp_path: Path, parse: Parse) -> None:
    long = "weir " * 400_000
    save(tmp_path, {"text": pa.array([chatml(("user", long), ("assistant", "no"))], pa.large_string())})
    assert said(parse("chatml_parquet")) == [[("user", long), ("assistant", "no")]]


@pytest.mark.parametrize(
    ("chat_format", "columns", "missed", "found"),
    [
        ("chatml_parquet", {"conversation": ["x"]}, "'text'", r"conversation \(string\)"),
        ("chatml_parquet", {"text": [1]}, "'text'", r"text \(int64\)"),
        ("messages_parquet", {"messages": ["x"]}, "'messages'", r"messages \(string\)"),
        ("messages_parquet", {"messages": [[{"value": "x", "from": "y"}]]}, "'messages'", "struct"),
        ("question_answer_parquet", {"input": ["x"], "answer": ["y"]}, "'output'", r"answer \(string\)"),
    ],
)
def test_a_missing_column_is_named_with_those_that_are_there(
    tmp_path: Path, parse: Parse, chat_format: str, columns: dict[str, Any], missed: str, found: str
) -> None:
    path = save(tmp_path, columns)
    with pytest.raises(InputError, match=f"no column {missed}.*{found}.*`format`") as caught:
        parse(chat_format)
    assert caught.value.place == str(path)


@pytest.mark.parametrize("damage", ["cut", "empty", "no parquet", "inside"])
def test_a_damaged_file_is_named(tmp_path: Path, make_source: MakeSource, damage: str) -> None:
    save(tmp_path, {"text": [chatml(("user", "whole"))]}, "a.parquet")
    rows = [chatml(("user", f"{n * 7919}"), ("assistant", f"{n * 104729}")) for n in range(20_000)]
    path = save(tmp_path, {"text": rows}, "b.parquet", row_group_size=5_000)
    raw = path.read_bytes()
    path.write_bytes(
        {
            "cut": raw[: len(raw) // 2],
            "empty": b"",
            "no parquet": b"<html>not found</html>",
            "inside": raw[: len(raw) // 2] + b"\xff" * 5_000 + raw[len(raw) // 2 + 5_000 :],
        }[damage]
    )
    stream = parquet_dialogues.parse(tmp_path, make_source("chatml_parquet"))
    assert next(stream).id == "a:0", "files are read one by one"
    with pytest.raises(InputError, match="cannot be read beyond row") as caught:
        list(stream)
    assert caught.value.place == str(path)
    assert len(str(caught.value)) < 600


def test_a_folder_without_parquet_files_is_refused(parse: Parse) -> None:
    with pytest.raises(InputError, match="no parquet file"):
        parse("chatml_parquet")
