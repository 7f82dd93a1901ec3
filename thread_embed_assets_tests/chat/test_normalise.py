from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thread_embed_assets.chat import filters, splits
from thread_embed_assets.chat import normalise as module
from thread_embed_assets.chat.model import Conversation, Kind, Message, Split, Truth
from thread_embed_assets.chat.normalise import Normalised, SplitPlan, normalise, open_normalised
from thread_embed_assets.chat.people import Masker
from thread_embed_assets.chat.read import read_conversations
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.parallel import WORKERS_VARIABLE
from thread_embed_assets_tests.storage.conftest import small_disk  # noqa: F401

from .planted import DAY, NOON, parsed, sentences

SHORT = ["ok then", "no", "yes it is", "the bridge is open again now"]
GERMAN = [
    "hat jemand von euch den schlüssel für den keller gesehen?",
    "ja, der liegt noch in der küche auf dem tisch neben dem brot",
    "danke, ich hole ihn mir gleich nach dem essen",
]


def by_publisher(_: Iterable[tuple[str, float]]) -> splits.Assignment:
    return splits.published("made", 0.0)


def by_time(starts: Iterable[tuple[str, float]]) -> splits.Assignment:
    limits = splits.boundaries(starts, dev_share=0.2, test_share=0.2)
    return splits.by_channel_and_time("made", limits, embargo_hours=1)


def build(
    path: Path,
    conversations: Iterable[Conversation],
    plan: SplitPlan = by_publisher,
    masker: Masker | None = None,
    **options: int,
) -> Normalised:
    return normalise(conversations, masker or Masker("made", b"k" * 16, {}), plan, path / "made.duckdb", **options)


def kept(built: Normalised) -> list[str]:
    return sorted(c.id for c in read_conversations(built.conversations, built.messages))


def test_what_is_good_is_kept_whole(tmp_path: Path) -> None:
    built = build(tmp_path, [parsed(n) for n in range(5)])
    assert kept(built) == [f"c00{n}" for n in range(5)]
    assert built.counts == {
        "parsed_conversations": 5,
        "parsed_messages": 20,
        "language_en": 5,
        "kept_conversations": 5,
        "kept_train_conversations": 5,
        "kept_messages": 20,
    }
    row = next(built.conversations.rows_as_dicts(where="conversation_id = 'c001'"))
    assert (row["source"], row["platform"], row["channel"], row["truth"]) == ("made", "slack", "general", "explicit")
    assert (row["message_count"], row["participant_count"], row["language"]) == (4, 2, "en")
    assert row["language_score"] > 0.5
    assert row["started_at"].timestamp() == NOON + DAY
    assert row["ended_at"].timestamp() == NOON + DAY + 180
    assert row["origin"] == "file 1"


@pytest.mark.parametrize(
    ("texts", "count"),
    [
        (sentences(2, "few"), "dropped_too_few_messages"),
        ([*sentences(2, "few"), ":tada:"], "dropped_too_few_messages"),
        ([*SHORT[:2], "so so", *SHORT[3:]], "dropped_mostly_short_messages"),
        (GERMAN, "dropped_not_english"),
        (sentences(4, 1), "dropped_duplicate"),
    ],
)
def test_each_filter_drops_and_counts_its_conversation(tmp_path: Path, texts: list[str], count: str) -> None:
    built = build(tmp_path, [parsed(1), parsed(2), parsed(3, texts)])
    assert kept(built) == ["c001", "c002"]
    dropped = {name: n for name, n in built.counts.items() if name.startswith("dropped_")}
    assert dropped == {count: 1}
    assert built.counts["parsed_conversations"] == built.counts["kept_conversations"] + 1


def test_languages_are_counted_before_they_are_dropped_and_rare_ones_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter(["de", "fr", "en", "de", "ru", "de", "fr", "it"])
    monkeypatch.setattr(filters, "identify", lambda texts: (list(texts) and next(found), 0.9))
    monkeypatch.setattr(module, "LANGUAGES_COUNTED", 2)
    too_short = parsed(8, sentences(2, "short"))
    built = build(tmp_path, [*(parsed(n) for n in range(8)), too_short])
    counted = {name: n for name, n in built.counts.items() if name.startswith("language_")}
    assert counted == {"language_de": 3, "language_fr": 2, "language_other": 3}
    assert built.counts["dropped_not_english"] == 7


@pytest.mark.parametrize(("fewest", "ids"), [(2, ["c001", "c002", "c003"]), (3, ["c002", "c003"]), (4, ["c003"])])
def test_the_fewest_messages_are_the_sources_to_say(tmp_path: Path, fewest: int, ids: list[str]) -> None:
    built = build(tmp_path, [parsed(n, messages=n + 1) for n in range(4)], fewest_messages=fewest)
    assert kept(built) == ids
    assert built.counts["dropped_too_few_messages"] == 4 - len(ids)


def test_half_short_messages_are_allowed(tmp_path: Path) -> None:
    assert kept(build(tmp_path, [parsed(1, SHORT), parsed(2)])) == ["c001", "c002"]


def test_bots_system_lines_and_emptied_messages_go_and_parents_with_them(tmp_path: Path) -> None:
    conversation = parsed(1, messages=8)
    m = conversation.messages
    m[1].kind, m[2].kind, m[3].text = Kind.BOT, Kind.SYSTEM, " :tada: :smile: "
    m[4].parents = (m[0].id, m[1].id, m[2].id, m[3].id, "elsewhere")
    m[6].parents = (m[4].id, m[5].id)
    built = build(tmp_path, [conversation])
    stored = next(read_conversations(built.conversations, built.messages))
    parents = {message.id: message.parents for message in stored.messages}
    assert parents == {
        "m1-0": (),
        "m1-4": ("m1-0",),
        "m1-5": ("m1-4",),
        "m1-6": ("m1-4", "m1-5"),
        "m1-7": ("m1-6",),
    }
    removed = {name: n for name, n in built.counts.items() if name.startswith("removed_")}
    assert removed == {"removed_bot_messages": 1, "removed_system_messages": 1, "removed_empty_messages": 1}
    assert (built.counts["parsed_messages"], built.counts["kept_messages"]) == (8, 5)


def test_texts_are_clean_and_masked_and_times_exact(tmp_path: Path) -> None:
    conversation = parsed(1)
    conversation.messages[1].text = "*quandor*: see <https://a.org|this>, Lurker and <@Someone> use snake_case"
    conversation.messages[1].time = NOON + 0.123457
    conversation.onlookers = frozenset({"lurker"})
    masker = Masker("made", b"k" * 16, {})
    built = normalise([conversation], masker, by_publisher, tmp_path / "made.duckdb")
    stored = next(read_conversations(built.conversations, built.messages))
    author, other = masker.person("quandor"), masker.person("someone")
    assert stored.messages[1].text == f"<@{author}>: see [URL], Lurker and <@{other}> use snake_case"
    assert stored.messages[0].author == author
    assert stored.messages[1].time == pytest.approx(NOON + 0.123457, abs=1e-6)


def test_messages_without_times_stay_in_order(tmp_path: Path) -> None:
    conversation = parsed(1, messages=12)
    for message in conversation.messages:
        message.time = None
    built = build(tmp_path, [conversation])
    stored = next(read_conversations(built.conversations, built.messages))
    assert [m.id for m in stored.messages] == [f"m1-{n}" for n in range(12)]
    assert (stored.start, stored.end, stored.messages[0].time) == (None, None, None)


def test_near_copies_of_held_out_conversations_leave_train_and_dev(tmp_path: Path) -> None:
    test, dev = sentences(4, "test"), sentences(4, "dev")
    quote = " ".join(test[2].split()[2:14])

    def fresh(seed: str, text: str) -> list[str]:
        return [*sentences(3, seed), text]

    built = build(
        tmp_path,
        [
            parsed(1, test, published_split=Split.TEST),
            parsed(2, dev, published_split=Split.DEV),
            parsed(3, fresh("a", test[0].upper())),
            parsed(4, fresh("b", quote)),
            parsed(5, fresh("c", dev[1])),
            parsed(6, fresh("d", test[1]), published_split=Split.DEV),
            parsed(7, fresh("e", test[3]), published_split=Split.TEST),
            parsed(8, fresh("f", "ok, that is it for now")),
            parsed(9, [*fresh("f", "ok, that is it for now"), "and one more at the end"]),
        ],
    )
    assert kept(built) == ["c001", "c002", "c007", "c008", "c009"]
    assert built.counts["dropped_near_copy_of_held_out"] == 4
    found = {name: n for name, n in built.counts.items() if name.startswith("kept_") and name.endswith("_conversations")}
    assert found == {
        "kept_conversations": 5,
        "kept_test_conversations": 2,
        "kept_dev_conversations": 1,
        "kept_train_conversations": 2,
    }


def test_splits_by_time_and_the_embargo_is_counted(tmp_path: Path) -> None:
    late = parsed(5)
    late.messages[-1].time = NOON + 6 * DAY - 60
    conversations = [late if n == 5 else parsed(n) for n in range(10)]
    built = build(tmp_path, conversations, by_time)
    found = {c.id: c.split for c in read_conversations(built.conversations, built.messages)}
    assert found == {f"c00{n}": split for n, split in enumerate(["train"] * 5 + [""] + ["dev"] * 2 + ["test"] * 2) if split}
    assert built.counts["dropped_embargo"] == 1


def test_the_split_is_planned_from_each_kept_conversation_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_MESSAGES", 10)
    conversations = [parsed(n, sentences(4, n % 8), channel=f"room{n % 2}") for n in range(12)]
    conversations[3].messages[0].time = None
    for message in conversations[5].messages:
        message.time = None
    planned: list[tuple[str, float]] = []

    def plan(starts: Iterable[tuple[str, float]]) -> splits.Assignment:
        planned.extend(starts)
        return by_publisher(())

    build(tmp_path, [*conversations, parsed(12, GERMAN)], plan)
    starts = [NOON + DAY * n + 60 * (n == 3) for n in range(8)]
    assert planned == [(f"room{n % 2}", start) for n, start in enumerate(starts) if n != 5]


def test_the_fingerprint_does_not_depend_on_the_order_of_the_files(tmp_path: Path) -> None:
    def conversations() -> list[Conversation]:
        return [parsed(n, published_split=Split.TEST if n < 4 else Split.TRAIN) for n in range(12)]

    turned = conversations()
    Random(3).shuffle(turned)
    one, two = build(tmp_path / "a", conversations()), build(tmp_path / "b", turned)
    assert one.conversations.fingerprint == two.conversations.fingerprint
    assert one.messages.fingerprint == two.messages.fingerprint
    other = build(tmp_path / "c", [*conversations()[:-1], parsed(12)])
    assert other.messages.fingerprint != one.messages.fingerprint


@pytest.mark.parametrize(
    ("conversations", "told"), [([], "nothing was parsed"), ([parsed(1, messages=2)], "'dropped_too_few_messages': 1")]
)
def test_nothing_left_is_told_and_the_previous_file_stays(
    tmp_path: Path, conversations: list[Conversation], told: str
) -> None:
    before = build(tmp_path, [parsed(n) for n in range(3)])
    with pytest.raises(InputError, match=r"`format` in the catalogue") as caught:
        build(tmp_path, conversations)
    assert told in caught.value.problem
    assert open_normalised(tmp_path / "made.duckdb") == before
    assert kept(before) == ["c000", "c001", "c002"]
    assert [p.name for p in tmp_path.iterdir()] == ["made.duckdb"]


def test_a_parser_that_fails_half_way_leaves_the_previous_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Conversation]:
        yield parsed(1)
        raise InputError("file:7", "is truncated", "Fetch it again")

    before = build(tmp_path, [parsed(n) for n in range(3)])
    with pytest.raises(InputError, match="file:7"):
        build(tmp_path, broken())
    assert open_normalised(tmp_path / "made.duckdb") == before
    assert [p.name for p in tmp_path.iterdir()] == ["made.duckdb"]


def build_and_stop(path: Path, ready: Path) -> None:
    def endless() -> Iterator[Conversation]:
        yield parsed(1)
        ready.touch()
        time.sleep(60)

    build(path, endless())


def test_what_a_killed_build_leaves_goes_with_the_next(tmp_path: Path) -> None:
    ready, folder = tmp_path / "ready", tmp_path / "conversations"
    process = multiprocessing.get_context("fork").Process(target=build_and_stop, args=(folder, ready))
    process.start()
    deadline = time.monotonic() + 30
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert list(folder.iterdir())
    build(folder, [parsed(2)])
    assert [p.name for p in folder.iterdir()] == ["made.duckdb"]


def test_memory_of_duplicates_is_over_cleaned_texts(tmp_path: Path) -> None:
    """The same talk by other people, with other spacing, is the same talk."""
    again = parsed(2, [f"  {text.replace(' ', '  ')} :tada:" for text in sentences(4, 1)])
    again.messages = [Message(f"x{m.id}", "vimmel", m.text, m.time) for m in again.messages]
    built = build(tmp_path, [parsed(1), again])
    assert kept(built) == ["c001"]
    assert built.counts["dropped_duplicate"] == 1


def test_conversations_stay_in_the_order_of_the_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_MESSAGES", 10)
    turned = [parsed(n) for n in range(30)]
    Random(3).shuffle(turned)
    names = [c.id for c in turned]
    built = build(tmp_path, turned)
    assert [c.id for c in read_conversations(built.conversations, built.messages)] == names


def of_every_kind() -> list[Conversation]:
    """Conversations of all splits with other languages, copies, near-copies, names and short messages among them."""
    found = [
        parsed(n, published_split=list(Split)[n % 3], roster=frozenset({"zorkle", f"vimmel{n // 7}"})) for n in range(60)
    ]
    found += [parsed(n, GERMAN) for n in range(60, 70)]
    found += [parsed(n, sentences(4, n - 70), published_split=list(Split)[n % 3]) for n in range(70, 90)]
    found += [parsed(n, [*sentences(3, f"f{n}"), sentences(4, n - 90)[1]]) for n in range(90, 110)]
    found += [
        parsed(n, [f"vimmel{n // 7}: {text}" for text in sentences(4, n)], roster=frozenset({f"vimmel{n // 7}"}))
        for n in range(110, 130)
    ]
    found += [parsed(n, sentences(2, n)) for n in range(130, 140)]
    return found


def test_two_workers_write_what_one_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_MESSAGES", 20)
    monkeypatch.setattr(module, "_INLINE_BATCHES", 3)
    found: list[tuple[Normalised, list[str], set[tuple[str, str]]]] = []
    for workers in ("1", "2"):
        monkeypatch.setenv(WORKERS_VARIABLE, workers)
        masker = Masker("made", b"k" * 16, {"member": "zorkle"})
        built = build(tmp_path / workers, of_every_kind(), masker=masker)
        order = [c.id for c in read_conversations(built.conversations, built.messages)]
        found.append((built, order, set(masker.people())))
    (one, order, people), (two, *others) = found
    assert (two.conversations.fingerprint, two.messages.fingerprint) == (
        one.conversations.fingerprint,
        one.messages.fingerprint,
    )
    assert two.counts == one.counts
    assert others == [order, people]
    assert {name for _, name in people} == {"zorkle", "quandor", "member", *(f"vimmel{n}" for n in range(15, 19))}
    dropped = {name: n for name, n in one.counts.items() if name.startswith("dropped_")}
    assert dropped == {
        "dropped_duplicate": 20,
        "dropped_near_copy_of_held_out": 13,
        "dropped_not_english": 10,
        "dropped_too_few_messages": 10,
    }


def test_a_never_ending_conversation_goes_on_as_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_CONVERSATION", 10)
    built = build(tmp_path, [parsed(1, messages=32), parsed(2, messages=10)])
    stored = {c.id: c for c in read_conversations(built.conversations, built.messages)}
    assert list(stored) == ["c001", "c001+1", "c001+2", "c002"]
    said = [m.id for name in ("c001", "c001+1", "c001+2") for m in stored[name].messages]
    assert said == [f"m1-{n}" for n in range(30)]
    assert stored["c001+1"].messages[0].parents == ()
    assert stored["c001+1"].messages[1].parents == ("m1-10",)
    assert (built.counts["cut_conversations"], built.counts["dropped_too_few_messages"]) == (1, 1)
    assert built.counts["parsed_conversations"] == built.counts["kept_conversations"] + 1 == 5


NAMES = st.frozensets(st.text(max_size=5), max_size=3)
SAID = st.builds(
    Message,
    st.text(),
    st.text(),
    st.text(),
    st.none() | st.floats(0, 2e9),
    st.lists(st.text()).map(tuple),
    st.sampled_from(Kind),
)
TALKS = st.builds(
    Conversation,
    st.text(),
    st.text(),
    st.text(),
    st.text(),
    st.sampled_from(Truth),
    st.lists(SAID, max_size=4),
    st.none() | st.sampled_from(Split),
    st.text(),
    NAMES,
    NAMES,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(TALKS, max_size=5))
def test_a_batch_comes_to_its_worker_whole(talks: list[Conversation]) -> None:
    assert pickle.loads(pickle.dumps(module._Batch(talks))) == talks


def test_a_roster_is_sent_once_a_batch_and_known_again(tmp_path: Path) -> None:
    roster = frozenset(f"somebody with a long name {n}" for n in range(1_000))
    batch = module._Batch(parsed(n, roster=roster) for n in range(50))
    sent = pickle.dumps(batch)
    assert len(sent) < 100_000
    masker = Masker("made", b"k" * 16, {})
    seen: list[frozenset[str]] = []
    masker.mask = lambda text, names, onlookers: seen.append(names) or text  # type: ignore[method-assign,func-returns-value]
    cleaned = filters.Filters(masker)
    for _ in range(3):
        cleaned(pickle.loads(sent))
    assert len({id(names) for names in seen}) == 1
    assert seen[0] == roster


def test_a_full_disk_is_told(small_disk: Path) -> None:  # noqa: F811
    conversations = (parsed(n, messages=40) for n in range(2_000))
    with pytest.raises(InputError, match="disk is full"):
        build(small_disk, conversations)
    assert list(small_disk.iterdir()) == []
