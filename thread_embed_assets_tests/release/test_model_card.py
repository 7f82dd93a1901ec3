from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from sentence_transformers import SentenceTransformer

from thread_embed_assets.release.card_copies import hub_card, onnx_card
from thread_embed_assets.release.model_card import model_card
from thread_embed_assets_tests.release.packages import FACTS, SOURCE, STAGE

SCORE: dict[str, Any] = {
    "source": "irc", "tier": "gold", "task": "thread", "n": 262, "contender": "ThreadEmbed-all",
    "reading": "plain by window", "mean": 0.5371, "low": 0.4817, "high": 0.5866,
}  # fmt: skip
SHORTER = {"source": "irc", "task": "thread", "dim": 16, "mean": 0.5, "low": 0.4, "high": 0.6}
GENERAL = {
    "base": "tiny", "mteb": "2.26", "ran": 1, "of": 2,
    "comparisons": [
        {"listed": "STSBenchmark", "base": 0.82, "model": 0.81},
        {"listed": "SICK-R", "base": None, "model": None},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model), device="cpu")


def test_every_number_of_the_card_is_a_fact(model: SentenceTransformer) -> None:
    facts = replace(
        FACTS, scores=[SCORE], shorter=[{**SHORTER, "dim": None}, SHORTER], general=GENERAL,
        compared={"irc": {"dev_texts_hit": 0}}, rebuild=["make it"],
    )  # fmt: skip
    card = model_card(model, facts, "speakers")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "apache-2.0" and front["base_model"] == "made/tiny" and front["language"] == ["en"]
    assert front["library_name"] == "sentence-transformers" and front["pipeline_tag"] == "sentence-similarity"
    assert "chat" in front["tags"]
    for line in (
        "| `made`: [An invented chat](https://example.org/chat) | CC-BY-4.0 | r7 | 4242 |",
        "- CC-BY-4.0 (`made`): whoever made it is named and its [licence](https://creativecommons.org/licenses/by/4.0/)",
        'SentenceTransformer("models/thread-embed", truncate_dim=16)',
        "| stage1 | all | 2e-05 | 64 | infonce | response, thread | 373 | 2946274 | CPU, 1 threads | 32 min | 0.648,",
        "All stages took 32 minutes",
        "| irc | gold | thread | 262 | ThreadEmbed-all | plain by window | 0.537 | 0.482 to 0.587 |",
        "| irc | thread | 32 | 0.500 | 0.400 to 0.600 |",
        "| irc | thread | 16 | 0.500 | 0.400 to 0.600 |",
        "tasks of mteb 2.26; 1 of 2 ran",
        "| STSBenchmark | 0.8200 | 0.8100 |",
        "speaker_1: @speaker_2: is the build red?\nspeaker_2: @speaker_1 since noon",
        "No test text of `irc` stands in a training text",
        "checkpoint 0123456789abcdef",
        "make it",
    ):
        assert line in card, line
    assert "SICK-R" not in card, "what did not run has no numbers"


def test_what_is_not_known_is_not_told(model: SentenceTransformer) -> None:
    bare = {key: STAGE[key] for key in ("mix", "stage", "fingerprint")}
    card = model_card(model, replace(FACTS, stages=[{**bare, "config": {}}]), "plain")
    for line in (
        "It has not been scored yet", "They have not been scored yet", "NOT RUN: what training cost on general tasks",
        "| stage1 | all | - | - | - | - | - | - | - | - | -, - |", "a time that was not kept", "not trained for",
    ):  # fmt: skip
        assert line in card, line
    assert "truncate_dim=" not in card


def test_a_model_of_withheld_texts_says_so_and_is_not_apache(model: SentenceTransformer) -> None:
    facts = replace(FACTS, sources={"own": {**SOURCE, "redistribute": False}, "made": SOURCE})
    assert facts.withheld == ["own"]
    card = model_card(model, facts, "plain")
    assert "**Not to be passed on:** it was trained on own" in card and "Pass it on" not in card
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "other"


def test_conditions_stand_by_licence_and_an_unknown_one_is_to_be_read(model: SentenceTransformer) -> None:
    licences = {"a": "MIT", "b": "CDLA-Sharing-1.0", "c": "MIT", "d": "house rules"}
    sources = {name: {**SOURCE, "licence": licence} for name, licence in licences.items()}
    card = model_card(model, replace(FACTS, sources=sources), "plain")
    conditions = [line.split(":")[0] for line in card.splitlines() if line.startswith("- ") and "(`" in line]
    assert conditions == ["- CDLA-Sharing-1.0 (`b`)", "- MIT (`a`, `c`)", "- house rules (`d`)"]
    assert "- house rules (`d`): read it before you pass the model on." in card


def test_the_onnx_and_the_hubs_card_tell_their_own_way_to_use_it(model: SentenceTransformer) -> None:
    card = model_card(model, FACTS, "plain")
    onnx = onnx_card(card, 1.52e-7, 0.9917, 16)
    assert 'Path("models/thread-embed-onnx")' in onnx and "OnnxEmbedder(folder, truncate_dim=16)" in onnx
    assert "by 2e-07 at most" in onnx and "is 0.992." in onnx and "int8" not in onnx_card(card, 1e-7, None, None)
    front = yaml.safe_load(onnx.split("---\n")[1])
    assert front["library_name"] == "onnx" and "sentence-transformers" not in front["tags"]
    assert "SentenceTransformer(" not in onnx and onnx.split("## Trained on")[1] == card.split("## Trained on")[1]
    for page in (card, onnx):
        hub = hub_card(page, "tester/chat")
        assert '"models/' not in hub and 'snapshot_download("tester/chat")' in hub
        for block in re.findall(r"```python\n(.*?)```", hub, re.DOTALL):
            compile(block, "card", "exec")
            assert ("snapshot_download(" in block) == ("import snapshot_download" in block)
    assert 'SentenceTransformer("tester/chat", truncate_dim=16)' in hub_card(card, "tester/chat")
