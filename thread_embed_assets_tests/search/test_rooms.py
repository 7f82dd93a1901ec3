from __future__ import annotations

from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.search import rooms
from thread_embed_assets.search.names import read_names
from thread_embed_assets.search.rooms import source_room, workspace_room
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.benchmark.stored import person, talks, write_conversations
from thread_embed_assets_tests.search.team import CAKE, DAY, MARCH, THREADS, catalog_of, touch_later, write_team


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_team(tmp_path / "export")


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Remembers each time an export is parsed."""
    calls: list[str] = []
    whole = rooms.parse

    def parse(folder: Path, source: rooms.Source) -> object:
        calls.append(source.name)
        return whole(folder, source)

    monkeypatch.setattr(rooms, "parse", parse)
    return calls


def test_a_workspace_holds_every_thread_of_its_export_short_ones_too(tmp_path: Path, export: Path) -> None:
    room = workspace_room("team", Layout(tmp_path / "home"), catalog_of(export))
    heads = list(room.stored.conversations.rows_as_dicts(["channel", "message_count"]))
    assert sorted((head["channel"], head["message_count"]) for head in heads) == [("office", 1), ("office", 7), ("ops", 3)]


def test_copies_and_other_languages_are_searched_too(tmp_path: Path) -> None:
    dutch = [("U1", "de koffie is op en het brood ook"), ("U2", "dan ga ik zo naar de winkel voor nieuwe")]
    twice = {("office", MARCH + n * DAY): CAKE for n in (4, 5)}
    export = write_team(tmp_path / "export", {**THREADS, **twice, ("office", MARCH + 7 * DAY): dutch})
    room = workspace_room("team", Layout(tmp_path / "home"), catalog_of(export))
    texts = [row["text"] for row in room.stored.messages.rows_as_dicts(["text"])]
    assert texts.count(CAKE[0][1]) == 2 and dutch[0][1] in texts


def test_an_export_is_read_again_only_where_it_has_changed(tmp_path: Path, export: Path, parsed: list[str]) -> None:
    layout, catalog = Layout(tmp_path / "home"), catalog_of(export)
    first = workspace_room("team", layout, catalog)
    assert workspace_room("team", layout, catalog).stored == first.stored
    assert len(parsed) == 1
    touch_later(export)
    assert workspace_room("team", layout, catalog).stored == first.stored
    assert len(parsed) == 1, "other times, the same files"
    write_team(export, {**THREADS, ("ops", MARCH + 9 * DAY): CAKE})
    touch_later(export)
    grown = workspace_room("team", layout, catalog)
    assert len(parsed) == 2
    assert grown.stored.conversations.rows == first.stored.conversations.rows + 1
    (grown.folder / "export.json").write_text("{not json")
    assert workspace_room("team", layout, catalog).stored.conversations.rows == 4


def test_a_name_that_is_no_workspace_says_which_there_are(tmp_path: Path, export: Path) -> None:
    layout, catalog = Layout(tmp_path), catalog_of(export)
    with pytest.raises(InputError, match=r"'nobody': there is no workspace of that name.*one of: team"):
        workspace_room("nobody", layout, catalog)
    with pytest.raises(InputError, match="none yet"):
        workspace_room("nobody", layout, {})
    public = {"public": catalog["team"].model_copy(update={"name": "public", "workspace": False})}
    with pytest.raises(InputError, match=r"this is a source, and no workspace.*--source public"):
        workspace_room("public", layout, public)
    with pytest.raises(InputError, match=r"nobody\.duckdb"):
        source_room("nobody", layout)


def test_an_export_that_is_gone_is_an_error_and_the_last_threads_stay(tmp_path: Path, export: Path) -> None:
    layout, catalog = Layout(tmp_path / "home"), catalog_of(export)
    room = workspace_room("team", layout, catalog)
    export.rename(tmp_path / "moved")
    with pytest.raises(InputError):
        workspace_room("team", layout, catalog)
    assert room.stored.conversations.path.exists()


def test_names_are_whole_for_a_workspace_and_masked_for_a_source(tmp_path: Path, export: Path) -> None:
    layout, catalog = Layout(tmp_path / "home"), catalog_of(export)
    names = workspace_room("team", layout, catalog).names
    assert sorted(names.shown.values()) == ["Ondrake Pellwyn", "Quillona Vestrup", "Tibbold Sarnow"]
    [quillona] = names.people("QUILLONA")
    assert names.people("quillona vestrup") == names.people("@quil") == names.people("U1") == {quillona}
    assert names.in_thread([quillona, "p_0000000000", quillona]) == {
        quillona: "Quillona Vestrup",
        "p_0000000000": "speaker_2",
    }
    asked = "what did Quillona say to tibbold sarnow about toner"
    assert " ".join(names.masked(asked).split()) == "what did say to about toner"
    masked = read_names("team", layout, show=False)
    assert masked.in_thread([quillona]) == {quillona: "speaker_1"}
    assert masked.people("quillona") == {quillona}
    assert "Vestrup" not in repr(names) and "vestrup" not in repr(masked)


def test_without_any_names_nothing_is_made_up_and_no_salt_is_drawn(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    write_conversations(layout.conversations("made"), talks(2))
    names = source_room("made", layout).names
    assert names.masked("Quillona said so") == "Quillona said so"
    assert names.people("quillona") == frozenset() and names.in_thread([person(1)]) == {person(1): "speaker_1"}
    assert not layout.private.exists()
