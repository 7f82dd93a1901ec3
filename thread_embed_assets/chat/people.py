"""Names out, opaque ids in: authors, mentions, and names in running text."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import readable_disk_errors
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import write_tables

PEOPLE = pa.schema([("person_id", pa.string()), ("name", pa.string())])

# Above this Zipf frequency (wordfreq; 4.0 is once per 100,000 words) a name is also an everyday word, such as "will".
_EVERYDAY_ZIPF = 4.0
_SHORTEST_NAME = 3
_MARKED = re.compile(r"<@([^<>|\s][^<>|]*)(?:\|[^<>]*)?>")
_PERSON = re.compile(r"p_[0-9a-f]{10}")
_TOKEN = re.compile(r"[\w\[\]\\`^{}|-]+")
_EDGES = "-|`^_[]{}\\"
_MOST_REMEMBERED = 20_000
_ADDRESS = re.compile(r"^[\s@]*([\w\[\]\\`^{}|-]+)\s*[:,]")


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


@lru_cache(maxsize=100_000)
def is_everyday_word(name: str) -> bool:
    """Whether a name is so common a word that masking each of its occurrences would eat ordinary text."""
    from wordfreq import zipf_frequency

    return bool(zipf_frequency(name.lower(), "en", wordlist="small") >= _EVERYDAY_ZIPF)


class _Tokens(dict[str, str | None]):
    """A token, as it is written, to the name of the roster it stands for, if any; looked up once, then remembered.

    Attributes:
        folded: the roster's case-folded names of one token.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folded: dict[str, str] = {}

    def __missing__(self, token: str) -> str | None:
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        folded = token.casefold()
        name = self[token] = self.folded.get(folded) or self.folded.get(folded.strip(_EDGES))
        return name


@dataclass(frozen=True)
class _Names:
    """A roster made ready: the names of one token, and first token to the names of more than one."""

    tokens: _Tokens
    phrases: dict[str, list[tuple[re.Pattern[str], str]]]


class Masker:
    """Replaces names with the opaque ids of one source's people.

    Args:
        source: the ids of one source never match those of another.
        secret: the salt from :func:`salt`.
        aliases: other names of a person (member id, first name, display name) to the author name.
    """

    def __init__(self, source: str, secret: bytes, aliases: Mapping[str, str]) -> None:
        self._source = source
        self._secret = secret
        self._aliases = dict(aliases)
        self._targets = {alias.casefold(): name.casefold() for alias, name in aliases.items()}
        self._ids: dict[str, str] = {}
        self._lookups: dict[frozenset[str], _Names] = {}

    def person(self, name: str) -> str:
        """The opaque id of an author, given by any of the person's names; upper and lower case are one."""
        key = name.casefold()
        key = self._targets.get(key, key)
        found = self._ids.get(key)
        if found is None:
            digest = hashlib.blake2b(f"{self._source}\0{key}".encode(), key=self._secret, digest_size=5)
            found = self._ids[key] = f"p_{digest.hexdigest()}"
        return found

    def people(self) -> Iterable[tuple[str, str]]:
        """(person id, name) of everybody met so far, aliases included: for the private table only."""
        for key, person in self._ids.items():
            yield person, key
        for alias, name in self._aliases.items():
            yield self.person(name), alias.casefold()

    def mask(self, text: str, roster: frozenset[str], onlookers: frozenset[str] = frozenset()) -> str:
        """Replace marked mentions ``<@NAME>``, and roster names in running text, by ``<@person id>``.

        A roster name that is an everyday word is replaced only where it addresses somebody (``will: try this``) or stands
        capitalised inside a sentence; an onlooker's name only where it addresses somebody.
        """
        if "<@" in text:
            text = _MARKED.sub(lambda m: m[0] if _PERSON.fullmatch(m[1]) else f"<@{self.person(m[1])}>", text)
        if onlookers and (address := _ADDRESS.match(text)):
            name = self._lookup(onlookers).tokens[address[1]]
            if name is not None and not is_everyday_word(address[1]):
                text = f"<@{self.person(name)}>{text[address.end(1) :]}"
        names = self._lookup(roster)
        tokens = _TOKEN.findall(text)
        if names.phrases and not names.phrases.keys().isdisjoint(map(str.casefold, tokens)):
            text = self._mask_phrases(text, names.phrases)
            tokens = _TOKEN.findall(text)
        if any(map(names.tokens.__getitem__, tokens)):
            text = self._mask_tokens(text, names.tokens)
        return text

    def _lookup(self, roster: frozenset[str]) -> _Names:
        found = self._lookups.get(roster)
        if found is None:
            if len(self._lookups) > 16:
                self._lookups.clear()
            found = self._lookups[roster] = self._prepare(roster)
        return found

    def _prepare(self, roster: frozenset[str]) -> _Names:
        aliases = (alias for alias, name in self._aliases.items() if alias in roster or name in roster)
        ready = _Names(_Tokens(), {})
        for name in sorted({*roster, *aliases}, key=lambda name: (-len(name), name)):
            first = _TOKEN.search(name)
            if len(name) < _SHORTEST_NAME or first is None:
                continue
            if first[0] == name:
                ready.tokens.folded[name.casefold()] = name
            else:
                pattern = re.compile(re.escape(name[first.start() :]) + r"(?!\w)", re.IGNORECASE)
                ready.phrases.setdefault(first[0].casefold(), []).append((pattern, name))
        return ready

    def _mask_phrases(self, text: str, phrases: Mapping[str, list[tuple[re.Pattern[str], str]]]) -> str:
        """Replace names of more than one token, such as ``Ada Lowe`` or ``ada.lowe``, the longest first."""
        pieces: list[str] = []
        done = 0
        for token in _TOKEN.finditer(text):
            if token.start() < done:
                continue
            for pattern, name in phrases.get(token[0].casefold(), ()):
                if found := pattern.match(text, token.start()):
                    pieces += text[done : found.start()], f"<@{self.person(name)}>"
                    done = found.end()
                    break
        return "".join([*pieces, text[done:]]).replace("@<@p_", "<@p_")

    def _mask_tokens(self, text: str, names: _Tokens) -> str:
        address = _ADDRESS.match(text)
        addressed = address.start(1) if address else -1

        def replace(match: re.Match[str]) -> str:
            token = match[0]
            name = names[token]
            if name is None:
                return token
            start = match.start()
            if text[start - 2 : start] == "<@" and _PERSON.fullmatch(token):
                return token
            if is_everyday_word(token) and start != addressed:
                inside = text[:start].rstrip()[-1:] not in ("", ".", "!", "?", ":")
                if not (inside and token[:1].isupper() and token[1:].islower()):
                    return token
            core = token if token.casefold() in names.folded else token.strip(_EDGES)
            return token.replace(core, f"<@{self.person(name)}>", 1)

        return _TOKEN.sub(replace, text).replace("@<@p_", "<@p_")


def write_people(path: Path, masker: Masker) -> None:
    """The private table from opaque ids to names; readable by the owner alone."""
    with write_tables(path, {"people": PEOPLE}) as writer:
        writer.add_all("people", sorted(set(masker.people())))
    path.chmod(0o600)
