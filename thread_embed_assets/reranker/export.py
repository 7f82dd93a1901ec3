"""A trained reranker as a folder that other programs use: ONNX, tokenizer, configuration, history.

Imports torch and onnx: import it inside functions.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker import onnx_reranker
from thread_embed_assets.reranker.candidates import FEATURES, Candidate, Floats
from thread_embed_assets.reranker.model import INPUTS, FusedReranker, Reranker, load_reranker, pair_reader
from thread_embed_assets.reranker.onnx_reranker import JOINT, JOINT_INT8, MODEL, MODEL_INT8, THREADS, OnnxReranker, padded
from thread_embed_assets.reranker.thread_states import JointScorer, ThreadReader
from thread_embed_assets.reranker.train import HISTORY, RerankerCheckpoint
from thread_embed_assets.storage.atomic import atomic_folder
from thread_embed_assets.training.onnx_graphs import quantise, write_graph

TOLERANCE = 1e-4
OUTPUT = "logits"
_MESSAGE = "did restarting the ingest worker help, or is the queue still full?"
_THREADS = (
    "[new thread]",
    "queue alerts\nthe ingest queue has been full since noon\nrestart the worker, that helped last week",
    "who brings the cake on friday?\n" + "I can bake one with plums, if somebody has a tin that is large enough\n" * 20,
)


@dataclass(frozen=True)
class Exported:
    """What was written, and how far its logits are from torch's on a few probes.

    Attributes:
        folder: ``model.onnx``, ``config.json``, ``tokenizer.json``, ``model.safetensors``, ``training_history.json``, the
            module that scores them, and ``threads.onnx`` and ``joint.onnx`` where threads are read alone.
        difference: the largest of the exact models' logits.
        difference_int8: that of the quantised model; None if there is none.
    """

    folder: Path
    difference: float
    difference_int8: float | None


def export_reranker(checkpoint: RerankerCheckpoint, folder: Path, quantised: bool = True) -> Exported:
    """Write a checkpoint's package; what was in the folder stays if anything fails.

    Args:
        checkpoint: a finished training.
        folder: of the package.
        quantised: also write ``MODEL_INT8`` and ``JOINT_INT8``, whose weights have 8 bits.

    Raises:
        InputError: the checkpoint is damaged, or the exported model scores otherwise than torch does.
    """
    model = load_reranker(checkpoint.model)
    with atomic_folder(folder) as part:
        model.save(part)
        shutil.copyfile(checkpoint.folder / HISTORY, part / HISTORY)
        shutil.copyfile(str(onnx_reranker.__file__), part / Path(str(onnx_reranker.__file__)).name)
        write_onnx(model, part / MODEL)
        distance = _near(model, part, checkpoint, MODEL)
        if isinstance(model, FusedReranker) and model.config.joint_layers is not None:
            write_parts(model, part)
            distance = max(distance, _near(model, part, checkpoint, JOINT))
        if quantised:
            for exact, target in ((MODEL, MODEL_INT8), (JOINT, JOINT_INT8)):
                if (part / exact).exists():
                    quantise(part / exact, part / target)
        int8 = difference(model, part, MODEL_INT8) if quantised else None
    return Exported(folder, distance, int8)


def _near(model: Reranker, package: Path, checkpoint: RerankerCheckpoint, name: str) -> float:
    distance = difference(model, package, name)
    if not distance <= TOLERANCE:
        problem = f"the logits of {name} differ from torch's by {distance:.2g}, more than {TOLERANCE}"
        raise InputError(checkpoint.model, problem, "Export with the pinned versions of torch, onnx and onnxruntime")
    return distance


def write_onnx(model: Reranker, path: Path) -> None:
    """The graph with the inputs ``INPUTS``, whose number of pairs and of tokens may vary, and the output ``OUTPUT``."""
    # Spelt out, attention is 5 to 20 % faster in onnxruntime 1.32 than the exporter's form of torch's fused one.
    model.transformer.set_attn_implementation("eager")
    pairs, tokens = torch.export.Dim("pairs"), torch.export.Dim("tokens")
    given = _probes(model, [[2, 3, 4, 5, 6, 7], [2, 3, 4, 5, 6]])
    write_graph(model.eval(), given, INPUTS, ({0: pairs, 1: tokens}, {0: pairs, 1: tokens}, {0: pairs}), path, OUTPUT)


def write_parts(model: FusedReranker, folder: Path) -> None:
    """The graphs ``THREADS`` and ``JOINT``, which together score as the whole does."""
    model.transformer.set_attn_implementation("eager")
    ids, mask, features = _probes(model, [[4, 5, 6, 7], [4, 5, 6]])
    threads, tokens, words = (torch.export.Dim(name) for name in ("threads", "tokens", "words"))
    reader = ThreadReader(model).eval()
    write_graph(
        reader, (ids, mask), ("thread_ids", "thread_mask"), ({0: threads, 1: tokens},) * 2, folder / THREADS, "states"
    )
    with torch.inference_mode():
        states = reader(ids, mask).clone()
    write_graph(
        JointScorer(model).eval(),
        (torch.tensor([[2, 3, 4]]), states, ids, mask, features),
        ("message_ids", "thread_states", "thread_ids", "thread_mask", INPUTS[-1]),
        ({1: words}, *({0: threads, 1: tokens},) * 3, {0: threads}),
        folder / JOINT,
        OUTPUT,
    )


def difference(model: Reranker, package: Path, name: str = MODEL) -> float:
    """The largest difference of an exported model's logits from those of torch, on a few probes."""
    draw = np.random.default_rng(0)
    candidates = [
        Candidate(str(place), text, draw.uniform(0, 2, len(FEATURES)).astype(np.float32))
        for place, text in enumerate(_THREADS)
    ]
    found = OnnxReranker(package, model=name).logits(_MESSAGE, candidates)
    rows = pair_reader(package).pairs([_MESSAGE] * len(_THREADS), _THREADS)
    ids, mask, _ = _probes(model, rows)
    features = torch.from_numpy(np.stack([candidate.features for candidate in candidates]))
    with torch.inference_mode():
        wanted: Floats = model(ids, mask, features).numpy()
    return float(np.abs(found - wanted).max())


def _probes(model: Reranker, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids, mask = padded(rows)
    return torch.from_numpy(ids), torch.from_numpy(mask), torch.zeros(len(rows), len(FEATURES))
