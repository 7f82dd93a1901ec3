"""An exported reranker, scored with numpy, onnxruntime and tokenizers; this file needs nothing else of the package.

    reranker = OnnxReranker(Path("models/thread-reranker"))
    logits = reranker.logits("did that fix the build?", candidates)  # the thread with the highest is the one

A candidate is whatever has a ``text`` and ``features``, as :mod:`.features` makes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

MODEL = "model.onnx"
MODEL_INT8 = "model_int8.onnx"
THREADS = "threads.onnx"  # reads threads alone; of a reranker that reads them jointly from the first layer there is none
JOINT = "joint.onnx"  # reads a message together with threads that are read
JOINT_INT8 = "joint_int8.onnx"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_ROUNDED = 16  # a message's tokens count as a multiple of it, so that messages of about one length leave a thread the same
_HEAD_SHARE = 4  # a thread that is too long keeps a quarter from its start, and the rest from its end
_AT_ONCE = 8  # pairs of like length that are padded to one
_JOINED_AT_ONCE = 20  # what is filled up costs the last layers alone: one call is faster than several


class Candidate(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def features(self) -> Floats: ...


class PairReader:
    """Texts to token numbers: ``[CLS] message [SEP] thread [SEP]``.

    A message that is too long loses its end. A thread loses its middle: its newest messages stand last, and what it is
    about first; messages of about one length leave it the same room. A text that spells a special token, such as ``[SEP]``,
    is read letter by letter.

    Args:
        tokenizer_json: the file that the tokenizers library writes.
        first: number of the token that a pair begins with.
        separator: number of the token that ends message and thread.
        max_tokens: of a pair.
        message_tokens: of a message, at most.
    """

    def __init__(self, tokenizer_json: Path, first: int, separator: int, max_tokens: int, message_tokens: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer_json))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        self._first, self._separator = first, separator
        self._max_tokens, self._message_tokens = max_tokens, message_tokens

    def pairs(self, messages: Sequence[str], threads: Sequence[str]) -> list[list[int]]:
        """The token numbers of each (message, thread), at most ``max_tokens``; the two are of one length."""
        numbers = {text: place for place, text in enumerate(dict.fromkeys([*messages, *threads]))}
        encoded = self._tokenizer.encode_batch(list(numbers), add_special_tokens=False)
        read = [encoding.ids for encoding in encoded]
        return [self._joined(read[numbers[m]], read[numbers[t]]) for m, t in zip(messages, threads, strict=True)]

    def _joined(self, message: list[int], thread: list[int]) -> list[int]:
        message = message[: self._message_tokens]
        rounded = -(-len(message) // _ROUNDED) * _ROUNDED
        room = self._max_tokens - 3 - min(rounded, self._message_tokens)
        if len(thread) > room:
            head = room // _HEAD_SHARE
            thread = [*thread[:head], *thread[len(thread) - (room - head) :]]
        return [self._first, *message, self._separator, *thread, self._separator]


def padded(rows: Sequence[Sequence[int] | npt.NDArray[np.int32]], width: int | None = None) -> tuple[Ints, Ints]:
    """Token numbers and attention mask, int64 [rows, width] or [rows, longest]; what fills up is 0 in both."""
    ids = np.zeros((len(rows), width or max(len(row) for row in rows)), dtype=np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return ids, mask


def of_like_length(lengths: Sequence[int] | npt.NDArray[Any], at_once: int) -> Iterator[npt.NDArray[np.intp]]:
    """The places of all rows, ``at_once`` together, the shortest first, so that little is filled up."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    for start in range(0, len(order), at_once):
        yield order[start : start + at_once]


class OnnxReranker:
    """Scores the candidates of a message.

    Args:
        folder: of an exported reranker.
        threads: cores that it may use.
        model: the file within the folder; ``MODEL_INT8`` is smaller, faster and a little less exact, where it was exported.
            With ``JOINT``, where it was exported, what was read of a thread is remembered: while a thread says what it said,
            it is not read again. The logits are the same; with ``JOINT_INT8`` they are a little less exact, again.
        remembered: threads, those scored last; each takes 1.5 kB for a token.

    Attributes:
        config: the folder's ``config.json``: feature names and definitions, their mean and spread, and how texts are read.

    Raises:
        FileNotFoundError: a file of the folder is not there.
        ValueError: the folder was exported in a form that this file does not know.
    """

    def __init__(self, folder: Path, threads: int = 1, model: str = MODEL, remembered: int = 256) -> None:
        import onnxruntime

        files = (model, THREADS) if model in (JOINT, JOINT_INT8) else (model,)
        for name in (*files, CONFIG, TOKENIZER):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder / name} is not there: {folder} is no exported reranker. Export it again")
        self.config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        reading = self.config.get("reading")
        if not reading:
            raise ValueError(f"{folder / CONFIG} does not say how texts are read ('reading'). Export the reranker again")
        self._reader = PairReader(folder / TOKENIZER, **reading)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        sessions = [onnxruntime.InferenceSession(str(folder / name), options, ["CPUExecutionProvider"]) for name in files]
        self._session = sessions[0]
        joint = THREADS in files
        self._joint = JointReader(sessions[0], sessions[1], reading["separator"], remembered) if joint else None

    def logits(self, message: str, candidates: Sequence[Candidate]) -> Floats:
        """float32 [candidates], in their order; the sigmoid of one is its probability before any calibration.

        Raises:
            ValueError: a candidate has not as many features as the model was trained with, or one is not finite.
        """
        names = self.config["features"]
        if not candidates:
            return np.empty(0, dtype=np.float32)
        given = [np.asarray(candidate.features, dtype=np.float32) for candidate in candidates]
        if any(row.shape != (len(names),) or not np.isfinite(row).all() for row in given):
            raise ValueError(f"each candidate needs {len(names)} finite features: {', '.join(names)}")
        features = np.stack(given)
        rows = self.tokens(message, candidates)
        if self._joint is not None:
            return self._joint.logits(rows, features)
        logits = np.empty(len(candidates), dtype=np.float32)
        for places in of_like_length([len(row) for row in rows], _AT_ONCE):
            ids, mask = padded([rows[place] for place in places])
            feed = {"input_ids": ids, "attention_mask": mask, "structured_features": features[places]}
            logits[places] = self._session.run(None, feed)[0]
        return logits

    def tokens(self, message: str, candidates: Sequence[Candidate]) -> list[list[int]]:
        """The token numbers that the model reads of each candidate."""
        return self._reader.pairs([message] * len(candidates), [candidate.text for candidate in candidates])


class Session(Protocol):
    def run(self, names: None, feed: dict[str, Any]) -> Sequence[Any]: ...


class JointReader:
    """Scores pairs of one message from what was read of threads, and reads those alone that are new.

    Args:
        session: scores ``message_ids``, ``thread_states``, ``thread_ids``, ``thread_mask`` and ``structured_features``.
        threads: reads ``thread_ids`` and ``thread_mask``.
        separator: number of the token that ends message and thread.
        remembered: threads, those scored last.
    """

    def __init__(self, session: Session, threads: Session, separator: int, remembered: int) -> None:
        self._session, self._memory, self._separator = session, _Memory(threads, remembered), separator

    def logits(self, rows: Sequence[list[int]], features: Floats) -> Floats:
        """Float32 [rows] of pairs that begin with the same message, as :class:`PairReader` gives them."""
        border = rows[0].index(self._separator) + 1
        message = np.array([rows[0][:border]], dtype=np.int64)
        threads = [tuple(row[border:]) for row in rows]
        read = self._memory.states(threads)
        logits = np.empty(len(rows), dtype=np.float32)
        for places in of_like_length([len(thread) for thread in threads], _JOINED_AT_ONCE):
            ids, mask = padded([threads[place] for place in places])
            states = _filled_up([read[place] for place in places])
            feed = {"message_ids": message, "thread_states": states, "thread_ids": ids, "thread_mask": mask}
            logits[places] = self._session.run(None, {**feed, "structured_features": features[places]})[0]
        return logits


class _Memory:
    """What the first layers make of threads; of the last ones that were asked for it is kept."""

    def __init__(self, session: Session, most: int) -> None:
        self._session, self._most = session, most
        self._kept: dict[tuple[int, ...], Floats] = {}

    def states(self, threads: Sequence[tuple[int, ...]]) -> list[Floats]:
        """float32 [tokens, size] of each."""
        new = [thread for thread in dict.fromkeys(threads) if thread not in self._kept]
        for places in of_like_length([len(thread) for thread in new], _AT_ONCE) if new else ():
            ids, mask = padded([new[place] for place in places])
            found = self._session.run(None, {"thread_ids": ids, "thread_mask": mask})[0]
            for place, states in zip(places, found, strict=True):
                self._kept[new[place]] = states[: len(new[place])].copy()
        read = [self._kept[thread] for thread in threads]
        for thread in threads:  # the one asked for last goes last
            self._kept[thread] = self._kept.pop(thread)
        for thread in list(self._kept)[: max(0, len(self._kept) - self._most)]:
            del self._kept[thread]
        return read


def _filled_up(states: Sequence[Floats]) -> Floats:
    """States float32 [threads, longest, size]; what fills up is 0."""
    longest = max(len(one) for one in states)
    together = np.zeros((len(states), longest, states[0].shape[1]), dtype=np.float32)
    for place, one in enumerate(states):
        together[place, : len(one)] = one
    return together
