"""A reranker in two parts: what threads say whatever the message is, and the rest.

Its first layers read a thread alone, so what they make of it can be kept until the thread goes on. Imports torch: import it
inside functions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from thread_embed_assets.reranker.model import FusedReranker
from thread_embed_assets.reranker.vectors import Parts, split_layers, through


class ThreadReader(nn.Module):
    """The layers that read each by itself.

    Args:
        model: with ``joint_layers``, and no adapter.
    """

    def __init__(self, model: FusedReranker) -> None:
        super().__init__()
        assert model.config.joint_layers is not None
        self.transformer = model.transformer
        self.joint_layers = model.config.joint_layers
        self.precision = model.precision

    def forward(self, thread_ids: Tensor, thread_mask: Tensor) -> Tensor:
        """States float32 [texts, tokens, size].

        Args:
            thread_ids: int64 [texts, tokens]; of a thread without ``[CLS]`` and with ``[SEP]``.
            thread_mask: int64 [texts, tokens], 1 for tokens that count.
        """
        places = torch.arange(thread_ids.shape[1], device=thread_ids.device).unsqueeze(0)
        with self.precision():
            hidden = self.transformer.embeddings(input_ids=thread_ids, position_ids=places)
            alone, _ = split_layers(self.transformer, self.joint_layers)
            return through(alone, hidden, thread_mask.float().unsqueeze(1)).float()


class JointScorer(nn.Module):
    """One message with threads that are read."""

    def __init__(self, model: FusedReranker) -> None:
        super().__init__()
        self.model = model
        self.alone = ThreadReader(model)

    def forward(
        self,
        message_ids: Tensor,
        thread_states: Tensor,
        thread_ids: Tensor,
        thread_mask: Tensor,
        structured_features: Tensor,
    ) -> Tensor:
        """Logits float32 [threads].

        Args:
            message_ids: int64 [1, words], from ``[CLS]`` to ``[SEP]``.
            thread_states: float32 [threads, tokens, size], as :class:`ThreadReader` gives them.
            thread_ids, thread_mask: int64 [threads, tokens], what it was given.
            structured_features: float32 [threads, features], not normalised.
        """
        threads = thread_states.shape[0]
        message = self.alone(message_ids, torch.ones_like(message_ids)).expand(threads, -1, -1)
        of_message = torch.ones_like(message_ids).expand(threads, -1)
        places = torch.arange(message_ids.shape[1], device=message_ids.device)
        words = ((places > 0) & (places < message_ids.shape[1] - 1)).float().unsqueeze(0).expand(threads, -1)
        # The thread's last token separates.
        thread_words = thread_mask * torch.cat([thread_mask[:, 1:], torch.zeros_like(thread_mask[:, :1])], dim=1)
        parts = Parts(
            counts=torch.cat([of_message, thread_mask], dim=1).float(),
            message=torch.cat([words, torch.zeros_like(thread_mask).float()], dim=1),
            thread=torch.cat([torch.zeros_like(words), thread_words.float()], dim=1),
            in_thread=torch.cat([torch.zeros_like(of_message), thread_mask], dim=1),
        )
        _, last = split_layers(self.model.transformer, self.alone.joint_layers)
        with self.model.precision():
            tokens = through(last, torch.cat([message, thread_states], dim=1), parts.counts.unsqueeze(1)).float()
        new = self.model.of_new_thread(thread_ids, thread_words.float())
        return self.model.judge(tokens, parts, new, self.model.normalised(structured_features))
