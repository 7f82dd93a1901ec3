from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thread_embed_assets.chat.model import Conversation, Kind
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import slack_xml
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.fetch import RawDataset

from .conftest import MakeSource

HEAD = "<slack>\n<team_domain>acme</team_domain>\n<channel_name>general</channel_name>\n"


def message(conversation: int, second: int, user: str, *texts: str) -> str:
    body = "".join(f"<text>{escape(text)}</text>" for text in texts)
    ts = f"2018-05-11T15:46:{second:02}.512661"
    return f'<message conversation_id="{conversation}">\n<ts>{ts}</ts>\n<user>{user}</user>\n{body}</message>\n'


def write(folder: Path, *messages: str, year: str = "2018", head: str = HEAD) -> Path:
    path = folder / "data" / "acme" / year / "merged-acme-general.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + "".join(messages) + "</slack>", encoding="utf-8")
    return path


@pytest.fixture
def source(make_source: MakeSource) -> Source:
    return make_source("slack_xml", truth="predicted")


def read(folder: Path, source: Source) -> list[Conversation]:
    return list(slack_xml.parse(folder, source))


def test_interleaved_conversations_are_told_apart(tmp_path: Path, source: Source) -> None:
    write(
        tmp_path,
        message(1, 1, "Ann", "a?"),
        message(2, 2, "Bob", "b?"),
        message(1, 3, "Cat", "a!"),
        message(2, 4, "Ann", "b!"),
    )
    first, second = read(tmp_path, source)
    assert [m.text for m in first.messages] == ["a?", "a!"]
    assert [m.text for m in second.messages] == ["b?", "b!"]
    assert (first.id, first.channel) == ("acme/2018/general:1", "acme/general")
    assert first.roster == second.roster == {"Ann", "Bob", "Cat"}
    assert first.published_split is None
    assert all(m.parents == () for m in first.messages)
    assert first.start == datetime(2018, 5, 11, 15, 46, 1, 512661, tzinfo=UTC).timestamp()


def test_the_same_number_in_another_year_is_another_conversation_of_the_same_channel(tmp_path: Path, source: Source) -> None:
    write(tmp_path, message(1, 1, "Ann", "then"), year="2017")
    write(tmp_path, message(1, 1, "Ann", "now"), year="2018")
    found = read(tmp_path, source)
    assert [conversation.id for conversation in found] == ["acme/2017/general:1", "acme/2018/general:1"]
    assert {conversation.channel for conversation in found} == {"acme/general"}
    ids = [m.id for conversation in found for m in conversation.messages]
    assert len(set(ids)) == len(ids)


def test_text_keeps_slacks_markup_and_escapes(tmp_path: Path, source: Source) -> None:
    text = "<@Ann> see <https://elm.org|elm>: `a -&gt; b`\n```\n  x &lt;!-- y\n```"
    write(tmp_path, message(1, 1, "Bob", text), message(1, 2, "Bob", "\none", "two"))
    [conversation] = read(tmp_path, source)
    assert [m.text for m in conversation.messages] == [text, "\none\ntwo"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<@Ann> has joined the channel", Kind.SYSTEM),
        ("<@U0702F2CE|ann> set the channel topic: All of it", Kind.SYSTEM),
        ("None", Kind.SYSTEM),
        ("None of these", Kind.TEXT),
        ("<@Ann> has a package for that", Kind.TEXT),
    ],
)
def test_kinds(tmp_path: Path, source: Source, text: str, kind: Kind) -> None:
    write(tmp_path, message(1, 1, "Bob", text))
    assert read(tmp_path, source)[0].messages[0].kind is kind


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"))))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_comes_back_as_it_was(tmp_path: Path, source: Source, texts: list[str]) -> None:
    write(tmp_path, *(message(7, n % 60, "Bob", text) for n, text in enumerate(texts)))
    found = sorted(m.text for conversation in read(tmp_path, source) for m in conversation.messages)
    assert found == sorted(texts)


def test_a_truncated_file_is_named_with_its_line(tmp_path: Path, source: Source) -> None:
    path = write(tmp_path, message(1, 1, "Ann", "a"), message(1, 2, "Bob", "b"))
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(InputError, match="not well-formed XML") as caught:
        read(tmp_path, source)
    assert caught.value.place == f"{path}:10"


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE slack [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
        '<!DOCTYPE slack [<!ENTITY secret SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE slack SYSTEM "http://127.0.0.1:9/slack.dtd">',
    ],
)
def test_declarations_are_refused(tmp_path: Path, source: Source, declaration: str) -> None:
    path = write(tmp_path, message(1, 1, "Ann", "a"), head=declaration + HEAD)
    with pytest.raises(InputError, match="document type or an entity") as caught:
        read(tmp_path, source)
    assert caught.value.place == f"{path}:1"


@pytest.mark.parametrize(
    ("planted", "problem"),
    [
        (
            '<message conversation_id="1"><ts>yesterday</ts><user>Ann</user><text>a</text></message>',
            "'yesterday' is not an ISO",
        ),
        ('<message conversation_id="1"><user>Ann</user><text>a</text></message>', "has no <ts>"),
        ('<message conversation_id="1"><ts>2018-05-11T15:46:08</ts><text>a</text></message>', "has no <user>"),
        ("<message><ts>2018-05-11T15:46:08</ts><user>Ann</user><text>a</text></message>", "has no conversation_id"),
    ],
)
def test_a_malformed_message_is_named_with_its_line(tmp_path: Path, source: Source, planted: str, problem: str) -> None:
    path = write(tmp_path, message(1, 1, "Ann", "fine"), planted)
    with pytest.raises(InputError, match=problem) as caught:
        read(tmp_path, source)
    assert caught.value.place == f"{path}:8"


def test_a_file_without_team_or_twice_the_same_channel_is_refused(tmp_path: Path, source: Source) -> None:
    path = write(tmp_path, message(1, 1, "Ann", "a"))
    twin = path.with_name("other.xml")
    twin.write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="acme/2018/general"):
        read(tmp_path, source)
    twin.write_text("<slack></slack>", encoding="utf-8")
    with pytest.raises(InputError, match="has no <team_domain>"):
        read(tmp_path, source)


@pytest.mark.real_data
def test_real_files_are_four_years_of_two_channels(real_source: Callable[[str], tuple[Source, RawDataset]]) -> None:
    source, raw = real_source("slack_dev_chats")
    found = read(raw.folder, source)
    assert {conversation.channel for conversation in found} == {"elmlang/general", "racket/general"}
    assert sum(len(conversation.messages) for conversation in found) == 36_682
    assert len({conversation.id for conversation in found}) == len(found) == 4_164
