"""An exported embedding model, run with numpy, onnxruntime and tokenizers; this file needs nothing else of the package.

    embedder = OnnxEmbedder(Path("models/thread-embed-onnx"))
    threads = embedder.encode(["the nightly job times out\\nsince when?", "lunch at twelve?"])
    scores = threads @ embedder.encode(["why is the nightly build slow?"])[0]

``chat_text.py`` beside it turns messages into the text that the model reads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

MODEL = "model.onnx"
MODEL_INT8 = "model_int8.onnx"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
INPUTS = ("input_ids", "attention_mask")

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class OnnxEmbedder:
    """Texts to unit vectors: token weights, pooling and normalisation are inside the graph.

    Args:
        folder: of an exported model.
        threads: cores that it may use.
        model: the file within the folder; ``MODEL_INT8``, where it was exported, is smaller and less exact.
        truncate_dim: keep the first components of each vector, made unit again; all where it is None.

    Attributes:
        config: the folder's ``config.json``: ``dimension``, ``max_tokens``, ``padding``, ``prompts``, ``text_format``.

    Raises:
        FileNotFoundError: a file of the folder is not there.
        ValueError: the model's vectors are shorter than ``truncate_dim``.
    """

    def __init__(self, folder: Path, threads: int = 1, model: str = MODEL, truncate_dim: int | None = None) -> None:
        import onnxruntime

        for name in (model, CONFIG, TOKENIZER):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder / name} is not there: {folder} is no exported model. Export it again")
        self.config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        self.dimension = int(truncate_dim or self.config["dimension"])
        if not 0 < self.dimension <= self.config["dimension"]:
            raise ValueError(f"truncate_dim is {truncate_dim}, and the model has {self.config['dimension']} dimensions")
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.enable_truncation(self.config["max_tokens"])
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(folder / model), options, ["CPUExecutionProvider"])

    def encode(self, texts: Sequence[str], prompt_name: str | None = None, batch_size: int = 32) -> Floats:
        """float32 [texts, dimension], each row of length 1, in the order of the texts.

        Args:
            texts: none is too long: what is beyond ``max_tokens`` is left out.
            prompt_name: ``query`` or ``document``; what ``config["prompts"]`` has under it is put before each text.
            batch_size: texts of like length that are padded to one.
        """
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        rows = self.tokens(texts, prompt_name)
        order = np.argsort([len(row) for row in rows], kind="stable")
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            ids, mask = self._padded([rows[place] for place in places])
            found: Floats = self._session.run(None, dict(zip(INPUTS, (ids, mask), strict=True)))[0]
            vectors[places] = _shortened(found, self.dimension)
        return vectors

    def tokens(self, texts: Sequence[str], prompt_name: str | None = None) -> list[list[int]]:
        """The token numbers that the model reads of each text."""
        prompt = self.config["prompts"][prompt_name] if prompt_name else ""
        return [encoding.ids for encoding in self._tokenizer.encode_batch([prompt + text for text in texts])]

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
        ids = np.full((len(rows), max(len(row) for row in rows)), self.config["padding"], dtype=np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return ids, mask


def _shortened(vectors: Floats, dimension: int) -> Floats:
    if dimension == vectors.shape[1]:
        return vectors
    cut = vectors[:, :dimension]
    shortened: Floats = cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)
    return shortened
