"""The losses a stage can train with. Imports torch: import it inside functions.

A new loss is a file here, a line in ``LOSSES`` and its name in ``training.config.Loss``. It gets the batch's columns in the
order of the data set, and a ``label`` column (numbers, such as scores of another model) as ``labels``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss

from thread_embed_assets.training.config import Loss, StageConfig
from thread_embed_assets.training.losses.gist import gist
from thread_embed_assets.training.losses.infonce import infonce

LOSSES: Mapping[Loss, Callable[..., torch.nn.Module]] = {"infonce": infonce, "gist": gist}


def build_loss(model: SentenceTransformer, config: StageConfig, *, gather: bool = False) -> torch.nn.Module:
    """The stage's loss, summed over the Matryoshka sizes of the model (arXiv 2205.13147).

    Args:
        model: what is trained.
        config: names the loss and its settings.
        gather: the texts of all processes are one another's negatives.

    Raises:
        InputError: a declared size is larger than the model's, or the guide is nowhere to be found.
    """
    size = model.get_embedding_dimension()
    assert size is not None
    inner = LOSSES[config.loss](model, config, gather=gather)
    return MatryoshkaLoss(model, inner, matryoshka_dims=config.dims(int(size)))
