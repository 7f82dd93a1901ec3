from __future__ import annotations

import html
import re
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thread_embed_assets.chat.cleaning import LONGEST, clean

PLATFORMS = ["irc", "slack", "discord", "dialogue", "zulip"]
ANY_CHARACTER = st.characters(exclude_categories=())  # lone surrogates too: JSON may hold them
MARKUP = ["<", ">", "|", "@", "#", "!", "&amp;", "&lt;", "`", "```", "*", "_", "~", ":", "\n", " ", "\x03", "12,4", "\x02"]
MARKUP += [
    "||",
    "](",
    "[",
    "> ",
    ">>> ",
    "&gt; ",
    "\\",
    "\x00",
    "<p>",
    "</p>",
    "<code>",
    "<blockquote>",
    "<a href='",
    "-#",
    "\u202e",
]
PIECES = ["http://", "www.", "a", "b_c", ".", "/", "[URL]", "<unconvertable>", "smile", "é", "’", "\ud800", "Ã©", "U123"]
NASTY = st.lists(st.sampled_from([*MARKUP, *PIECES]), max_size=25).map("".join)
WILD = st.text(ANY_CHARACTER, max_size=60) | NASTY
URL = re.compile(r"\b(?:https?|ftp)://[^\s<>|`]*\w", re.IGNORECASE)


@pytest.mark.parametrize("platform", PLATFORMS)
@given(text=WILD)
def test_any_text_becomes_storable_plain_text(platform: str, text: str) -> None:
    found = clean(text, platform)
    found.encode()
    assert found == found.strip()
    assert unicodedata.is_normalized("NFC", found)
    assert not URL.search(found)
    assert "\x00" not in found
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
    text = f"{around[0]}{scheme}{host}{path}{around[1]}"
    found = clean(html.escape(text) if platform == "zulip" else text, platform)
    assert host not in found
    assert "[URL]" in found


def test_the_words_around_a_url_stay() -> None:
    assert clean("https://a.org/`x`b and `www.c.org/d`", "irc") == "[URL]`x`b and `[URL]`"
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
    assert clean("*e*\u0301", "discord") == "é", "composed after the markup between them is gone"
    assert clean("half \ud83d emoji", "slack") == "half \ufffd emoji"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**bold**, *it* and _it_, __Under__ and ~~gone~~", "bold, it and it, Under and gone"),
        ("***both*** __**Title**__ **a *b* c**", "both Title a b c"),
        ("||the butler did it||", "the butler did it"),
        ("2*3*4, 2 ** 3 ** 4, a_b_c, a || b || c and __init__", "2*3*4, 2 ** 3 ** 4, a_b_c, a || b || c and __init__"),
        ("# Plan\n-# in short\n- one\n#1 is mine", "Plan in short - one #1 is mine"),
        ("<:pepe:1234> yes <a:party_blob:99> :pepeLaugh::x2: no", "yes no"),
        ("at 10:30:45 std::vector::iterator", "at 10:30:45 std::vector::iterator"),
        ("in <#123> <@&456> since <t:1618953630:R> </ban user:12> <id:customize>", "in #channel since /ban user"),
        ("@everyone and @here, write to me@here.com", "and , write to me@here.com"),
        ("<@99> and <@Ada Lowe>", "<@99> and <@Ada Lowe>"),
        ("**<@_ada_>** and <@*star*> and <@~~x~~> and <@:y_y:>", "<@_ada_> and <@*star*> and <@~~x~~> and <@:y_y:>"),
        ("[the docs](https://a.org/c_(d)) or [more](<https://b.org>)", "the docs [URL] or more [URL]"),
        ("<https://x.org/_a_> https://x.org/_b_ and _c_", "[URL] [URL] and c"),
        (r"\*not\* bold ¯\_(ツ)_/¯ C:\new", r"*not* bold ¯_(ツ)_/¯ C:\new"),
        ("**use `a *b* ||c||` here**", "use `a *b* ||c||` here"),
        ("```py\n> x = a*b*c  # **no**\n<:pepe:1>\n```", "```py\n> x = a*b*c  # **no**\n<:pepe:1>\n```"),
    ],
)
def test_discord_markup(text: str, expected: str) -> None:
    assert clean(text, "discord") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "<p>a &lt; b &amp;&amp; c</p>\n<p><strong>bold</strong> and <em>it</em><br>\nthere</p>",
            "a < b && c bold and it there",
        ),
        (
            '<p>Hi <span class="user-mention" data-user-id="5">@Ben Marsh</span>, '
            '<span class="user-mention silent" data-user-id="6">Ada Lowe</span> left</p>',
            "Hi <@Ben Marsh>, <@Ada Lowe> left",
        ),
        (
            '<p><span class="user-mention" data-user-id="*">@all</span> or '
            '<span class="user-group-mention" data-user-group-id="3">@ops team</span></p>',
            "or ops team",
        ),
        (
            '<p>ok <span aria-label="smile" class="emoji emoji-1f605" role="img" title="smile">:sweat_smile:</span> <img'
            ' alt=":zulip:" class="emoji" src="/e.png" title="zulip"></p>',
            "ok 😅",
        ),
        (
            '<p>see <a href="http://demo.x.org">demo.x.org</a>, <a href="https://x.org/d">the page</a></p>',
            "see [URL], the page [URL]",
        ),
        ('<p>in <a class="stream-topic" data-stream-id="3" href="/#narrow/channel/3-c">#c &gt; r</a></p>', "in #c > r"),
        (
            '<p><a href="/user_uploads/5/S.png">S.png</a></p>\n<div class="message_inline_image">'
            '<a href="/user_uploads/5/S.png" title="S.png"><img src="x"></a></div>',
            "[URL]",
        ),
        ("<p>call <code>f(*a)  &lt;</code> twice</p>", "call `f(*a) <` twice"),
        (
            '<p>Try</p>\n<div class="codehilite" data-code-language="Python"><pre><span></span><code>'
            '<span class="k">def</span> '
            "f(x):\n    return x &lt; 2  # *a*\n</code></pre></div>\n<p>and so</p>",
            "Try ```python\ndef f(x):\n    return x < 2  # *a*\n``` and so",
        ),
        ('<div class="codehilite"><pre><span></span><code>a\n  b\n</code></pre></div>', "```\na\n  b\n```"),
        (
            '<div class="spoiler-block"><div class="spoiler-header">\n<p>Who?</p>\n</div><div class="spoiler-content" '
            'aria-hidden="true">\n<p>The butler</p>\n</div></div>',
            "Who? The butler",
        ),
        (
            '<p><span class="katex"><span class="katex-mathml"><math><semantics><mrow><mi>x</mi></mrow><annotation '
            'encoding="application/x-tex">x^2</annotation></semantics></math></span><span class="katex-html" '
            'aria-hidden="true"><span class="base">x2</span></span></span> grows</p>',
            "$$x^2$$ grows",
        ),
        ('<p>at <time datetime="2025-03-03T15:00:00Z">Mon, Mar 3 2025, 3 PM</time></p>', "at Mon, Mar 3 2025, 3 PM"),
        ("<ul>\n<li>one</li>\n<li>two<ul>\n<li>three</li>\n</ul></li></ul>", "one two three"),
        ("<p>/me waves</p>", "waves"),
        ("<p>cut off <strong>he", "cut off he"),
        ("no markup, a & b", "no markup, a & b"),
    ],
)
def test_zulip_markup(text: str, expected: str) -> None:
    assert clean(text, "zulip") == expected


@given(
    st.lists(st.text("ab &<>\n", min_size=1, max_size=8), min_size=1, max_size=4),
    st.sampled_from(["{}", "<strong>{}</strong>", "<em>a{}</em>b", "a<br>\n{}"]),
)
def test_plain_paragraphs_are_the_same_whether_or_not_they_are_parsed(lines: list[str], form: str) -> None:
    paragraphs = "\n".join(f"<p>{form.format(html.escape(line))}</p>" for line in lines)
    assert clean(paragraphs + "<i></i>", "zulip") == clean(paragraphs, "zulip")


SAID = (
    '<p><span class="user-mention silent" data-user-id="1">Ada</span> '
    '<a href="#narrow/stream/1-d/topic/x/near/42">said</a>:</p>\n'
)


@pytest.mark.parametrize(
    ("platform", "text", "expected"),
    [
        ("slack", "&gt; what was said\n&gt;before\nand my answer", "and my answer"),
        ("slack", "&gt; only this\n&gt; and this", "only this and this"),
        ("slack", "&gt;= 3 works &gt;:(\n&gt;:(", ">= 3 works >:( >:("),
        ("slack", "see\n&gt;&gt;&gt; all\nthe rest", "see"),
        ("slack", "```\n&gt; kept\n```\n&gt; dropped", "```\n> kept\n```"),
        ("discord", "> what was said\n> \n> before\nand my answer", "and my answer"),
        ("discord", "> only this\n> and this", "only this and this"),
        ("discord", ">= 3 works\n>_<", ">= 3 works >_<"),
        ("discord", "see\n>>> all\nthe rest", "see"),
        ("discord", ">>> all\nthe rest", "all the rest"),
        ("discord", "why?\n>>> import x\n>>> x.y\nerror", "why? >>> import x >>> x.y error"),
        ("discord", "> ```\n> quoted code\n> ```\nmine", "mine"),
        ("discord", "```\n> kept\n```\n> dropped", "```\n> kept\n```"),
        ("zulip", SAID + "<blockquote>\n<p>what was said</p>\n</blockquote>\n<p>and my answer</p>", "and my answer"),
        ("zulip", SAID + "<blockquote>\n<p>only this</p>\n</blockquote>", "only this"),
        ("zulip", "<p>as he wrote:</p>\n<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>", "as he wrote:"),
        ("zulip", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>", "a b"),
        ("irc", "> that is how it looks here", "> that is how it looks here"),
        ("dialogue", "> and here", "> and here"),
    ],
)
def test_a_quote_goes_unless_it_is_all_there_is(platform: str, text: str, expected: str) -> None:
    assert clean(text, platform) == expected


@pytest.mark.parametrize("platform", PLATFORMS)
def test_emoji_and_text_from_right_to_left(platform: str) -> None:
    assert clean("👍🏽 👩\u200d💻", platform) == "👍🏽 👩\u200d💻"
    assert clean("\u202bשלום\u202c \u200fלכולם\u200e!", platform) == "שלום לכולם!"
    assert clean("می\u200cخواهم", platform) == "می\u200cخواهم", "a joiner of Persian is a letter"
    assert clean("s\u200bec\u00adret \ufeffkey", platform) == "secret key", "nothing hides between letters"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_long_message_is_cut_between_words(platform: str) -> None:
    found = clean("word " * 400_000, platform)
    assert found.endswith("word word […]")
    assert LONGEST - 20 < len(found) <= LONGEST
    token = clean("a" * (LONGEST - 30) + " ghp_" + "b" * 100, platform)
    assert "ghp_" not in token, "half a key would not be recognised as one"
    assert len(clean("x" * (LONGEST + 1), platform)) == LONGEST
    assert clean("x" * LONGEST, platform) == "x" * LONGEST


REPEATED = [
    "<",
    "`",
    "```",
    "> ",
    "\n> ",
    "&gt; ",
    "*",
    "**a ",
    "_a",
    "__",
    "~~",
    "||",
    "||a ",
    "[",
    "[a](",
    "](",
    ":",
    ":a",
    "<:a:",
    "<@",
]
REPEATED += [
    "<#C|",
    "<http://",
    "<http://a|",
    "<!a^",
    "http://",
    "www.",
    "http://a.b/)",
    "\\*",
    "<p>",
    "<div>",
    "<pre>",
    "<a href='",
]
REPEATED += [
    "<blockquote>",
    "</p><blockquote>",
    "<!--",
    "&",
    "\x03",
    "\x00",
    " ",
    "\n",
    "a",
    "é",
    "👍",
    "\u202e",
    "\ufeff",
    "\ud800",
]


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("repeated", REPEATED)
def test_two_megabytes_of_anything_take_no_longer_than_a_moment(repeated: str, platform: str) -> None:
    start = time.process_time()
    clean(":" + repeated * (2_000_000 // len(repeated)), platform)
    assert time.process_time() - start < 5, "a regular expression backtracks: usually this takes a tenth of a second"
