"""Passwords, tokens and keys in text: by the forms their issuers document, or by the word that names them.

Each finder yields start and end. Where the detect-secrets library has a pattern that is linear and bounded, it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import cast

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

from thread_embed_assets.chat.words import is_everyday_word, is_known_word

LIBRARY: tuple[type[RegexBasedDetector], ...] = (
    AWSKeyDetector,
    AzureStorageKeyDetector,
    DiscordBotTokenDetector,
    GitHubTokenDetector,
    GitLabTokenDetector,
    MailchimpDetector,
    OpenAIDetector,
    PypiTokenDetector,
    SendGridDetector,
    SlackDetector,
    SquareOAuthDetector,
    StripeDetector,
    TelegramBotTokenDetector,
    TwilioKeyDetector,
)


def _patterns(detector: type[RegexBasedDetector]) -> list[re.Pattern[str]]:
    return list(cast("list[re.Pattern[str]]", detector.denylist))


# What the library lacks or reads too narrowly: the beginnings by which issuers mark their keys.
_RUN, _RUN_WITH_SIGNS = "[A-Za-z0-9]{16,}", r"[A-Za-z0-9_\-]{16,}"
_BEGINNINGS = {
    # https://github.blog/engineering/behind-githubs-new-authentication-token-formats
    "gh[a-z]_": _RUN,
    "github_pat_": _RUN_WITH_SIGNS,
    # https://docs.slack.dev/authentication/tokens
    r"(?:xoxe\.)?xox[a-z]-": _RUN_WITH_SIGNS,
    "xapp-": _RUN_WITH_SIGNS,
    r"hooks\.slack\.com/(?:services|workflows|triggers)/": "[A-Za-z0-9/]{16,}",
    # https://cloud.google.com/docs/authentication/api-keys
    "AIza": _RUN_WITH_SIGNS,
    r"ya29\.": _RUN_WITH_SIGNS,
    "GOCSPX-": _RUN_WITH_SIGNS,
    # https://docs.stripe.com/keys
    "[sr]k_(?:live|test)_": _RUN,
    "whsec_": _RUN,
    # OpenAI, and followed by "ant-" Anthropic
    r"sk-(?=[A-Za-z_\-]*\d)": _RUN_WITH_SIGNS,
    # https://huggingface.co/docs/hub/security-tokens
    "hf_": _RUN,
    "api_org_": _RUN,
    # https://github.blog/changelog/2021-09-23-npm-has-a-new-access-token-format
    "npm_": _RUN,
    # https://pypi.org/help/#apitoken
    "pypi-Ag": _RUN_WITH_SIGNS,
    # https://core.telegram.org/bots/api#authorizing-your-bot
    r"\d{6,12}:(?=[A-Za-z0-9_\-]{30})": _RUN_WITH_SIGNS,
    # https://docs.digitalocean.com/reference/api/create-personal-access-token
    "do[opr]_v1_": _RUN,
    # https://docs.docker.com/security/access-tokens
    "dckr_[a-z]{3,4}_": _RUN_WITH_SIGNS,
    # https://developer.hashicorp.com/vault/docs/concepts/tokens
    r"hv[sbr]\.": _RUN_WITH_SIGNS,
    # Shopify, Grafana, Linear, Notion, Atlassian, Postman, New Relic, Groq, xAI, Perplexity, Replicate, age
    "(?:shp[a-z]{2}_|glsa_|lin_api_|ntn_|ATATT|PMAK-|NRAK-|gsk_|xai-|pplx-|r8_|AGE-SECRET-KEY-1)": _RUN,
}
_BEGUN = re.compile("(?<![A-Za-z0-9])(?:" + "|".join(start + run for start, run in _BEGINNINGS.items()) + ")")
_JSON_WEB_TOKEN = re.compile(r"(?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{10,}+(?:\.[A-Za-z0-9_\-=+/]*+){1,4}")
_FORMS = (*(pattern for detector in LIBRARY for pattern in _patterns(detector)), _BEGUN, _JSON_WEB_TOKEN)
_LONG_RUN = re.compile(r"[A-Za-z0-9_+/=\-.:]{20,}")
_UPPER_OR_DIGIT = re.compile(r"[A-Z0-9]")
_REST = re.compile(r"[A-Za-z0-9_+/=\-]*+")
_OPAQUE = re.compile(r"(?<![A-Za-z0-9+/_\-.])[A-Za-z0-9+/_\-]{32,}+={0,2}")
_PUBLIC_DIGESTS = ("sha256-", "sha384-", "sha512-")
_LEAST_CHANGES = 0.3  # of pairs of neighbours
_HUMPS = re.compile(r"[A-Z]?[a-z]{2,}")
_MOST_WORDS = 0.5  # of the characters
_HAS_DIGIT = re.compile(r"\d")


def tokens(text: str) -> Iterator[tuple[int, int]]:
    """Keys and tokens of a documented form, with all that hangs on them: the patterns ask for the shortest form only."""
    for run in _LONG_RUN.finditer(text):
        if _UPPER_OR_DIGIT.search(run[0]):
            for pattern in _FORMS:
                at = run.start()
                while match := pattern.search(text, at, run.end()):
                    rest = _REST.match(text, match.end())
                    at = rest.end() if rest else match.end()
                    yield match.start(), at


def opaque_strings(text: str) -> Iterator[tuple[int, int]]:
    """32 and more characters without order, such as a line of a key; paths, names, hex digests and UUIDs have order."""
    for match in _OPAQUE.finditer(text):
        if _is_random(match[0]) and not match[0].startswith(_PUBLIC_DIGESTS):
            yield match.span()


def _is_random(written: str) -> bool:
    """Whether upper case, lower case and digits take turns, as three of five neighbours do in base64, and are no words."""
    if ("-" in written or "_" in written) and ("+" in written or "/" in written):
        return False  # base64 has the one pair or the other
    classes = "".join("u" if c.isupper() else "l" if c.islower() else "d" if c.isdigit() else " " for c in written[:128])
    changes = sum(before != after for before, after in pairwise(classes) if " " not in (before, after))
    if not all(map(classes.count, "uld")) or changes < _LEAST_CHANGES * len(classes):
        return False
    words = (word for word in _HUMPS.findall(written[:128]) if is_known_word(word))
    return sum(map(len, words)) < _MOST_WORDS * len(classes)


_IN_URL = re.compile(r"://(?!\[SECRET\]@)([^\s/<>\"'`:@]{0,100}:[^\s/<>\"'`]{1,200})@")


def in_urls(text: str) -> Iterator[tuple[int, int]]:
    """``name:password`` between a scheme and a host."""
    return chain(
        (match.span(1) for match in _IN_URL.finditer(text)),
        (match.span(1) for pattern in _patterns(BasicAuthDetector) for match in pattern.finditer(text)),
    )


_NAME = re.compile(
    r"(?:no)?pass(?:word|wd|phrase|code)s?|(?<![a-z])(?:db|my|user|root|admin|ftp|smtp|mail|wifi)?pass(?![a-z])|pwd|psk"
    r"|(?<!\[)secret|token"
    r"|(?:(?<![a-z])|(?:api|access|auth|private|account|client|service|master|license|encryption|signing|deploy))keys?"
)
_OF_PASSWORD = ("pass", "pwd", "psk")
_LINKED_VALUE = re.compile(
    r"(?:[_\-.A-Z]\w{1,24})?(?![a-z])[\"'`\])]{0,2}"
    r"(?P<link>[ \t]{0,4}(?:(?:is|was)\b[ \t]{0,2})?(?:=>|:=|={1,3}|:|->)?[ \t]{0,4})(?:<@[^<>\s]{1,64}>[ \t]?)?"
    r"(?P<quote>[\"'`]?)(?P<value>(?<=[\"'`])[^\"'`<>\n]{4,64}(?=(?P=quote))|[^\s\"'`<>]{4,512})"
)
_AWS_SECRET = _patterns(AWSKeyDetector)[1]
_AUTHORISED = re.compile(
    r"\b(?:bearer|authorization[\"']?[:=][ \t]?(?!bearer)\w{0,8})[ \t]+(?=\S{0,80}\d)([\w.~+/\-]{12,}=*)", re.IGNORECASE
)
_OPTION_VALUE = re.compile(
    r"(?<!\S)(?:--?(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|api-?key|auth-?token|access-?key)[ =]"
    r"|sshpass -p ?|-u [^\s:]{1,64}:)[\"']?([^\s\"'`<>\-][^\s\"'`<>]{3,512})",
    re.IGNORECASE,
)
_NO_VALUE = re.compile(
    r"[$%{(\[|&*#].*|[~.]?/.*|.*[({]|.*\(.*\)|(?:[a-z_]\w*\.)+[a-z_]\w*|[*.x_\-]+|null|none|nil|true|false|undefined|your\w*",
    re.IGNORECASE,
)
_MARK = re.compile(r"\[(?:[A-Z]{2,6})\]")
_AFTER_VALUE = ".,;:!?)}"


def named_values(text: str) -> Iterator[tuple[int, int]]:
    """What a word such as "password" or "api_key" is said to be: the looser the link, the more it must look like one."""
    low = text.lower()
    done = 0
    for name in _NAME.finditer(low if len(low) == len(text) else text):
        match = _LINKED_VALUE.match(text, name.end()) if name.start() >= done else None
        if match is None or name[0].startswith("no"):
            continue
        value = match["value"].rstrip(_AFTER_VALUE)
        of_password = any(part in name[0] for part in _OF_PASSWORD)
        if _is_value(_MARK.sub("", value), of_password, match["link"].strip(), match["quote"]):
            done = match.start("value") + len(value)
            yield match.start("value"), done
    yield from (match.span(1) for match in _AWS_SECRET.finditer(text))


def _is_value(value: str, of_password: bool, link: str, quote: str) -> bool:
    if len(value) < 4 or _NO_VALUE.fullmatch(value):
        return False
    if " " in value:
        return of_password and "=" in link
    letters, digits = any(map(str.isalpha, value)), any(map(str.isdigit, value))
    if not link:
        return len(value) >= 16 and _is_random(value)
    if not of_password:
        return letters and digits and len(value) >= (20 if "+" in value else 8)
    if digits or link in ("is", "was"):
        return digits or bool(quote)
    return not (value.isalpha() and is_everyday_word(value))


def authorisations(text: str) -> Iterator[tuple[int, int]]:
    """``Bearer X`` and ``Authorization: Basic X`` of web requests."""
    return (match.span(1) for match in _AUTHORISED.finditer(text))


def option_values(text: str) -> Iterator[tuple[int, int]]:
    """What a command line is given: ``--password X``, ``sshpass -p X``, ``curl -u name:X``."""
    for match in _OPTION_VALUE.finditer(text):
        value = _MARK.sub("", match[1])
        if value and not _NO_VALUE.fullmatch(value) and not (value.isalpha() and is_everyday_word(value)):
            yield match.span(1)


_PASSWORD_HASH = re.compile(r"\$(?:1|2[abxy]?|5|6|7|y|gy|argon2\w{1,2}|apr1)\$[^\s:$]{1,64}(?:\$[^\s:$]{1,128}){0,4}")


def password_hashes(text: str) -> Iterator[tuple[int, int]]:
    """Of /etc/shadow and the like (man 5 crypt)."""
    return (match.span() for match in _PASSWORD_HASH.finditer(text))


_ARMOUR = r" (?:[A-Z0-9]{2,10} ){0,2}PRIVATE KEY(?: BLOCK)?(?:-----)?"
_KEY_BEGIN = re.compile(rf"(?:-----)?BEGIN{_ARMOUR}|PuTTY-User-Key-File-\d", re.IGNORECASE)
_KEY_END = re.compile(rf"(?:-----)?END{_ARMOUR}", re.IGNORECASE)
_KEY_PART = re.compile(
    r"(?:\s|\\[nr])*(?:Proc-Type: ?4,ENCRYPTED|DEK-Info: ?[\w\-]+,[0-9A-F]+"
    r"|[A-Za-z0-9+/]{16,}=*|[A-Za-z0-9+/]{1,15}=+)"
)
_KEY_LINE = re.compile(r"[A-Za-z0-9+/]{16,}=*")
_WORD = re.compile(r"\S+")
_LONGEST_KEY = 16_384  # characters


def key_blocks(text: str) -> Iterator[tuple[int, int]]:
    """Private keys in PEM armour; of a cut one, the armour that is there and the lines of base64 next to it."""
    armour = sorted(
        [(*match.span(), True) for match in _KEY_BEGIN.finditer(text)]
        + [(*match.span(), False) for match in _KEY_END.finditer(text)]
    )
    done = 0
    for position, (start, end, opens) in enumerate(armour):
        if start < done:
            continue
        following = armour[position + 1] if position + 1 < len(armour) else None
        if not opens:
            start = _start_of_lines(text, done, start)
        elif following and not following[2] and following[1] - start <= _LONGEST_KEY:
            end = following[1]
        else:
            # A loop: Python before 3.11.5 gets possessive groups wrong (python/cpython#106052).
            while part := _KEY_PART.match(text, end):
                end = part.end()
        yield start, end
        done = end


def _start_of_lines(text: str, done: int, end: int) -> int:
    """Where the lines of base64 right before ``end`` start; the last of them may be short."""
    first = max(done, end - _LONGEST_KEY)
    start = end
    for word in reversed(list(_WORD.finditer(text, first, end))):
        if start != end and not _KEY_LINE.fullmatch(word[0]):
            break
        start = word.start()
    return start
