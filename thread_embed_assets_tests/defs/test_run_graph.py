from __future__ import annotations

import json
from pathlib import Path
from threading import Event, Thread

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.defs import run_graph as command
from thread_embed_assets.defs.automation import PAIR, PREPARE, TRAIN
from thread_embed_assets.defs.partitions import CATALOG
from thread_embed_assets.defs.resources import STORED
from thread_embed_assets.defs.run_graph import _Runner, main, open_gpu_pool, run_graph
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.conversations import build_conversations
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.config import STAGES
from thread_embed_assets_tests.defs.conftest import PROFILE, SOURCE, Finished, Workspace
from thread_embed_assets_tests.defs.export import write_export
from thread_embed_assets_tests.defs.runs import check, content, definitions, materialization, plant, run


def _runner(instance: dg.DagsterInstance, given: dg.Definitions | None = None) -> _Runner:
    return _Runner(instance, given or definitions())


def test_the_whole_graph_runs_and_says_where_its_fruits_lie(finished: Finished) -> None:
    lines = finished.output.splitlines()
    assert lines[0] == f"[1/5] prepare {SOURCE}: {', '.join(PREPARE)}"
    assert f"[2/5] pair {SOURCE}: {', '.join(PAIR)}" in lines
    assert f"[3/5] train {SOURCE}: {', '.join(TRAIN)}" in lines and f"[4/5] evaluate {SOURCE}: benchmark_results" in lines
    assert any(line.startswith(f"ThreadEmbed-{SOURCE} ") for line in lines)
    layout = finished.workspace.layout
    assert f"model:        {layout.promoted_model}" in lines and (layout.promoted_model / "README.md").exists()
    assert any(line.startswith("promotion:    ") and "is promoted as the first" in line for line in lines)
    assert f"leaderboard:  {layout.benchmark / 'leaderboard.md'}" in lines
    assert any(line.startswith("search: ") and SOURCE in line for line in lines)


def _of_sources(workspace: Workspace) -> dict[str, str]:
    """The pair tables but those of mixes, which are written anew with the same rows."""
    return {name: made for name, made in content(workspace.layout.data / "pairs").items() if not name.startswith("mined/")}


def test_a_second_call_keeps_what_is_current(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    before = _of_sources(workspace)
    assert run_graph([SOURCE], [SOURCE], PROFILE) == 0
    printed = capfd.readouterr().out
    assert f"[1/5] prepare {SOURCE}: is there already" in printed and f"[2/5] pair {SOURCE}: is there already" in printed
    assert _of_sources(workspace) == before
    with dg.DagsterInstance.get() as instance:
        trained = [materialization(instance, f"{stage}_checkpoint", SOURCE) for stage in STAGES]
    assert [stage.metadata["reused"].value for stage in trained] == [True, True, True]


def test_the_gpu_pool_has_one_slot_unless_somebody_said_otherwise() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        storage = instance.event_log_storage
        open_gpu_pool(instance)
        assert [(pool.name, pool.limit) for pool in storage.get_pool_limits()] == [("gpu", 1)]
        storage.set_concurrency_slots("gpu", 4)
        open_gpu_pool(instance)
        assert [(pool.name, pool.limit) for pool in storage.get_pool_limits()] == [("gpu", 4)]


def test_nothing_is_missing_after_a_whole_run(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    for step in (PREPARE, PAIR):
        assert _runner(instance).missing(step, SOURCE) == []
        assert _runner(instance).missing(step, "irc_disentangle") == list(step)


@pytest.mark.parametrize(("step", "name"), [(PREPARE, "conversations"), (PAIR, "duplicates"), (PAIR, "hard_negatives")])
def test_a_deleted_file_is_missing_with_all_that_comes_after(
    step: tuple[str, ...], name: str, workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    STORED[name].path(workspace.layout, SOURCE).unlink()
    assert _runner(instance).missing(step, SOURCE) == list(step[step.index(name) :])


def test_a_damaged_file_is_missing(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    path = STORED["duplicates"].path(workspace.layout, SOURCE)
    path.write_bytes(path.read_bytes()[:5_000])
    assert _runner(instance).missing(PAIR, SOURCE) == list(PAIR)


def test_duplicates_are_looked_for_again_when_another_source_has_come(
    workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    assert _runner(instance).missing(PAIR, SOURCE) == []
    assert run(instance, dg.AssetSelection.assets("raw_dataset").without_checks(), SOURCE).success
    other = "topical_chat"
    made = dg.AssetMaterialization("conversations", partition=other, tags={DATA_VERSION_TAG: "of another source"})
    instance.report_runless_asset_event(made)
    assert _runner(instance).missing(PAIR, SOURCE) == list(PAIR)


def test_an_export_that_grew_is_read_again(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    runner = _runner(instance)
    assert runner.needed("prepare", PREPARE, SOURCE) == []
    write_export(workspace.export, seed=2)
    assert runner.needed("prepare", PREPARE, SOURCE) == list(PREPARE[1:])


def test_an_export_that_broke_is_run_into_its_error(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    (workspace.export / "users.json").write_text("[", encoding="utf-8")
    assert _runner(instance).needed("prepare", PREPARE, SOURCE) == list(PREPARE)


def test_what_was_made_from_older_input_is_missing(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    write_export(workspace.export, seed=2)
    assert run(instance, ["raw_dataset"], SOURCE).success
    assert _runner(instance).missing(PREPARE, SOURCE) == list(PREPARE[1:])


def test_what_was_made_by_older_code_is_missing(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    def newer(spec: dg.AssetSpec) -> dg.AssetSpec:
        changed = spec.key.path[-1] == "response_pairs"
        return spec.replace_attributes(code_version=f"{spec.code_version}, changed") if changed else spec

    changed = definitions().map_asset_specs(func=newer)
    assert _runner(instance, changed).missing(PAIR, SOURCE) == list(PAIR[PAIR.index("response_pairs") :])


def test_what_a_check_refused_is_missing(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    plant(workspace.layout.pairs("thread", SOURCE), "UPDATE pairs SET split = 'test'")
    assert not check(instance, "thread_pairs", "no_held_out_text", SOURCE).passed
    assert _runner(instance).missing(PAIR, SOURCE)[0] == "thread_pairs"


def test_it_stops_at_a_check_that_fails_and_says_why(
    workspace: Workspace, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(source: Source, layout: Layout) -> Normalised:
        built = build_conversations(source, layout)
        plant(workspace.layout.conversations(SOURCE), "INSERT INTO messages SELECT * FROM messages LIMIT 1")
        return built

    monkeypatch.setattr("thread_embed_assets.defs.conversations.assets.build_conversations", spoiled)
    workspace.layout.conversations(SOURCE).unlink()
    pairs = content(workspace.layout.data / "pairs")
    assert run_graph([SOURCE], [SOURCE], PROFILE) == 1
    printed = capfd.readouterr().out
    assert "  check failed: conversations/unique_ids: duplicate message_id: 1 of" in printed
    assert f"[1/5] prepare {SOURCE}: failed; the lines above say why" in printed
    assert "[2/5]" not in printed
    assert content(workspace.layout.data / "pairs") == pairs, "the last good pairs stay"


def test_it_stops_at_an_error_and_prints_its_reason(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    users = workspace.export / "users.json"
    users.write_text("[", encoding="utf-8")
    workspace.layout.conversations(SOURCE).unlink()
    assert run_graph([SOURCE], [SOURCE], PROFILE) == 1
    printed = capfd.readouterr()
    assert f"{users}:1:2: not valid JSON" in printed.err
    assert "failed; the lines above say why" in printed.out and "[2/5]" not in printed.out


def test_a_source_without_the_benchmark_role_is_prepared_and_not_scored(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, str | None, tuple[str, ...]]] = []

    def ran(runner: _Runner, job: str, partition: str | None, assets: list[str], config: object) -> bool:
        steps.append((job, partition, tuple(assets)))
        return True

    source = CATALOG[SOURCE]
    monkeypatch.setitem(CATALOG, SOURCE, source.model_copy(update={"roles": frozenset({"train"})}))
    monkeypatch.setattr(_Runner, "run", ran)
    for folder in (workspace.layout.raw(SOURCE), workspace.layout.duplicates(SOURCE).parent):
        folder.rename(workspace.folder / folder.name)
    assert run_graph([SOURCE], [SOURCE], PROFILE) == 0
    assert [job for job, _, _ in steps] == ["prepare", "pair", "train", "report"]
    paired = tuple(name for name in PAIR if name != "benchmark_tasks")
    assert steps[1] == ("pair", SOURCE, paired), "benchmark_tasks refuses a source that is not for the benchmark"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sources", "irc_disentangel", "--mix", "all"], "unknown source 'irc_disentangel'; the catalogue has sample_"),
        (["--sources", SOURCE, "--mix", "without_telex"], "unknown mix 'without_telex'; there are all, "),
        (["--sources", SOURCE], "name a --mix to train on, or a --reranker"),
        (["--sources", SOURCE, "--mix", "all", "--data-only"], "name a --mix to train on, or a --reranker"),
        (["--sources", SOURCE, "--reranker", "huge"], "invalid choice: 'huge'"),
        (["--mix", "all"], "one of the arguments --sources --priority is required"),
        (["--priority", "P7", "--mix", "all"], "invalid choice: 'P7'"),
        (["--priority", "P0", "--sources", SOURCE, "--mix", "all"], "not allowed with argument"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_it_wants_an_instance(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(SystemExit):
        main(["--sources", SOURCE, "--mix", SOURCE])
    assert "DAGSTER_HOME is not set; `make demo`" in capsys.readouterr().err


def test_the_arguments_reach_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    called: list[object] = []

    def graph(*given: object, data_only: bool) -> int:
        called.extend([*given, *["data only"] * data_only])
        return 7

    monkeypatch.setattr(command, "run_graph", graph)
    assert main(["--sources", f"{SOURCE},topical_chat", "--mix", "all"]) == 7
    assert json.dumps(called) == json.dumps([[SOURCE, "topical_chat"], ["all"], "quick", None])
    called.clear()
    assert main(["--sources", SOURCE, "--reranker", "full"]) == 7
    assert called == [[SOURCE], [], "quick", "full"]
    called.clear()
    assert main(["--priority", "P0", "--mix", "all"]) == 7
    assert called[0] == [name for name, source in CATALOG.items() if source.priority == "P0"]
    called.clear()
    assert main(["--sources", SOURCE, "--data-only"]) == 7
    assert called == [[SOURCE], [], "quick", None, "data only"]


def test_a_second_graph_on_an_instance_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, entered = Event(), Event()
    home = tmp_path / "made by its first run"
    monkeypatch.setattr(command, "print", lambda *_, **__: waiting.set(), raising=False)

    def second() -> None:
        with command._alone(home):
            entered.set()

    thread = Thread(target=second, daemon=True)
    with command._alone(home):
        thread.start()
        assert waiting.wait(60) and not entered.is_set()
    assert entered.wait(60)
