"""Champion and challenger: whether a new model becomes the promoted one, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thread_embed_assets.benchmark.contamination import contamination
from thread_embed_assets.benchmark.duel import duel
from thread_embed_assets.benchmark.floor import general_floor
from thread_embed_assets.benchmark.metrics import HEADLINE
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.card_facts import facts_of_checkpoint, facts_of_released
from thread_embed_assets.release.history import promoted_package, record, taken_back
from thread_embed_assets.release.package import publish
from thread_embed_assets.release.standing import contamination_of_released
from thread_embed_assets.release.weights import Released, unpack
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import Checkpoint, identity_of

MARGIN = 0.02

FloorPolicy = Literal["where_known", "required"]
State = Literal["passed", "failed", "unknown"]


@dataclass(frozen=True)
class Policy:
    """What is asked of a challenger.

    Attributes:
        floor: whether a general floor that is not known refuses.
        margin: how far a task may fall, in the headline metric, mean over sources.
    """

    floor: FloorPolicy = "where_known"
    margin: float = MARGIN


@dataclass(frozen=True)
class Rule:
    """One rule and what it found; a failed one refuses, an unknown one does not."""

    name: str
    state: State
    words: str


@dataclass(frozen=True)
class Decision:
    """What became of a challenger.

    Attributes:
        challenger: see :func:`.checkpoint.identity_of`.
        champion: the promoted model before; empty where there was none.
        rules: all that were asked; none where the challenger is the champion itself, whose package is then made again.
    """

    challenger: str
    champion: str
    rules: tuple[Rule, ...]

    @property
    def promoted(self) -> bool:
        """Whether the challenger is the promoted model now."""
        return all(rule.state != "failed" for rule in self.rules)

    @property
    def words(self) -> str:
        """In a sentence."""
        if self.challenger == self.champion:
            return f"{self.challenger} is the promoted model already; it was packaged again"
        if self.promoted:
            unknown = "".join(f"; {rule.name} UNKNOWN: {rule.words}" for rule in self.rules if rule.state == "unknown")
            return f"{self.challenger} is promoted {f'over {self.champion}' if self.champion else 'as the first'}{unknown}"
        failed = "; ".join(f"{rule.name}: {rule.words}" for rule in self.rules if rule.state == "failed")
        stays = f", {self.champion} stays" if self.champion else ""
        return f"{self.challenger} is not promoted{stays}: {failed}"

    def markdown(self) -> str:
        """For a page: the sentence, and the rules as a table."""
        rows = [f"| {rule.name} | **{rule.state.upper()}** | {rule.words.replace('|', '/')} |" for rule in self.rules]
        return "\n".join([self.words.replace("|", "/"), "", *(["| rule | | |", "|---|---|---|", *rows] if rows else [])])


def promote(
    challenger: Checkpoint | Released, layout: Layout, catalog: Mapping[str, Source], policy: Policy = Policy()
) -> Decision:
    """Decide on a challenger, and package and promote it if it passes; else the champion stays as it is.

    The first model has nobody to beat. Every decision is recorded in the history.

    Args:
        challenger: a checkpoint, or a released model.
        layout: where results, tasks, pair tables and the history lie.
        catalog: tells sources.
        policy: what is asked.

    Raises:
        InputError: it is refused and there is no champion; or the model cannot be packaged.
    """
    folder = unpack(challenger, layout) if isinstance(challenger, Released) else challenger.model
    identity, before = identity_of(folder), promoted_package(layout)
    champion = before.identity if before else ""
    rules = () if before and identity == champion else tuple(_rules(challenger, identity, champion, layout, catalog, policy))
    decision = Decision(identity, champion, rules)
    if decision.promoted:
        if isinstance(challenger, Released):
            facts = facts_of_released(challenger, layout, catalog)
        else:
            facts = facts_of_checkpoint(challenger, layout, catalog)
        publish(folder, layout, facts, decision.words)
        return decision
    record(layout, "refused", before.name if before else "", identity, champion, decision.words)
    if before is None:
        raise InputError(layout.promoted_model, decision.words, "Mend what the rule names, and train or evaluate again")
    return decision


def _rules(
    challenger: Checkpoint | Released,
    identity: str,
    champion: str,
    layout: Layout,
    catalog: Mapping[str, Source],
    policy: Policy,
) -> Iterator[Rule]:
    yield _contamination(challenger, layout, catalog, fought_on_dev=bool(champion))
    yield _floor(layout, identity, policy)
    gone_back = taken_back(layout, identity)
    if gone_back is not None:
        words = f"somebody went back from it at {gone_back.at}; `thread-embed rollback --to` promotes it again"
        yield Rule("not taken back", "failed", words)
    if champion:
        results = {name: layout.results(name) for name in catalog if layout.results(name).exists()}
        yield from _duel(results, identity, champion, policy)


def _contamination(
    challenger: Checkpoint | Released, layout: Layout, catalog: Mapping[str, Source], *, fought_on_dev: bool
) -> Rule:
    """No test text, and no dev text where dev decides, stands in what the challenger was trained on."""
    tasks = {name: layout.tasks(name) for name in catalog if layout.tasks(name).exists()}
    if isinstance(challenger, Released):
        verdict = contamination_of_released(challenger, tasks, layout)
    else:
        verdict = contamination(tasks, [challenger], layout)
    clean = verdict.passed and not (fought_on_dev and verdict.numbers.get("dev_hits"))
    return Rule("contamination", "passed" if clean else "failed", verdict.description)


def _floor(layout: Layout, identity: str, policy: Policy) -> Rule:
    floor = general_floor(layout.regression, identity)
    if floor.holds is None:
        return Rule("general floor", "failed" if policy.floor == "required" else "unknown", floor.words)
    return Rule("general floor", "passed" if floor.holds else "failed", floor.words)


def _duel(results: Mapping[str, Path], identity: str, champion: str, policy: Policy) -> Sequence[Rule]:
    try:
        found = duel(results, identity, champion)
    except InputError as error:
        return [Rule("same dev queries", "failed", str(error))]
    mean = found.difference
    asked = f"{found.queries} dev queries of {', '.join(found.sources)}"
    lost = found.falls(policy.margin)
    by_task = ", ".join(f"{task} {value:+.3f}" for task, value in found.tasks.items())
    return [
        Rule("same dev queries", "passed", asked),
        Rule(
            "beats the champion",
            "passed" if mean.mean > 0 and mean.low > 0 else "failed",
            f"{HEADLINE} {mean.mean:+.4f} [{mean.low:+.4f}, {mean.high:+.4f}], mean of the tasks, paired 95 % interval "
            f"drawn by {mean.by}; its lower end has to be above 0",
        ),
        Rule("no task falls", "failed" if lost else "passed", f"{by_task}; {policy.margin:g} below is allowed"),
    ]
