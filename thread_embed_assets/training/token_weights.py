"""Rare words count more: token vectors are averaged with weights by inverse document frequency.

A plain mean gives ``the`` as much of a text's vector as the name of the library that the talk is about, which is what BM25
finds it by. Weights are a standard module of sentence-transformers (``WordWeights``), so the model loads like any other.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thread_embed_assets.chat.near_copies import batches
from thread_embed_assets.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FOLDER, TENSOR = "1_WordWeights", "emb_layer.weight"  # where a saved model has them
_LEAST = 0.05
_POWER = 0.75


def power_for(model: SentenceTransformer) -> float:
    """The power of idf that suits a model: 0, a plain mean, where it does not take a mean of token vectors."""
    return _POWER if _takes_a_mean(model) else 0.0


def weigh_tokens(model: SentenceTransformer, texts: Iterable[str], power: float) -> None:
    """From here on the model weighs each token's vector by ``idf ** power`` before they are averaged.

    ``idf`` is ``log((n + 1) / (df + 0.5))`` over ``n`` texts (Robertson and Spärck Jones 1976), at least 0.05; a token that
    no text holds weighs more than any other. The weights are not trained.

    Args:
        model: a transformer with mean pooling; one that weighs its tokens already stays as it is.
        texts: to count tokens in, streamed.
        power: above 0.

    Raises:
        InputError: the model pools another way, or there are no texts.
    """
    from sentence_transformers.sentence_transformer.modules import WordWeights

    if any(isinstance(module, WordWeights) for module in model):
        return
    if not _takes_a_mean(model):
        raise InputError(
            f"model {model.model_card_data.base_model or ''}".strip(),
            "its tokens cannot be weighed: it does not take the mean of a transformer's token vectors",
            "Set token_weight_power to 0",
        )
    tokenizer: Any = model.tokenizer
    vocabulary = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    weights = map(_rounded, _idf(model, texts, power).tolist())
    weighing = WordWeights(vocabulary, dict(zip(vocabulary, weights, strict=True)))
    weighing.requires_grad_(False)
    model.insert(1, weighing.to(model.device))


def weighs_tokens(folder: Path) -> bool:
    """Whether a saved model does."""
    return (folder / FOLDER).is_dir()


def fit_token_weights(model: SentenceTransformer, texts: Iterable[str]) -> None:
    """Weigh tokens by their idf in these texts from here on, such as the documents of an index; nothing is trained.

    A model that did not weigh its tokens does so now.

    Raises:
        InputError: see :func:`weigh_tokens`.
    """
    import torch
    from sentence_transformers.sentence_transformer.modules import WordWeights

    weighing = next((module for module in model if isinstance(module, WordWeights)), None)
    if weighing is None:
        weigh_tokens(model, texts, _POWER)
        return
    weights = torch.tensor(_idf(model, texts, _POWER), dtype=torch.float32, device=model.device)
    weighing.emb_layer.weight.data = weights[:, None]
    weighing.word_weights = dict(zip(weighing.vocab, map(_rounded, weights.tolist()), strict=True))


def _idf(model: SentenceTransformer, texts: Iterable[str], power: float) -> NDArray[np.float64]:
    tokenizer: Any = model.tokenizer
    found: Counter[int] = Counter()
    count = 0
    for batch in batches(texts):
        for ids in tokenizer(batch, truncation=True, max_length=model.max_seq_length)["input_ids"]:
            found.update(set(ids))
        count += len(batch)
    if not count:
        raise InputError("token weights", "there are no texts to count tokens in", "Give some")
    frequencies = np.array([found[token] for token in range(len(tokenizer))])
    weights: NDArray[np.float64] = np.maximum(np.log((count + 1) / (frequencies + 0.5)), _LEAST) ** power
    return weights


def _takes_a_mean(model: SentenceTransformer) -> bool:
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    words, pooling, *_ = [*model, None]
    return isinstance(words, Transformer) and isinstance(pooling, Pooling) and pooling.pooling_mode == "mean"


def token_weight_names(model: SentenceTransformer) -> set[str]:
    """The names, in the model's ``state_dict``, of token weights, which no base model has; empty for most models."""
    from sentence_transformers.sentence_transformer.modules import WordWeights

    weighing = [(place, module) for place, module in model.named_children() if isinstance(module, WordWeights)]
    return {f"{place}.{name}" for place, module in weighing for name in module.state_dict()}


def declare_token_weights(folder: Path, weights: NDArray[np.float32]) -> None:
    """Make a saved model weigh its tokens before it pools them: sentence-transformers reads the weights from settings.

    Args:
        folder: of a model that has its transformer first, with a ``tokenizer.json``.
        weights: [vocabulary, 1], in the order of the tokens' numbers.
    """
    from sentence_transformers.sentence_transformer.modules import WordWeights
    from tokenizers import Tokenizer

    numbers = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    vocabulary = sorted(numbers, key=numbers.__getitem__)
    by_token = dict(zip(vocabulary, map(_rounded, weights.ravel().tolist()), strict=True))
    settings = {"vocab": vocabulary, "word_weights": by_token, "unknown_word_weight": 1}
    (folder / FOLDER).mkdir()
    (folder / FOLDER / "config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    path = folder / "modules.json"
    words, *rest = json.loads(path.read_text(encoding="utf-8"))
    weighing = {"path": FOLDER, "type": f"{WordWeights.__module__}.{WordWeights.__name__}"}
    modules = [{**module, "idx": number, "name": str(number)} for number, module in enumerate([words, weighing, *rest])]
    path.write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")


def _rounded(weight: float) -> float:
    return round(weight, 4)
