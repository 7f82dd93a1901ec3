"""One source, from its raw files to the conversations table."""

from __future__ import annotations

from collections.abc import Iterable

from thread_embed_assets.chat import splits
from thread_embed_assets.chat.normalise import Normalised, SplitPlan, normalise
from thread_embed_assets.chat.people import Masker, salt, write_people
from thread_embed_assets.sources.catalog import ConversationSplit, PublishedSplit, Source
from thread_embed_assets.sources.parsers import aliases, parse
from thread_embed_assets.storage.layout import Layout


def split_plan(source: Source) -> SplitPlan:
    """How the catalogue says this source is split."""
    rule = source.split

    def plan(starts: Iterable[tuple[str, float]]) -> splits.Assignment:
        if isinstance(rule, PublishedSplit):
            return splits.published(source.name, rule.dev_share)
        if isinstance(rule, ConversationSplit):
            return splits.by_conversation(source.name, dev_share=rule.dev_share, test_share=rule.test_share)
        limits = splits.boundaries(starts, dev_share=rule.dev_share, test_share=rule.test_share)
        return splits.by_channel_and_time(
            source.name, limits, embargo_hours=rule.embargo_hours, test_channels=rule.test_channels
        )

    return plan


def build_conversations(source: Source, layout: Layout) -> Normalised:
    """Parse, clean, anonymise and split ``data/raw/<source>``; real names go to the private table only."""
    files = layout.raw(source.name) / "files"
    masker = Masker(source.name, salt(layout), aliases(files, source))
    parsed, path = parse(files, source), layout.conversations(source.name)
    built = normalise(parsed, masker, split_plan(source), path, fewest_messages=source.fewest_messages)
    write_people(layout.people(source.name), masker)
    return built
