from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thread_embed_assets.benchmark import tasks as tasks_module
from thread_embed_assets.benchmark.examples import MINIMUM_WORDS, WINDOW, response_examples, stands_in, thread_examples
from thread_embed_assets.benchmark.tasks import DIRECT, SAME_THREAD, SCHEMAS, build_tasks, load_tasks
from thread_embed_assets.benchmark.written_queries import WrittenQuery
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Message
from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets_tests.benchmark.stored import Thread, person, talks, write_conversations

TEXTS = [f"text_{name}" for name in FORMATS]


def build(folder: Path, threads: list[Thread], summaries: dict[str, str] | None = None) -> dict[str, TableHandle]:
    conversations, messages = write_conversations(folder / "conversations.duckdb", threads)
    written = {name: WrittenQuery(text, f"{text}, said otherwise") for name, text in (summaries or {}).items()}
    return build_tasks("made", conversations, messages, written, folder / "tasks.duckdb")


def rows(handle: TableHandle, where: str = "") -> list[dict[str, object]]:
    return list(handle.rows_as_dicts(where=where))


def stored(texts: list[str], conversation_id: str = "c1") -> StoredConversation:
    messages = [Message(f"m{i}", person(i % 3), text) for i, text in enumerate(texts)]
    return StoredConversation(
        id=conversation_id,
        source="made",
        platform="slack",
        channel="general",
        truth="explicit",
        split="test",
        start=None,
        end=None,
        language="en",
        language_score=1.0,
        origin="made up",
        messages=messages,
    )


def test_a_thread_gives_one_message_and_keeps_the_others() -> None:
    texts = [f"message number {word} about the printer" for word in ("one", "two", "three", "four")]
    example, _ = thread_examples(stored(texts))
    assert len(example.query) == 1
    assert example.query[0].text != texts[0], "the message that opens the thread is not the query while there are others"
    assert [m.text for m in example.document] == [t for t in texts if t != example.query[0].text]


def test_targets_and_distractors_lose_one_message_alike(tmp_path: Path) -> None:
    threads = [*talks(12), Thread("short", [(person(900 + i), f"ok fine {i}") for i in range(8)])]
    tables = build(tmp_path, threads)
    documents = rows(tables["corpus"], "task = 'thread'")
    asked = {row["conversation_id"] for row in rows(tables["queries"], "task = 'thread'")}
    assert "short" not in asked
    assert {row["conversation_id"]: str(row["text_plain"]).count("\n") for row in documents} == {t.id: 6 for t in threads}
    assert tables["queries"].counts["thread_test_no_query_short"] == 1


def test_responses_are_windows_on_both_sides_of_the_cut_for_every_conversation(tmp_path: Path) -> None:
    threads = talks(10, messages=14)
    tables = build(tmp_path, threads)
    told = {t.id: [FORMATS["plain"].render([Message("", p, text)]) for p, text in t.lines] for t in threads}
    documents = {
        row["conversation_id"]: str(row["text_plain"]).split("\n") for row in rows(tables["corpus"], "task = 'response'")
    }
    queries = {
        row["conversation_id"]: str(row["text_plain"]).split("\n") for row in rows(tables["queries"], "task = 'response'")
    }
    assert documents.keys() == queries.keys() == told.keys()
    for name, lines in told.items():
        query, document = queries[name], documents[name]
        assert 1 <= len(query) <= WINDOW
        assert 1 <= len(document) <= WINDOW
        cut = lines.index(document[0])
        assert lines[max(0, cut - WINDOW) : cut] == query
        assert lines[cut : cut + WINDOW] == document


def test_a_query_that_stands_verbatim_in_its_document_is_dropped_and_counted(tmp_path: Path) -> None:
    repeated = "the build server is on fire"
    echo = Thread("echo", [(person(1), repeated), (person(2), repeated.upper().replace(" ", "  ")), (person(3), repeated)])
    tables = build(tmp_path, [*talks(3), echo], {"echo": "server is on FIRE", "c0001": "somebody lost their keys again"})
    for task in ("thread", "response", "summary"):
        assert "echo" in {row["conversation_id"] for row in rows(tables["corpus"], f"task = '{task}'")}
        assert "echo" not in {row["conversation_id"] for row in rows(tables["queries"], f"task = '{task}'")}
        assert tables["queries"].counts[f"{task}_test_no_query_verbatim"] == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="ab ,\n", max_size=14), min_size=3, max_size=9), st.integers(0, 999))
@example(["a a"] * 4, 0)
def test_no_query_ever_stands_in_its_document(texts: list[str], number: int) -> None:
    conversation = stored(texts, f"c{number}")
    for found in (*thread_examples(conversation), *response_examples(conversation)):
        if found.query:
            query, document = (FORMATS["plain"].render(part) for part in (found.query, found.document))
            assert not stands_in(query, document)
            assert len(query.split()) >= MINIMUM_WORDS
        else:
            assert found.refusal in {"short", "verbatim"}


def test_splits_stay_apart_and_guessed_threads_never_count(tmp_path: Path) -> None:
    threads = talks(9, dev=3)
    threads[3].split = "train"
    threads[4].truth = "guessed"
    threads[5].truth = "predicted"
    tables = build(tmp_path, threads, {t.id: f"what somebody would say about it {t.id}" for t in threads})
    for table in ("queries", "corpus"):
        assert {row["split"] for row in rows(tables[table])} == {"dev", "test"}
        for task in ("thread", "response", "summary"):
            dev, test = (
                {row["conversation_id"] for row in rows(tables[table], f"task = '{task}' AND split = '{split}'")}
                for split in ("dev", "test")
            )
            assert dev == {"c0000", "c0001", "c0002"}
            assert test == {"c0005", "c0006", "c0007", "c0008"}
    tiers = {row["conversation_id"]: row["tier"] for row in rows(tables["queries"])}
    assert tiers["c0005"] == "silver"
    assert tiers["c0006"] == "gold"
    for task in load_tasks(tmp_path / "tasks.duckdb"):
        assert {d for found in task.relevant.values() for d in found} <= set(task.document_ids)


def test_no_person_and_no_raw_mention_reaches_a_text(tmp_path: Path) -> None:
    tables = build(tmp_path, talks(12), {"c0001": f"<@{person(11)}> asks whether anybody knows"})
    mentioned = 0
    for table in ("queries", "corpus"):
        for row in rows(tables[table]):
            for column in TEXTS:
                assert "p_0" not in str(row[column])
                assert "<@" not in str(row[column])
                mentioned += "@speaker_" in str(row[column])
    assert mentioned, "the plant must hold mentions that a format shows"
    query = next(row for row in rows(tables["queries"], "task = 'thread'"))
    assert str(query["text_speakers"]).startswith("speaker_1: "), "speakers are numbered within the query, not the thread"


def test_a_summary_reads_the_same_in_every_format_and_its_document_is_the_whole_thread(tmp_path: Path) -> None:
    tables = build(
        tmp_path, talks(4), {"c0002": f"somebody ({person(3)!r}) wants help".replace(repr(person(3)), "a colleague")}
    )
    (query,) = rows(tables["queries"], "task = 'summary'")
    assert {query[column] for column in TEXTS} == {"somebody (a colleague) wants help"}
    assert query["paraphrase"] == "somebody (a colleague) wants help, said otherwise"
    assert query["asked_at"] is query["gap_seconds"] is None
    documents = rows(tables["corpus"], "task = 'summary'")
    assert [str(row["text_plain"]).count("\n") for row in documents] == [7, 7, 7, 7]


def test_without_summaries_there_is_no_summary_task(tmp_path: Path) -> None:
    tables = build(tmp_path, talks(4), {"c0001": "  "})
    assert {row["task"] for row in rows(tables["corpus"])} == {"thread", "thread_strict", "response", "reply"}


def test_clusters_are_channel_days_or_conversations_without_times(tmp_path: Path) -> None:
    threads = talks(7)
    threads[6].start = None
    clusters = {row["conversation_id"]: row["cluster"] for row in rows(build(tmp_path, threads)["queries"])}
    assert clusters["c0000"] == clusters["c0002"] == "general/2020-09-13"
    assert clusters["c0003"] == "general/2020-09-14"
    assert clusters["c0006"] == "c0006"


def test_two_builds_are_identical_whatever_the_order_of_the_input(tmp_path: Path) -> None:
    threads = talks(20, dev=5)
    summaries = {t.id: f"what this was about, {t.id}" for t in threads[::2]}
    shuffled = Random(7).sample(threads, len(threads))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = build(tmp_path / "a", threads, summaries), build(tmp_path / "b", shuffled, summaries)
    assert [first[t].fingerprint for t in SCHEMAS] == [second[t].fingerprint for t in SCHEMAS]
    changed = talks(20, seed=2, dev=5)
    (tmp_path / "c").mkdir()
    assert build(tmp_path / "c", changed, summaries)["queries"].fingerprint != first["queries"].fingerprint


def test_a_source_without_test_conversations_is_an_error_and_the_old_file_stays(tmp_path: Path) -> None:
    build(tmp_path, talks(4))
    before = (tmp_path / "tasks.duckdb").read_bytes()
    with pytest.raises(InputError, match="no test conversation"):
        build(tmp_path, talks(4, dev=4))
    with pytest.raises(InputError, match="no test conversation"):
        build(tmp_path, talks(4, truth="guessed"))
    assert (tmp_path / "tasks.duckdb").read_bytes() == before


def test_a_document_with_nothing_to_read_is_left_out(tmp_path: Path) -> None:
    mention = f"<@{person(2)}>"
    tables = build(tmp_path, [*talks(3), Thread("blank", [(person(1), mention)] * 3)])
    assert "blank" not in {row["conversation_id"] for row in rows(tables["corpus"])}
    assert tables["corpus"].counts["thread_test_blank_documents"] == 1


def test_loaded_tasks_align_ids_texts_and_clusters(tmp_path: Path) -> None:
    tables = build(tmp_path, talks(9, dev=4))
    for task in load_tasks(tmp_path / "tasks.duckdb"):
        where = f"task = '{task.name}' AND split = '{task.split}'"
        text = {row["query_id"]: row for row in rows(tables["queries"], where)}
        assert task.query_ids == sorted(text)
        assert task.query_texts("speakers") == [text[q]["text_speakers"] for q in task.query_ids]
        assert task.clusters == [text[q]["cluster"] for q in task.query_ids]
        documents = {row["doc_id"]: row["text_times"] for row in rows(tables["corpus"], where)}
        assert task.document_texts("times") == [documents[d] for d in task.document_ids]


def test_the_strict_document_ends_before_the_query_that_the_loose_one_shares(tmp_path: Path) -> None:
    tables = build(tmp_path, talks(12))
    told = {t.id: [FORMATS["plain"].render([Message("", p, text)]) for p, text in t.lines] for t in talks(12)}
    texts = {
        (row["task"], row["conversation_id"]): str(row["text_plain"]).split("\n")
        for table in ("queries", "corpus")
        for row in rows(tables[table], f"task = '{'thread' if table == 'queries' else 'thread_strict'}'")
    }
    strict = {row["conversation_id"]: row["text_plain"] for row in rows(tables["queries"], "task = 'thread_strict'")}
    assert strict
    for name, query in strict.items():
        assert [query] == texts["thread", name]
        assert texts["thread_strict", name] == told[str(name)][: told[str(name)].index(str(query))]
    assert len({len(texts["thread_strict", t]) for t in told}) > 2, "distractors are cut before a message of their own"


def test_replies_are_single_messages_after_the_cut_and_links_are_graded(tmp_path: Path) -> None:
    threads = talks(10, messages=14)
    for thread in threads:
        thread.replies = {n: n - 1 for n in range(1, 14)}
    tables = build(tmp_path, threads)
    windows = {row["query_id"]: row for row in rows(tables["queries"], "task = 'reply'")}
    documents = {row["doc_id"]: row for row in rows(tables["corpus"], "task = 'reply'")}
    assert all(len(row["message_ids"]) == 1 for row in documents.values())  # type: ignore[arg-type]
    graded: dict[object, dict[int, list[int]]] = {}
    for row in rows(tables["qrels"], "task = 'reply'"):
        query, document = windows[row["query_id"]], documents[row["doc_id"]]
        assert query["conversation_id"] == document["conversation_id"]
        last, said = (int(str(r["message_ids"][-1]).split("-")[1]) for r in (query, document))  # type: ignore[index]
        assert said > last
        graded.setdefault(row["query_id"], {}).setdefault(int(str(row["grade"])), []).append(said - last)
    assert graded.keys() == windows.keys()
    for grades in graded.values():
        assert grades.pop(DIRECT) == [1]
        assert set(grades) <= {SAME_THREAD}
    response = {row["conversation_id"]: row["text_plain"] for row in rows(tables["queries"], "task = 'response'")}
    assert {row["conversation_id"]: row["text_plain"] for row in windows.values()} == response


def test_a_window_said_again_after_the_next_window_asks_for_no_reply() -> None:
    texts = ["the build server is down again", *(f"message number {n} about the printer" for n in range(1, 7))]
    again = [*texts, texts[0]]
    for told, refusal in ((texts, ""), (again, "verbatim")):
        seen = set()
        for number in range(40):
            response, reply = response_examples(stored(told, f"c{number}"))
            if response.query and len(response.query) == 1:
                seen.add(reply.refusal)
        assert seen == {refusal}


def test_features_say_how_far_and_how_alike_query_and_document_are(tmp_path: Path) -> None:
    tables = build(tmp_path, talks(6), {"c0003": "a tale about nothing that anybody said"})
    documents = {(row["task"], row["conversation_id"]): row for row in rows(tables["corpus"], "task <> 'reply'")}
    for row in rows(tables["queries"], "task IN ('thread', 'response')"):
        assert row["thread_messages"] == 8
        assert row["gap_seconds"] == 60
        document = set(str(documents[row["task"], row["conversation_id"]]["text_plain"]).split())
        asked = set(str(row["text_plain"]).split())
        assert row["word_overlap"] == pytest.approx(len(asked & document) / len(asked))
    (summary,) = rows(tables["queries"], "task = 'summary'")
    assert summary["word_overlap"] == 0
    task = next(t for t in load_tasks(tmp_path / "tasks.duckdb") if t.name == "thread")
    assert task.features("gap_seconds").tolist() == [60.0] * len(task.query_ids)
    started, ended = task.document_times()
    assert (started <= ended).all()
    assert len(task.query_times()) == len(task.query_people()) == len(task.query_ids)


def test_slices_hold_the_target_and_what_was_near_in_its_channel(tmp_path: Path) -> None:
    threads = [*talks(60), *talks(60, seed=3, channel="other")]
    for number, thread in enumerate(threads):
        thread.id = f"c{number:04d}"
    threads[119].start = None
    tables = build(tmp_path, threads)
    channel = {t.id: t.channel for t in threads}
    for task in load_tasks(tmp_path / "tasks.duckdb"):
        documents = {row["doc_id"]: row for row in rows(tables["corpus"], f"task = '{task.name}'")}
        assert task.near
        for query, found in task.near.items():
            assert task.relevant[query].keys() <= set(found)
            assert 2 <= len(found) <= 50
            assert len({channel[str(documents[d]["conversation_id"])] for d in found}) == 1
        assert len(task.near) < len(task.query_ids), "a query without a time has no slice"


def test_a_large_source_is_sampled_by_conversation_and_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "MOST_DOCUMENTS", 100)
    monkeypatch.setattr(tasks_module, "MOST_QUERIES", 40)
    tables = build(tmp_path, talks(300))
    kept = sorted(str(row["conversation_id"]) for row in rows(tables["corpus"], "task = 'thread'"))
    assert 70 <= len(kept) <= 130
    assert 40 <= sum(name < "c0150" for name in kept) / len(kept) * 100 <= 60, "no part of the file is preferred"
    asked = rows(tables["queries"], "task = 'thread'")
    assert 8 <= len(asked) <= 25, "queries are a share of the documents that are there"
    replies = rows(tables["corpus"], "task = 'reply'")
    assert 0 < len(replies) <= 130
    for task in load_tasks(tmp_path / "tasks.duckdb"):
        assert {d for found in task.relevant.values() for d in found} <= set(task.document_ids)


def test_a_written_query_whose_conversation_is_gone_is_counted(tmp_path: Path) -> None:
    tables = build(tmp_path, talks(4), {"c0001": "a lost umbrella turns up", "gone": "a thread that a filter dropped"})
    assert tables["queries"].counts["written_queries_without_conversation"] == 1
