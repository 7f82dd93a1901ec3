"""Released models in the benchmark: what is known of their training beside the tasks they are scored on.

Their training texts do not travel with them. Where the pair tables lie on this machine, as they were, texts are compared as
with any checkpoint. Elsewhere the manifest may hold what was found on these very tasks when the model was packed. With
neither, a source that the model was trained on is not scored with it, and for any other source the check says what it rests
on: that the model was trained on other sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from thread_embed_assets.benchmark.contamination import contamination, not_here
from thread_embed_assets.benchmark.contenders import Contender, Model, Tuned
from thread_embed_assets.benchmark.readings import Reading
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.pack import tasks_fingerprint
from thread_embed_assets.release.weights import Released, released_models, unpack
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import Checkpoint
from thread_embed_assets.verdict import Verdict

_REMEDY = "Materialise the pairs of its sources as they were"


class Ground(StrEnum):
    """What it rests on that a released model has not read the test texts."""

    COMPARED = "compared"
    RECORD = "record"
    OTHER_SOURCES = "other sources"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Standing:
    """A released model beside one source's tasks; ``words`` say what the ground is, in a sentence."""

    released: Released
    ground: Ground
    words: str


def standings(layout: Layout, source: str, tasks: Path) -> list[Standing]:
    """Of every released model, by name."""
    return [_standing(released, layout, source, tasks) for released in released_models(layout)]


def _standing(released: Released, layout: Layout, source: str, tasks: Path) -> Standing:
    missing = not_here([released.checkpoint()], layout)
    if not missing:
        return Standing(released, Ground.COMPARED, f"{released.name}: all its training texts were compared")
    record = released.manifest["compared"].get(source)
    absent = f"{len(missing)} of its training tables are not here as they were"
    if record and record["tasks"] == tasks_fingerprint(tasks):
        words = (
            f"{absent}; when it was packed, {record['training_texts']} training texts were compared with these very tasks"
        )
        return Standing(released, Ground.RECORD, f"{released.name}: {words}")
    if source not in released.sources:
        words = f"{absent}, so NO texts were compared: it was trained on {', '.join(released.sources)}, not on {source}"
        return Standing(released, Ground.OTHER_SOURCES, f"{released.name}: {words}")
    words = f"it was trained on {source}, {absent}, and its manifest does not know these tasks"
    return Standing(released, Ground.NOTHING, f"{released.name}: {words} ({missing[0]})")


def released_contenders(
    layout: Layout, source: str, tasks: Path, catalog: Mapping[str, Source]
) -> tuple[list[Tuned], list[Contender]]:
    """The released models that can be scored on a source, and rows that say why the others cannot."""
    scored: list[Tuned] = []
    not_run: list[Contender] = []
    for one in standings(layout, source, tasks):
        released = one.released
        name = contender_name(released)
        seen = {catalog[trained].platform for trained in released.sources if trained in catalog}
        try:
            if one.ground is Ground.NOTHING:
                raise InputError(name, f"nothing proves that it has not read the test texts: {one.words}", _REMEDY)
            model = Model(name, unpack(released, layout), released.fingerprint)
        except InputError as error:
            not_run.append(Contender(name, "dense", "tuned", (Reading(released.text_format),), not_run=str(error)))
        else:
            scored.append(Tuned(model, "tuned" if catalog[source].platform in seen else "tuned_transfer"))
    return scored, not_run


def contender_name(released: Released) -> str:
    return f"ThreadEmbed-released-{released.name}"


def contamination_of_released(released: Released, tasks: Mapping[str, Path], layout: Layout) -> Verdict:
    """Of one released model, beside the tasks of all sources: it fails where they hold what it was trained on, or may."""
    found = [_standing(released, layout, source, path) for source, path in tasks.items()]
    grounds = {one.ground for one in found}
    if Ground.NOTHING in grounds:
        return Verdict(False, ". ".join(one.words for one in found if one.ground is Ground.NOTHING))
    if Ground.COMPARED in grounds:
        return contamination(tasks, [released.checkpoint()], layout)
    return Verdict(
        True, ". ".join(one.words for one in found) or f"{released.name}: there are no tasks here to compare it with"
    )


def contamination_with_released(
    tasks: Mapping[str, Path], checkpoints: Sequence[Checkpoint], layout: Layout, source: str
) -> Verdict:
    """No test text stands in a text that a scored checkpoint or released model was trained on, exact, nearly or quoted.

    It also says of which released models the texts could not be compared here, and what their scores rest on instead; where
    that is so of all that is scored, it passes on that ground alone.
    """
    found = standings(layout, source, tasks[source])
    compared = [one.released.checkpoint() for one in found if one.ground is Ground.COMPARED]
    others = [one for one in found if one.ground is not Ground.COMPARED]
    if not checkpoints and not compared and any(one.ground is not Ground.NOTHING for one in others):
        verdict = Verdict(True, "no training text was compared here")
    else:
        verdict = contamination(tasks, [*checkpoints, *compared], layout)
    description = ". ".join([verdict.description, *(one.words for one in others)])
    return Verdict(verdict.passed, description, {**verdict.numbers, "released_not_compared": len(others)})
