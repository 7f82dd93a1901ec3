from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from thread_embed_assets.benchmark import contenders, report_content, report_plots, result_tables, score
from thread_embed_assets.benchmark.contenders import Contender, Model, open_encoder
from thread_embed_assets.benchmark.score import ScoredLayout, main, reference_of
from thread_embed_assets.benchmark.tasks import build_tasks
from thread_embed_assets.benchmark.views import read_names
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table, write_tables
from thread_embed_assets_tests.benchmark.stored import talks, write_conversations
from thread_embed_assets_tests.training.tiny import build_tiny_model


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with the tasks of two sources."""
    root = tmp_path_factory.mktemp("root")
    for source, count in (("made", 10), ("other", 6)):
        conversations, messages = write_conversations(Layout(root).conversations(source), talks(count, dev=2), source)
        build_tasks(source, conversations, messages, {}, Layout(root).tasks(source))
    return root


@pytest.fixture
def layout(made: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    shutil.copytree(made, tmp_path / "root")
    monkeypatch.setenv("THREAD_EMBED_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr(contenders, "OWN_MODELS", tmp_path / "own_models.yaml")
    monkeypatch.setattr(score, "_base_model", lambda: Model("base", tiny_model, "base-weights"))
    yield Layout(tmp_path / "root")


def test_a_model_folder_is_scored_beside_bm25_and_the_base(
    layout: Layout,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module, name in ((result_tables, "bootstrap"), (result_tables, "paired_p"), (report_content, "bootstrap")):
        full = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, full=full: full(*given[:3], 50))
    monkeypatch.setattr(score, "FORMATS", ("plain",))  # of the base model; the four take seconds
    for plot in ("dot_plot", "line_plot"):
        monkeypatch.setattr(report_plots, plot, lambda path, *_: path.parent.mkdir(exist_ok=True) or path.touch())
    folder = tmp_path / "my model"
    shutil.copytree(tiny_model, folder)
    (folder / "thread_embed.json").write_text(json.dumps({"text_format": "speakers"}))
    assert main([str(folder), "--source", "made"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("bm25", "base", "my_model", "my_model+bm25", "thread (n=8)"))
    assert "other" not in printed
    place = ScoredLayout(layout.root, "my_model", names_hidden=False)
    assert place.benchmark == layout.benchmark / "scored" / "my_model"
    assert str(place.benchmark / "leaderboard.html") in printed
    rows = list(open_table(place.results("made"), "summary").rows_as_dicts(where="contender = 'my_model'"))
    assert {row["format"] for row in rows} == {"speakers", "speakers by window"}
    mine = {row["MRR@10"] for row in rows if row["task"] == "thread" and row["split"] == "test" and row["index"] == "corpus"}
    assert mine
    compared = list(open_table(place.results("made"), "comparisons").rows_as_dicts())
    assert {("my_model", b) for b in ("bm25", "base", "base+bm25")} <= {
        (row["contender_a"], row["contender_b"]) for row in compared
    }
    assert (place.runs("made") / "my_model.thread.corpus.trec").exists()
    assert not layout.results("made").exists(), "the project's own results stay as they were"
    content = json.loads((place.benchmark / "leaderboard.json").read_text())
    cost = {line["contender"]: line for line in content["costs"]}["my_model"]
    assert cost["hours_per_million_texts"] > 0


@dataclass
class Recorded:
    """In the place of the evaluation and its report: what they were asked for."""

    contenders: list[Contender] = field(default_factory=list)
    places: list[Layout] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def evaluate(self, path: Path, source: str, contenders: list[Contender], place: Layout, encoder_of: object) -> None:
        assert path.exists()
        assert encoder_of is open_encoder
        self.contenders = contenders
        self.places.append(place)
        self.sources.append(source)

    def write(self, results: list[Path], place: Layout) -> SimpleNamespace:
        assert results == [place.results(source) for source in self.sources]
        return SimpleNamespace(html_path=place.benchmark / "leaderboard.html")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    found = Recorded()
    monkeypatch.setattr(score, "evaluate_source", found.evaluate)
    monkeypatch.setattr(score, "write_leaderboard", found.write)
    monkeypatch.setattr(score, "terminal_table", lambda board: "a table")
    return found


def test_a_service_is_never_shown_a_real_name(layout: Layout, recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOYAGE_API_KEY", "made-up")
    assert main(["voyage/voyage-4", "--source", "other"]) == 0
    write_tables_of_people(layout.people("other"))
    assert read_names(layout.people("other")), "there are names to be seen"
    (place,) = recorded.places
    assert read_names(place.people("other")) == {}
    model = next(row.model for row in recorded.contenders if row.name == "voyage-4")
    assert model is not None
    assert (model.location, model.dollars_per_million_tokens) == ("voyage/voyage-4", 0.06)


def write_tables_of_people(path: Path) -> None:
    schema = pa.schema([("person_id", pa.string()), ("name", pa.string())])
    with write_tables(path, {"people": schema}) as writer:
        writer.add("people", ("p_0000000001", "Ada Example"))


def test_all_sources_with_tasks_are_scored_unless_some_are_named(
    layout: Layout, tiny_model: Path, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_model), "--format", "times", "--format", "plain", "--query-prompt", "ask: "]) == 0
    assert recorded.sources == ["made", "other"]
    row = next(row for row in recorded.contenders if row.role == "tuned")
    assert [str(r) for r in row.readings] == ["times", "plain", "times by window", "plain by window"]
    assert row.model is not None
    assert row.model.query_prompt == "ask: "
    assert capsys.readouterr().out.startswith("a table\n")


def test_names_of_a_folder_are_read_where_they_always_are(layout: Layout) -> None:
    assert ScoredLayout(layout.root, "x", names_hidden=False).people("made") == layout.people("made")
    hidden = ScoredLayout(layout.root, "x", names_hidden=True).people("made")
    assert layout.private not in hidden.parents


def test_a_model_of_the_registry_gets_its_prompts() -> None:
    for name in ("e5-base-v2", "intfloat/e5-base-v2"):
        wanted = reference_of(name)
        assert (wanted.model, wanted.query_prompt, wanted.document_prompt) == ("intfloat/e5-base-v2", "query: ", "passage: ")
    assert reference_of("e5-base-v2", query_prompt="ask: ").query_prompt == "ask: "
    assert reference_of("e5-base-v2", query_prompt="").query_prompt == ""
    assert reference_of("team/other").query_prompt is None
    assert reference_of("team/other").name == "other"


def test_a_folder_here_comes_before_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "intfloat" / "e5-base-v2").mkdir(parents=True)
    (tmp_path / "intfloat" / "e5-base-v2" / "modules.json").write_text("[]")
    wanted = reference_of("intfloat/e5-base-v2")
    assert wanted.model == str(tmp_path / "intfloat" / "e5-base-v2")
    assert wanted.query_prompt is None
    (tmp_path / "intfloat" / "e5-base-v2" / "modules.json").unlink()
    with pytest.raises(InputError, match=r"neither modules\.json nor config\.json"):
        reference_of("intfloat/e5-base-v2")


def test_a_name_that_is_taken_is_changed(layout: Layout, tiny_model: Path, tmp_path: Path, recorded: Recorded) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    assert main([str(tmp_path / "base"), "--source", "other"]) == 0
    assert [row.name for row in recorded.contenders] == ["bm25", "base", "base+bm25", "base-scored", "base-scored+bm25"]
    assert recorded.places[0].benchmark == layout.benchmark / "scored" / "base-scored"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["MODEL", "--source", "gone"], r"gone\.duckdb: there are no tasks.*made, other"),
        (["./nowhere"], "nowhere"),
        (["openai/text-embedding-3-small"], "OPENAI_API_KEY is not set"),
        (["openai/text-embedding-3-small", "--pooling", "cls"], "pools for itself"),
        (["MODEL", "--format", "verse"], "invalid choice: 'verse'"),
        ([], "the following arguments are required: model"),
    ],
)
def test_what_cannot_be_scored_is_said_with_status_2(
    layout: Layout,
    tiny_model: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    given = [str(tiny_model) if argument == "MODEL" else argument for argument in arguments]
    try:
        status = main(given)
    except SystemExit as stop:
        status = int(stop.code or 0)
    assert status == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.search(said, printed.err)
