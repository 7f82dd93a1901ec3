from __future__ import annotations

from pathlib import Path

import pytest

from thread_embed_assets.benchmark.message_windows import messages_of_split, window_texts
from thread_embed_assets.benchmark.tasks import Task, build_tasks, load_tasks
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.errors import InputError
from thread_embed_assets_tests.benchmark.stored import talks, write_conversations


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Normalised]:
    folder = tmp_path_factory.mktemp("windows")
    stored = Normalised(*write_conversations(folder / "conversations.duckdb", talks(30, dev=10)))
    build_tasks("made", stored.conversations, stored.messages, {}, folder / "tasks.duckdb")
    return load_tasks(folder / "tasks.duckdb", ["dev"])[0], stored


def test_windows_are_adjacent_and_whole_documents_again(made: tuple[Task, Normalised]) -> None:
    task, stored = made
    messages = messages_of_split(stored, "dev")
    found = window_texts(task, messages, "plain", 3)
    assert len(found) == len(task.document_ids)
    assert ["\n".join(texts) for texts in found] == task.document_texts("plain")
    assert any(len(texts) > 2 for texts in found)
    names = task.document_messages()[0]
    assert found[0][0] == FORMATS["plain"].render([messages[name] for name in names[:3]])
    assert window_texts(task, messages, "plain", 1_000) == [[text] for text in task.document_texts("plain")]


def test_speakers_are_numbered_anew_in_each_window(made: tuple[Task, Normalised]) -> None:
    task, stored = made
    for texts in window_texts(task, messages_of_split(stored, "dev"), "speakers", 2):
        assert all(text.startswith("speaker_1: ") for text in texts)


def test_messages_of_another_split_are_not_there_to_be_embedded(made: tuple[Task, Normalised], tmp_path: Path) -> None:
    task, stored = made
    with pytest.raises(InputError, match=r"holds the message c\d+-\d, which no dev conversation has"):
        window_texts(task, messages_of_split(stored, "test"), "plain", 3)
