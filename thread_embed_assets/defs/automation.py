"""Jobs: the runs that take chat to a leaderboard. A run has one kind of partition, so there is one job for each.

Jobs that span all of them are in :mod:`.retraining`.
"""

from __future__ import annotations

import dagster as dg

from thread_embed_assets.defs.retraining import ONE_AT_A_TIME

PREPARE = ("raw_dataset", "conversations", "source_report")
PAIR = (
    "duplicates",
    "conversation_summaries",
    "thread_pairs",
    "response_pairs",
    "temporal_pairs",
    "summary_pairs",
    "hard_negatives",
    "pairs_report",
    "benchmark_tasks",
)
TRAIN = ("stage1_checkpoint", "stage2_checkpoint", "mined_negatives", "stage3_checkpoint")
EVALUATE = ("benchmark_results",)
DISENTANGLE = ("disentangling_results",)
REPORT = ("corpus_report", "leaderboard", "benchmark_dataset", "model_package")
REGRESS = ("regression_results",)
ABLATE = ("ablation",)
COMPARE = ("ablation_table",)
PACK = ("released_weights",)
RELEASE = ("model_package", "onnx_model")
STORE = ("vector_store_roundtrip",)
EXPORT = ("onnx_model",)
RERANK = ("reranker_examples", "reranker_checkpoint", "reranker_results", "reranker_package")

jobs = [
    dg.define_asset_job("prepare", selection=list(PREPARE), description="One source: files, conversations and their page."),
    dg.define_asset_job(
        "pair",
        selection=list(PAIR),
        description="One source, after all sources are prepared: duplicates, summaries, pairs, negatives, benchmark tasks.",
    ),
    dg.define_asset_job(
        "train", selection=list(TRAIN), description="One mix: three stages, and the negatives that the third trains on."
    ),
    dg.define_asset_job("evaluate", selection=list(EVALUATE), description="One source: every contender's results."),
    dg.define_asset_job(
        "disentangle", selection=list(DISENTANGLE), description="How well threads are guessed, on annotated Ubuntu IRC."
    ),
    dg.define_asset_job(
        "report",
        selection=list(REPORT),
        description="The corpus in one page, the leaderboard, the benchmark as a data set, and the model package.",
    ),
    dg.define_asset_job(
        "pack", selection=list(PACK), description="A checkpoint packed as a small difference from its base, to travel."
    ),
    dg.define_asset_job(
        "release",
        selection=list(RELEASE),
        tags=ONE_AT_A_TIME,
        description="A new model, promoted if it beats the promoted one, and the promoted one for onnxruntime.",
    ),
    dg.define_asset_job("export", selection=list(EXPORT), description="The model package for onnxruntime."),
    dg.define_asset_job(
        "store", selection=list(STORE), description="One vector store: built from held-out threads and asked for them."
    ),
    dg.define_asset_job(
        "ablate", selection=list(ABLATE), description="One arm of the ablations: trained on a small budget, scored on dev."
    ),
    dg.define_asset_job(
        "rerank",
        selection=list(RERANK),
        description="Examples of messages and threads, a reranker trained on them, what it is worth, and its package.",
    ),
    dg.define_asset_job("compare", selection=list(COMPARE), description="The arms of the ablations in one table."),
    dg.define_asset_job(
        "regress", selection=list(REGRESS), description="General tasks: a checkpoint beside the base model, and the floor."
    ),
]
