from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thread_embed_assets.chat import disentangle as module
from thread_embed_assets.chat.antecedents import CUES, PAIRS, PAUSE, STARTS, WINDOW, Reader
from thread_embed_assets.chat.disentangle import LONGEST, REACH, WEIGHTS, Weights, choose, disentangle, load_weights
from thread_embed_assets.chat.model import Kind, Message
from thread_embed_assets.errors import InputError

from .talks import MINUTE, START, babble, members, said

INTERLEAVED = [
    ("arvel", "hello, my printer does not print anything, what can I do?"),
    ("corvin", "does anyone know how to replace the chain of a bicycle?"),
    ("brisca", "arvel: is the printer in the list of printers?"),
    ("dellwyn", "corvin: you need a tool for the chain first"),
    ("arvel", "brisca: yes, the printer is in the list, but the queue is stuck"),
    ("corvin", "dellwyn: which tool is that, and where do I put the chain then?"),
    ("brisca", "arvel: then restart the queue of the printer"),
    ("dellwyn", "corvin: a chain breaker, it pushes the pin out"),
    ("arvel", "brisca: thanks, the queue runs again"),
    ("corvin", "dellwyn: ah ok, thank you"),
]


def gap_threads(messages: list[Message], gap: float) -> list[list[str]]:
    threads: list[list[str]] = []
    last = float("-inf")
    for message in messages:
        assert message.time is not None
        if message.time - last >= gap:
            threads.append([])
        threads[-1].append(message.id)
        last = message.time
    return threads


def test_two_talks_at_once_are_told_apart_where_no_silence_parts_them() -> None:
    messages = said(INTERLEAVED)
    told_apart = [[str(n) for n in range(0, 10, 2)], [str(n) for n in range(1, 10, 2)]]
    assert members(disentangle(messages)) == told_apart
    assert all(gap_threads(messages, gap) != told_apart for gap in (1.0, 10.0, 20.0, 30.0, 60.0, 600.0))
    assert gap_threads(messages, 30.0) == [[str(n) for n in range(10)]], "the rule sees one talk"


def test_guessed_parents_are_told_and_what_was_given_stays_as_it_was() -> None:
    messages = said(INTERLEAVED)
    found = {message.id: message.parents for thread in disentangle(messages) for message in thread}
    assert found["0"] == found["1"] == ()
    assert (found["2"], found["3"]) == (("0",), ("1",))
    assert all(len(parents) == 1 for parents in list(found.values())[2:] if parents)
    assert all(message.parents == () for message in messages), "the caller's messages are not changed"


def test_a_name_leads_to_the_last_message_of_its_bearer() -> None:
    chatter = [
        ("arvel", "the weather is fine today"),
        ("corvin", "does the printer need another driver?"),
        *((f"n{k}ce", f"corvin: I have printer {k} and it needs no driver") for k in range(5)),
    ]

    def answered(text: str) -> tuple[str, ...]:
        messages = said([*chatter, ("brisca", text)])
        return next(m.parents for thread in disentangle(messages) for m in thread if m.author == "brisca")

    for name in ("arvel: ", "arvel, ", "@arvel ", "<@Arvel> ", "ARVEL: "):
        assert answered(name + "so I heard") == ("0",), name
    assert answered("so I heard") != ("0",)
    assert answered("gorlan: so I heard") != ("0",), "a name that nobody here bears leads nowhere"


def test_an_everyday_word_is_a_name_only_where_it_addresses() -> None:
    chatter = [
        ("will", "the weather is fine today"),
        ("corvin", "does the printer need another driver?"),
        *((f"n{k}ce", f"corvin: I have printer {k} and it needs no driver") for k in range(5)),
    ]

    def answered(text: str) -> tuple[str, ...]:
        messages = said([*chatter, ("brisca", text)])
        return next(m.parents for thread in disentangle(messages) for m in thread if m.author == "brisca")

    assert answered("will: so I heard") == answered("<@will> so I heard") == ("0",)
    assert answered("corvin: it will not need one") != ("0",)
    assert answered("will it need one, then?") != ("0",)


def test_a_reply_mark_wins_over_everything() -> None:
    messages = said([*INTERLEAVED, ("brisca", "arvel: you are welcome")])
    messages[-1].parents = ("1",)
    first, second = disentangle(messages)
    assert [message.id for message in first] == ["0", "2", "4", "6", "8"]
    assert second[-1] is messages[-1], "a message with a mark comes out as it is"


@pytest.mark.parametrize(("between", "found"), [(REACH - 1, True), (REACH, False)])
def test_a_reply_mark_reaches_back_further_than_any_guess_and_over_a_pause(between: int, found: bool) -> None:
    alone = [Message(f"{n}", "brisca", "hm", START, ("gone",)) for n in range(between)]
    question = Message("question", "arvel", "who has the key?", START)
    answer = Message("answer", "brisca", "I do", START + 3 * PAUSE, ("question",))
    threads = members(disentangle([question, *alone, answer]))
    assert (["question", "answer"] in threads) == found
    assert (["answer"] in threads) != found


def test_a_message_marked_as_an_answer_to_two_threads_joins_them() -> None:
    messages = said(INTERLEAVED)
    messages[5].parents = ("4", "3")
    messages[9].parents = ("1",)
    alone = Message("alone", "fenwick", "", START, ("gone",))
    threads = members(disentangle([messages[0], alone, *messages[1:]]))
    assert threads == [[str(n) for n in range(10)], ["alone"]]


def test_of_equal_ids_a_mark_means_the_last() -> None:
    messages = [Message(f"{n % 700}", "arvel", "hm", START, ("gone",)) for n in range(2_200)]
    messages[2_100].parents = ("350",)  # of 350, 1050 and 1750; the first two are out of reach
    threads = list(disentangle(messages))
    assert len(threads) == 2_199
    assert threads[1_750][0] is messages[1_750]
    assert threads[1_750][1] is messages[2_100]


def test_a_mark_without_its_message_starts_a_thread_and_is_kept() -> None:
    messages = said([("arvel", "brisca: is the printer on?"), ("brisca", "arvel: yes")])
    messages[1].parents = ("gone",)
    threads = list(disentangle(messages))
    assert members(threads) == [["0"], ["1"]]
    assert threads[1][0].parents == ("gone",)


@pytest.mark.parametrize(("silence", "linked"), [(PAUSE - 1, True), (PAUSE + 1, False)])
def test_nothing_is_guessed_across_a_long_silence(silence: float, linked: bool) -> None:
    question = Message("q", "arvel", "brisca: is the printer on?", START)
    answer = Message("a", "brisca", "arvel: yes, the printer is on", START + silence)
    greeting = Message("g", "brisca", "arvel: hello", START - MINUTE)
    threads = members(disentangle([greeting, question, answer]))
    assert (threads == [["g", "q", "a"]]) == linked
    assert (threads == [["g", "q"], ["a"]]) != linked


def test_times_may_be_missing_and_a_falling_clock_stands_still() -> None:
    told = members(disentangle(said(INTERLEAVED)))
    untimed = said(INTERLEAVED)
    for message in untimed:
        message.time = None
    assert members(disentangle(untimed)) == told
    falling, still = said(INTERLEAVED), said(INTERLEAVED)
    falling[4].time = START - 3 * PAUSE
    still[4].time = still[3].time
    assert members(disentangle(falling)) == members(disentangle(still))
    for times in ((0,), (7,), (0, 1, 2), (3, 9)):
        some = said(INTERLEAVED)
        for number in times:
            some[number].time = None
        assert members(disentangle(some)) == told


def test_an_empty_channel_one_message_and_bots() -> None:
    assert list(disentangle([])) == []
    (thread,) = disentangle([Message("a", "", "")])
    assert [message.id for message in thread] == ["a"]
    messages = said(
        [("arvel", "!paper"), ("emberly", "how deep must a seedling stand?"), ("helpful", "Paper is in the tray")]
    )
    messages[2].kind = Kind.BOT
    assert members(disentangle(messages))[0] == ["0", "2"], "a bot answers the command, not the question"


authors = st.sampled_from(["arvel", "brisca", "Arvel", "will", "_ivory_", "ivory", "Ada Lowe", "x", "", "[]", "日本"])
texts = st.one_of(
    st.text(max_size=30),
    st.builds(
        "{}{} {}".format, authors, st.sampled_from([":", ",", "", "?"]), st.sampled_from(["yes", "the printer?", "!x"])
    ),
    st.builds("<@{}> {}".format, authors, st.sampled_from(["yes", ""])),
)
drawn_messages = st.lists(
    st.builds(
        Message,
        id=st.integers(0, 60).map(str),
        author=authors,
        text=texts,
        time=st.one_of(st.none(), st.floats(-1e6, 2e9), st.integers(0, 400).map(float)),
        parents=st.lists(st.integers(0, 60).map(str), max_size=2).map(tuple),
        kind=st.sampled_from([Kind.TEXT, Kind.BOT]),
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(drawn_messages, st.integers(1, 9), st.integers(2, 12), st.integers(1, 30))
def test_every_message_comes_out_once_and_threads_in_order(
    messages: list[Message], block: int, reach: int, longest: int
) -> None:
    for number, message in enumerate(messages):
        message.text += f" #{number}"  # ids may be double; this is not
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        patch.setattr(module, "REACH", 50 + reach)
        patch.setattr(module, "LONGEST", longest)
        threads = list(disentangle(messages))
    place = {message.text: number for number, message in enumerate(messages)}
    found = [[place[message.text] for message in thread] for thread in threads]
    assert sorted(n for thread in found for n in thread) == list(range(len(messages)))
    assert all(thread == sorted(thread) for thread in found), "each in time order"
    assert [thread[0] for thread in found] == sorted(thread[0] for thread in found), "by their first messages"
    for thread in threads:
        for number, message in enumerate(thread):
            given_one = messages[place[message.text]]
            if given_one.parents:
                assert message is given_one
            elif message.parents:
                assert message.parents[0] in {before.id for before in thread[:number]}
                assert (message.author, message.time, message.kind) == (given_one.author, given_one.time, given_one.kind)
            else:
                assert number == 0 or any(later.parents for later in thread[number:])


def test_it_is_the_same_in_any_block_size_and_process() -> None:
    messages = babble(400)
    told = members(disentangle(messages))
    assert any(len(thread) > 3 for thread in told)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", 7)
        assert members(disentangle(messages)) == told
    code = (
        "from thread_embed_assets_tests.chat.talks import babble, members;"
        "from thread_embed_assets.chat.disentangle import disentangle;"
        "import json; print(json.dumps(members(disentangle(babble(400)))))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        assert json.loads(done.stdout) == told


def test_it_streams_and_holds_the_recent_past_only() -> None:
    """A talk that never ends would hold everything, were it not cut: LONGEST messages back, and then goes on as another."""
    taken = 0

    def endless() -> Iterator[Message]:
        nonlocal taken
        for message in babble(20_000, speakers=4_000):
            taken += 1
            if taken % 100 == 1:
                parents = (str(taken - 101),) if taken > 1 else ()
                message = Message(message.id, "arvel", "and on it goes", message.time, parents)
            yield message

    given_out = 0
    most = 0
    first_after = 0
    talks: list[int] = []
    for thread in disentangle(endless()):
        first_after = first_after or taken
        given_out += len(thread)
        most = max(most, taken - given_out)
        if (of_talk := sum(message.author == "arvel" for message in thread)) > 1:
            talks.append(of_talk)
    assert given_out == taken == 20_000
    assert first_after <= LONGEST + module._BLOCK
    assert LONGEST - REACH < most <= LONGEST + REACH
    assert sum(talks) == 200
    assert len(talks) == 20_000 // LONGEST
    assert max(talks) <= (LONGEST + module._BLOCK) // 100 + 1


def test_after_a_cut_no_guess_leads_back_into_the_thread_that_is_out() -> None:
    lines = [(("arvel", "brisca: and then?"), ("brisca", "arvel: then the queue is stuck again"))[n % 2] for n in range(60)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", 4)
        patch.setattr(module, "LONGEST", 20)
        threads = list(disentangle(said(lines)))
    assert 2 <= len(threads) <= 4
    for thread in threads:
        assert thread[0].parents == ()
        assert {parent for message in thread for parent in message.parents} < {message.id for message in thread}
    assert len(list(disentangle(said(lines)))) == 1


def test_scores_are_those_of_the_network_written_out() -> None:
    draw = np.random.default_rng(0)
    cues, pairs, starts = len(CUES), len(PAIRS), len(STARTS)
    shapes = [(cues, 3), (cues, 3), (pairs, 3), (3,), (3,), (cues + starts, 2), (2,), (2,), (1,)]
    weights = Weights(*(draw.normal(size=shape).astype(np.float32) for shape in shapes))
    features = Reader().read(babble(70), [()] * 70)
    scores = weights.scores(features)
    for message, steps in ((1, 1), (60, 1), (60, 2), (60, WINDOW), (69, 17)):
        asking, candidate = features.cues[WINDOW + message], features.cues[WINDOW + message - steps]
        both = features.pairs[:, message, steps - 1]
        hidden = asking @ weights.asking + candidate @ weights.candidate + both @ weights.pair + weights.bias
        assert scores[message, steps - 1] == pytest.approx(np.maximum(hidden, 0) @ weights.out, rel=1e-3, abs=1e-3)
        start = np.concatenate([asking, features.starts[message]]) @ weights.start + weights.start_bias
        expected = np.maximum(start, 0) @ weights.start_out + weights.start_offset[0]
        assert scores[message, WINDOW] == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert (scores[1, 1:WINDOW] < -1e8).all(), "there is one message before the second"
    assert choose(np.array([[0.0] * WINDOW + [1.0], [2.0, 3.0] + [0.0] * (WINDOW - 1)], np.float32)).tolist() == [0, 2]


def test_people_and_words_are_forgotten_in_time() -> None:
    reader = Reader()
    for start in range(0, 12_000, 100):
        lines = [(f"somebody{n}", f"one{n} two{n} three{n} four{n}") for n in range(start, start + 100)]
        reader.read(said(lines, first=start), [()] * 100)
    assert 2_500 <= len(reader._people.names) <= 5_000
    assert "somebody11999" in reader._people.names
    assert "somebody0" not in reader._people.names
    assert len(reader._words._places) <= 20_400


@pytest.mark.parametrize(
    "harm",
    [
        lambda told: told["weights"]["pair"].pop("distance"),
        lambda told: told["weights"]["asking"].update({"a cue of tomorrow": [0.0]}),
        lambda told: told["weights"]["candidate"].update({"length": [0.0]}),
        lambda told: told.pop("weights"),
    ],
)
def test_weights_of_other_features_are_refused(tmp_path: Path, harm: object) -> None:
    assert callable(harm)
    told = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    harm(told)
    path = tmp_path / "weights.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(InputError, match=r"weights\.json: the disentangler's weights cannot be used.*Fit them again"):
        load_weights(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="Fit them again"):
        load_weights(path)
    with pytest.raises(InputError, match="Fit them again"):
        load_weights(tmp_path / "none.json")


def test_the_weights_of_the_package_can_be_used() -> None:
    assert load_weights().asking.shape[0] == len(CUES)
