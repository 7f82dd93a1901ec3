"""The chat formats, listed: a new one is a module with ``parse`` and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from thread_embed_assets.chat.model import Conversation
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import (
    discord_export,
    discord_messages,
    irc,
    irc_days,
    irc_html,
    irc_log,
    parquet_dialogues,
    slack_export,
    slack_xml,
    topical_chat,
    zulip_export,
)
from thread_embed_assets.sources.catalog import Source

Parser = Callable[[Path, Source], Iterator[Conversation]]

PARSERS: dict[str, Parser] = {
    "chatml_parquet": parquet_dialogues.parse,
    "discord_export": discord_export.parse,
    "discord_messages": discord_messages.parse,
    "irc_annotated": irc.parse,
    "irc_days": irc_days.parse,
    "irc_html": irc_html.parse,
    "irc_log": irc_log.parse,
    "messages_parquet": parquet_dialogues.parse,
    "question_answer_parquet": parquet_dialogues.parse,
    "slack_export": slack_export.parse,
    "slack_xml": slack_xml.parse,
    "topical_chat": topical_chat.parse,
    "zulip_export": zulip_export.parse,
}

_ALIASES: dict[str, Callable[[Path], dict[str, str]]] = {
    "discord_export": discord_export.aliases,
    "irc_html": irc_html.aliases,
    "irc_log": irc_log.aliases,
    "slack_export": slack_export.aliases,
    "zulip_export": zulip_export.aliases,
}


def parse(folder: Path, source: Source) -> Iterator[Conversation]:
    """Conversations of a source, streamed, with texts and names as the platform gives them.

    Messages are in time order; system lines and bots are among them, marked by their kind; singletons are yielded too.

    Args:
        folder: the fetched files, ``data/raw/<source>/files``.
        source: the catalogue's entry; its format picks the parser.

    Raises:
        InputError: the folder is missing, or a file in it is malformed.
    """
    return PARSERS[source.format](_existing(folder, source), source)


def aliases(folder: Path, source: Source) -> dict[str, str]:
    """Other names of a source's people (user ids, handles, first names) to their author names; empty if none are known."""
    read = _ALIASES.get(source.format)
    return read(_existing(folder, source)) if read else {}


def _existing(folder: Path, source: Source) -> Path:
    if not folder.is_dir():
        raise InputError(folder, f"the files of {source.name!r} are not there", "Materialise its raw_dataset first")
    return folder
