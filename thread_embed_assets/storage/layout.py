"""Where everything lies below one root folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT_VARIABLE = "THREAD_EMBED_ROOT"


@dataclass(frozen=True)
class Layout:
    """The folders people can rely on; ``THREAD_EMBED_ROOT`` moves them all."""

    root: Path

    @classmethod
    def from_environment(cls) -> Layout:
        """The root named by ``THREAD_EMBED_ROOT``, else the project's folder, else the working folder."""
        named = os.environ.get(ROOT_VARIABLE)
        if named:
            return cls(Path(named).expanduser().resolve())
        project = Path(__file__).resolve().parents[2]
        return cls(project if (project / "workspace.yaml").exists() else Path.cwd())

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def download_cache(self) -> Path:
        return self.data / "cache" / "downloads"

    @property
    def embedding_cache(self) -> Path:
        return self.data / "cache" / "embeddings"

    @property
    def private(self) -> Path:
        """Real names and the salt of the person ids; never an input of training."""
        return self.data / "private"

    def people(self, source: str) -> Path:
        return self.private / f"{source}.duckdb"

    def raw(self, source: str) -> Path:
        return self.data / "raw" / source

    def conversations(self, source: str) -> Path:
        return self.data / "conversations" / f"{source}.duckdb"

    def duplicates(self, source: str) -> Path:
        return self.data / "duplicates" / f"{source}.duckdb"

    @property
    def sketch_cache(self) -> Path:
        """A sample of each conversation's shingles, to find what may be alike in other sources."""
        return self.data / "cache" / "sketches"

    def summaries(self, source: str) -> Path:
        return self.data / "summaries" / f"{source}.duckdb"

    def answer_cache(self, source: str) -> Path:
        """What language models have answered about a source: paid for, so not made anew with the tables."""
        return self.data / "cache" / "language_models" / f"{source}.sqlite"

    def pairs(self, strategy: str, source: str) -> Path:
        return self.data / "pairs" / strategy / f"{source}.duckdb"

    def mined_negatives(self, mix: str) -> Path:
        """Those of all sources of a mix, by its stage 2 model."""
        return self.data / "pairs" / "mined" / f"{mix}.duckdb"

    def source_report(self, source: str) -> Path:
        return self.data / "reports" / source / "conversations"

    def pairs_report(self, source: str) -> Path:
        return self.data / "reports" / source / "pairs"

    def win_loss(self, source: str) -> Path:
        return self.data / "reports" / source / "wins_and_losses"

    @property
    def corpus_report(self) -> Path:
        return self.data / "reports" / "corpus" / "sources"

    @property
    def benchmark(self) -> Path:
        return self.data / "benchmark"

    def tasks(self, source: str) -> Path:
        return self.benchmark / "tasks" / f"{source}.duckdb"

    def disentangling(self, split: str) -> Path:
        return self.benchmark / f"disentangling-{split}.json"

    @property
    def benchmark_dataset(self) -> Path:
        return self.benchmark / "dataset"

    @property
    def regression(self) -> Path:
        return self.benchmark / "regression"

    def runs(self, source: str) -> Path:
        return self.benchmark / "runs" / source

    def results(self, source: str) -> Path:
        return self.benchmark / "results" / f"{source}.duckdb"

    @property
    def ablations(self) -> Path:
        """What training on a small budget tells of the choices the field leaves open, an arm each, and their table."""
        return self.data / "ablations"

    def ablation(self, arm: str) -> Path:
        return self.ablations / arm

    @property
    def models(self) -> Path:
        return self.root / "models"

    def checkpoints(self, mix: str, stage: str) -> Path:
        return self.models / "checkpoints" / mix / stage

    def reranker_examples(self, origin: str) -> Path:
        """Those of one source, or of the simulated users."""
        return self.data / "reranker" / "examples" / f"{origin}.duckdb"

    @property
    def reranker_results(self) -> Path:
        return self.data / "reranker" / "results.duckdb"

    @property
    def reranker_checkpoints(self) -> Path:
        return self.models / "checkpoints" / "reranker"

    @property
    def reranker_package(self) -> Path:
        return self.models / "thread-reranker"

    def thread_store(self, workspace: str) -> Path:
        """The threads that the router has put a workspace's messages to."""
        return self.data / "router" / f"{workspace}.duckdb"

    def search(self, name: str) -> Path:
        """What searching a workspace or a source needs: its index, and of a workspace all of its threads, masked."""
        return self.data / "search" / name

    @property
    def vector_stores(self) -> Path:
        """What each vector store finds of the held-out threads, a folder each."""
        return self.data / "stores"

    def store_roundtrip(self, store: str) -> Path:
        return self.vector_stores / store / "roundtrip.json"

    @property
    def promoted_model(self) -> Path:
        return self.models / "thread-embed"

    @property
    def model_history(self) -> Path:
        """Every model that was promoted, a folder each, and what was decided; the promoted one is a link into it."""
        return self.models / "history"

    @property
    def onnx_package(self) -> Path:
        """The promoted model for onnxruntime."""
        return self.models / "thread-embed-onnx"

    @property
    def released(self) -> Path:
        """Models that travel in the repository, a folder each: small differences from a base."""
        return self.models / "released"

    def restored(self, name: str, fingerprint: str) -> Path:
        """A released model put together from its base and its difference: made again whenever it is not there."""
        return self.data / "cache" / "released" / f"{name}-{fingerprint}"
