"""How a loss embeds a batch: sorted by length into mini-batches, its activations kept or computed a second time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers.base.losses.gradcache import _create_minibatch

Features = dict[str, Any]
Embeddings = list[list[torch.Tensor]]


class SortedMiniBatches:
    """Put before one of the library's gradient-cached losses, it makes a step cheaper and leaves its result as it is.

    Each column's texts are embedded in the order of their lengths, so that a mini-batch is hardly padded, and put back into
    the order of the batch before the loss is computed. Without ``gradient_cache`` the embeddings' graphs are kept, and no
    text goes through the model twice; memory then holds the activations of the whole batch.
    """

    model: Any
    mini_batch_size: int
    gradient_cache: bool = False
    _orders: list[torch.Tensor]

    def forward(self, sentence_features: Iterable[Features], labels: torch.Tensor | None = None) -> torch.Tensor:
        columns = list(sentence_features)
        longest_first = [column["attention_mask"].sum(dim=1).argsort(descending=True, stable=True) for column in columns]
        self._orders = [order.argsort() for order in longest_first]
        ordered = [_take(column, order) for column, order in zip(columns, longest_first, strict=True)]
        if self.gradient_cache or not torch.is_grad_enabled():
            loss: torch.Tensor = super().forward(ordered, labels)  # type: ignore[misc]
            return loss
        return self._forward_once(ordered, labels)

    def calculate_loss(self, reps: Embeddings, *others: Any, with_backward: bool = False) -> torch.Tensor:
        """The library's loss over embeddings in the order of the batch; ``others`` may be further embeddings, or labels.

        In fp32 whatever embedded them: bf16 has cosines in steps of 0.004 near 1, which the temperature makes large.
        """
        with torch.autocast(reps[0][0].device.type, enabled=False):
            restored, *beside = [self._restore(one) if isinstance(one, list) else one for one in (reps, *others)]
            if not with_backward:
                loss: torch.Tensor = super().calculate_loss(restored, *beside)  # type: ignore[misc]
                return loss
            # The library goes back through what it is given once for each piece of the loss, and an index only once in all.
            leaves = _leaves(restored)
            loss = super().calculate_loss(leaves, *beside, with_backward=True)  # type: ignore[misc]
            _backward(restored, leaves)
            return loss

    def beside(self, columns: list[list[Features]], labels: torch.Tensor | None) -> Any:
        """What ``calculate_loss`` takes beside the embeddings: the labels, unless a loss embeds with another model, too."""
        del columns
        return labels

    def _forward_once(self, ordered: list[Features], labels: torch.Tensor | None) -> torch.Tensor:
        size = self.mini_batch_size
        columns = [
            [_create_minibatch(column, begin, begin + size) for begin in range(0, len(column["attention_mask"]), size)]
            for column in ordered
        ]
        beside = self.beside(columns, labels)
        graphs = [[self.model(dict(part))["sentence_embedding"] for part in column] for column in columns]
        leaves = _leaves(graphs)
        loss = self.calculate_loss(leaves, beside, with_backward=True).detach().requires_grad_()
        loss.register_hook(lambda scale: _backward(graphs, leaves, scale))  # type: ignore[no-untyped-call]
        return loss

    def _restore(self, reps: Embeddings) -> Embeddings:
        return [[torch.cat(column)[order].float()] for column, order in zip(reps, self._orders, strict=True)]


def _take(column: Features, order: torch.Tensor) -> Features:
    rows = len(order)
    return {
        name: value[order] if isinstance(value, torch.Tensor) and value.ndim and len(value) == rows else value
        for name, value in column.items()
    }


def _leaves(reps: Embeddings) -> Embeddings:
    return [[part.detach().requires_grad_() for part in column] for column in reps]


def _backward(reps: Embeddings, leaves: Embeddings, scale: torch.Tensor | float = 1.0) -> None:
    """Go on backwards from the gradients that were gathered at copies of ``reps``."""
    pairs = [both for columns in zip(reps, leaves, strict=True) for both in zip(*columns, strict=True)]
    reached = [(rep, leaf.grad * scale) for rep, leaf in pairs if rep.requires_grad and leaf.grad is not None]
    torch.autograd.backward([rep for rep, _ in reached], [gradient for _, gradient in reached])
