from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from thread_embed_assets.training.early_stop import EarlyStop


class _Run:
    """A one-weight model whose weight is its step, measured by a list of values."""

    def __init__(self, measures: Sequence[float], every: int, patience: int | None) -> None:
        self.model = torch.nn.Linear(1, 1, bias=False)
        left: Iterator[float] = iter(measures)
        self.early_stop = EarlyStop(lambda: self._measured(next(left)), every, patience)
        self._set(0)
        self.early_stop.start(self._measured(next(left)), self.model)

    @staticmethod
    def _measured(value: float) -> dict[str, object]:
        return {"mrr@10": value, "sets": {"thread-alpha": value}}

    def _set(self, step: int) -> None:
        self.model.weight.data.fill_(step)

    def steps(self, first: int, last: int) -> int:
        """The step after which it stopped."""
        for step in range(first, last + 1):
            self._set(step)
            self.early_stop.step_done(step, self.model)
            if self.early_stop.exhausted:
                return step
        return last

    @property
    def kept(self) -> float:
        return float(self.model.weight)


def test_the_best_weights_on_dev_are_kept() -> None:
    run = _Run([0.1, 0.3, 0.5, 0.4, 0.2], every=2, patience=None)
    run.early_stop.finish(run.steps(1, 8), run.model)
    assert [point["step"] for point in run.early_stop.points] == [0, 2, 4, 6, 8]
    assert (run.early_stop.best_step, run.kept) == (4, 4.0)


def test_training_that_never_gains_keeps_what_it_started_from() -> None:
    run = _Run([0.6, 0.3, 0.5], every=1, patience=2)
    assert run.steps(1, 9) == 2
    run.early_stop.finish(2, run.model)
    assert run.kept == 0.0


def test_it_stops_after_as_many_measures_without_gain_as_it_has_patience_for() -> None:
    run = _Run([0.1, 0.3, 0.2, 0.3, 0.2, 0.9], every=1, patience=3)
    assert run.steps(1, 9) == 4, "an equal measure is no gain"
    assert run.early_stop.best_step == 1


def test_without_measures_on_the_way_the_last_weights_are_kept_and_measured() -> None:
    run = _Run([0.6, 0.3], every=0, patience=1)
    run.early_stop.finish(run.steps(1, 5), run.model)
    assert [point["step"] for point in run.early_stop.points] == [0, 5]
    assert run.kept == 5.0


def test_without_dev_pairs_nothing_is_measured() -> None:
    model = torch.nn.Linear(1, 1)
    early_stop = EarlyStop(lambda: pytest.fail("it measured"), 1, 1)
    early_stop.start({}, model)
    early_stop.step_done(1, model)
    early_stop.finish(1, model)
    assert early_stop.points == [] and not early_stop.exhausted and early_stop.best_step == 0


def test_its_state_survives_the_process(tmp_path: Path) -> None:
    measures = [0.1, 0.5, 0.4, 0.3, 0.2, 0.9]
    whole = _Run(measures, every=1, patience=3)
    stopped = whole.steps(1, 9)
    whole.early_stop.finish(stopped, whole.model)
    first = _Run(measures, every=1, patience=3)
    first.steps(1, 2)
    first.early_stop.save(tmp_path)
    second = _Run([0.0, *measures[3:]], every=1, patience=3)
    second.early_stop.load(tmp_path)
    assert second.steps(3, 9) == stopped == 4
    second.early_stop.finish(stopped, second.model)
    assert second.early_stop.points == whole.early_stop.points
    assert second.kept == whole.kept == 1.0
