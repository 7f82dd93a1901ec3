"""A model and pair tables small enough to train on in a test."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from thread_embed_assets.pairs.schema import HARD_NEGATIVES, PAIRS
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables
from thread_embed_assets.training.data import PairInput

WORDS = [
    a + b for a in ("ba", "de", "fi", "go", "lu", "ma", "ne", "pi", "ro", "su") for b in ("ka", "la", "mi", "no", "tu", "ve")
]


def build_tiny_model(folder: Path) -> Path:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(exist_ok=True)
    backbone = folder / "backbone"
    vocabulary = folder / "vocab.txt"
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *WORDS]
    vocabulary.write_text("\n".join(tokens) + "\n")
    torch.manual_seed(0)
    bert = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(bert).save_pretrained(backbone)
    BertTokenizerFast(str(vocabulary), model_max_length=64).save_pretrained(backbone)
    transformer = Transformer(str(backbone), max_seq_length=64)
    model = SentenceTransformer(modules=[transformer, Pooling(32, "mean"), Normalize()], device="cpu")
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def write_pairs(
    folder: Path,
    strategy: str,
    source: str,
    rows: int,
    draw: random.Random,
    *,
    conversations: int = 20,
    dev_rows: int = 8,
    text_format: str = "plain",
    negatives: float = 0.5,
) -> PairInput:
    """Pairs of ``conversations`` conversations; anchor and positive share two words of their conversation."""
    path = folder / f"{strategy}-{source}-{rows}-{conversations}.duckdb"
    with write_tables(path, {"pairs": PAIRS}) as writer:
        for number in range(rows + dev_rows):
            split = "train" if number < rows else "dev"
            conversation = f"{split}:{number % conversations}"
            topic = [WORDS[number % conversations], WORDS[-1 - number % conversations]]
            anchor, positive = (_text([*topic, *draw.choices(WORDS, k=4)], draw) for _ in range(2))
            has_negative = strategy == "temporal" and draw.random() < negatives
            other = f"{split}:{(number + 1 + draw.randrange(max(1, conversations - 1))) % conversations}"
            writer.add(
                "pairs",
                (
                    f"{strategy}-{number:05d}", strategy, source, "slack", "room", conversation,
                    seed(source, conversation) >> 1, split, "explicit", text_format, anchor, positive,
                    _text(draw.choices(WORDS, k=5), draw) if has_negative else None,
                    other if has_negative else None, [], [], None,
                ),
            )  # fmt: skip
    return PairInput(strategy, source, open_table(path, "pairs"))


def write_hard_negatives(folder: Path, pairs: TableHandle, pair_ids: Sequence[str]) -> TableHandle:
    """Two ranks of BM25 negatives for some pairs; the text tells pair and rank."""
    path = folder / "hard_negatives.duckdb"
    with write_tables(path, {"hard_negatives": HARD_NEGATIVES}) as writer:
        for pair_id in pair_ids:
            for rank in (2, 1):
                text = f"negative {rank} of {pair_id}"
                row = (pair_id, "thread", "alpha", "train:0", "bm25", rank, 1.0, text, f"elsewhere:{pair_id}")
                writer.add("hard_negatives", row)
    return open_table(path, "hard_negatives")


def _text(words: list[str], draw: random.Random) -> str:
    draw.shuffle(words)
    return " ".join(words)
