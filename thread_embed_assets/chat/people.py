"""Names out, opaque ids in: authors, mentions, and names in running text."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from thread_embed_assets.chat.secrets import MENTION, Kind
from thread_embed_assets.chat.words import Sense, is_everyday_word, is_known_word, sense
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import readable_disk_errors
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import write_tables

PEOPLE = pa.schema([("person_id", pa.string()), ("name", pa.string())])

_PERSON = re.compile(r"p_[0-9a-f]{10}")
_TOKEN = re.compile(r"[\w\[\]\\`^{}|-]+")
_EDGES = "-|`^_[]{}\\"
_ADDRESS = re.compile(r"[\s@]*([\w\[\]\\`^{}|-]+)\s*[:,]")
_MARKS = frozenset({"[URL]", *(kind.mark for kind in Kind)})  # somebody may be called "url"
_HUNG_ON = re.compile(
    r"(?:[|`].*|[_^-]++(?:afk|away|bnc|brb|busy|gone|home|idle|laptop|mobile|off|office|phone|sleep(?:ing)?|work|zz+)?+|\d++)++$",
    re.IGNORECASE,
)
_LONGEST_NICK = 64
_HOMES = ("/home/", "/users/", "\\users\\")
_PARTS = re.compile(r"[\s.]+")
_SHORTEST_NAME = 3
_SHORTEST_BASE = 4
_MOST_REMEMBERED = 100_000
_MOST_ROSTERS = 64
# A run is a stretch of letters and digits. The runs of a text are compared with those of the names before anything slower.
_RUN = re.compile(r"[^\W_]+")
_ASCII_RUNS = bytes(ord(char.lower()) if char.isascii() and char.isalnum() else 32 for char in map(chr, range(256)))
_TOKEN_CHARACTERS = frozenset(char for char in map(chr, range(128)) if _TOKEN.match(char))
_FEW_RUNS = 4


def salt(layout: Layout) -> bytes:
    """The secret that keeps person ids from being looked up by hashing known names; made once per root folder."""
    path = layout.private / "salt"
    if not path.exists():
        with readable_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.chmod(0o700)
            fresh = path.with_name(f".salt.{os.getpid()}-{secrets.token_hex(4)}.part")
            fresh.write_text(secrets.token_hex(16), encoding="ascii")
            fresh.chmod(0o600)
            try:
                os.link(fresh, path)  # the first of several processes wins, and all read its salt
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
    text = path.read_text(encoding="ascii").strip()
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        remedy = "Restore it from a backup, or delete it and materialise all conversations again"
        raise InputError(path, "the salt of the person ids is damaged", remedy)
    return bytes.fromhex(text)


def _compose(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _fold(name: str) -> str:
    return _compose(name).casefold()


def _without_accents(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))


def _base(token: str) -> str:
    """A nick without what people hang on it: ``ada_``, ``ada|lunch``, ``ada`afk``, ``ada-work`` and ``ada2`` are ``ada``."""
    return _HUNG_ON.sub("", token.strip(_EDGES)).rstrip(_EDGES) if len(token) <= _LONGEST_NICK else ""


def _is_base(base: str, folded: str) -> bool:
    """Whether what is left of a nick is long enough to tell who it is, and no word."""
    return base != folded and len(base) >= _SHORTEST_BASE and not is_known_word(base)


@dataclass(frozen=True, slots=True)
class _Spelling:
    """The forms in which a name may stand in a text, folded; in each form a run without which it cannot.

    Attributes:
        whole: a name of one token.
        base: that name without what is hung on it, unless what is left is short or a word.
        phrase: of a name of several tokens, the first without the signs around it, and what matches all from there on.
        parts: its words.
    """

    runs: frozenset[str]
    whole: str = ""
    base: str = ""
    phrase: tuple[str, re.Pattern[str]] | None = None
    parts: tuple[str, ...] = ()


@lru_cache(maxsize=_MOST_REMEMBERED)
def _spellings(name: str) -> tuple[_Spelling, ...]:
    composed = _compose(name)
    plain = composed if composed.isascii() else _without_accents(composed)
    return tuple(spelling for form in dict.fromkeys((composed, plain)) if (spelling := _spell(form)))


def _spell(name: str) -> _Spelling | None:
    folded = name.casefold()
    if folded.isalpha():
        return _Spelling(_runs(folded), whole=folded)
    first = _TOKEN.search(name)
    if first is None:
        return None
    if first[0] == name:
        base = _base(folded)
        if _is_base(base, folded):
            return _Spelling(_runs(folded, base), whole=folded, base=base)
        return _Spelling(_runs(folded), whole=folded)
    words = map(re.escape, name[first.start() :].split())
    start = first[0].casefold()
    pattern = re.compile(r"\s+".join(words) + r"(?!\w)", re.IGNORECASE)  # a name may be split at the end of a line
    parts = tuple(part for part in _PARTS.split(folded) if len(part) >= _SHORTEST_NAME and part.isalpha())
    return _Spelling(_runs(folded, *parts), phrase=(start.strip(_EDGES) or start, pattern), parts=parts)


def _runs(*forms: str) -> frozenset[str]:
    return frozenset(form if form.isalnum() else max(_RUN.findall(form), key=len, default="") for form in forms)


@dataclass(frozen=True, slots=True)
class _Hit:
    """What a token may stand for.

    Attributes:
        name: the name of the roster, if the token is one.
        start, end: where in the token the name is, without the signs around it.
        sense: what the name is besides a name.
        phrases: the names of several tokens that start with this one, the longest first.
    """

    name: str | None
    start: int
    end: int
    sense: Sense
    phrases: Sequence[tuple[re.Pattern[str], str]]


class _Names(dict[str, _Hit | None]):
    """A roster made ready: a token, as it is written, to what it may stand for; looked up once, then remembered.

    Args:
        names: the names of the roster, and the other names of their people.
        key: a name to what is the same for all names of a person.
    """

    def __init__(self, names: Iterable[str], key: Callable[[str], str]) -> None:
        super().__init__()
        self._whole: dict[str, str] = {}
        self._parts: dict[str, str] = {}
        self._bases: dict[str, str] = {}
        self._phrases: dict[str, list[tuple[re.Pattern[str], str]]] = {}
        runs: set[str] = set()
        for name in sorted(names, key=lambda name: (-len(name), name)):
            for spelling in _spellings(name):
                runs |= spelling.runs
                if spelling.whole:
                    self._whole.setdefault(spelling.whole, name)
                if spelling.base:
                    _share(self._bases, spelling.base, name, key)
                if spelling.phrase is not None:
                    self._phrases.setdefault(spelling.phrase[0], []).append((spelling.phrase[1], name))
                for part in spelling.parts:
                    _share(self._parts, part, name, key)
        self._of_signs_only = "" in runs
        self._runs = frozenset(runs)
        self._ascii_runs = frozenset(run.encode() for run in runs if run.isascii())

    def tokens(self, text: str) -> Iterable[re.Match[str]]:
        """The tokens of a text, in order, that may hold a name; mostly none."""
        if self._of_signs_only:
            return _TOKEN.finditer(text)
        if not text.isascii():
            return () if self._runs.isdisjoint(_RUN.findall(_fold(text))) else _TOKEN.finditer(text)
        words = text.encode().translate(_ASCII_RUNS).split()
        if self._ascii_runs.isdisjoint(words):
            return ()
        found = self._ascii_runs.intersection(words)
        return _tokens_with(text, found) if len(found) <= _FEW_RUNS else _TOKEN.finditer(text)

    def __missing__(self, token: str) -> _Hit | None:
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        hit = self[token] = self._look_up(token)
        return hit

    def _look_up(self, token: str) -> _Hit | None:
        if token in _MARKS:
            return None
        folded = _fold(token)
        if folded in self._whole:
            return _Hit(self._whole[folded], 0, len(token), sense(folded), self._phrases.get(folded, ()))
        core = folded.strip(_EDGES)
        start, end = len(token) - len(token.lstrip(_EDGES)), len(token.rstrip(_EDGES))
        phrases = self._phrases.get(core, ())
        if core in self._whole:
            return _Hit(self._whole[core], start, end, sense(core), phrases)
        if core in self._parts:
            return _Hit(self._parts[core], start, end, Sense.WORD if is_known_word(core) else Sense.NAME, phrases)
        base = _base(core)
        name = self._bases.get(base) or (self._whole.get(base) if _is_base(base, core) else None)
        if name is None:
            return _Hit(None, start, end, Sense.NAME, phrases) if phrases else None
        return _Hit(name, start, end, Sense.NAME, phrases)


def _share(forms: dict[str, str], form: str, name: str, key: Callable[[str], str]) -> None:
    """A form that several people share stands for none of them, and becomes a name of its own."""
    known = forms.setdefault(form, name)
    if known != name and key(known) != key(name):
        forms[form] = form


def _tokens_with(text: str, runs: Iterable[bytes]) -> list[re.Match[str]]:
    low = text.lower()
    found: dict[int, re.Match[str]] = {}
    for run in map(bytes.decode, runs):
        start = low.find(run)
        while start >= 0:
            while start and text[start - 1] in _TOKEN_CHARACTERS:
                start -= 1
            token = _TOKEN.match(text, start)
            assert token is not None
            found[start] = token
            start = low.find(run, token.end())
    return [found[start] for start in sorted(found)]


class Masker:
    """Replaces names with the opaque ids of one source's people.

    Made from the same arguments in another process it gives the same ids; :meth:`take_met` there and :meth:`meet` here
    bring together whom they have met.

    Args:
        source: the ids of one source never match those of another.
        secret: the salt from :func:`salt`.
        aliases: other names of a person (member id, first name, display name) to the author name.
    """

    def __init__(self, source: str, secret: bytes, aliases: Mapping[str, str]) -> None:
        self._source = source
        self._secret = secret
        self._aliases = dict(aliases)
        self._targets = {_fold(alias): _fold(name) for alias, name in aliases.items()}
        self._other_names: dict[str, list[str]] = {}
        for alias, name in aliases.items():
            self._other_names.setdefault(name, []).append(alias)
        self._ids: dict[str, str] = {}
        self._met: list[str] = []
        self._rosters: dict[frozenset[str], _Names] = {}
        self._onlookers: dict[frozenset[str], dict[str, str]] = {}

    def person(self, name: str) -> str:
        """The opaque id of an author, given by any of the person's names; upper and lower case are one."""
        key = self._key(name)
        found = self._ids.get(key)
        if found is None:
            digest = hashlib.blake2b(f"{self._source}\0{key}".encode(), key=self._secret, digest_size=5)
            found = self._ids[key] = f"p_{digest.hexdigest()}"
            self._met.append(key)
        return found

    def _key(self, name: str) -> str:
        folded = _fold(name)
        return self._targets.get(folded, folded)

    def people(self) -> Iterable[tuple[str, str]]:
        """(person id, name) of everybody met so far, aliases included: for the private table only."""
        for key, person in self._ids.items():
            yield person, key
        for alias, name in self._aliases.items():
            yield self.person(name), _fold(alias)

    def take_met(self) -> list[str]:
        """The names first met since the last call, for :meth:`meet` of a masker in another process."""
        met, self._met = self._met, []
        return met

    def meet(self, names: Iterable[str]) -> None:
        """Count these people among those met."""
        for name in names:
            self.person(name)

    def mask(self, text: str, roster: frozenset[str], onlookers: frozenset[str] = frozenset()) -> str:
        """Replace marked mentions ``<@NAME>``, and roster names in running text, by ``<@person id>``.

        A name of one token is also known by its other spellings (``zorkle_``, and ``zorkle`` of ``zorkle|away``), one of
        several by each of its words. Where a name is an everyday word it is replaced only where it addresses somebody
        (``will: try this``, ``@will``), names a home folder, or stands capitalised inside a sentence; one that rooms talk
        about, or of two letters, only where it addresses somebody, and so is an onlooker's.
        """
        if not text.isascii():
            text = _compose(text)
        if "<@" in text:
            text = MENTION.sub(lambda m: m[0] if _PERSON.fullmatch(m[1]) else f"<@{self.person(m[1])}>", text)
        if onlookers and (address := _ADDRESS.match(text)):
            name = self._onlooker(address[1], onlookers)
            if name is not None:
                text = f"<@{self.person(name)}>{text[address.end(1) :]}"
        names = self._names(roster)
        tokens = names.tokens(text)
        return self._mask_tokens(text, tokens, names) if tokens else text

    def _names(self, roster: frozenset[str]) -> _Names:
        found = self._rosters.get(roster)
        if found is None:
            if len(self._rosters) >= _MOST_ROSTERS:
                self._rosters.clear()
            others = (alias for name in roster for alias in self._other_names.get(name, ()))
            found = self._rosters[roster] = _Names({*roster, *others}, self._key)
        return found

    def _onlooker(self, token: str, onlookers: frozenset[str]) -> str | None:
        found = self._onlookers.get(onlookers)
        if found is None:
            if len(self._onlookers) >= _MOST_ROSTERS:
                self._onlookers.clear()
            found = self._onlookers[onlookers] = {_fold(name): name for name in sorted(onlookers)}
        folded = _fold(token)
        name = found.get(folded) or found.get(folded.strip(_EDGES))
        return name if name and len(name) >= _SHORTEST_NAME and not is_everyday_word(folded) else None

    def _mask_tokens(self, text: str, tokens: Iterable[re.Match[str]], names: _Names) -> str:
        pieces: list[str] = []
        done = 0
        for token in tokens:
            hit = names[token[0]]
            if hit is None or token.start() < done:
                continue
            start = token.start() + hit.start
            before = text[max(0, start - 2) : start]
            if before == "<@" and _PERSON.fullmatch(token[0]):
                continue
            mentioned = before[-1:] == "@" and not before[:-1].isalnum()
            name, end = hit.name, token.start() + hit.end
            for pattern, phrase in hit.phrases:
                if found := pattern.match(text, start):
                    name, end = phrase, found.end()
                    break
            else:
                if name is None or not (mentioned or _is_meant(text, start, end, hit.sense)):
                    continue
            pieces += text[done : start - mentioned], f"<@{self.person(name)}>"
            done = end
        return "".join([*pieces, text[done:]])


def _is_meant(text: str, start: int, end: int, sense: Sense) -> bool:
    """Whether a name that was found in a text is one there."""
    short = end - start < _SHORTEST_NAME
    if sense is Sense.NAME and not short:
        return True
    address = _ADDRESS.match(text)
    if address is not None and address.start(1) == start:
        return not short or text[address.end() - 1] == ":"
    if short or text[max(0, start - 7) : start].casefold().endswith(_HOMES):
        return not short
    last = start - 1
    while last >= 0 and text[last].isspace():
        last -= 1
    if sense is Sense.TOPIC or last < 0 or text[last] in ".!?:":
        return False
    return text[start].isupper() and text[start + 1 : end].islower() and text[end : end + 2] not in ("'t", "’t")


def write_people(path: Path, masker: Masker) -> None:
    """The private table from opaque ids to names; readable by the owner alone."""
    with write_tables(path, {"people": PEOPLE}) as writer:
        writer.add_all("people", sorted(set(masker.people())))
    path.chmod(0o600)
