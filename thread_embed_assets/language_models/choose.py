"""Which writer writes: only the one that was asked for by name; a key that lies around in the environment sends nothing."""

from __future__ import annotations

import os
from typing import Literal, get_args

from thread_embed_assets.errors import InputError
from thread_embed_assets.language_models.anthropic_api import BatchWriter, MessagesWriter
from thread_embed_assets.language_models.cache import AnswerCache
from thread_embed_assets.language_models.extractive import ExtractiveWriter
from thread_embed_assets.language_models.openai_compatible import OpenAiCompatibleWriter
from thread_embed_assets.language_models.writers import Writer

WRITER_VARIABLE = "THREAD_EMBED_LANGUAGE_MODEL"
WriterName = Literal["auto", "anthropic", "anthropic_batch", "openai_compatible", "extractive"]
AT_ONCE = 4


def choose_writer(name: WriterName, cache: AnswerCache, *, model: str = "", url: str = "", at_once: int = AT_ONCE) -> Writer:
    """The writer of that name.

    Args:
        name: ``auto`` is what ``THREAD_EMBED_LANGUAGE_MODEL`` names, as ``<writer>`` or ``<writer>/<model>``; if it is not
            set, the offline stand-in.
        model: empty means the one that the variable names, else the writer's default.
        url: of an OpenAI-compatible server.

    Raises:
        InputError: no such writer, or it lacks its key, its model or its URL.
    """
    if name == "auto":
        named, _, of_variable = os.environ.get(WRITER_VARIABLE, "").strip().partition("/")
        name, model = _known(named or "extractive"), model or of_variable
    match name:
        case "anthropic":
            return MessagesWriter(model, at_once)
        case "anthropic_batch":
            return BatchWriter(cache, model)
        case "openai_compatible":
            return OpenAiCompatibleWriter(model, url, at_once)
        case _:
            return ExtractiveWriter()


def _known(name: str) -> WriterName:
    known: tuple[WriterName, ...] = get_args(WriterName)
    for one in known:
        if one == name != "auto":
            return one
    raise InputError(
        WRITER_VARIABLE, f"there is no writer {name!r}", f"Set it to one of {', '.join(known[1:])}, or unset it"
    )
