"""The loss of a training run as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TypedDict


class LossPoint(TypedDict):
    """Mean training loss of the steps since the point before, and the learning rate at that step."""

    step: int
    loss: float
    learning_rate: float


def loss_curve(history: Sequence[LossPoint], title: str = "Training loss") -> bytes:
    """A PNG, 800 x 400 pixels, of the loss over the steps, with the learning rate faint behind it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [point["step"] for point in history]
    rate = axes.twinx()
    rate.plot(steps, [point["learning_rate"] for point in history], color="0.8", linestyle="--", linewidth=1)
    rate.set_ylabel("learning rate", color="0.5")
    rate.tick_params(colors="0.5")
    axes.plot(
        steps, [point["loss"] for point in history], color="#1f5fa8", linewidth=1.5, marker="." if len(steps) < 40 else ""
    )
    axes.set(xlabel="step", ylabel="loss", title=title)
    axes.grid(alpha=0.3)
    axes.set_zorder(rate.get_zorder() + 1)
    axes.patch.set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
