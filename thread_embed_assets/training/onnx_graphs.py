"""Models as ONNX graphs, exact and with weights of eight bits. Imports torch: import it inside functions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def write_graph(
    model: torch.nn.Module, given: tuple[torch.Tensor, ...], names: Sequence[str], shapes: Any, path: Path, output: str
) -> None:
    """The graph of a model that takes what is given.

    Args:
        given: an example of its inputs.
        names: of the inputs, as many as are given.
        shapes: of each input, which of its dimensions may vary, as ``torch.export.Dim``.
        path: the file, made anew.
        output: name of what it returns.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13 and transformers 5 deprecate what they call of one another
        program = torch.onnx.export(
            model,
            given,
            dynamo=True,
            verbose=False,
            input_names=list(names),
            output_names=[output],
            dynamic_shapes=shapes,
        )
    assert program is not None
    program.save(str(path), external_data=False)


def quantise(exact: Path, target: Path) -> None:
    """Weights to 8 bits, channel by channel; activations are quantised as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(str(exact))
    del graph.graph.value_info[:]  # the exporter's shapes contradict those that the quantiser infers
    quantize_dynamic(graph, str(target), weight_type=QuantType.QInt8, per_channel=True)
