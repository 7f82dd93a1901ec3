from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thread_embed_assets.chat.cleaning import clean

PLATFORMS = ["irc", "slack", "discord", "dialogue", "zulip"]
ANY_CHARACTER = st.characters(exclude_categories=())  # lone surrogates too: JSON may hold them
MARKUP = ["<", ">", "|", "@", "#", "!", "&amp;", "&lt;", "`", "```", "*", "_", "~", ":", "\n", " ", "\x03", "12,4", "\x02"]
PIECES = ["http://", "www.", "a", "b_c", ".", "/", "[URL]", "<unconvertable>", "smile", "é", "’", "\ud800", "Ã©", "U123"]
NASTY = st.lists(st.sampled_from([*MARKUP, *PIECES]), max_size=25).map("".join)
WILD = st.text(ANY_CHARACTER, max_size=60) | NASTY
URL = re.compile(r"\b(?:https?|ftp)://[^\s<>|]*\w", re.IGNORECASE)


@pytest.mark.parametrize("platform", PLATFORMS)
@given(text=WILD)
def test_any_text_becomes_storable_plain_text(platform: str, text: str) -> None:
    found = clean(text, platform)
    found.encode()
    assert found == found.strip()
    assert unicodedata.is_normalized("NFC", found)
    assert not URL.search(found)
    if "```" not in found:
        assert not re.search(r"\s\s|[\n\t\r]", found)


@pytest.mark.parametrize("platform", ["irc", "dialogue"])
@given(text=WILD)
@example(text="<uncon\x02vertable> x")
def test_cleaning_twice_is_cleaning_once(platform: str, text: str) -> None:
    once = clean(text, platform)
    assert clean(once, platform) == once


@pytest.mark.parametrize("platform", PLATFORMS)
@given(
    host=st.from_regex(r"[a-z]{4,9}\.(?:org|com|io)", fullmatch=True),
    path=st.from_regex(r"(?:/[A-Za-z0-9_~%.&=?:+-]{0,9}){0,3}", fullmatch=True),
    scheme=st.sampled_from(["http://", "https://", "ftp://", "HTTPS://", "www."]),
    around=st.sampled_from(
        [("", ""), ("see ", " now"), ("(", ")"), ("<", ">"), ("'", "'"), ("at ", ", then"), ("[x](", ")")]
    ),
)
def test_no_url_is_left(platform: str, host: str, path: str, scheme: str, around: tuple[str, str]) -> None:
    found = clean(f"{around[0]}{scheme}{host}{path}{around[1]}", platform)
    assert host not in found
    assert "[URL]" in found


def test_the_words_around_a_url_stay() -> None:
    assert clean("see http://a.org/x_y?z=1#t, (or www.b.org/q).", "irc") == "see [URL], (or [URL])."
    assert clean("the word www and http:// alone", "irc") == "the word www and http:// alone"


@given(words=st.lists(st.from_regex(r"[a-z]{1,6}(?:_[a-z0-9]{1,6}){1,3}", fullmatch=True), min_size=1, max_size=5))
def test_snake_case_is_kept_in_prose(words: list[str]) -> None:
    text = " ".join(words)
    for platform in PLATFORMS:
        assert clean(text, platform) == text


@given(code=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="`<>&"), min_size=1, max_size=30))
def test_code_in_backticks_keeps_its_characters(code: str) -> None:
    if URL.search(code) or "www." in code.lower():
        return
    for platform in PLATFORMS:
        assert f"`{code}`" in clean(f"*try* `{code}` :smile: it", platform)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_fenced_block_keeps_its_lines_and_indent(platform: str) -> None:
    text = "look:   ```\nfor x in *_args:  \n    print(:ok:)\n```   and   so on"
    assert clean(text, platform) == "look: ```\nfor x in *_args:\n    print(:ok:)\n``` and so on"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*bold* and _italic_ and ~gone~, really", "bold and italic and gone, really"),
        ("*two words* (_in brackets_)", "two words (in brackets)"),
        ("2*3*4 a_b_c __init__ ~/home ~/tmp x_ _y", "2*3*4 a_b_c __init__ ~/home ~/tmp x_ _y"),
        ("nice :tada: :+1::skin-tone-2: :-1: work", "nice work"),
        ("at 10:30:45 std::vector::iterator a:b:c", "at 10:30:45 std::vector::iterator a:b:c"),
        ("<https://a.org/x|the page> or <https://a.org>", "[URL] or [URL]"),
        ("write to <mailto:a@b.org|a@b.org>", "write to [URL]"),
        ("in <#C012AB|general> or <#C012AC>", "in #general or #channel"),
        ("<!here> <!subteam^S012|@ops> look", "ops look"),
        ("<@U012AB> hi <@Name>", "<@U012AB> hi <@Name>"),
        ("a &lt; b &amp;&amp; c &gt; d", "a < b && c > d"),
        ("&amp;lt; is how one writes it", "&lt; is how one writes it"),
        ("`a_b *c* :x: &lt;`", "`a_b *c* :x: <`"),
    ],
)
def test_slack_markup(text: str, expected: str) -> None:
    assert clean(text, "slack") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x02bold\x02 \x0304,12red\x03 \x1funder\x0f", "bold red under"),
        ("a <unconvertable> b", "a b"),
        ("a<unconvertable>b", "a b"),
        ("*stars* and :colons: stay", "*stars* and :colons: stay"),
        ("a &lt; b", "a &lt; b"),
    ],
)
def test_irc_markup(text: str, expected: str) -> None:
    assert clean(text, "irc") == expected


def test_unicode_is_mended_and_composed() -> None:
    assert clean("schoÌˆn cafÃ© e\u0301t\u00e9 ‘so’", "irc").endswith("café été 'so'")
    assert clean("a\u00a0b\u2003c", "irc") == "a b c"
    assert clean("half \ud83d emoji", "slack") == "half \ufffd emoji"
