"""Rare words count more: token vectors are averaged with weights by inverse document frequency.

A plain mean gives ``the`` as much of a text's vector as the name of the library that the talk is about, which is what BM25
finds it by. Weights are a standard module of sentence-transformers (``WordWeights``), so the model loads like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer, WordWeights

from thread_embed_assets.chat.near_copies import batches
from thread_embed_assets.errors import InputError

_LEAST = 0.05


def weigh_tokens(model: SentenceTransformer, texts: Iterable[str], power: float) -> SentenceTransformer:
    """The model with each token's vector weighed by ``idf ** power`` before they are averaged; power 0.5 is a mild idf.

    ``idf`` is ``log((n + 1) / (df + 0.5))`` over ``n`` texts (Robertson and Spärck Jones 1976), at least 0.05; a token that
    no text holds weighs more than any other. The weights are not trained.

    Args:
        model: a transformer with mean pooling; one that weighs its tokens already is returned as it is.
        texts: to count tokens in, streamed.
        power: above 0.

    Raises:
        InputError: the model pools another way, or there are no texts.
    """
    if any(isinstance(module, WordWeights) for module in model):
        return model
    words, pooling, *rest = list(model)
    if not (isinstance(words, Transformer) and isinstance(pooling, Pooling) and pooling.pooling_mode == "mean"):
        raise InputError(
            f"model {model.model_card_data.base_model or ''}".strip(),
            "its tokens cannot be weighed: it does not take the mean of a transformer's token vectors",
            "Set token_weight_power to 0",
        )
    tokenizer: Any = model.tokenizer
    found: Counter[int] = Counter()
    count = 0
    for batch in batches(texts):
        for ids in tokenizer(batch, truncation=True, max_length=model.max_seq_length)["input_ids"]:
            found.update(set(ids))
        count += len(batch)
    if not count:
        raise InputError("token weights", "there are no texts to count tokens in", "Give the stage some pairs")
    vocabulary = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    frequencies = np.array([found[token] for token in range(len(vocabulary))])
    weights = np.maximum(np.log((count + 1) / (frequencies + 0.5)), _LEAST) ** power
    weighing = WordWeights(vocabulary, dict(zip(vocabulary, weights.round(4).tolist(), strict=True)))
    weighing.requires_grad_(False)
    return SentenceTransformer(
        modules=[words, weighing, pooling, *rest],
        device=str(model.device),
        prompts=model.prompts,
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
    )
