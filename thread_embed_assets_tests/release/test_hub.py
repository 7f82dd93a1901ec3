from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from thread_embed_assets.command_line import main
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.hub import push_to_hub
from thread_embed_assets.sources.catalog import CATALOG, load_catalog
from thread_embed_assets.storage.layout import ROOT_VARIABLE
from thread_embed_assets_tests.release.receiving_hub import OWNER, ReceivingHub, receiving_hub

TOKEN = "hf_writes"
REPOSITORY = f"{OWNER}/thread-embed"
FREE = load_catalog(CATALOG)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReceivingHub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the stand-in is on this machine
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # its chunks go to another service
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with receiving_hub(TOKEN) as hub:
        yield hub


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a package's files; no model need be in it to go."""
    folder = tmp_path / "models" / "thread-embed"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# made\n")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 9)
    _name_sources(folder, "irc_disentangle", "topical_chat")
    return folder


def _name_sources(folder: Path, *names: str) -> None:
    (folder / "thread_embed.json").write_text(json.dumps({"sources": names}))


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_package_arrives_whole_in_one_private_commit(hub: ReceivingHub, package: Path) -> None:
    done = push_to_hub(package, REPOSITORY, FREE, token=TOKEN, really=True, endpoint=hub.url)
    assert hub.repositories == {REPOSITORY: _files(package)} and hub.visibility == {REPOSITORY: "private"}
    assert done.commit and done.commit.startswith(f"{hub.url}/{REPOSITORY}/commit/") and done.commit in str(done)
    assert sum("/commit/" in request for request in hub.asked) == 1
    assert any("lfs/objects/batch" in request for request in hub.asked), "weights go by LFS"
    (package / "README.md").write_text("---\nlicense: apache-2.0\n---\n# new\n")
    push_to_hub(package, REPOSITORY, FREE, token=TOKEN, really=True, private=False, endpoint=hub.url)
    assert hub.repositories == {REPOSITORY: _files(package)} and hub.visibility == {REPOSITORY: "private"}


def test_the_card_names_the_repository_on_the_hub_and_the_folder_here(hub: ReceivingHub, package: Path) -> None:
    here = '---\nlicense: apache-2.0\n---\n```python\nmodel = SentenceTransformer("models/thread-embed")\n```\n'
    (package / "README.md").write_text(here)
    push_to_hub(package, REPOSITORY, FREE, token=TOKEN, really=True, endpoint=hub.url)
    assert f'SentenceTransformer("{REPOSITORY}")' in hub.repositories[REPOSITORY]["README.md"].decode()
    assert (package / "README.md").read_text() == here


def test_what_use_of_the_package_leaves_behind_does_not_go(hub: ReceivingHub, package: Path) -> None:
    files = _files(package)
    for left in ("__pycache__/chat_text.cpython-311.pyc", ".DS_Store", "1_Pooling/.lock"):
        (package / left).parent.mkdir(exist_ok=True)
        (package / left).write_bytes(b"left")
    push_to_hub(package, REPOSITORY, FREE, token=TOKEN, really=True, endpoint=hub.url)
    assert hub.repositories == {REPOSITORY: files}


def test_without_really_nothing_leaves_and_it_is_said_what_would(hub: ReceivingHub, package: Path) -> None:
    told = str(push_to_hub(package, REPOSITORY, FREE, token=TOKEN, endpoint=hub.url))
    assert not hub.asked
    assert f"Nothing was uploaded. To {REPOSITORY} (private) would go:" in told and "--really" in told
    assert "2,304  model.safetensors" in told and "1_Pooling/config.json" in told and "in 4 files" in told


def test_no_token_and_a_wrong_one_are_refused(hub: ReceivingHub, package: Path) -> None:
    with pytest.raises(InputError, match="there is no token"):
        push_to_hub(package, REPOSITORY, FREE, really=True, endpoint=hub.url)
    assert not hub.asked
    with pytest.raises(InputError, match=r"the hub refuses .*401"):
        push_to_hub(package, REPOSITORY, FREE, token="hf_reads", really=True, endpoint=hub.url)
    with pytest.raises(InputError, match=r"the hub refuses .*403"):
        push_to_hub(package, "somebody/thread-embed", FREE, token=TOKEN, really=True, endpoint=hub.url)
    (package / "README.md").write_text("---\nlanguage: en\n---\n")
    with pytest.raises(InputError, match="license is missing"):
        push_to_hub(package, REPOSITORY, FREE, token=TOKEN, really=True, endpoint=hub.url)
    assert hub.repositories == {REPOSITORY: {}}


@pytest.mark.parametrize(
    ("sources", "told"),
    [(["irc_disentangle", "slack_dev_chats"], "slack_dev_chats"), (["ours"], "ours"), ([], "no sources")],
)
def test_what_may_not_be_passed_on_does_not_leave(package: Path, sources: list[str], told: str) -> None:
    _name_sources(package, *sources)
    for really in (False, True):
        with pytest.raises(InputError, match=told):
            push_to_hub(package, REPOSITORY, FREE, token=TOKEN, really=really)


def test_what_is_no_package_or_repository_is_named(package: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model package"):
        push_to_hub(tmp_path / "nowhere", REPOSITORY, FREE)
    with pytest.raises(InputError, match="owner/name"):
        push_to_hub(package, "thread-embed", FREE)


def test_the_command_only_looks(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert main(["push", REPOSITORY]) == 0
    assert "Nothing was uploaded" in capsys.readouterr().out
    assert main(["push", REPOSITORY, "--package", str(tmp_path)]) == 1
    assert "no model package" in capsys.readouterr().err
