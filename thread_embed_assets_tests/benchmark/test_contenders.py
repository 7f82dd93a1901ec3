from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from thread_embed_assets.benchmark import contenders
from thread_embed_assets.benchmark.api_models import ApiEncoder
from thread_embed_assets.benchmark.contenders import (
    Model,
    Reference,
    Tuned,
    champion_contender,
    find_model,
    load_references,
    open_encoder,
    reference_contenders,
    standard_contenders,
    text_format_of,
)
from thread_embed_assets.benchmark.embeddings import ModelEncoder
from thread_embed_assets.benchmark.readings import Reading, in_formats, whole_and_by_window
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.errors import InputError
from thread_embed_assets.training.devices import DeviceChoice
from thread_embed_assets.training.token_weights import FOLDER

BGE = "Represent this sentence for searching relevant passages: "
KEYS = ("OPENAI_API_KEY", "VOYAGE_API_KEY")


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine with an empty mirror, no keys, no GPU and no own models; a download is an error."""
    for name in (*KEYS, "THREAD_EMBED_OWN_MODELS", "THREAD_EMBED_DOWNLOAD_MODELS", "THREAD_EMBED_API_MODELS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("THREAD_EMBED_MODEL_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("THREAD_EMBED_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr(contenders, "OWN_MODELS", tmp_path / "own_models.yaml")
    monkeypatch.setattr(contenders, "pick_device", lambda: DeviceChoice("cpu", "fp32", "CPU"))

    def refused(model_id: str) -> Path:
        raise AssertionError(f"{model_id} is downloaded")

    monkeypatch.setattr(contenders, "local_folder", refused)
    yield


def put(folder: Path, *, modules: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    if modules:
        (folder / "modules.json").write_text("[]")
    return folder


def own(path: Path, **models: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump({"models": models}, sort_keys=False))


def test_a_model_says_its_format_and_plain_is_the_default(tmp_path: Path) -> None:
    assert text_format_of(tmp_path) == "plain"
    (tmp_path / "thread_embed.json").write_text(json.dumps({"text_format": "speakers"}))
    assert text_format_of(tmp_path) == "speakers"
    (tmp_path / "thread_embed.json").write_text(json.dumps({"text_format": "verse"}))
    with pytest.raises(InputError, match=r"thread_embed\.json.*'verse'.*plain"):
        text_format_of(tmp_path)


def test_the_standard_contenders(tmp_path: Path) -> None:
    (tmp_path / "thread_embed.json").write_text(json.dumps({"text_format": "times"}))
    base = Model("base", tmp_path / "nowhere", "b")
    tuned = [Tuned(Model("ours", tmp_path, "t"), "tuned"), Tuned(Model("far", tmp_path, "f"), "tuned_transfer")]
    rows = {c.name: c for c in standard_contenders(base, tuned, reference_contenders())}
    references = list(load_references())
    baselines = ["bm25", "recency", "speakers", "base", "base+bm25", "base+bm25 (rrf)"]
    assert list(rows) == [*baselines, *references, "ours", "ours+bm25", "far", "far+bm25"]
    assert {name: row.kind for name, row in rows.items() if row.kind not in ("dense", "hybrid")} == {
        "bm25": "bm25",
        "recency": "recency",
        "speakers": "speakers",
    }
    assert rows["bm25"].readings == in_formats(FORMATS)
    assert rows["base"].readings == whole_and_by_window(in_formats(FORMATS))
    assert rows["recency"].readings == rows["speakers"].readings == (Reading(),)
    assert rows["ours"].readings == (Reading("times"), Reading("times", by_window=True))
    assert rows["ours+bm25"].parts == ("bm25", "ours")
    assert (rows["base+bm25"].fusion, rows["base+bm25 (rrf)"].fusion) == ("z_score", "reciprocal_rank")
    roles = {name: rows[name].role for name in ("bm25", "recency", "base", "base+bm25 (rrf)", "ours", "far", "far+bm25")}
    assert list(roles.values()) == [
        "baseline", "baseline", "base", "base_hybrid", "tuned", "tuned_transfer", "tuned_hybrid",
    ]  # fmt: skip
    assert {rows[name].role for name in references} == {"reference"}


def test_a_model_that_weighs_its_tokens_has_controls_that_tell_fitting_from_training(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    base = Model("base", tmp_path / "nowhere", "b")
    tuned = [Tuned(Model(name, tmp_path, name), "tuned") for name in ("ours", "other")]
    rows = {c.name: c for c in standard_contenders(base, tuned, [])}
    assert [name for name, row in rows.items() if row.role == "control"] == [
        "base, fitted", "ours, unfitted", "other, unfitted",
    ]  # fmt: skip
    assert [str(reading) for reading in rows["ours"].readings] == [
        "plain", "plain, fitted", "plain by window", "plain, fitted by window",
    ]  # fmt: skip
    assert rows["base, fitted"].readings == whole_and_by_window([Reading(fitted=True)])
    assert (rows["base, fitted"].model, rows["ours, unfitted"].model) == (base, tuned[0].model)
    assert rows["ours, unfitted"].readings == whole_and_by_window([Reading()])
    champion = champion_contender(tuned[0].model)
    assert (champion.role, champion.readings) == ("champion", rows["ours"].readings), "read as what it fights against is"


def test_a_hybrid_comes_after_its_parts() -> None:
    seen: set[str] = set()
    for row in standard_contenders(Model("base", "x", "b"), [], reference_contenders()):
        assert set(row.parts) <= seen
        seen.add(row.name)


def test_the_registry_has_the_prompts_and_the_pooling_of_the_models_cards() -> None:
    """Cards at huggingface.co/<model>, and the pooling files beside them."""
    registry = load_references()
    said = {r.model: (r.query_prompt, r.document_prompt, r.pooling) for r in registry.values()}
    assert said == {
        "sentence-transformers/all-mpnet-base-v2": (None, None, "mean"),
        "BAAI/bge-base-en-v1.5": (BGE, None, "cls"),
        "BAAI/bge-large-en-v1.5": (BGE, None, "cls"),
        "thenlper/gte-base": (None, None, "mean"),
        "intfloat/e5-base-v2": ("query: ", "passage: ", "mean"),
        "openai/text-embedding-3-small": (None, None, None),
        "openai/text-embedding-3-large": (None, None, None),
        "voyage/voyage-4": (None, None, None),
        "voyage/voyage-4-large": (None, None, None),
    }
    prices = {r.name: r.dollars_per_million_tokens for r in registry.values() if r.dollars_per_million_tokens}
    assert prices == {
        "text-embedding-3-small": 0.02,
        "text-embedding-3-large": 0.13,
        "voyage-4": 0.06,
        "voyage-4-large": 0.12,
    }


def test_what_is_not_here_says_how_to_get_it() -> None:
    rows = {row.name: row for row in reference_contenders()}
    assert all(row.not_run and row.model is None for row in rows.values())
    assert "thenlper/gte-base is not on this machine" in rows["gte-base"].not_run
    assert "THREAD_EMBED_DOWNLOAD_MODELS=1" in rows["gte-base"].not_run
    assert rows["text-embedding-3-large"].not_run == "OPENAI_API_KEY is not set"
    assert rows["voyage-4"].not_run == "VOYAGE_API_KEY is not set"


def test_a_model_of_the_mirror_runs_with_its_prompts(tmp_path: Path) -> None:
    folder = put(tmp_path / "mirror" / "intfloat" / "e5-base-v2")
    row = next(row for row in reference_contenders() if row.name == "e5-base-v2")
    assert row.model is not None
    assert (row.model.location, row.model.query_prompt, row.model.document_prompt) == (folder, "query: ", "passage: ")
    assert not row.not_run
    encoder = open_encoder(row.model)
    assert isinstance(encoder, ModelEncoder)
    expected = ModelEncoder(folder, row.model.fingerprint, query_prompt="query: ", document_prompt="passage: ")
    assert encoder.fingerprint == expected.fingerprint != row.model.fingerprint
    assert encoder.role_key("query") != encoder.role_key("document")


def test_pooling_is_declared_where_the_files_do_not_say_it(tmp_path: Path) -> None:
    folder = put(tmp_path / "mirror" / "team" / "words", modules=False)
    told = find_model(Reference(name="told", model="team/words", pooling="cls"), download=False, send=False)
    assert isinstance(told, Model)
    assert open_encoder(told).fingerprint == ModelEncoder(folder, told.fingerprint, pooling="cls").fingerprint
    untold = find_model(Reference(name="untold", model="team/words"), download=False, send=False)
    assert "has no modules.json" in str(untold)
    assert "'pooling'" in str(untold)


def test_references_get_one_format_without_a_gpu_and_all_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "mirror" / "thenlper" / "gte-base")
    monkeypatch.setenv("OPENAI_API_KEY", "made-up")
    monkeypatch.setenv("THREAD_EMBED_API_MODELS", "1")

    def readings() -> dict[str, tuple[Reading, ...]]:
        return {row.name: row.readings for row in reference_contenders() if not row.not_run}

    api = dict.fromkeys(("text-embedding-3-small", "text-embedding-3-large"), whole_and_by_window([Reading()]))
    assert readings() == {"gte-base": whole_and_by_window([Reading()]), **api}
    monkeypatch.setattr(contenders, "pick_device", lambda: DeviceChoice("cuda", "bf16", "a GPU"))
    assert readings() == {"gte-base": whole_and_by_window(in_formats(FORMATS)), **api}


def test_texts_go_to_a_service_only_when_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOYAGE_API_KEY", "made-up")
    rows = {row.name: row for row in reference_contenders()}
    assert rows["voyage-4"].not_run == "THREAD_EMBED_API_MODELS is not set to 1, so no text is sent to voyage"
    monkeypatch.setenv("THREAD_EMBED_API_MODELS", "1")
    model = {row.name: row for row in reference_contenders()}["voyage-4"].model
    assert model is not None
    encoder = open_encoder(model)
    assert isinstance(encoder, ApiEncoder)
    assert "$0.0600" in encoder._cost(1_000_000)


def test_downloads_are_asked_for_and_a_hub_out_of_reach_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def hub(model_id: str) -> Path:
        asked.append(model_id)
        if model_id == "thenlper/gte-base":
            return put(tmp_path / "downloaded")
        raise InputError(f"base model '{model_id}'", "the hub does not give it", "Check the network")

    monkeypatch.setattr(contenders, "local_folder", hub)
    reference_contenders()
    assert asked == []
    monkeypatch.setenv("THREAD_EMBED_DOWNLOAD_MODELS", "1")
    rows = {row.name: row for row in reference_contenders()}
    assert len(asked) == 5
    assert rows["gte-base"].model is not None
    assert rows["gte-base"].model.location == tmp_path / "downloaded"
    assert "the hub does not give it" in rows["e5-base-v2"].not_run


def test_own_models_add_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "root" / "models" / "mine")
    away = put(tmp_path / "away")
    own(tmp_path / "own_models.yaml", mine={"model": "models/mine"}, away={"model": str(away)}, gone={"model": "./gone"})
    rows = {row.name: row for row in reference_contenders()}
    assert list(rows)[-3:] == ["mine", "away", "gone"]
    assert rows["mine"].model is not None
    assert rows["mine"].model.location == tmp_path / "root" / "models" / "mine"
    assert rows["away"].model is not None
    assert rows["gone"].not_run.startswith("./gone is not on this machine")
    assert rows["mine"].readings == whole_and_by_window([Reading()]), "the defaults of models.yaml hold for own models"
    other = tmp_path / "other.yaml"
    shutil.copy(tmp_path / "own_models.yaml", other)
    monkeypatch.setenv("THREAD_EMBED_OWN_MODELS", str(other))
    (tmp_path / "own_models.yaml").unlink()
    assert "mine" in load_references()
    other.unlink()
    with pytest.raises(InputError, match=r"other\.yaml: THREAD_EMBED_OWN_MODELS names this file"):
        load_references()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"model": "a/b", "promt": "x"}, r"entry 'mine', field 'promt': Extra inputs.*query_prompt"),
        ({}, r"entry 'mine', field 'model': Field required"),
        ({"model": 3}, r"entry 'mine', field 'model'"),
        ({"model": "a/b", "pooling": "median"}, r"field 'pooling'.*'mean', 'cls'"),
        ({"model": "a/b", "formats": ["verse"]}, r"field 'formats'.*'verse'.*plain"),
        ({"model": "a/b", "formats": []}, r"field 'formats'"),
        ({"model": "openai/x", "dollars_per_million_tokens": 1}, r"price_source.*go together"),
        (
            {"model": "openai/x", "dollars_per_million_tokens": -1, "price_source": "y"},
            r"field 'dollars_per_million_tokens'",
        ),
        ({"model": "voyage/x", "pooling": "cls"}, r"pools for itself"),
    ],
)
def test_a_wrong_line_is_named_with_its_field(tmp_path: Path, entry: dict[str, Any], said: str) -> None:
    own(tmp_path / "own_models.yaml", mine=entry)
    with pytest.raises(InputError, match=rf"own_models\.yaml.*{said}"):
        load_references()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [", "not valid YAML"),
        ("modells: {}", "no mapping 'models'"),
        ("models: {}\nmore: 1", "unknown top-level field 'more'"),
        ("models: {mine: a/b}", "entry 'mine': is not a mapping.*`name: {model: organisation/model}`"),
        ("models: {gte-base: {model: a/b}}", r"entry 'gte-base': models\.yaml has a model of that name"),
        ("models: {'a b': {model: a/b}}", "entry 'a b', field 'name'"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own_models.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"own_models\.yaml.*{said}"):
        load_references()


def test_the_own_file_is_ignored_by_git_and_the_registry_is_packaged() -> None:
    project = Path(contenders.__file__).resolve().parents[2]
    assert "/thread_embed_assets/own_models.yaml" in (project / ".gitignore").read_text().split()
    assert '"benchmark/models.yaml"' in (project / "pyproject.toml").read_text()
