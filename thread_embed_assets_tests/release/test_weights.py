from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from thread_embed_assets.benchmark.contamination import contamination, lineage
from thread_embed_assets.errors import InputError
from thread_embed_assets.release import pack as packing
from thread_embed_assets.release import weights
from thread_embed_assets.release.delta import digest
from thread_embed_assets.release.pack import may_be_passed_on, pack, tasks_fingerprint
from thread_embed_assets.release.standing import (
    Ground,
    contamination_with_released,
    contender_name,
    released_contenders,
    standings,
)
from thread_embed_assets.release.weights import (
    Released,
    find_released,
    load,
    open_released,
    released_models,
    restores_bit_for_bit,
    unpack,
    weights_of,
)
from thread_embed_assets.storage.fingerprint import of_folder
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.base_models import MIRROR_VARIABLE
from thread_embed_assets.training.config import PROFILES, stage_config
from thread_embed_assets.training.token_weights import weigh_tokens
from thread_embed_assets_tests.benchmark.task_files import write_task_file
from thread_embed_assets_tests.release.made import (
    BASE,
    FREE,
    OTHER,
    TRAINED_BY,
    WEIGHTS,
    WITHHELD,
    Made,
    make,
    write_source,
)

TEXTS = ["baka dela", "speaker_1: fimi gola\nspeaker_2: luve"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Made:
    """A root with a released model ``small`` of two stages; nobody writes in it."""
    made = make(tmp_path_factory.mktemp("released"), tiny_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MIRROR_VARIABLE, str(made.mirror))
        last = made.checkpoint(FREE, stage="stage2", parent=made.checkpoint(OTHER), seed=2)
        pack(last, made.layout, made.catalog, "small", tasks=made.tasks, trained_by=TRAINED_BY)
    return made


@pytest.fixture
def made(packed: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A copy of it, to spoil at will."""
    shutil.copytree(packed.layout.root.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path / "mirror"))
    return Made(Layout(tmp_path / "root"), tmp_path / "mirror")


def _small(made: Made) -> Released:
    [released] = released_models(made.layout)
    return released


def _last(made: Made) -> Path:
    [folder] = made.layout.checkpoints("open", "stage2").iterdir()
    return folder / "model"


def _refused(made: Made, match: str, *sources: str, **manifest: Any) -> None:
    """Packing refuses a checkpoint trained on these sources, and the model released before stays."""
    before = of_folder(made.layout.released)
    with pytest.raises(InputError, match=match):
        pack(made.checkpoint(*sources, seed=9, **manifest), made.layout, made.catalog, "small", trained_by=TRAINED_BY)
    assert of_folder(made.layout.released) == before


def test_base_and_delta_are_the_trained_model(made: Made) -> None:
    from sentence_transformers import SentenceTransformer

    model = load("small", made.layout)
    trained = SentenceTransformer(str(_last(made)), device="cpu")
    base = SentenceTransformer(str(made.base), device="cpu")
    vectors, wanted, before = (m.encode(TEXTS) for m in (model, trained, base))
    np.testing.assert_allclose(vectors, wanted, atol=2e-4)
    assert np.abs(before - wanted).max() > 2e-3, "training changed more than is lost"
    restored, of_trained = weights_of(unpack(_small(made), made.layout)), weights_of(_last(made))
    assert restored.keys() == of_trained.keys()
    for name, value in of_trained.items():
        np.testing.assert_allclose(restored[name], value, atol=3e-5)
    fidelity = json.loads((_small(made).folder / "results.json").read_text())["fidelity"]
    assert fidelity["cosine_min"] > 0.99999 > fidelity["cosine_of_base_mean"]
    assert fidelity["error_of_change"] < 0.05 and fidelity["of"] == "dev pairs"


def test_it_is_the_same_bit_for_bit_wherever_it_is_put_together(made: Made, tmp_path: Path) -> None:
    folder = unpack(_small(made), made.layout)
    assert digest(weights_of(folder)) == _small(made).manifest["weights_sha256"]
    elsewhere = unpack(_small(made), Layout(tmp_path / "elsewhere"))
    assert elsewhere != folder and (elsewhere / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    assert json.loads((folder / "thread_embed.json").read_text())["text_format"] == "speakers"


def test_a_model_that_weighs_its_tokens_travels_with_the_weights(made: Made) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint = made.checkpoint(FREE, seed=5)
    weighed = SentenceTransformer(str(checkpoint.model), device="cpu")
    weigh_tokens(weighed, ["baka dela", "baka fimi"], 1.0)
    weighed.save_pretrained(str(checkpoint.model), create_model_card=False)
    shutil.rmtree(checkpoint.model / "1_Pooling")
    pack(checkpoint, made.layout, made.catalog, "weighed", trained_by=TRAINED_BY)
    restored, plain = load("weighed", made.layout), load("small", made.layout)
    np.testing.assert_allclose(restored.encode(TEXTS), weighed.encode(TEXTS), atol=2e-4)
    assert [type(module).__name__ for module in restored] == ["Transformer", "WordWeights", "Pooling", "Normalize"]
    assert np.abs(restored.encode(TEXTS) - plain.encode(TEXTS)).max() > 2e-3, "the weights change the vectors"
    assert restores_bit_for_bit(made.layout).passed


def test_what_travels_is_small_and_says_what_it_is(made: Made) -> None:
    folder, manifest = _small(made).folder, _small(made).manifest
    assert {path.name for path in folder.iterdir()} == {"delta.safetensors", "manifest.json", "results.json", "README.md"}
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < (made.base / WEIGHTS).stat().st_size
    assert [stage["stage"] for stage in manifest["stages"]] == ["stage2", "stage1"]
    assert set(manifest["sources"]) == {FREE, OTHER}
    assert manifest["rebuild"] == [TRAINED_BY, "thread-embed release small --mix open"]
    told = "".join(path.read_text() for path in folder.iterdir() if path.suffix != ".safetensors")
    assert str(made.layout.root.parent) not in told and "released0" not in told, "no path of this machine travels"
    card = (folder / "README.md").read_text()
    assert f"base_model: {BASE}" in card and "CC-BY-4.0" in card and TRAINED_BY in card and 'load("small")' in card


def test_packing_again_gives_the_same_bytes(made: Made) -> None:
    before = of_folder(_small(made).folder)
    from thread_embed_assets.training.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(_last(made).parent)
    assert checkpoint is not None
    pack(checkpoint, made.layout, made.catalog, "small", tasks=made.tasks, trained_by=TRAINED_BY)
    assert of_folder(_small(made).folder) == before


# What is refused


def test_a_source_that_may_not_be_passed_on_is_refused_in_any_stage(made: Made) -> None:
    _refused(made, f"{WITHHELD} may not be passed on .licence: none stated", FREE, WITHHELD)
    first = made.checkpoint(WITHHELD, seed=5)
    with pytest.raises(InputError, match=f"{WITHHELD} may not be passed on"):
        last = made.checkpoint(FREE, stage="stage2", parent=first, seed=6)
        pack(last, made.layout, made.catalog, "other", trained_by=TRAINED_BY)
    assert [one.name for one in released_models(made.layout)] == ["small"]


def test_a_source_whose_rows_were_not_used_does_not_count(made: Made) -> None:
    checkpoint = made.checkpoint(FREE, WITHHELD, seed=9)
    checkpoint.manifest["inputs"][1]["rows_used"] = 0
    assert pack(checkpoint, made.layout, made.catalog, "other", trained_by=TRAINED_BY).sources == [FREE]


def test_unknown_sources_lost_stages_private_bases_and_odd_names_are_refused(made: Made) -> None:
    unknown = [{"strategy": "thread", "source": "team", "fingerprint": "x", "rows_used": 3}]
    _refused(made, "team is in no catalogue", FREE, inputs=unknown)
    shutil.rmtree(made.layout.checkpoints("open", "stage1"))
    _refused(made, "names no source", FREE, inputs=[])
    shutil.rmtree(made.layout.checkpoints("open", "stage1"))
    _refused(made, "is no hub id", FREE, base_model={"id": "/somewhere/model"})
    first = made.checkpoint(OTHER, seed=7)
    shutil.rmtree(first.folder)
    _refused(made, "has no manifest", FREE, stage="stage3", parent=first)
    with pytest.raises(InputError, match="it names a folder"):
        pack(made.checkpoint(FREE, seed=11), made.layout, made.catalog, "../small", trained_by=TRAINED_BY)


def test_test_texts_in_training_texts_are_refused(made: Made) -> None:
    [text, *_] = (row["text_plain"] for row in open_table(made.tasks[FREE], "corpus").rows_as_dicts(where="split = 'test'"))
    write_source(made.layout, OTHER, anchor=text, positive="clean", split="train", conversation_id="x:1")
    checkpoint = made.checkpoint(OTHER, seed=9)
    if contamination(made.tasks, [checkpoint], made.layout).passed:
        pytest.fail("the planted text is too short to be found")
    with pytest.raises(InputError, match="test texts stand in training texts"):
        pack(checkpoint, made.layout, made.catalog, "other", tasks=made.tasks, trained_by=TRAINED_BY)
    assert not (made.layout.released / "other").exists()


def test_a_difference_that_restores_another_model_is_refused(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LEAST_COSINE", 1.1)
    _refused(made, "has a cosine of", FREE)


def test_a_checkpoint_that_reads_texts_otherwise_is_refused(made: Made) -> None:
    checkpoint = made.checkpoint(FREE, seed=9)
    path = checkpoint.model / "config_sentence_transformers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prompts": {"query": "ask: ", "document": ""}}))
    with pytest.raises(InputError, match="its prompts is"):
        pack(checkpoint, made.layout, made.catalog, "other", trained_by=TRAINED_BY)


def test_the_command_that_rebuilds_it_is_found_out_or_asked_for(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "small", {"stage1": {"batch_size": 8, "base_model": BASE}})
    config = stage_config("small", "stage1").model_dump(mode="json")
    found = pack(made.checkpoint(FREE, seed=9, config=config), made.layout, made.catalog, "other")
    assert found.manifest["rebuild"][0].endswith(f"run_graph --sources {FREE} --mix open --profile small")
    other = made.checkpoint(FREE, seed=10, config={**config, "batch_size": 9})
    with pytest.raises(InputError, match="no profile has the settings"):
        pack(other, made.layout, made.catalog, "third")


# Loading


def test_a_damaged_delta_and_another_base_are_named(made: Made) -> None:
    released = _small(made)
    delta = released.folder / "delta.safetensors"
    whole = delta.read_bytes()
    delta.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"delta\.safetensors: it is not the file that the manifest names"):
        unpack(released, made.layout)
    delta.write_bytes(whole)
    weights_file = made.base / WEIGHTS
    content = weights_file.read_bytes()
    weights_file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="the weights are not those of made/tiny"):
        unpack(released, made.layout)
    weights_file.write_bytes(content)
    assert unpack(released, made.layout).exists()


def test_other_restored_weights_than_when_it_was_packed_are_refused(made: Made) -> None:
    changed = {**_small(made).manifest, "weights_sha256": "0" * 64}
    with pytest.raises(InputError, match="base and difference make other weights"):
        unpack(Released(_small(made).folder, changed), made.layout)


def test_a_restored_folder_is_used_again_and_made_anew_when_it_is_damaged(made: Made) -> None:
    folder = unpack(_small(made), made.layout)
    before = (folder / WEIGHTS).stat().st_ino
    assert unpack(_small(made), made.layout) == folder and (folder / WEIGHTS).stat().st_ino == before
    good = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    unpack(_small(made), made.layout)
    assert (folder / WEIGHTS).read_bytes() == good


def test_models_are_found_by_name_and_folder(made: Made) -> None:
    assert find_released("small", made.layout) == find_released(made.layout.released / "small", made.layout) == _small(made)
    assert find_released("large", made.layout) is None
    with pytest.raises(InputError, match=r"none of that name.*There are: small"):
        load("large", made.layout)
    (made.layout.released / "small" / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="no manifest of the format"):
        open_released(made.layout.released / "small")


# Checks


def test_the_checks_see_what_is_wrong(made: Made) -> None:
    assert restores_bit_for_bit(made.layout).passed and may_be_passed_on(made.layout, made.catalog).passed
    path = _small(made).folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["stages"][1]["inputs"][0]["source"] = WITHHELD
    path.write_text(json.dumps({**manifest, "weights_sha256": "0" * 64}))
    verdict = restores_bit_for_bit(made.layout)
    assert not verdict.passed and "base and difference make other weights" in verdict.description
    verdict = may_be_passed_on(made.layout, made.catalog)
    assert not verdict.passed and f"{WITHHELD} may not be passed on" in verdict.description
    (_small(made).folder / "large").write_bytes(bytes(weights.MOST_BYTES))
    assert "are allowed" in restores_bit_for_bit(made.layout).description
    assert not restores_bit_for_bit(Layout(made.layout.root / "empty")).passed, "nothing is no success"


# In the benchmark


def _ground(made: Made, source: str = FREE) -> Ground:
    [one] = standings(made.layout, source, made.layout.tasks(source))
    return one.ground


def test_with_the_tables_its_texts_are_compared(made: Made) -> None:
    assert _ground(made) is Ground.COMPARED
    assert len(list(lineage(_small(made).checkpoint(), made.layout, []))) == 2
    verdict = contamination_with_released(made.tasks, [], made.layout, FREE)
    assert verdict.passed and verdict.numbers["pair_tables"] == 2 and verdict.numbers["released_not_compared"] == 0
    scored, not_run = released_contenders(made.layout, FREE, made.tasks[FREE], made.catalog)
    assert [one.model.name for one in scored] == [contender_name(_small(made))] and not not_run
    assert scored[0].role == "tuned" and scored[0].model.location == unpack(_small(made), made.layout)


def test_without_the_tables_the_record_of_these_very_tasks_counts(made: Made) -> None:
    shutil.rmtree(made.layout.data / "pairs")
    assert _ground(made) is Ground.RECORD
    checkpoint = made.checkpoint(seed=20, inputs=[])
    verdict = contamination_with_released(made.tasks, [checkpoint], made.layout, FREE)
    assert "2 of its training tables are not here" in verdict.description and "these very tasks" in verdict.description
    assert verdict.numbers["released_not_compared"] == 1
    alone = contamination_with_released(made.tasks, [], made.layout, FREE)
    assert alone.passed and "no training text was compared here" in alone.description
    assert "when it was packed" in alone.description and alone.numbers["released_not_compared"] == 1


def test_the_same_tasks_of_another_installation_are_the_same_tasks(made: Made) -> None:
    """There people have other ids: the salt is another."""
    shutil.rmtree(made.layout.data / "pairs")
    tasks = made.layout.tasks(FREE)
    before = tasks_fingerprint(tasks)
    with duckdb.connect(str(tasks)) as connection:
        for table in ("queries", "corpus"):
            connection.execute(f"UPDATE {table} SET person_ids = ['p_0'], text_people = 'p_0: ' || text_plain")
    assert tasks_fingerprint(tasks) == before and _ground(made) is Ground.RECORD
    with duckdb.connect(str(tasks)) as connection:
        connection.execute(
            "UPDATE corpus SET text_plain = text_plain || '!' WHERE doc_id = (SELECT min(doc_id) FROM corpus)"
        )
    assert tasks_fingerprint(tasks) != before and _ground(made) is Ground.NOTHING


def test_other_tasks_than_those_of_the_record_prove_nothing(made: Made) -> None:
    shutil.rmtree(made.layout.data / "pairs")
    write_task_file(made.layout.tasks(FREE), FREE, seed=2)
    assert _ground(made) is Ground.NOTHING
    assert not contamination_with_released(made.tasks, [], made.layout, FREE).passed
    scored, [row] = released_contenders(made.layout, FREE, made.tasks[FREE], made.catalog)
    assert not scored and row.role == "tuned"
    assert "nothing proves that it has not read the test texts" in row.not_run and "not here" in row.not_run


def test_a_changed_table_is_no_table(made: Made) -> None:
    write_task_file(made.layout.tasks(FREE), FREE, seed=2)
    write_source(made.layout, FREE, anchor="another row")
    assert _ground(made) is Ground.NOTHING


def test_a_source_that_it_was_not_trained_on_is_scored_and_the_check_says_what_that_rests_on(made: Made) -> None:
    shutil.rmtree(made.layout.data / "pairs")
    write_task_file(made.layout.tasks(WITHHELD), WITHHELD, seed=3)
    tasks = made.layout.tasks(WITHHELD)
    assert _ground(made, WITHHELD) is Ground.OTHER_SOURCES
    [one], not_run = released_contenders(made.layout, WITHHELD, tasks, made.catalog)
    assert one.role == "tuned_transfer" and not not_run, "it never saw a Slack"
    verdict = contamination_with_released({WITHHELD: tasks}, [], made.layout, WITHHELD)
    assert f"NO texts were compared: it was trained on {FREE}, {OTHER}, not on {WITHHELD}" in verdict.description
    assert verdict.passed


def test_a_leak_in_a_released_models_table_fails_the_check(made: Made) -> None:
    [text, *_] = (row["text_plain"] for row in open_table(made.tasks[FREE], "corpus").rows_as_dicts(where="split = 'test'"))
    write_source(made.layout, OTHER, anchor=text, positive="clean", split="train", conversation_id="x:1")
    manifest = json.loads((_small(made).folder / "manifest.json").read_text())
    manifest["stages"][1]["inputs"][0]["fingerprint"] = open_table(made.layout.pairs("thread", OTHER), "pairs").fingerprint
    (_small(made).folder / "manifest.json").write_text(json.dumps(manifest))
    assert _ground(made) is Ground.COMPARED
    verdict = contamination_with_released(made.tasks, [], made.layout, FREE)
    assert not verdict.passed and "in open/stage2/" in verdict.description


def test_a_model_that_cannot_be_put_together_is_not_run_and_says_why(made: Made) -> None:
    shutil.rmtree(made.layout.data / "cache")
    (_small(made).folder / "delta.safetensors").write_bytes(b"")
    scored, [row] = released_contenders(made.layout, FREE, made.tasks[FREE], made.catalog)
    assert not scored and "it is not the file that the manifest names" in row.not_run
