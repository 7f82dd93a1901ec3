"""The catalogue of chat sources, and a team's own beside it, validated; errors name the entry and the field."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from zoneinfo import available_timezones

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from thread_embed_assets.chat.model import Truth
from thread_embed_assets.errors import InputError, wrong_field
from thread_embed_assets.sources.detect import detect
from thread_embed_assets.storage.layout import Layout

CATALOG = Path(__file__).resolve().parents[1] / "catalog.yaml"
OWN_CHAT = "own_chat.yaml"
OWN_CHAT_VARIABLE = "THREAD_EMBED_OWN_CHAT"
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
_REPOSITORY = r"^[\w.-]+/[\w.-]+$"

Priority = Literal["P0", "P1", "P2"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)


class Declaration(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GithubOrigin(Declaration):
    """A repository's tarball at a commit.

    Attributes:
        repository: ``OWNER/NAME``.
        include: glob patterns below the tarball's top folder; ``*`` never crosses a slash.
    """

    kind: Literal["github"]
    repository: str = Field(pattern=_REPOSITORY)
    include: tuple[str, ...] = Field(min_length=1)


class HubOrigin(Declaration):
    """A data set of the Hugging Face hub at a revision.

    Attributes:
        repository: ``OWNER/NAME``.
        include: glob patterns of the files that are taken; ``*`` never crosses a slash.
    """

    kind: Literal["hub"]
    repository: str = Field(pattern=_REPOSITORY)
    include: tuple[str, ...] = Field(min_length=1)


class HubStreamOrigin(Declaration):
    """A ``tar.zst`` of ``<server id>.json`` on the hub, too large to keep: read as a stream, of which a sample is kept.

    Attributes:
        repository: ``OWNER/NAME``.
        path: the archive in the data set.
        server_share: probability with which a server is taken, drawn by its id.
        channel_day_share: probability with which a taken server's day in one channel is taken, drawn by their ids.
        most_messages_per_server: of the channel-days drawn, those with the lowest draws are kept, up to so many messages.
        most_servers: the stream is closed after so many servers.
        most_messages: the stream is closed after so many messages.
    """

    kind: Literal["hub_stream"]
    repository: str = Field(pattern=_REPOSITORY)
    path: str = Field(min_length=1)
    server_share: float = Field(gt=0, le=1)
    channel_day_share: float = Field(gt=0, le=1)
    most_messages_per_server: int = Field(ge=1)
    most_servers: int = Field(ge=1)
    most_messages: int = Field(ge=1)


class PackageOrigin(Declaration):
    """A folder that ships inside this package.

    Attributes:
        path: below the package's folder.
    """

    kind: Literal["package"]
    path: str


class FolderOrigin(Declaration):
    """A team's own export.

    Attributes:
        path: a folder, a zip or a single file; a relative path is taken from the root folder.
    """

    kind: Literal["folder"]
    path: str


class PublishedSplit(Declaration):
    """The split the publisher made.

    Attributes:
        dev_share: of train conversations moves to dev where none was published.
    """

    by: Literal["published"]
    dev_share: float = Field(default=0.0, ge=0, lt=1)


class TimeSplit(Declaration):
    """Within each channel the last ``test_share`` of conversations by time is test, the ``dev_share`` before it dev.

    Attributes:
        test_share, dev_share: of each channel's conversations.
        embargo_hours: conversations so near a boundary are left out.
        test_channels: are test as a whole.
    """

    by: Literal["channel_time"]
    test_share: float = Field(gt=0, lt=1)
    dev_share: float = Field(gt=0, lt=1)
    embargo_hours: float = Field(ge=0)
    test_channels: tuple[str, ...] = ()


class ConversationSplit(Declaration):
    """Test, dev and train drawn by conversation id: for single dialogues without channels and times.

    Attributes:
        test_share, dev_share: of the conversations; some must be left to train on.
    """

    by: Literal["conversation"]
    test_share: float = Field(ge=0, lt=1)
    dev_share: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _some_left_to_train(self) -> ConversationSplit:
        if self.test_share + self.dev_share >= 1:
            raise ValueError("test_share and dev_share leave nothing to train on")
        return self


# What a team's own export is taken to be, so that few lines declare it; then what follows from its format.
OWN_EXPORT = {
    "revision": "local",
    "licence": "internal",
    "redistribute": False,
    "truth": "explicit",
    "roles": ["train", "benchmark"],
    "priority": "P0",
    "workspace": True,
    "split": {"by": "channel_time", "test_share": 0.2, "dev_share": 0.1, "embargo_hours": 24},
}

_BY_FORMAT: dict[str, dict[str, Any]] = {
    "slack_export": {"platform": "slack"},
    "discord_export": {"platform": "discord"},
    "zulip_export": {"platform": "zulip"},
    "irc_log": {"platform": "irc", "truth": "guessed", "roles": ["train"]},
}

Split = Annotated[PublishedSplit | TimeSplit | ConversationSplit, Field(discriminator="by")]
Origin = Annotated[GithubOrigin | HubOrigin | HubStreamOrigin | PackageOrigin | FolderOrigin, Field(discriminator="kind")]


class Source(Declaration):
    """One entry of the catalogue.

    Attributes:
        name: lower-case letters, digits and underscores: it names files and partitions.
        title: for pages and tables.
        platform: whose markup is resolved in texts.
        format: the parser (``sources/parsers.py``).
        origin: where the files come from.
        licence: its name, and what it asks for.
        truth: who says what a thread is: people, the platform, the publisher's program, or our disentangler.
        priority: P0 is always built, P1 and P2 where they are asked for.
        split: how train, dev and test are told apart.
        note: for people.
        revision: the origin's pinned version (a commit for GitHub and for the hub, where a branch may stand, too).
        sha256: digest over the (path, sha256) of the fetched files; None for a team's own, growing export, and where nobody
            has pinned a hub data set's files yet: then those of the first fetch are held to.
        redistribute: whether texts of this source may be in what we release.
        roles: what the source may be used for.
        workspace: a team's own history: it gets a training mix of its own.
        timezone: IANA name of the zone in which the files write times without one.
        fewest_messages: conversations with fewer are dropped; 2 for questions with one answer.
        strategies: pair strategies that this source's conversations can serve.
        most_pairs: pairs kept of a strategy, where it is another number than the strategy's own (``pairs.volume``).
        opt_in: why nobody should fetch this by accident; such a source is fetched only when THREAD_EMBED_OPT_IN names it.
        filter_bounds: lowest and highest share of parsed conversations that the filters may remove.

    An entry whose origin is a folder takes what it does not say from ``OWN_EXPORT`` and, before that, from its format.
    """

    name: str
    title: str
    platform: Literal["slack", "irc", "discord", "dialogue", "zulip"]
    format: Literal[
        "slack_export",
        "discord_export",
        "zulip_export",
        "irc_log",
        "irc_annotated",
        "irc_days",
        "irc_html",
        "slack_xml",
        "topical_chat",
        "discord_messages",
        "chatml_parquet",
        "messages_parquet",
        "question_answer_parquet",
    ]
    origin: Origin
    revision: str = Field(min_length=1)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    licence: str
    redistribute: bool
    truth: Truth
    roles: frozenset[Literal["train", "benchmark"]] = Field(min_length=1)
    priority: Priority
    workspace: bool = False
    split: Split
    timezone: str = "UTC"
    fewest_messages: int = Field(default=3, ge=2)
    strategies: tuple[Literal["thread", "response", "temporal", "summary"], ...] = (
        "thread",
        "response",
        "temporal",
        "summary",
    )
    most_pairs: dict[Literal["thread", "response", "temporal", "summary"], PositiveInt] = Field(default_factory=dict)
    opt_in: str = ""
    filter_bounds: tuple[float, float] = (0.0, 0.9)
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def _own_export(cls, entry: Any) -> Any:
        origin = entry.get("origin") if isinstance(entry, dict) else None
        own = isinstance(origin, dict) and origin.get("kind") == "folder"
        return {**OWN_EXPORT, **_BY_FORMAT.get(str(entry.get("format")), {}), **entry} if own else entry

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        if self.timezone not in available_timezones():
            raise ValueError(f"unknown timezone {self.timezone!r}: write an IANA name such as Europe/Amsterdam")
        if not _NAME.match(self.name):
            raise ValueError("name must be lower-case letters, digits and underscores (it names files and partitions)")
        if self.truth is Truth.GUESSED and "benchmark" in self.roles:
            raise ValueError("guessed threads never become benchmark truth: remove 'benchmark' from roles")
        if self.origin.kind in ("github", "package") and self.sha256 is None:
            raise ValueError("sha256 is required for a pinned origin")
        return self


def load_catalog(path: Path = CATALOG) -> dict[str, Source]:
    """The sources by name, in the file's order; then those of a team's own in ``own_chat.yaml`` beside it, if it is there.

    ``THREAD_EMBED_OWN_CHAT`` names another file in its place. The format of an entry there that names none is found out from
    its file, at each load.

    Raises:
        InputError: a file is not YAML, or an entry has an unknown, missing or wrong field (it names both), or there is
            no export at an own entry's path, or none whose format is recognised.
    """
    sources = {name: _source(path, name, entry) for name, entry in _entries(path, "sources").items()}
    own = _own_chat(path)
    if own is not None:
        for name, entry in _entries(own, "workspaces").items():
            if name in sources:
                remedy = "Choose another name: it names partitions and files"
                raise InputError(f"{own}, entry '{name}'", f"{path.name} has a source of that name", remedy)
            sources[name] = _workspace(own, name, entry)
    return sources


def select(sources: Mapping[str, Source], priority: Priority) -> list[str]:
    """Names of the sources of that priority or a more urgent one, without those that have to be opted in to."""
    return [name for name, source in sources.items() if source.priority <= priority and not source.opt_in]


def _entries(path: Path, top: str) -> dict[str, dict[str, Any]]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(path, f"not valid YAML ({error})", "Mend the file at that line") from error
    if not isinstance(content, dict) or not isinstance(content.get(top), dict):
        raise InputError(path, f"the file has no mapping {top!r}", f"Start it with '{top}:' and indent the entries")
    unknown = sorted(map(str, set(content) - {top}))
    if unknown:
        raise InputError(path, f"unknown top-level field {unknown[0]!r}", f"Only {top!r} is allowed at the top")
    entries: dict[str, dict[str, Any]] = {}
    for name, entry in content[top].items():
        if not isinstance(entry, dict):
            raise InputError(f"{path}, entry '{name}'", "is not a mapping of fields", "Give it the fields of its neighbours")
        entries[str(name)] = entry
    return entries


def _source(path: Path, name: str, entry: dict[str, Any]) -> Source:
    try:
        return Source.model_validate({**entry, "name": name})
    except ValidationError as error:
        fields = ", ".join(k for k in Source.model_fields if k != "name")
        raise wrong_field(error, f"{path}, entry '{name}'", f"Known fields: {fields}", whole="(entry)") from error


def _own_chat(catalog: Path) -> Path | None:
    named = os.environ.get(OWN_CHAT_VARIABLE)
    if not named:
        beside = catalog.with_name(OWN_CHAT)
        return beside if beside.exists() else None
    path = Path(named).expanduser().resolve()
    if not path.is_file():
        raise InputError(path, f"{OWN_CHAT_VARIABLE} names this file, but it is not there", "Correct or unset the variable")
    return path


def _workspace(own: Path, name: str, entry: dict[str, Any]) -> Source:
    place = f"{own}, entry '{name}'"
    export = entry.get("path")
    if not isinstance(export, str) or "origin" in entry:
        raise InputError(
            f"{place}, field 'path'", "an entry here has a path, and no origin", "Write `path: exports/team.zip`"
        )
    fields = {"title": name.replace("_", " ").capitalize(), **entry, "origin": {"kind": "folder", "path": export}}
    del fields["path"]
    if "format" not in fields:
        try:
            fields["format"] = detect(Layout.from_environment().root / Path(export).expanduser())
        except InputError as error:
            raise InputError(place, f"{error.place}: {error.problem}", error.remedy) from error
    return _source(own, name, fields)
