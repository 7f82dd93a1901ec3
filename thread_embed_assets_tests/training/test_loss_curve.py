from __future__ import annotations

import struct

import pytest

from thread_embed_assets.training.loss_curve import DevPoint, LossPoint, loss_curve


@pytest.mark.parametrize("points", [1, 2, 300])
def test_the_curve_is_a_png_of_the_declared_size(points: int) -> None:
    history = [LossPoint(step=n + 1, loss=4.0 / (n + 1), learning_rate=1e-4) for n in range(points)]
    picture = loss_curve(history, title="stage1")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", picture[16:24]) == (1000, 400)


def test_other_losses_give_another_picture() -> None:
    rising = [LossPoint(step=n, loss=float(n), learning_rate=1e-4) for n in range(1, 9)]
    falling = [LossPoint(step=n, loss=float(9 - n), learning_rate=1e-4) for n in range(1, 9)]
    assert loss_curve(rising) != loss_curve(falling)
    assert loss_curve(rising) == loss_curve(rising)


def test_dev_stands_below_the_loss() -> None:
    history = [LossPoint(step=n, loss=4.0 / n, learning_rate=1e-4) for n in range(1, 9)]
    rising = [DevPoint(step=n, mrr=n / 10, sets={"thread-alpha": n / 10}) for n in (0, 4, 8)]
    falling = [DevPoint(step=n, mrr=(9 - n) / 10, sets={"thread-alpha": n / 10}) for n in (0, 4, 8)]
    picture = loss_curve(history, rising)
    assert struct.unpack(">II", picture[16:24]) == (1000, 800)
    assert picture != loss_curve(history, falling)
