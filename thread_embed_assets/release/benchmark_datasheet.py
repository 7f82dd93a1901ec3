"""The README of the packaged benchmark: a datasheet after Gebru et al. (2021, https://doi.org/10.1145/3458723)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from thread_embed_assets.sources.catalog import Source


@dataclass(frozen=True)
class Size:
    """What one source has of one task in one split.

    Attributes:
        tiers: queries by tier.
        candidates: queries that have candidates.
    """

    source: str
    task: str
    split: str
    tiers: Mapping[str, int]
    documents: int
    judgements: int
    candidates: int


def datasheet(
    sizes: Sequence[Size], sources: Mapping[str, Source], configs: Sequence[Mapping[str, Any]], rebuild: Sequence[str]
) -> str:
    """The README in Markdown with front matter.

    Args:
        sizes: in the order in which they are shown.
        sources: the packaged ones.
        configs: the front matter's configurations.
        rebuild: commands that fill in withheld texts; ``{source}`` stands for the source.
    """
    front = {
        "pretty_name": "ThreadEmbed chat retrieval benchmark",
        "language": ["en"],
        "license": "other",
        "license_name": "per-source",
        "license_link": "README.md#distribution",
        "task_categories": ["text-retrieval"],
        "tags": ["chat", "conversation", "information-retrieval", "mteb"],
        "configs": list(configs),
    }
    header = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=200)
    withheld = [name for name, source in sources.items() if not source.redistribute]
    commands = "\n".join(command.format(source=withheld[0] if withheld else "SOURCE") for command in rebuild)
    return f"---\n{header}---\n" + _BODY.format(
        sizes="\n".join(_size_row(size) for size in sizes),
        tasks="\n".join(_TASKS[task] for task in _TASKS if task in {size.task for size in sizes}),
        sources="\n".join(_source_row(source) for source in sources.values()),
        licences="\n".join(_licence_row(source) for source in sources.values()),
        withheld=_WITHHELD.format(names=", ".join(f"`{name}`" for name in withheld), commands=commands) if withheld else "",
        example=f"{sizes[0].source}-{sizes[0].task}",
        split=sizes[0].split,
    )


def _size_row(size: Size) -> str:
    tiers = ", ".join(f"{tier} {count}" for tier, count in sorted(size.tiers.items()))
    queries = sum(size.tiers.values())
    near = size.candidates or "-"
    counts = f"{queries} | {tiers} | {size.documents} | {size.judgements} | {near}"
    return f"| {size.source} | {size.task} | {size.split} | {counts} |"


def _source_row(source: Source) -> str:
    place = f"{source.origin.kind} `{getattr(source.origin, 'repository', source.name)}`"
    return f"| {source.name} | {source.title} | {place} | `{source.revision}` | {source.truth.value} |"


def _licence_row(source: Source) -> str:
    return f"| {source.name} | {source.licence} | {'texts' if source.redistribute else 'ids only'} |"


_TASKS = {
    "thread": "- `thread`: a message finds its thread, from which it was taken out.",
    "thread_strict": "- `thread_strict`: the same message finds what had been said in its thread before it.",
    "response": "- `response`: up to five messages find the up to five that follow.",
    "reply": "- `reply`: up to five messages find single messages that follow; 2 a direct reply, 1 the same thread.",
    "summary": "- `summary`: a sentence somebody wrote about a thread finds it.",
}

_WITHHELD = """
{names}: only ids, judgements and candidates are here (and our own sentences of the task `summary`); the columns of text and
of channel and time are null. To fill them in, fetch the source yourself and build its tasks with the code that made this:

```
{commands}
```

Each filled file is compared with the checksum that `rebuild.json` keeps of it. A filled folder may not be passed on.
"""

_BODY = """
# ThreadEmbed: retrieval in chat

```python
from datasets import load_dataset

corpus = load_dataset("FOLDER", "{example}-corpus", split="{split}")
queries = load_dataset("FOLDER", "{example}-queries", split="{split}")
qrels = load_dataset("FOLDER", "{example}-qrels", split="{split}")
```

## Motivation

To measure whether an embedding model finds the conversation that a message, a context or a sentence belongs to, when many
other conversations of the same channel look alike.

## Composition

{tasks}

| source | task | split | queries | by tier | documents | judgements | queries with candidates |
| --- | --- | --- | ---: | --- | ---: | ---: | ---: |
{sizes}

Tier `gold`: people annotated the thread, or replied inside it. Tier `silver`: a program found it. A split's queries share
one corpus: every held-out document of the source. `candidates` are the hard slice: the relevant documents and those of the
same channel nearest in time. `text` has one message a line; `text_speakers`, `text_times` and `text_speakers_times` add who
speaks (numbered anew in each text) and the time since the line before.

## Collection

| source | what | from | revision | threads |
| --- | --- | --- | --- | --- |
{sources}

What comes from `github` or the `hub` had been published by others; `package` is made up for this project, `folder` a
team's own.
Splits are by time, by conversation or as published, and only the dev and test ones are here.

## Preprocessing

People are masked: authors and mentions are left out or numbered inside a text, names in running text and personal or secret
strings are replaced by marks. Conversations in other languages or of too few messages are left out. No table of names
or of person ids is part of this data set.

## Uses

For scoring retrieval models; choose on dev, report test, with intervals over the queries' clusters (channel and day). Not
for training, not for finding out who somebody is, and no measure of chat in other languages.

## Distribution

| source | licence | distributed here |
| --- | --- | --- |
{licences}

The sentences of the task `summary`, judgements and candidates: Apache-2.0.
{withheld}
## Maintenance

Ids hash source, task and message or conversation, so they stay the same in every build of the same revision. `rebuild.json`
names origin, revision and checksum of each source. Two builds are the same byte for byte. Whoever is in these texts and
wants out: open an issue at the code's repository, and the conversation is left out of the next build.
"""
