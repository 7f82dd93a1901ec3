"""The catalogue of chat sources, validated; errors name the entry and the field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from thread_embed_assets.chat.model import Truth
from thread_embed_assets.errors import InputError

CATALOG = Path(__file__).resolve().parents[1] / "catalog.yaml"
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


class Declaration(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GithubOrigin(Declaration):
    """A repository's tarball at a commit. ``include`` are glob patterns below the tarball's top folder."""

    kind: Literal["github"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    include: tuple[str, ...] = Field(min_length=1)


class PackageOrigin(Declaration):
    """A folder that ships inside this package."""

    kind: Literal["package"]
    path: str


class FolderOrigin(Declaration):
    """A team's own export: a folder or a zip file; a relative path is taken from the root folder."""

    kind: Literal["folder"]
    path: str


class PublishedSplit(Declaration):
    """The split the publisher made; ``dev_share`` of train conversations moves to dev where none was published."""

    by: Literal["published"]
    dev_share: float = Field(default=0.0, ge=0, lt=1)


class TimeSplit(Declaration):
    """Within each channel the last ``test_share`` of conversations by time is test, the ``dev_share`` before it dev.

    Conversations that touch a boundary's embargo are left out; ``test_channels`` are test as a whole.
    """

    by: Literal["channel_time"]
    test_share: float = Field(gt=0, lt=1)
    dev_share: float = Field(gt=0, lt=1)
    embargo_hours: float = Field(ge=0)
    test_channels: tuple[str, ...] = ()


# What a team's own export is taken to be, so that five lines declare it.
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

Split = Annotated[PublishedSplit | TimeSplit, Field(discriminator="by")]
Origin = Annotated[GithubOrigin | PackageOrigin | FolderOrigin, Field(discriminator="kind")]


class Source(Declaration):
    """One entry of the catalogue.

    Attributes:
        revision: the origin's pinned version (a commit for GitHub).
        sha256: digest over the (path, sha256) of the fetched files; None for a team's own, growing export.
        redistribute: whether texts of this source may be in what we release.
        roles: what the source may be used for.
        workspace: a team's own history: it gets a training mix of its own.
        timezone: IANA name of the zone in which the files write times without one.
        fewest_messages: conversations with fewer are dropped; 2 for questions with one answer.
        strategies: pair strategies that this source's conversations can serve.
        opt_in: why nobody should fetch this by accident; such a source is fetched only when THREAD_EMBED_OPT_IN names it.
        filter_bounds: lowest and highest share of parsed conversations that the filters may remove.

    An entry whose origin is a folder takes what it does not say from ``OWN_EXPORT``.
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
    priority: Literal["P0", "P1", "P2"]
    workspace: bool = False
    split: Split
    timezone: str = "UTC"
    fewest_messages: int = Field(default=3, ge=2)
    strategies: tuple[Literal["thread", "response", "temporal"], ...] = ("thread", "response", "temporal")
    opt_in: str = ""
    filter_bounds: tuple[float, float] = (0.0, 0.9)
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def _own_export(cls, entry: Any) -> Any:
        origin = entry.get("origin") if isinstance(entry, dict) else None
        own = isinstance(origin, dict) and origin.get("kind") == "folder"
        return {**OWN_EXPORT, **entry} if own else entry

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        if not _NAME.match(self.name):
            raise ValueError("name must be lower-case letters, digits and underscores (it names files and partitions)")
        if self.truth is Truth.GUESSED and "benchmark" in self.roles:
            raise ValueError("guessed threads never become benchmark truth: remove 'benchmark' from roles")
        if self.origin.kind != "folder" and self.sha256 is None:
            raise ValueError("sha256 is required for a pinned origin")
        return self


def load_catalog(path: Path = CATALOG) -> dict[str, Source]:
    """The sources by name, in the file's order.

    Raises:
        InputError: the file is not YAML, or an entry has an unknown, missing or wrong field; it names both.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(path, f"not valid YAML ({error})", "Mend the file at that line") from error
    if not isinstance(content, dict) or not isinstance(content.get("sources"), dict):
        raise InputError(path, "the file has no mapping 'sources'", "Start it with 'sources:' and indent the entries")
    unknown = sorted(set(content) - {"sources"})
    if unknown:
        raise InputError(path, f"unknown top-level field {unknown[0]!r}", "Only 'sources' is allowed at the top")
    sources: dict[str, Source] = {}
    for name, entry in content["sources"].items():
        if not isinstance(entry, dict):
            raise InputError(f"{path}, entry '{name}'", "is not a mapping of fields", "Give it the fields of its neighbours")
        try:
            sources[name] = Source.model_validate({**entry, "name": name})
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "(entry)"
            fields = ", ".join(k for k in Source.model_fields if k != "name")
            raise InputError(f"{path}, entry '{name}', field '{field}'", first["msg"], f"Known fields: {fields}") from error
    return sources
