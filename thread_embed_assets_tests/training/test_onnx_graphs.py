from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from thread_embed_assets.training.onnx_graphs import quantise, write_graph

MODEL = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh(), torch.nn.Linear(64, 8)).eval()


def _run(path: Path, given: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["vector"], {"states": given.numpy()})[0]


def test_a_graph_gives_what_torch_gives_for_other_sizes_too_and_in_eight_bits_about_that(tmp_path: Path) -> None:
    exact, small = tmp_path / "model.onnx", tmp_path / "model_int8.onnx"
    rows = torch.export.Dim("rows")
    with torch.inference_mode():
        write_graph(MODEL, (torch.zeros(3, 64),), ["states"], ({0: rows},), exact, "vector")
        quantise(exact, small)
        given = torch.linspace(-1, 1, 7 * 64).reshape(7, 64)
        wanted = MODEL(given).numpy()
    np.testing.assert_allclose(_run(exact, given), wanted, atol=1e-5)
    far = np.abs(_run(small, given) - wanted).max()
    assert 0 < far < 0.1
    assert small.stat().st_size < exact.stat().st_size
