"""From the tokens of a message and a thread to one vector of the pair.

Imports torch: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

_BARRED = -1e9  # added to the attention that a token may not pay
_NEWEST_TOKENS = 16  # the weight of a thread's token halves with so many after it
_SHARPNESS = 8.0  # of a message's attention to a thread's tokens, at first
ALIKE = 4  # numbers that tell how alike PairVector finds a message and a thread


@dataclass(frozen=True)
class Parts:
    """Which token of a pair is whose.

    Attributes:
        counts: float32 [pairs, tokens], 1 for tokens that are no padding.
        message, thread: float32 [pairs, tokens], 1 for their words; the tokens that begin and separate are neither's.
        in_thread: int64 [pairs, tokens], 1 behind the first separator.
    """

    counts: Tensor
    message: Tensor
    thread: Tensor
    in_thread: Tensor

    @classmethod
    def of(cls, input_ids: Tensor, attention_mask: Tensor, separator: int) -> Parts:
        ends = (input_ids == separator).long()
        in_thread = (ends.cumsum(1) - ends).clamp(max=1) * attention_mask
        words = (attention_mask * (1 - ends)).float()
        words = words * (torch.arange(input_ids.shape[1], device=input_ids.device) > 0)
        return cls(attention_mask.float(), words * (1 - in_thread), words * in_thread, in_thread)


def read_apart(bert: Any, input_ids: Tensor, parts: Parts, joint_layers: int) -> Tensor:
    """Tokens [pairs, tokens, size] of a BERT whose first layers read message and thread each by itself.

    Only the last ``joint_layers`` let them see one another, as in PreTTR (MacAvaney et al. 2020,
    https://arxiv.org/abs/2004.14255): what the layers learned from single texts, how alike two texts are among it, stays
    true in the first. Positions begin again with the thread.
    """
    places = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
    begins = (places * (1 - parts.in_thread) * parts.counts.long()).amax(1, keepdim=True) + 1
    hidden: Tensor = bert.embeddings(input_ids=input_ids, position_ids=(places - begins * parts.in_thread).clamp(min=0))
    apart = parts.counts.unsqueeze(1) * (parts.in_thread.unsqueeze(1) == parts.in_thread.unsqueeze(2))
    first, last = split_layers(bert, joint_layers)
    return through(last, through(first, hidden, apart), parts.counts.unsqueeze(1))


def split_layers(bert: Any, joint_layers: int) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
    """The layers that read each by itself, and those that read both."""
    layers = list(bert.encoder.layer)
    border = max(0, len(layers) - joint_layers)
    return layers[:border], layers[border:]


def through(layers: Sequence[nn.Module], hidden: Tensor, allowed: Tensor) -> Tensor:
    """Hidden states [texts, tokens, size] after some layers, where a token attends to those that are allowed.

    Args:
        allowed: [texts, 1 or tokens, tokens], 1 or 0.
    """
    mask = ((1 - allowed) * _BARRED).unsqueeze(1).to(hidden.dtype)
    for layer in layers:
        hidden = layer(hidden, attention_mask=mask)
    return hidden


class PairVector(nn.Module):
    """Message and thread compared in three ways: with all of the thread, with what the message attends to, and with its end.

    Each comparison is the product of the two unit vectors, dimension by dimension, whose sum is their cosine; the distance
    of message and thread and the pair's first token come beside, and how like each word of the message is to the thread's
    that is most like it, on average (MaxSim of ColBERT, Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832).

    Args:
        size: of a token.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = 5 * size + 1
        self.sharpness = nn.Parameter(torch.tensor(_SHARPNESS))

    def forward(self, tokens: Tensor, parts: Parts) -> Tensor:
        """[pairs, 5 * size + 1] from tokens [pairs, tokens, size]."""
        message, thread = _mean(tokens, parts.message), _mean(tokens, parts.thread)
        words = normalize(tokens, dim=2)
        likeness = (words @ message.unsqueeze(2)).squeeze(2)
        attention = (self.sharpness * likeness + (1 - parts.thread) * _BARRED).softmax(1)
        after = parts.thread.flip(1).cumsum(1).flip(1) - parts.thread
        newest = _mean(tokens, parts.thread * 0.5 ** (after / _NEWEST_TOKENS))
        others = (thread, _mean(tokens, attention), newest)
        scale = tokens.shape[2] ** 0.5  # so that entries are about 1
        compared = [message * other * scale * scale for other in others]
        found = [tokens[:, 0], *compared, (message - thread).abs() * scale, _most_alike(words, parts)]
        return torch.cat(found, dim=1)

    def alike(self, vectors: Tensor) -> Tensor:
        """[pairs, ALIKE], the cosines of the comparisons in vectors [pairs, 5 * size + 1], and MaxSim."""
        size = self.size // 5
        cosines = vectors[:, size : 4 * size].reshape(-1, 3, size).mean(2)
        return torch.cat([cosines, vectors[:, -1:]], dim=1)


def _most_alike(words: Tensor, parts: Parts) -> Tensor:
    """MaxSim [pairs, 1] of unit vectors [pairs, tokens, size]; -1 without a word in the thread."""
    likeness = words @ words.transpose(1, 2) + ((1 - parts.thread) * _BARRED).unsqueeze(1)
    most = likeness.amax(2).clamp(min=-1) * parts.message
    return (most.sum(1) / parts.message.sum(1).clamp(min=1)).unsqueeze(1)


def _mean(tokens: Tensor, weights: Tensor) -> Tensor:
    """[pairs, size], of length 1."""
    return normalize((tokens * weights.unsqueeze(2)).sum(1), dim=1)
