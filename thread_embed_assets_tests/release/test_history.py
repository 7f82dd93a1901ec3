from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.history import KEPT, new_package, packages, promoted_package, records, roll_back
from thread_embed_assets.storage.layout import Layout


def fill(folder: Path, fingerprint: str, mix: str = "team") -> None:
    """Two files stand for a model; both say which, so that a mixture would be seen."""
    folder.mkdir(parents=True, exist_ok=True)
    details = {"mix": mix, "stage": "stage3", "fingerprint": fingerprint}
    (folder / "thread_embed.json").write_text(json.dumps(details))
    (folder / "modules.json").write_text(fingerprint)


def promote(layout: Layout, fingerprint: str, mix: str = "team") -> None:
    with new_package(layout, f"{mix}/stage3/{fingerprint}", "made") as part:
        fill(part, fingerprint, mix)


def promoted(layout: Layout) -> str:
    """Fingerprint of the promoted model; its two files agree."""
    found = promoted_package(layout)
    assert found is not None
    said = (layout.promoted_model / "modules.json").read_text()
    assert found.identity == f"team/stage3/{said}"
    return said


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_promoting_keeps_the_models_before_and_points_to_the_new_one(layout: Layout) -> None:
    assert promoted_package(layout) is None and packages(layout) == []
    promote(layout, "aaaaaaaaaa")
    promote(layout, "bbbbbbbbbb")
    assert promoted(layout) == "bbbbbbbbbb"
    assert layout.promoted_model.readlink() == Path("history/0002-team-bbbbbbbb")
    assert [(p.name, p.promoted) for p in packages(layout)] == [("0001-team-aaaaaaaa", False), ("0002-team-bbbbbbbb", True)]
    assert [(r.event, r.package, r.champion) for r in records(layout)] == [
        ("promoted", "0001-team-aaaaaaaa", ""),
        ("promoted", "0002-team-bbbbbbbb", "team/stage3/aaaaaaaaaa"),
    ]


def test_a_plain_folder_of_before_goes_into_the_history_whole(layout: Layout) -> None:
    fill(layout.promoted_model, "old")
    (layout.promoted_model / "notes.txt").write_text("mine")
    promote(layout, "new")
    assert [p.identity for p in packages(layout)] == ["team/stage3/old", "team/stage3/new"]
    assert (layout.model_history / "0001-team-old" / "notes.txt").read_text() == "mine"
    assert [r.event for r in records(layout)] == ["taken over", "promoted"]
    assert roll_back(layout).name == "0001-team-old" and promoted(layout) == "old"


def test_the_last_models_are_kept_and_of_each_the_newest_package(layout: Layout) -> None:
    for number in range(KEPT + 3):
        promote(layout, f"m{number}")
    promote(layout, f"m{KEPT + 2}")
    promote(layout, f"m{KEPT + 2}")
    names = [p.name for p in packages(layout)]
    assert names == [
        *(f"{n + 1:04d}-team-m{n}" for n in range(3, KEPT + 2)),
        f"{KEPT + 4:04d}-team-m{KEPT + 2}",  # the package that was the promoted one a moment ago may still be read
        f"{KEPT + 5:04d}-team-m{KEPT + 2}",
    ]
    assert len(records(layout)) == KEPT + 5, "what was decided stays known"
    assert not list(layout.model_history.glob(".*"))


def test_the_promoted_model_outlives_pruning_after_going_back(layout: Layout) -> None:
    for number in range(KEPT):
        promote(layout, f"m{number}")
    roll_back(layout, "0001-team-m0")
    for number in range(KEPT, KEPT + 2):
        roll_back(layout, "0001-team-m0") if promoted(layout) != "m0" else None
        promote(layout, f"m{number}")
        assert "0001-team-m0" in {p.name for p in packages(layout)}


def test_going_back_goes_to_the_model_that_was_beaten_not_to_the_one_that_was_thrown_out(layout: Layout) -> None:
    for name in ("aa", "bb", "cc"):
        promote(layout, name)
    assert roll_back(layout).identity == "team/stage3/bb" and promoted(layout) == "bb"
    promote(layout, "dd")
    assert roll_back(layout).identity == "team/stage3/bb"
    assert roll_back(layout).identity == "team/stage3/aa"
    with pytest.raises(InputError, match=r"no model to go back to. There are: 0001-team-aa, "):
        roll_back(layout)


def test_going_back_to_a_name(layout: Layout) -> None:
    with pytest.raises(InputError, match=r"no model to go back to. There are: none"):
        roll_back(layout)
    promote(layout, "aa")
    promote(layout, "bb")
    with pytest.raises(InputError, match=r"0009-x: there is no such model in the history. There are: 0001-team-aa"):
        roll_back(layout, "0009-x")
    with pytest.raises(InputError, match="this is the promoted model already"):
        roll_back(layout, "0002-team-bb")
    assert roll_back(layout, "0001-team-aa").promoted and promoted(layout) == "aa"
    assert records(layout)[-1].event == "rolled back" and records(layout)[-1].champion == "team/stage3/bb"


def test_a_failure_while_packaging_leaves_the_promoted_model_and_no_rest(layout: Layout) -> None:
    promote(layout, "aa")
    with pytest.raises(InputError, match="planted"), new_package(layout, "team/stage3/bb", "made") as part:
        fill(part, "bb")
        raise InputError("here", "planted", "nothing")
    assert promoted(layout) == "aa" and len(packages(layout)) == len(records(layout)) == 1
    assert not list(layout.model_history.glob(".*"))


def test_a_link_that_is_gone_or_leads_nowhere_is_mended(layout: Layout) -> None:
    promote(layout, "aa")
    promote(layout, "bb")
    layout.promoted_model.unlink()
    assert promoted(layout) == "bb"
    shutil.rmtree(layout.model_history / "0002-team-bb")
    assert promoted(layout) == "aa"


def test_a_damaged_record_is_named(layout: Layout) -> None:
    promote(layout, "aa")
    path = layout.model_history / "promotions.jsonl"
    path.write_text(path.read_text() + '{"at": 3}\n')
    with pytest.raises(InputError, match=r"promotions.jsonl:2: the line is damaged"):
        records(layout)


_STEPS = [(Path, name) for name in ("replace", "symlink_to", "mkdir", "write_text", "unlink", "open")]


def _killed_before_step(number: int, layout: Layout) -> bool:
    """In a process of its own, promote until the given change to the file system, and die there; whether it got so far."""
    child = os.fork()
    if child == 0:
        made = 0

        def counted(real: Any) -> Any:
            def step(*arguments: Any, **options: Any) -> Any:
                nonlocal made
                made += 1
                if made > number:
                    os._exit(9)
                return real(*arguments, **options)

            return step

        try:
            for owner, name in [*_STEPS, (shutil, "rmtree")]:
                setattr(owner, name, counted(getattr(owner, name)))
            promote(layout, "new")
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("plain", [True, False])
def test_killed_between_any_two_steps_there_is_a_whole_model_and_the_next_promotion_succeeds(
    plain: bool, tmp_path: Path
) -> None:
    number, seen = 0, set()
    while True:
        layout = Layout(tmp_path / str(number))
        for name in ["older", "mid", "old"][2 if plain else 0 :]:
            fill(layout.promoted_model, name) if plain else promote(layout, name)
        killed = _killed_before_step(number, layout)
        seen.add(promoted(layout))
        assert "team/stage3/old" in {p.identity for p in packages(layout)} or not layout.promoted_model.is_symlink()
        if not killed:
            break
        promote(layout, "next")
        assert promoted(layout) == "next" and roll_back(layout).promoted
        assert not list(layout.model_history.glob(".*")), "what a killed process left is cleared away"
        number += 1
    assert number > 5 and seen == {"old", "new"}
