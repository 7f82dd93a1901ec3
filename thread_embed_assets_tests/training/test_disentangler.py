from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.chat.antecedents import CUES, PAIRS, STARTS, WINDOW, Features
from thread_embed_assets.chat.disentangle import WEIGHTS, choose, load_weights
from thread_embed_assets.chat.model import Kind, Message, Split
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.sources.irc import AnnotatedLog, annotated_logs
from thread_embed_assets.training.disentangler import (
    SOURCE,
    Examples,
    Fit,
    LinkScores,
    fit,
    fit_and_write,
    guess_links,
    link_scores,
    nameless,
    quiet,
    rooms,
)
from thread_embed_assets_tests.chat.talks import annotated_babble, said, write_log

QUICK = Fit(hidden=8, start_hidden=4, epochs=5, batch=32, learning_rate=2e-2, quiet_shares=(0.5,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(3):
        write_log(tmp_path, f"train/2012-03-0{seed + 1}.train-a", annotated_babble(200, seed), first_annotated=20)
    write_log(tmp_path, "dev/2013-03-01_10", annotated_babble(200, 9), first_annotated=20)
    return tmp_path


def one_log(folder: Path, messages: list[Message], first_annotated: int = 0) -> AnnotatedLog:
    write_log(folder, "train/2012-03-01.train-a", messages, first_annotated)
    (log,) = annotated_logs(folder, Split.TRAIN)
    return log


def test_link_scores_by_hand() -> None:
    """Four annotated links, among them a line's link to itself; three guessed, two of them right."""
    gold = {10: {9}, 11: {10, 4}, 12: set()}
    guessed = {10: (9,), 11: (9,), 12: ()}
    scores = link_scores([(gold, guessed)])
    assert scores == LinkScores(pytest.approx(200 / 3), pytest.approx(50.0), pytest.approx(400 / 7))
    assert link_scores([(gold, gold), (gold, gold)]) == LinkScores(100.0, 100.0, 100.0)
    assert link_scores([({1: {0}}, {1: ()}), ({1: ()}, {1: {0}})]).f1 == 0.0, "links of two logs are not one"


def test_examples_are_the_annotated_messages_and_their_answers(tmp_path: Path) -> None:
    messages = said([(f"n{k % 9}ce", f"word{k} and so on") for k in range(WINDOW + 10)])
    messages[5].kind = Kind.SYSTEM  # no candidate, and not counted
    messages[8].parents = ("6", "4")
    messages[9].parents = ("5",)  # answers a line of the server: nothing to learn
    messages[WINDOW + 9].parents = ("1",)  # too long ago
    messages[WINDOW + 8].parents = ("9",)
    log = one_log(tmp_path, messages, first_annotated=7)
    examples = Examples.of([log, log])
    each = WINDOW + 10 - 7 - 2
    assert len(examples.rows) == 2 * each
    assert examples.pairs.shape == (2 * each, WINDOW, len(PAIRS))
    assert examples.starts.shape == (2 * each, len(STARTS))
    assert examples.cues.shape == (2 * (WINDOW + WINDOW + 9), len(CUES))
    steps = [[int(step) + 1 for step in np.flatnonzero(row)] for row in examples.answers]
    assert steps[0] == [WINDOW + 1], "line 7 starts a thread"
    assert steps[1] == [2, 3], "from line 8 back to 6 and 4, past the server's 5"
    assert steps[each - 1] == [WINDOW - 1]
    assert examples.near[0].sum() == 6, "the lines before, without the server's"
    assert np.array_equal(examples.pairs[:each], examples.pairs[each:]), "a log knows nothing of the one before"
    assert np.array_equal(examples.cues[examples.rows[:each]], examples.cues[examples.rows[each:]])


def test_fitting_learns_whom_a_name_points_at_and_gives_the_same_weights_again(folder: Path) -> None:
    examples = Examples.of(annotated_logs(folder, Split.TRAIN))
    weights = fit(examples, QUICK)
    (dev,) = annotated_logs(folder, Split.DEV)
    untrained = fit(examples, replace(QUICK, epochs=1, learning_rate=1e-9))
    learnt, before = (link_scores([(dev.parents, guess_links(dev, w))]).f1 for w in (weights, untrained))
    assert before < 40 < 85 < learnt
    again = fit(examples, QUICK)
    assert again.as_json() == weights.as_json()


def test_the_fitted_network_is_the_one_that_guesses() -> None:
    """Whom a message answers shows in nothing but a cue of the candidate, drawn at random."""
    draw = np.random.default_rng(0)
    count = 400
    cues = np.zeros((WINDOW + count, len(CUES)), np.float32)
    cues[:, 5] = draw.random(WINDOW + count) < 0.1
    rows = np.arange(WINDOW, WINDOW + count)
    answers = np.zeros((count, WINDOW + 1), np.bool_)
    answers[:, :-1] = cues[rows[:, None] - np.arange(1, WINDOW + 1), 5] == 1
    near = np.ones((count, WINDOW), np.bool_)
    pairs, starts = np.zeros((count, WINDOW, len(PAIRS)), np.float16), np.zeros((count, len(STARTS)), np.float32)
    weights = fit(Examples(cues.astype(np.float16), rows, pairs, starts, near, answers), QUICK)
    steps = choose(weights.scores(Features(cues, pairs.transpose(2, 0, 1).astype(np.float32), starts, near)))
    assert answers[np.arange(count), steps - 1].mean() > 0.99


def test_guesses_cover_the_annotated_lines_and_leave_the_servers_alone(tmp_path: Path) -> None:
    messages = said([("arvel", "is the printer on?"), ("", "arvel has left"), ("brisca", "arvel: yes"), ("arvel", "ah")])
    messages[1].kind = Kind.SYSTEM
    log = one_log(tmp_path, messages, first_annotated=1)
    links = guess_links(log)
    assert links.keys() == {1, 2, 3}
    assert tuple(links[1]) == ()
    assert tuple(links[2]) == (0,), "a parent in the context, by the log's line"


def test_rooms_are_the_logs_and_the_same_without_names_and_threads(folder: Path) -> None:
    logs = list(annotated_logs(folder, Split.TRAIN))
    seen = list(rooms(logs, replace(QUICK, nameless_every=2)))
    assert len(seen) == 3 + 2 + 3
    assert seen[0] is logs[0]
    assert [m.text for m in nameless(logs[0]).messages] == [m.text.partition(": ")[2] or m.text for m in logs[0].messages]
    assert [m.author for m in nameless(logs[0]).messages] == [m.author for m in logs[0].messages]
    less = quiet(logs[0], 0.5)
    line = {message.id: number for number, message in enumerate(logs[0].messages)}
    kept = [line[message.id] for message in less.messages]
    assert 0 < len(kept) < len(line)
    assert kept == sorted(kept)
    for place, number in enumerate(kept):
        if number in logs[0].parents:
            assert {kept[parent] for parent in less.parents[place]} == logs[0].parents[number], "whole threads stay"
    assert quiet(logs[0], 0.5).parents == less.parents


def test_the_file_tells_what_was_fitted_on_what(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "weights.json"
    scores = fit_and_write(folder, out, QUICK, source="planted", revision="r1")
    told = json.loads(out.read_text(encoding="utf-8"))
    assert (told["source"], told["revision"]) == ("planted", "r1")
    assert told["fit"] == json.loads(json.dumps(asdict(QUICK)))
    assert told["dev_links"]["f1"] == round(scores.f1, 2) > 80
    assert load_weights(out).as_json() == told["weights"]
    with pytest.raises(InputError, match="no logs to fit"):
        fit_and_write(tmp_path / "nothing", out, QUICK)
    assert json.loads(out.read_text(encoding="utf-8")) == told, "a failed fit leaves the file as it was"


def test_the_weights_of_the_package_are_of_this_code_and_the_catalogues_revision() -> None:
    told = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    remedy = "fit them again: python -m thread_embed_assets.training.disentangler"
    assert told["revision"] == load_catalog()[SOURCE].revision, remedy
    assert told["fit"] == json.loads(json.dumps(asdict(Fit()))), remedy
