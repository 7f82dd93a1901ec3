"""The cross-encoder that reads a message and a thread together, fused with the features of the log.

Imports torch: import it inside functions.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.candidates import FEATURES, NEW_THREAD, Floats
from thread_embed_assets.reranker.config import RerankerConfig, validate_config
from thread_embed_assets.reranker.features import HALF_LIFE_HOURS, NEW_THREAD_TEXT, TEXT_CHARACTERS
from thread_embed_assets.reranker.onnx_reranker import CONFIG, TOKENIZER, PairReader
from thread_embed_assets.reranker.vectors import ALIKE, PairVector, Parts, read_apart
from thread_embed_assets.training.base_models import local_folder
from thread_embed_assets.training.devices import DeviceChoice

WEIGHTS = "model.safetensors"
INPUTS = ("input_ids", "attention_mask", "structured_features")
DEFINITIONS = {
    "entity_overlap": "share of the message's entities that the thread has; 0 without any",
    "keyword_matches": "of the summed rarity of the message's keywords, the share of those that the thread has",
    "flow_continuity": "0.5 ** (messages of others since the thread's last), halved unless the turn fits its last message",
    "recency_score": f"0.5 ** (hours since the thread's last message / {HALF_LIFE_HOURS:g})",
    "hours_since_active": "log(1 + hours since the thread's last message)",
}
_LAYOUT = "[CLS] message [SEP] thread [SEP]"
_QUERY_AND_VALUE = ["query", "value"]
_REMEDY = "Train the reranker again"


class Reranker(nn.Module, ABC):
    """Scores pairs of a message and a thread; what the kinds have in common.

    Args:
        transformer: reads the pair.
        config: see there.
        tokenizer: the transformer's, as ``tokenizer.json`` holds it.
        first: number of the token that a pair begins with.
        separator: number of the token that ends message and thread.

    Attributes:
        reading: how texts become token numbers: the arguments of :class:`.onnx_reranker.PairReader`.
    """

    device = "cpu"
    in_bf16 = False
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, transformer: Any, config: RerankerConfig, tokenizer: str, first: int, separator: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.config = config
        self.tokenizer = tokenizer
        self.reading = {
            "first": first,
            "separator": separator,
            "max_tokens": config.max_tokens,
            "message_tokens": config.message_tokens,
        }
        self.register_buffer("feature_mean", torch.zeros(len(FEATURES)))
        self.register_buffer("feature_std", torch.ones(len(FEATURES)))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, structured_features: Tensor) -> Tensor:
        """Logits float32 [pairs].

        Args:
            input_ids: int64 [pairs, tokens], laid out as ``[CLS] message [SEP] thread [SEP]``, filled up with 0.
            attention_mask: int64 [pairs, tokens], 1 for tokens that count.
            structured_features: float32 [pairs, features], not normalised.
        """
        return self._logits(*self._read(input_ids, attention_mask), self.normalised(structured_features))

    def _read(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[dict[str, Tensor], Parts]:
        """What the transformer is given, and whose tokens are whose."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        parts = Parts.of(input_ids, attention_mask, self.reading["separator"])
        if self.transformer.config.type_vocab_size > 1:
            given["token_type_ids"] = parts.in_thread
        return given, parts

    def normalised(self, features: Tensor) -> Tensor:
        """Features [pairs, features] as the head knows them; zeros of a model that is to do without."""
        return (features - self.feature_mean) / self.feature_std * float(self.config.use_features)

    @abstractmethod
    def _logits(self, given: dict[str, Tensor], parts: Parts, features: Tensor) -> Tensor: ...

    def place_on(self, device: DeviceChoice) -> Self:
        """Move it there, and compute in the device's precision from here on.

        With bf16 the transformer runs in autocast, on one core of a CPU at twice the speed of fp32 (1.5 times where only
        matrix products read bf16). The head stays in fp32: rounded to bf16, logits of different candidates would often be
        the same.
        """
        self.device, self.in_bf16 = device.device, device.precision == "bf16"
        return self.to(device.device)

    def precision(self) -> AbstractContextManager[Any]:
        """In which the transformer computes: autocast to bf16, or as it is."""
        return torch.autocast(self.device, torch.bfloat16) if self.in_bf16 else nullcontext()

    def set_normalisation(self, mean: Floats, std: Floats) -> None:
        """What features are normalised with, each [features]; one that never varies is left as wide as it is."""
        self.feature_mean.copy_(torch.from_numpy(mean))
        self.feature_std.copy_(torch.from_numpy(std))
        self.feature_std[self.feature_std < 1e-6] = 1.0

    def add_adapter(self) -> None:
        """Put low-rank matrices beside query and value, and train of the transformer these alone.

        The draw takes from torch's generator: seed it before. Head and projection go on being trained.
        """
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(
            r=self.config.lora_rank,
            lora_alpha=self.config.lora_alpha,
            lora_dropout=self.config.lora_dropout,
            target_modules=_QUERY_AND_VALUE,
        )
        self.transformer = get_peft_model(self.transformer, lora)

    def merge_adapter(self) -> None:
        """Add low-rank matrices to the weights beside them and remove them; a model without stays as it is."""
        if hasattr(self.transformer, "merge_and_unload"):
            self.transformer = self.transformer.merge_and_unload(safe_merge=True)
            self.transformer.requires_grad_(True)

    def save(self, folder: Path) -> None:
        """Write weights as safetensors, ``config.json`` and ``tokenizer.json`` to a folder; an adapter is merged."""
        self.merge_adapter()
        state = {name: value.detach().cpu().clone().contiguous() for name, value in self.state_dict().items()}
        save_file(state, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(self.describe(), indent=1) + "\n", encoding="utf-8")
        (folder / TOKENIZER).write_text(self.tokenizer, encoding="utf-8")

    def describe(self) -> dict[str, Any]:
        """All that another program needs to know to make inputs and to build the model, JSON-serialisable."""
        return {
            "features": list(FEATURES),
            "feature_definitions": DEFINITIONS,
            "feature_mean": self.feature_mean.tolist(),
            "feature_std": self.feature_std.tolist(),
            "half_life_hours": HALF_LIFE_HOURS,
            "layout": _LAYOUT,
            "reading": self.reading,
            "thread_characters": TEXT_CHARACTERS,
            "new_thread": {"id": NEW_THREAD, "text": NEW_THREAD_TEXT},
            "model": self.config.model_dump(mode="json") | {"adapter": "none"},
            "transformer": {k: v for k, v in self.transformer.config.to_dict().items() if k != "_name_or_path"},
        }


class FusedReranker(Reranker):
    """The vector of the pair's text beside the projected features, and a head over both; its logit is added to an offset.

    The offset is linear in the evidence that needs no training: the features, with weights of their own for a new thread,
    and how alike the base model finds the two texts. Fitted before the first step (:meth:`begin_with`), it is as good as a
    logistic regression on all that, and what is trained is what that leaves.
    """

    new_thread: Tensor

    def __init__(self, transformer: Any, config: RerankerConfig, tokenizer: str, first: int, separator: int) -> None:
        super().__init__(transformer, config, tokenizer, first, separator)
        size, width = config.projection_size, transformer.config.hidden_size
        if config.pooling == "pair":
            self.pair = PairVector(width)
            width = self.pair.size
        self.projection = nn.Sequential(nn.Linear(len(FEATURES), size), nn.ReLU(), nn.Linear(size, size))
        self.head = nn.Sequential(
            nn.Linear(width + size, config.head_size),
            nn.ReLU(),
            nn.Dropout(config.head_dropout),
            nn.Linear(config.head_size, 1),
        )
        self.offset = nn.Linear(2 * len(FEATURES) + 1 + (ALIKE if config.pooling == "pair" else 0), 1)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        words = Tokenizer.from_str(tokenizer).encode(NEW_THREAD_TEXT, add_special_tokens=False).ids
        self.register_buffer("new_thread", torch.tensor(words), persistent=False)

    def begin_with(self, weights: Floats, bias: float) -> None:
        """Set the offset: the evidence [pairs, evidence] times ``weights`` [evidence], and ``bias``."""
        with torch.no_grad():
            self.offset.weight.copy_(torch.from_numpy(weights)[None])
            self.offset.bias.fill_(bias)

    def evidence(self, input_ids: Tensor, attention_mask: Tensor, structured_features: Tensor) -> Tensor:
        """Float32 [pairs, evidence], what the offset is linear in; of what :meth:`forward` is given."""
        given, parts = self._read(input_ids, attention_mask)
        text, new = self._text(self._tokens(given, parts), parts), self.of_new_thread(input_ids, parts.thread)
        return self._evidence(text, new, self.normalised(structured_features))

    def of_new_thread(self, ids: Tensor, words: Tensor) -> Tensor:
        """Float32 [pairs], 1 where the thread's words are those of ``NEW_THREAD_TEXT``, in whatever order.

        Args:
            ids: int64 [pairs, tokens].
            words: float32 [pairs, tokens], 1 for the thread's.
        """
        known = (ids.unsqueeze(2) == self.new_thread).any(2).float()
        others = ((words.sum(1) - len(self.new_thread)).abs() + (words * (1 - known)).sum(1)).clamp(max=1)
        return 1 - others

    def _logits(self, given: dict[str, Tensor], parts: Parts, features: Tensor) -> Tensor:
        new = self.of_new_thread(given["input_ids"], parts.thread)
        return self.judge(self._tokens(given, parts), parts, new, features)

    def judge(self, tokens: Tensor, parts: Parts, new: Tensor, features: Tensor) -> Tensor:
        """Logits [pairs].

        Args:
            tokens: float32 [pairs, tokens, size], that are read.
            parts: whose they are.
            new: float32 [pairs], see :meth:`of_new_thread`.
            features: float32 [pairs, features], normalised.
        """
        text = self._text(tokens, parts)
        of_both: Tensor = self.head(torch.cat([text, self.projection(features)], dim=1))
        # Spelt out, for a matrix product is rounded to eight bits with the others.
        offset = (self._evidence(text, new, features) * self.offset.weight).sum(1) + self.offset.bias
        return of_both.squeeze(1) + offset

    def _evidence(self, text: Tensor, new: Tensor, features: Tensor) -> Tensor:
        new = new.unsqueeze(1)
        found = [features, new, features * new]
        if self.config.pooling == "pair":
            found.append(self.pair.alike(text) * (1 - new))
        return torch.cat(found, dim=1)

    def _tokens(self, given: dict[str, Tensor], parts: Parts) -> Tensor:
        with self.precision():
            if self.config.joint_layers is None:
                found: Tensor = self.transformer(**given).last_hidden_state
            else:
                found = read_apart(_without_adapter(self.transformer), given["input_ids"], parts, self.config.joint_layers)
        return found.float()

    def _text(self, tokens: Tensor, parts: Parts) -> Tensor:
        if self.config.pooling == "cls":
            return tokens[:, 0]
        if self.config.pooling == "pair":
            compared: Tensor = self.pair(tokens, parts)
            return compared
        mask = parts.counts.unsqueeze(2)
        return (tokens * mask).sum(1) / mask.sum(1)


class LateReranker(Reranker):
    """A cross-encoder's own logit, corrected by what a small head makes of it and the features; at first by nothing.

    It computes in fp32, since the logit is the transformer's.
    """

    def __init__(self, transformer: Any, config: RerankerConfig, tokenizer: str, first: int, separator: int) -> None:
        super().__init__(transformer, config, tokenizer, first, separator)
        last = nn.Linear(config.projection_size, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.Linear(1 + len(FEATURES), config.projection_size), nn.ReLU(), last)

    def _logits(self, given: dict[str, Tensor], parts: Parts, features: Tensor) -> Tensor:
        logit: Tensor = self.transformer(**given).logits
        corrected: Tensor = logit + self.head(torch.cat([logit, features], dim=1))
        return corrected.squeeze(1)


def _without_adapter(transformer: Any) -> Any:
    """The transformer itself; low-rank matrices are inside its layers."""
    return transformer.get_base_model() if hasattr(transformer, "get_base_model") else transformer


_KINDS: dict[str, type[Reranker]] = {"fused": FusedReranker, "late": LateReranker}


def new_reranker(config: RerankerConfig) -> Reranker:
    """An untrained one from a base model, with its adapter; draws take from torch's generator: seed it before.

    Raises:
        InputError: the base model is not to be had, has no ``tokenizer.json``, reads fewer tokens than a pair may have, or
            has layers that cannot read message and thread apart.
    """
    folder = local_folder(config.base_model)
    if not (folder / TOKENIZER).is_file():
        raise InputError(
            folder, f"there is no {TOKENIZER} beside the model", "Save its tokenizer with the tokenizers library"
        )
    kept = {"num_hidden_layers": config.layers} if config.layers else {}
    transformer = _auto_model(config).from_pretrained(folder, local_files_only=True, dtype=torch.float32, **kept)
    longest = transformer.config.max_position_embeddings
    if longest < config.max_tokens:
        raise InputError(f"base model '{config.base_model}'", f"it reads {longest} tokens at most", "Lower max_tokens")
    kind = transformer.config.model_type
    if config.kind == "fused" and config.joint_layers is not None and kind != "bert":
        problem = f"the layers of a {kind} cannot read message and thread apart"
        raise InputError(f"base model '{config.base_model}'", problem, "Set joint_layers to null, or take a BERT")
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    first, separator = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    if first is None or separator is None:
        raise InputError(folder, "its tokenizer has no [CLS] and [SEP]", "Use a base model of the BERT family")
    reranker = _KINDS[config.kind](transformer, config, tokenizer.to_str(), first, separator)
    if config.adapter == "lora":
        reranker.add_adapter()
    return reranker


def load_reranker(folder: Path) -> Reranker:
    """What :meth:`Reranker.save` wrote, on the CPU, ready to score.

    Raises:
        InputError: a file is missing or damaged.
    """
    from transformers import AutoConfig

    try:
        described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tokenizer = (folder / TOKENIZER).read_text(encoding="utf-8")
        weights = load_file(folder / WEIGHTS)
        config = validate_config(described["model"])
        transformer_config = AutoConfig.for_model(**described["transformer"])
        reading = described["reading"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(folder, f"this is no whole reranker ({type(error).__name__}: {error})", _REMEDY) from error
    if described["features"] != list(FEATURES):
        raise InputError(folder / CONFIG, f"it was trained on other features: {described['features']}", _REMEDY)
    transformer = _auto_model(config).from_config(transformer_config)
    reranker = _KINDS[config.kind](transformer, config, tokenizer, reading["first"], reading["separator"])
    try:
        reranker.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(folder / WEIGHTS, f"the weights do not fit the configuration ({error})", _REMEDY) from error
    return reranker.eval()


def pair_reader(folder: Path) -> PairReader:
    """How a saved reranker reads texts."""
    reading = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["reading"]
    return PairReader(folder / TOKENIZER, **reading)


def _auto_model(config: RerankerConfig) -> Any:
    from transformers import AutoModel, AutoModelForSequenceClassification

    return AutoModelForSequenceClassification if config.kind == "late" else AutoModel
