from __future__ import annotations

import re
import time
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thread_embed_assets.chat.cleaning import clean
from thread_embed_assets.chat.leaks import leaks
from thread_embed_assets.chat.people import Masker
from thread_embed_assets.chat.secrets import Found, Kind, find_secrets, mask_secrets

from .planted_secrets import Planted, planted_secrets

PLANTED = planted_secrets()
MARKS = re.compile("|".join(re.escape(kind.mark) for kind in Kind))
RUN = "q7Wd0ZrT4xKp9LmA2bVc"  # twenty characters as keys have them
KEY_LINES = [f"{RUN}{RUN[::-1]}{n}{RUN}yz" for n in range(3)]
BEGIN, END = "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"


def left_of(planted: Planted, text: str) -> list[str]:
    return [piece for piece in (planted.secret, *planted.distinctive) if piece in text]


def test_two_hundred_secrets_of_twenty_kinds_are_planted() -> None:
    assert len({p.secret for p in PLANTED}) == 200
    assert set(Counter(p.kind for p in PLANTED).values()) == {10}
    assert len({p.kind for p in PLANTED}) == 20
    assert planted_secrets() == PLANTED
    assert all(p.secret in p.sentence and left_of(p, p.secret) for p in PLANTED)


@pytest.mark.parametrize("platform", ["", "slack", "irc"])
def test_every_planted_secret_is_masked(platform: str) -> None:
    masked = [(p, mask_secrets(clean(p.sentence, platform) if platform else p.sentence)) for p in PLANTED]
    assert [(p.kind, left_of(p, text)) for p, text in masked if left_of(p, text)] == []
    assert [p.kind for p, text in masked if list(leaks(text))] == []


def test_the_mark_says_what_stood_there_and_the_words_around_stay() -> None:
    expected = {
        "email": Kind.EMAIL,
        "phone_international": Kind.PHONE,
        "phone_national": Kind.PHONE,
        "ipv4": Kind.IP,
        "ipv6": Kind.IP,
        "mac": Kind.MAC,
        "card": Kind.CARD,
        "iban": Kind.IBAN,
        "social_security": Kind.SSN,
    }
    for planted in PLANTED:
        kind = expected.get(planted.kind, Kind.SECRET)
        assert [found.kind for found in find_secrets(planted.sentence)] == [kind], planted.kind
        words = planted.sentence.replace(planted.secret, " ").split()
        text = mask_secrets(planted.sentence)
        assert [word for word in words if word.isalpha() and word not in text] == [], planted.kind


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("zorkle@example.org", "[EMAIL]"),
        ("<zörkle.v+ladder@größe.example.de>", "<[EMAIL]>"),
        ("zorkle (at) example.org", "[EMAIL]"),
        ("zorkle [at] example [dot] org", "[EMAIL]"),
        ("zorkle at gmail dot com", "[EMAIL]"),
    ],
)
def test_forms_of_mail_addresses(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("ls /home/zorkle/x.py", "ls /home/[USER]/x.py"),
        ("file:///Users/zorkle.v, line 3", "file:///Users/[USER], line 3"),
        (r"at C:\Users\Zörkle-V\a.cs or c:/users/zorkle", r"at C:\Users\[USER]\a.cs or c:/users/[USER]"),
        ("look in ~zorkle/public_html and /home//zorkle", "look in ~[USER]/public_html and /home//[USER]"),
        ("/home/<@p_0123456789>/x ~/x ~zorkle ~500/day", None),
        ("/home/ubuntu/x /home/user /Users/Shared/ /home/$USER/x at home/office GET /users/list", None),
    ],
)
def test_accounts_in_paths_of_home_folders(text: str, masked: str | None) -> None:
    assert mask_secrets(text) == (masked or text)


@pytest.mark.parametrize(
    "text",
    [
        "@zorkle <@p_0123456789> @types/node react@16.8.0 zorkle@laptop:~$ look at this dot on the i",
        "[EMAIL] [PHONE] [IP] [MAC] [CARD] [IBAN] [SSN] [SECRET] [URL] password: [SECRET] was [SECRET]!",
    ],
)
def test_mentions_and_marks_stay(text: str) -> None:
    assert mask_secrets(text) == text


def test_each_find_names_its_kind_in_the_order_of_the_text() -> None:
    found = find_secrets("10.1.2.3 has zorkle@example.org, ask +442079460958 for the password: hunter2")
    assert found == [
        Found(Kind.IP, "10.1.2.3"),
        Found(Kind.EMAIL, "zorkle@example.org"),
        Found(Kind.PHONE, "+442079460958"),
        Found(Kind.SECRET, "hunter2"),
    ]


def test_of_finds_that_overlap_nothing_is_left() -> None:
    assert mask_secrets("amqp://zorkle:x@y1@mq.example.org/") == "amqp://[SECRET]/"
    assert mask_secrets("password=zorkle@example.org") in ("password=[SECRET]", "password=[EMAIL]")
    assert mask_secrets(f"token=AKIAIOSFODNN7EXAMPLE{RUN}") == "token=[SECRET]"


NAMES = (
    "password",
    "secret: ",
    "token=",
    "key",
    " is ",
    "bearer ",
    "phone ",
    "-u a:",
    "--password ",
    "(at)",
    " dot ",
    "$6$",
)
SIGNS = ("@", "://", ":", "::", "=", '"', ".", "-", "+", "/", " ", "\n", "[URL]", "<@p_0123456789>", "ada", "0", "12")


def test_a_marked_mention_is_a_name_whatever_it_looks_like() -> None:
    text = "<@zorkle@example.org> and <@U1|+442079460958> ask zorkle@example.org <@x>"
    assert mask_secrets(text) == "<@zorkle@example.org> and <@U1|+442079460958> ask [EMAIL] <@x>"
    masked = Masker("made", b"k" * 16, {}).mask(mask_secrets(text), frozenset())
    assert list(leaks(masked)) == []
    key = f"{BEGIN} <@zorkle> {KEY_LINES[0]} {END}"
    assert mask_secrets(key) == "[SECRET]"


PIECES = st.one_of(
    st.sampled_from([p.secret for p in PLANTED]),
    st.sampled_from([p.secret[: len(p.secret) // 2] for p in PLANTED]),
    st.sampled_from([kind.mark for kind in Kind]),
    st.sampled_from(NAMES),
    st.sampled_from(SIGNS),
    st.text(max_size=3),
)


@given(st.lists(PIECES, max_size=8).map("".join))
@example("password=[SECRET]x1y2")
@example("://[SECRET]:[SECRET]@")
@example("$1$[SECRET]$[IP]")
def test_masking_is_a_fixed_point_and_adds_nothing_but_marks(text: str) -> None:
    masked = mask_secrets(text)
    assert mask_secrets(masked) == masked
    assert find_secrets(masked) == []
    outside = MARKS.split(masked)
    at = 0
    for piece in outside:
        at = text.index(piece, at) + len(piece)


@given(st.lists(PIECES, max_size=6).map(" ".join))
def test_masking_names_afterwards_uncovers_nothing(text: str) -> None:
    masked = Masker("made", b"k" * 16, {}).mask(mask_secrets(clean(text, "irc")), frozenset({"ada", "zorkle"}))
    assert find_secrets(masked) == []
    assert list(leaks(masked)) == []


@pytest.mark.parametrize(
    "unit",
    [
        *["a", "1", "+", "@", ":", "=", "-", "$", " ", "\n", "a@", "a.", "1.", "1 ", "+1 ", "(1", "ff:", "ff-", "::1"],
        *["eyJ", "eyJabcdefghij.", "AKIA", "xoxb-1-", "ghp_", "sk-a", "A1b2C3d4", "$1$a", "://", "://a:", "://a:b@"],
        *[BEGIN, END, f"{BEGIN} {RUN} ", "password=", "password: ", "pass is ", "token ", 'secret="', " -u a:", "bearer a"],
        *["01234 56789 ", "0123456789 ", "phone 1", "DE12 ", "4111 ", "a (at) ", "a dot ", "aws key '", "1.2.3.4."],
        *["/home/", "/home/a", "~a", "~a.", "/", "/users\\", "documents and settings\\a"],
    ],
)
def test_time_grows_with_the_length_only(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    start = time.process_time()
    mask_secrets(text)
    assert time.process_time() - start < 3  # where it grew with the square, minutes


def test_an_ordinary_line_wakes_no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thread_embed_assets.chat.secrets._spans", None)
    text = "zorkle, I tried that with version 2.6.32 on 12 machines, it's at 10:30; see [URL] - thanks!"
    assert mask_secrets(text) == text
