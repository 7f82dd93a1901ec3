"""The loss of a training run, and its measures on dev, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class LossPoint(TypedDict):
    """Mean training loss of the steps since the point before, and the learning rate at that step."""

    step: int
    loss: float
    learning_rate: float


class DevPoint(TypedDict):
    """A measure on dev after a step, such as MRR@10, over all and of each set, such as a (strategy, source)."""

    step: int
    mrr: float
    sets: dict[str, float]


def loss_curve(
    history: Sequence[LossPoint], dev: Sequence[DevPoint] = (), title: str = "Training loss", metric: str = "MRR@10"
) -> bytes:
    """A PNG, 1,000 pixels wide and 400 high: the loss over the steps, its running mean, and the learning rate behind it.

    With measures on dev it is 800 high: below stands the metric, with a faint line for each set it is the mean of.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = 2 if dev else 1
    figure = Figure(figsize=(10, 4 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(rows, 1, 1)
    steps, losses = [point["step"] for point in history], [point["loss"] for point in history]
    rate = axes.twinx()
    rate.plot(steps, [point["learning_rate"] for point in history], color="0.8", linestyle="--", linewidth=1)
    rate.set_ylabel("learning rate", color="0.5")
    rate.tick_params(colors="0.5")
    # A batch is of one strategy and source, and some are harder than others.
    axes.plot(steps, losses, color="#1f5fa8", alpha=0.3, linewidth=1, marker="." if len(steps) < 40 else "")
    axes.plot(steps, _running_mean(losses, len(losses) // 10), color="#1f5fa8", linewidth=2)
    axes.set(xlabel="step", ylabel="loss", title=title)
    axes.grid(alpha=0.3)
    axes.set_zorder(rate.get_zorder() + 1)
    axes.patch.set_visible(False)
    if dev:
        _dev_curve(figure.add_subplot(rows, 1, 2), dev, metric)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _running_mean(values: Sequence[float], reach: int) -> list[float]:
    """Of each value and up to ``reach`` before it."""
    return [float(np.mean(values[max(0, at - reach) : at + 1])) for at in range(len(values))]


def _dev_curve(axes: Axes, dev: Sequence[DevPoint], metric: str) -> None:
    steps = [point["step"] for point in dev]
    for number, name in enumerate(sorted(dev[0]["sets"])):
        line = [point["sets"][name] for point in dev]
        axes.plot(steps, line, linewidth=0.8, color=f"C{number}", alpha=0.7, label=name)
    axes.plot(steps, [point["mrr"] for point in dev], color="#1f5fa8", linewidth=2, marker=".", label="mean")
    axes.set(xlabel="step", ylabel=metric, title="On dev")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(alpha=0.3)
