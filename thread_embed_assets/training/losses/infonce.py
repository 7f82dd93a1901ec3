"""Symmetric InfoNCE over in-batch negatives (van den Oord et al., arXiv 1807.03748), with hard negatives where there are."""

from __future__ import annotations

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.losses.embedding import SortedMiniBatches


class InfoNCE(SortedMiniBatches, CachedMultipleNegativesRankingLoss):
    """Anchor to positives and negatives, and positive to anchors, a softmax each (gradient cache: arXiv 2101.06983)."""


def infonce(model: SentenceTransformer, config: StageConfig, *, gather: bool) -> InfoNCE:
    """The loss of a stage; with ``gather``, the texts of all devices are one another's negatives."""
    loss = InfoNCE(
        model,
        scale=config.scale,
        mini_batch_size=config.mini_batch_size,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
        gather_across_devices=gather,
    )
    loss.gradient_cache = bool(config.gradient_cache)
    return loss
