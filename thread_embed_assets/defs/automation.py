"""Jobs: the four runs that take chat to a leaderboard. A run has one kind of partition, so there is one job for each."""

from __future__ import annotations

import dagster as dg

PREPARE = (
    "raw_dataset",
    "conversations",
    "thread_pairs",
    "response_pairs",
    "temporal_pairs",
    "hard_negatives",
    "benchmark_tasks",
)
TRAIN = ("stage1_checkpoint",)
EVALUATE = ("benchmark_results",)
REPORT = ("leaderboard", "model_package")

jobs = [
    dg.define_asset_job(
        "prepare", selection=list(PREPARE), description="One source: files, conversations, pairs, hard negatives, tasks."
    ),
    dg.define_asset_job("train", selection=list(TRAIN), description="One mix: the stage 1 checkpoint."),
    dg.define_asset_job("evaluate", selection=list(EVALUATE), description="One source: every contender's results."),
    dg.define_asset_job("report", selection=list(REPORT), description="The leaderboard and the model package."),
]
