"""InfoNCE that leaves out negatives which a guide model takes for positives (GISTEmbed, arXiv 2402.16829).

The margin is relative to the positive's similarity, as NV-Retriever (arXiv 2407.15831) found best for mined negatives.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedGISTEmbedLoss
from sentence_transformers.util import batch_to_device, cos_sim

from thread_embed_assets.training.base_models import local_folder
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.losses.embedding import Embeddings, Features, SortedMiniBatches


class Gist(SortedMiniBatches, CachedGISTEmbedLoss):
    """The library's loss with similarities as one matrix product: its own broadcast takes rows x rows x size floats."""

    def sim_matrix(self, embed1: torch.Tensor, embed2: torch.Tensor) -> torch.Tensor:
        return cos_sim(embed1, embed2)

    def beside(self, columns: list[list[Features]], labels: torch.Tensor | None) -> Embeddings:
        del labels
        with torch.no_grad():
            return [[self._guided(part) for part in column] for column in columns]

    def _guided(self, part: Features) -> torch.Tensor:
        if self.must_retokenize:
            texts = self.tokenizer.batch_decode(part["input_ids"], skip_special_tokens=True)
            part = batch_to_device(self.guide.preprocess(texts), self.guide.device)
        embedded: torch.Tensor = self.guide(dict(part))["sentence_embedding"]
        return embedded


def gist(model: SentenceTransformer, config: StageConfig, *, gather: bool) -> Gist:
    """The loss of a stage; the guide is ``config.guide_model``, else the model that the stage starts from.

    With ``gather``, an anchor's negatives are the positives of all devices and the anchors of its own: the library gathers
    no anchors here, so that the number of devices changes the loss a little.
    """
    folder = local_folder(config.guide_model or config.base_model)
    guide: Any = SentenceTransformer(str(folder), device=str(model.device), local_files_only=True)
    guide.eval().requires_grad_(False)
    loss = Gist(
        model,
        guide,
        temperature=1 / config.scale,
        mini_batch_size=config.mini_batch_size,
        margin_strategy="relative",
        margin=config.gist_margin,
        gather_across_devices=gather,
    )
    loss.gradient_cache = bool(config.gradient_cache)
    return loss
