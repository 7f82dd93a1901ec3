"""The promoted model for other programs: ONNX graphs, tokenizer, configuration, and the file that runs them.

Imports torch and onnx: import it inside functions.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thread_embed_assets.chat import formats
from thread_embed_assets.errors import InputError
from thread_embed_assets.release import onnx_embedder
from thread_embed_assets.release.card_copies import onnx_card
from thread_embed_assets.release.onnx_embedder import CONFIG, INPUTS, MODEL, MODEL_INT8, TOKENIZER, OnnxEmbedder
from thread_embed_assets.release.package import CARD, CHAT_TEXT, LICENCE, PROBES, open_model
from thread_embed_assets.storage.atomic import atomic_folder, write_text
from thread_embed_assets.training.checkpoint import MODEL_DETAILS
from thread_embed_assets.training.onnx_graphs import quantise, write_graph

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TOLERANCE = 1e-4  # of any component of a vector
LEAST_COSINE = 0.95  # of a vector of the eight-bit graph with torch's
OUTPUT = "sentence_embedding"


@dataclass(frozen=True)
class Exported:
    """What was written, and how far its vectors are from torch's on a few probes.

    Attributes:
        difference: the largest of a component of the exact model's vectors.
        cosine_int8: the smallest between a vector of the quantised model and torch's; None if there is none.
    """

    folder: Path
    difference: float
    cosine_int8: float | None


class _Embedding(torch.nn.Module):
    """A SentenceTransformer without its tokenizer: the transformer, then token weights, pooling, normalisation."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.transformer: Any = _transformer(model)
        self.rest = torch.nn.ModuleList(list(model)[1:])
        self.normalise = not any(type(module).__name__ == "Normalize" for module in self.rest)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        features = {"input_ids": input_ids, "attention_mask": attention_mask, "token_embeddings": states}
        for module in self.rest:
            features = module(features)
        vectors: torch.Tensor = features[OUTPUT]
        return torch.nn.functional.normalize(vectors, dim=1) if self.normalise else vectors


def export_model(package: Path, folder: Path, quantised: bool = True) -> Exported:
    """Write the ONNX package of a model package; what was in the folder stays if anything fails.

    Args:
        package: the folder of a model package.
        folder: of the ONNX package.
        quantised: also write ``MODEL_INT8``, whose weights have 8 bits.

    Raises:
        InputError: the package does not load, or an exported graph embeds otherwise than torch does.
    """
    model = open_model(package, package)
    settings = json.loads((package / formats.SETTINGS).read_text(encoding="utf-8"))
    with atomic_folder(folder) as part:
        for name in (CHAT_TEXT, formats.SETTINGS, MODEL_DETAILS, TOKENIZER, LICENCE):
            if name != LICENCE or (package / name).exists():
                shutil.copyfile(package / name, part / name)
        shutil.copyfile(onnx_embedder.__file__, part / Path(onnx_embedder.__file__).name)
        write_text(part / CONFIG, json.dumps(_config(model, settings), indent=1, sort_keys=True) + "\n")
        write_onnx(model, part / MODEL)
        far = difference(model, part)
        if not far <= TOLERANCE:
            problem = f"the vectors of {MODEL} differ from torch's by {far:.2g}, more than {TOLERANCE}"
            raise InputError(package, problem, "Export with the pinned versions of torch, onnx and onnxruntime")
        cosine = None
        if quantised:
            quantise(part / MODEL, part / MODEL_INT8)
            cosine = least_cosine_int8(model, part)
            if cosine is None or not cosine >= LEAST_COSINE:
                problem = (
                    f"the least cosine of the vectors of {MODEL_INT8} with torch's is {cosine:.3f}, below {LEAST_COSINE}"
                )
                raise InputError(package, problem, "Export it without eight bits")
        dims = settings["matryoshka_dims"]
        card = (package / CARD).read_text(encoding="utf-8")
        write_text(part / CARD, onnx_card(card, far, cosine, dims[1] if len(dims) > 1 else None))
    return Exported(folder, far, cosine)


def _transformer(model: SentenceTransformer) -> Any:
    first: Any = model[0]
    return first.auto_model


def _config(model: SentenceTransformer, settings: dict[str, Any]) -> dict[str, Any]:
    tokenizer: Any = model.tokenizer
    return {
        "dimension": model.get_embedding_dimension(),
        "max_tokens": model.max_seq_length,
        "padding": tokenizer.pad_token_id,
        **{key: settings[key] for key in ("prompts", "text_format", "matryoshka_dims")},
    }


def write_onnx(model: SentenceTransformer, path: Path) -> None:
    """The graph with the inputs ``INPUTS``, whose numbers of texts and of tokens may vary, and the output ``OUTPUT``."""
    # Spelt out, attention is faster in onnxruntime than the exporter's form of torch's fused one.
    _transformer(model).set_attn_implementation("eager")
    texts, tokens = torch.export.Dim("texts"), torch.export.Dim("tokens")
    ids = torch.tensor([[2, 3, 4, 5], [2, 3, 4, 0], [2, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]])
    write_graph(_Embedding(model).eval(), (ids, mask), INPUTS, ({0: texts, 1: tokens},) * 2, path, OUTPUT)


def difference(model: SentenceTransformer, folder: Path, name: str = MODEL) -> float:
    """The largest difference of a component of an exported model's vectors from torch's, on a few texts."""
    return float(np.abs(np.subtract(*_both(model, folder, name))).max())


def least_cosine_int8(model: SentenceTransformer, folder: Path) -> float | None:
    """The smallest cosine of the eight-bit graph's vector with torch's of a text; None where there is no such graph."""
    if not (folder / MODEL_INT8).exists():
        return None
    found, wanted = _both(model, folder, MODEL_INT8)
    return float((found * wanted).sum(axis=1).min())


def _both(model: SentenceTransformer, folder: Path, name: str) -> tuple[onnx_embedder.Floats, onnx_embedder.Floats]:
    found = OnnxEmbedder(folder, model=name).encode(PROBES)
    wanted = model.encode(list(PROBES), show_progress_bar=False, normalize_embeddings=True)
    return found, np.asarray(wanted, dtype=np.float32)
