"""What a message names and how it stands to what was said before, read off its words: no model, and nothing fitted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from thread_embed_assets.chat.formats import MENTION
from thread_embed_assets.chat.words import Sense, sense

_READ = 4_000  # characters of a message that are looked at
_CACHED = 1 << 16
_MOST_WORDS = 4  # of an entity that is found again in lower case
_QUOTED = 60  # characters; what is longer between quotation marks is speech

# Zipf frequency (wordfreq; 3.0 is once per million words): from the first on a word only joins others, from the second on a
# capital letter makes no name of it, and below the third all words are as rare.
_FUNCTION_WORD, _TOO_COMMON, _RARE = 5.45, 5.3, 2.0
_SMALL_TALK = """
ah aha anybody anyone anything anyway awesome basically bit btw bye cheers cool fine folks guys haha hello hey hi hmm
idk imho imo kinda lol maybe nah nice okay omg oops perfect please pls plz pretty probably really sorry stuff sure
thank thanks thing things thx tomorrow totally ty uh um want wanna wow yeah yep yes yup
"""
_TOLD_NOTHING = frozenset(_SMALL_TALK.split())

_MASK = re.compile(r"\[[A-Z_]{1,12}\]")  # what cleaning left of a link, an address or a number
_LINK = re.compile(r"\b[a-z][a-z0-9+.-]{1,9}://(?:[^\s/@]*@)?([^\s/:?#<>\")]+)(?::\d+)?([^\s<>\")]*)", re.IGNORECASE)
_CODE_HOST = re.compile(r"(?:^|\.)(?:github|gitlab|bitbucket|codeberg)\.(?:com|org)$")
_REPOSITORY = re.compile(r"/([\w.-]+)/([\w.-]+?)(?:\.git)?(?:[/?#]|$)")
_MARKED = re.compile(
    "|".join(
        rf"{opening}([^{ending}\n]{{1,{_QUOTED}}}){closing}"
        for opening, ending, closing in (
            (r"(?<!`)`+", "`", r"`+"),
            (r"\"", r"\"", r"\""),
            (r"“", "”", "”"),
            (r"(?<!\w)'", "'", r"'(?!\w)"),
        )
    )
)
_UNIT = (
    r"%|°[cf]?|[kmgt]i?b(?:ps|/s)?|[kmg]?hz|[mkg]?w|kwh|v|ma?h|px|fps|rpm"
    r"|ms|secs?|seconds?|mins?|minutes?|hrs?|hours?|days?|weeks?|months?|years?|[ap]\.?m"
    r"|[mk]g|g|lbs?|oz|[cmk]m|m2|sqm|km/h|mph|ml|cl|l"
    r"|usd|eur|gbp|chf|euros?|dollars?|pounds|k|people|guests|persons|pages"
)
# Each names something by its shape; the first that fits at a place takes it.
_SHAPES: tuple[tuple[str, str], ...] = (
    ("path", r"(?<![\w/.])(?:~|\.{1,2})?/(?!/)[\w.@+-]+(?:/[\w.@+-]+)*|\b[A-Za-z]:\\[\w.\\-]+"),
    ("file", r"(?<![\w./-])\w[\w.-]*(?:/[\w.-]+)*/[\w-]+\.\w{1,8}\b"),
    ("ticket", r"\b[A-Z][A-Z0-9]{1,9}-\d+\b|(?<!\w)#\d+\b"),
    ("money", r"[$€£]\s?\d[\d.,]*k?\b"),
    ("version", r"\bv\d+(?:\.\d+)*(?:-?(?:rc|alpha|beta)\.?\d*)?\b|\b\d+\.\d+\.\d+(?:[.-]\w+)*\b"),
    ("amount", rf"(?<![\w.,])\d+(?:[.,]\d+)*\s?(?i:{_UNIT})(?!\w)"),
    ("number", r"(?<![\w.,])\d+\.\d+(?!\.?\w)"),
    ("dotted", r"(?<![\w.-])[A-Za-z_][\w-]*(?:\.[A-Za-z_]\w*)+\b"),
    ("snake", r"\b\w*[A-Za-z0-9]_\w+\b"),
    ("kebab", r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])\w+(?:-\w+)+\b"),
    ("camel", r"\b[a-z]+[A-Z]\w*\b|\b[A-Z]+[a-z0-9]+[A-Z]\w*\b"),
    ("digits", r"\b(?:[A-Za-z]+\d+[A-Za-z]*(?:\.\d+)*|\d+[A-Za-z]+\d+\w*)\b"),
)
_SHAPE = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _SHAPES))
_ABBREVIATION = re.compile(r"(?:[a-z]{1,2}\.)+[a-z]{1,2}", re.IGNORECASE)  # e.g., i.e., a.k.a
_RUN_ON = re.compile(r"[a-z]+\.[A-Z][a-z]*")  # a sentence that ends without a space after it

_WORD = re.compile(r"(?<!\d)[^\W\d_]+(?:['’-][^\W\d_]+)*")
_JOINED = re.compile(r"[ ]|\s*&\s*")
_SENTENCE_END = re.compile(r"(?:^|[.!?:;\n•*>\-(\[]|\.{3}|…)[\s\"'“(]*$")
_POSSESSIVE = re.compile(r"['’]s?$")
_TOKEN = re.compile(r"\w+(?:['’.-]\w+)*")


@lru_cache(maxsize=_CACHED)
def entities(text: str) -> frozenset[str]:
    """What a text names, in lower case: identifiers, paths, hosts or repositories of links, versions, tickets, amounts,
    what is quoted, and words and runs of words whose capitals do not merely begin a sentence.

    A run such as ``Project Aurora`` is there as a whole and by each word of its own that is not an everyday one; a path with
    its file's name. People (``<@p_...>``) and what cleaning has masked are none.
    """
    text = _without_people(text)
    found: set[str] = set()

    def link(match: re.Match[str]) -> str:
        found.update(_linked(match[1].casefold(), match[2]))
        return " , "

    def marked(match: re.Match[str]) -> str:
        inner = _normal(next(filter(None, match.groups()), ""))
        if len(inner) > 1 and _zipf(inner) < _TOO_COMMON:
            found.add(inner)
        return match[0]

    def shaped(match: re.Match[str]) -> str:
        of_shape = list(_of_shape(match))
        found.update(of_shape)
        return " , " if of_shape else match[0]

    text = _LINK.sub(link, text)
    text = _MARKED.sub(marked, text)
    found.update(_capitalised(_SHAPE.sub(shaped, text)))
    return frozenset(found)


@lru_cache(maxsize=1 << 10)
def runs(text: str) -> frozenset[str]:
    """All runs of up to four words, in lower case: what an entity is found by where it is written without capitals."""
    words = _tokens(text)
    sizes = range(1, min(_MOST_WORDS, len(words)) + 1)
    return frozenset(" ".join(words[start : start + size]) for size in sizes for start in range(len(words) - size + 1))


@lru_cache(maxsize=_CACHED)
def keywords(text: str) -> tuple[str, ...]:
    """The words that tell what a text is about, once each, in the order of first use, in lower case and the singular."""
    words = (match[0].casefold() for match in _WORD.finditer(_LINK.sub(" ", _without_people(text))))
    return tuple(dict.fromkeys(_singular(word) for word in words if _tells(word)))


@lru_cache(maxsize=_CACHED)
def rarity(word: str) -> float:
    """How rare a word is in English: 7 less its Zipf frequency, 0 to 5; a word that is not known counts as rarest."""
    return 7.0 - min(7.0, max(_RARE, _zipf(word)))


@dataclass(frozen=True)
class Signals:
    """How a message stands to what was said before, by its wording.

    Attributes:
        is_question: asks something, with or without a question mark.
        is_short_reply: says nothing but yes, thanks and the like.
        names_new_topic: says that it is about something else.
        refers_back: leans on what was said: ``that one``, ``as I said``, ``back to ...``.
    """

    is_question: bool = False
    is_short_reply: bool = False
    names_new_topic: bool = False
    refers_back: bool = False


_ASKS = re.compile(
    r"""
    (?:(?:and|but|so|ok|okay|hi|hey|hello|also|btw|sorry|then|well|um+|hm+)[\s,]+)*
    (?:
        (?:what(?!\s+an?\b)|how|why|where|who|whom|whose|which|wh?ats|hows|wheres)(?:['’](?:s|re|d|ll))?\b(?=\s*\w)
      | when\s+(?:do|does|did|is|are|was|were|can|could|should|would|will|shall)\b
      | (?:do|have|may)\s+(?:i|you|u|we|they)\b
      | (?:do|does|did|is|are|was|were|ca|could|wo|would|should|has|have)n?['’]?t\s+
        (?:i|you|u|we|they|he|she|it|this|that|the)\b
      | (?:does|did|is|are|was|were|am|has|can|could|should|would|will|shall|might|must)\s+
        (?:i|you|u|we|they|he|she|it|this|that|these|those|there|the|my|your|our|any|some|(?:any|some)(?:one|body))\b
      | any(?:one|body)\s+(?:know|here|have|has|tried|else|got|seen|use|using)\b
      | any\s+(?:idea|update|news|chance|suggestion)s?\b
    )
    """,
    re.VERBOSE,
)
_REPLY = """
yes yeah yep yup yea ya y no nope nah n ok okay k kk sure right true exactly agreed indeed thanks thank thx ty tnx
cheers you u so much a lot very great good nice cool perfect awesome fine done got it gotcha i see makes sense sounds
that works worked lol haha hmm hm ah oh aha wow sorry np no problem welcome will do too me please alright all roger
yay excellent brilliant lovely wonderful noted understood correct absolutely definitely of course for now then well
that's is it's thats
"""
_REPLIES = frozenset(_REPLY.split())
_SHORT = 6  # words
_NEW_TOPIC = re.compile(
    r"""
    \b(?:
        (?:new|different|separate|unrelated|another|other|next|quick)\s+
        (?:topic|question|subject|issue|thing|matter|request|task)
      | unrelated(?:ly)? | off[- ]?topic | by\s+the\s+way | btw
      | chang(?:e|ing)\s+(?:of\s+)?(?:the\s+)?(?:topic|subject) | switching\s+(?:gears|topics?)
      | on\s+another\s+note | on\s+an?\s+(?:\w+\s+)?(?:unrelated|different|separate|other)
      | something\s+(?:else|different|new)\s*[:,] | (?:totally|completely|entirely)\s+different
      | start(?:ing)?\s+(?:a\s+)?(?:new|fresh)
    )(?!\w)
    """,
    re.VERBOSE,
)
_BACK = re.compile(
    r"""
    \b(?:
        (?:back|going\s+back|coming\s+back)\s+to | as\s+(?:i|you|we)\s+(?:said|mentioned|discussed|wrote)
      | like\s+(?:i|you)\s+said | (?:you|we|i)\s+(?:mentioned|discussed|suggested|talked\s+about)
      | earlier | previous(?:ly)? | (?:from|said)\s+before | the\s+above | still | again | instead | follow(?:ing)?[- ]up
      | regarding | about\s+(?:that|it|the) | the\s+(?:other|second|first|third|last|latter|former|same)
      | those | it | its | it['’]s | that['’]s | thats | them | this\s+one | either | neither | both
      | that(?=\s*(?:$|[.,!?;:)]))
      | that(?=\s+(?:is|was|one|part|thing|idea|option|way|will|would|work(?:s|ed)?|sounds?|looks?|makes?|did|does|didn['’]?t
            |doesn['’]?t|isn['’]?t|instead|again|too|then|for|in|on|with|and|but|to)\b)
    )(?!\w)
    """,
    re.VERBOSE,
)
_CODE = re.compile(r"(?<!`)(`+)[^`]+\1")


@lru_cache(maxsize=_CACHED)
def signals(text: str) -> Signals:
    """The signals of a text."""
    said = _CODE.sub(" code ", _LINK.sub(" link ", _without_people(text))).casefold().strip(" \t\n,;:-")
    words = _WORD.findall(said)
    new_topic = _NEW_TOPIC.search(said) is not None
    return Signals(
        is_question="?" in said or any(_ASKS.match(part.strip()) for part in re.split(r"[.!\n]+\s*", said)),
        is_short_reply=0 < len(words) <= _SHORT and _REPLIES.issuperset(words) and "?" not in said,
        names_new_topic=new_topic,
        refers_back=_BACK.search(_NEW_TOPIC.sub(" ", said)) is not None,
    )


def _without_people(text: str) -> str:
    return _MASK.sub(" , ", MENTION.sub(" , ", text[:_READ]))


def _linked(host: str, path: str) -> Iterator[str]:
    """The repository of a code host, which itself says little; else the host."""
    host = host.removeprefix("www.").rstrip(".,;")
    repository = _REPOSITORY.match(path) if _CODE_HOST.search(host) else None
    if repository:
        yield f"{repository[1]}/{repository[2]}".casefold()
        yield repository[2].casefold()
    elif host:
        yield host


def _of_shape(match: re.Match[str]) -> Iterator[str]:
    shape, text = match.lastgroup, match[0].strip()
    if shape == "dotted" and (_ABBREVIATION.fullmatch(text) or _RUN_ON.fullmatch(text)):
        return
    text = _normal(text)
    if shape in ("amount", "money"):
        text = re.sub(r"\s", "", text)
    if shape == "version":
        text = text.removeprefix("v")
    yield text
    if shape in ("path", "file") and "." in (name := re.split(r"[/\\]", text)[-1]):
        yield name


def _capitalised(text: str) -> Iterator[str]:
    words = list(_WORD.finditer(text))
    capitals = [word[0][0].isupper() for word in words]
    shouts = len(words) > 3 and sum(capitals) > 0.6 * len(words)  # capitals tell nothing, unless the word itself is a name
    run: list[str] = []
    end = 0
    for word, capital in zip(words, capitals, strict=True):
        plain = _POSSESSIVE.sub("", word[0])
        first = _SENTENCE_END.search(text[max(0, word.start() - 12) : word.start()]) is not None
        if run and not (capital and _JOINED.fullmatch(text, end, word.start())):
            yield from _of_run(run)
            run = []
        if capital and _may_name(plain, first or shouts):
            run.append(plain)
            end = word.end()
    yield from _of_run(run)


def _may_name(word: str, where_all_are_capital: bool) -> bool:
    if len(word) < 2 or word.casefold() in _TOLD_NOTHING or (where_all_are_capital and _is_everyday(word)):
        return False
    return _zipf(word.casefold()) < _TOO_COMMON


def _of_run(run: list[str]) -> Iterator[str]:
    if run:
        yield " ".join(run).casefold()
    if len(run) > 1:
        yield from (word.casefold() for word in run if not _is_everyday(word))


@lru_cache(maxsize=_CACHED)
def _is_everyday(word: str) -> bool:
    return all(sense(part) is Sense.WORD for part in re.split(r"['’-]", word) if part)


def _normal(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,;:!?()")


def _tokens(text: str) -> list[str]:
    return [_POSSESSIVE.sub("", word) for word in _TOKEN.findall(_without_people(text).casefold())]


@lru_cache(maxsize=_CACHED)
def _singular(word: str) -> str:
    """The commonest of the forms that may be the word's singular; those of one word are one, which is all that counts."""
    word = _POSSESSIVE.sub("", word)
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    forms = [word[:-1]]
    if word.endswith("ies"):
        forms.append(word[:-3] + "y")
    elif len(word) > 4 and word.endswith(("ches", "shes", "ses", "xes", "zes")):
        forms.append(word[:-2])
    return max(forms, key=_zipf)


def _tells(word: str) -> bool:
    if len(word) < 2 or word in _TOLD_NOTHING or any(sign in word for sign in "'’"):
        return False
    return _zipf(word) < (_FUNCTION_WORD if len(word) > 2 else _FUNCTION_WORD - 1)


@lru_cache(maxsize=_CACHED)
def _zipf(word: str) -> float:
    from wordfreq import zipf_frequency

    return float(zipf_frequency(word, "en", wordlist="small"))
