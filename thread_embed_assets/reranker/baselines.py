"""What a cross-encoder has to beat: the five features alone, and the words alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.candidates import FEATURES
from thread_embed_assets.reranker.features import NEW_THREAD_TEXT
from thread_embed_assets.reranker.groups import Bools, Floats, Groups, RowScorer, read_groups, score_rows
from thread_embed_assets.storage.tables import TableHandle

TRAIN = "split = 'train'"

_THRESHOLDS = 101


def features_only(examples: TableHandle, where: str = TRAIN) -> RowScorer:
    """Logistic regression on the features, with weights of their own for a new thread; no word is read.

    Without these weights a new thread, whose features are the best of the others, would always win or never.

    Args:
        examples: fitted on the rows that ``where`` (SQL) selects.

    Raises:
        InputError: there are no such rows, or all have the same label.
    """
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
    from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

    batches = list(examples.scan(("thread", *FEATURES, "label"), where))
    labels = np.concatenate([b["label"].to_numpy() for b in batches]) if batches else np.array([])
    if len(np.unique(labels)) < 2:
        raise InputError(examples.path, f"with {where} there are no right and wrong candidates", "Write the examples again")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    model.fit(np.concatenate([_design(b) for b in batches]), labels)

    def score(batch: pa.RecordBatch) -> Floats:
        found: Floats = model.decision_function(_design(batch))
        return found

    return score


def text_only(examples: TableHandle, where: str = TRAIN) -> RowScorer:
    """Cosine similarity of TF-IDF vectors (words and pairs of words) of message and thread; no feature is read.

    A new thread, with which no word is shared, has the one score that is right most often on the rows that ``where`` (SQL)
    selects, on whose texts the idf is counted, too.

    Raises:
        InputError: there are no such rows.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]

    groups = read_groups(examples, where)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    words.fit(_texts(examples, where))

    def cosine(batch: pa.RecordBatch) -> Floats:
        message, thread = (words.transform(batch[name].to_pylist()) for name in ("message", "thread"))
        found: Floats = np.asarray(message.multiply(thread).sum(axis=1)).ravel()
        return found

    threshold = _best_threshold(groups, score_rows(examples, where, cosine))

    def score(batch: pa.RecordBatch) -> Floats:
        return np.where(_is_new(batch), threshold, cosine(batch))

    return score


def _best_threshold(groups: Groups, scores: Floats) -> float:
    """The score of a new thread with which the best candidate is the right one most often."""
    known = np.where(groups.new, -1.0, scores)
    best = groups.reduce(np.maximum, known)
    right = groups.reduce(np.maximum, np.where(groups.labels, known, -1.0)) == best
    steps = np.linspace(0.0, 1.0, _THRESHOLDS)
    hits = [np.where(best > step, right & ~groups.of_new, groups.of_new).mean() for step in steps]
    return float(steps[int(np.argmax(hits))])


def _texts(examples: TableHandle, where: str) -> Iterator[str]:
    for name in ("message", "thread"):
        for batch in examples.scan((name,), where):
            yield from batch[name].to_pylist()


def _design(batch: pa.RecordBatch) -> npt.NDArray[np.float64]:
    """[rows, 2 * len(FEATURES) + 1]: the features, and once more for new threads only."""
    features = np.stack([batch[name].to_numpy() for name in FEATURES], axis=1).astype(np.float64)
    new = _is_new(batch)[:, None]
    return np.concatenate([features, new, features * new], axis=1)


def _is_new(batch: pa.RecordBatch) -> Bools:
    return np.array([text == NEW_THREAD_TEXT for text in batch["thread"].to_pylist()])
