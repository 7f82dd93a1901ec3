from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._cli import dev
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.webserver import DagsterWebserver
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from thread_embed_assets.defs.ui import HOSTS_VARIABLE, guard, own_command

QUERY = {"query": "{ version }"}
MUTATION = {"query": "mutation { setNuxSeen }"}
OWN = {"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
ELSEWHERE = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
OTHER_PORT = {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@contextmanager
def serving(folder: Path, guarded: bool) -> Iterator[TestClient]:
    """Dagster's own webserver without a code location, as it is or guarded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DagsterWebserver, "build_middleware", DagsterWebserver.build_middleware)  # put back afterwards
        patch.setenv(HOSTS_VARIABLE, "chat.example, ")
        if guarded:
            guard()
        with (
            dg.DagsterInstance.local_temp(str(folder)) as instance,
            WorkspaceProcessContext(instance, workspace_load_target=EmptyWorkspaceTarget()) as context,
        ):
            yield TestClient(create_app_from_workspace_process_context(context), base_url="http://127.0.0.1:3000")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("home"), guarded=True) as client:
        yield client


def test_without_the_guard_a_page_of_another_site_can_change_things(tmp_path: Path) -> None:
    """Why it is there; where Dagster closes this itself one day, the guard can go."""
    with serving(tmp_path, guarded=False) as client:
        by_post = client.post("/graphql", params=MUTATION, headers=ELSEWHERE)
        by_image = client.get("/graphql", params=MUTATION, headers={"Host": "evil.example"})
    assert by_post.json()["data"] == by_image.json()["data"] == {"setNuxSeen": True}


@pytest.mark.parametrize("headers", [OWN, {}, {"Host": "localhost:3000"}, {"Host": "[::1]:3000"}, {"Host": "chat.example"}])
def test_its_own_pages_and_programs_on_this_machine_are_answered(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/graphql", json=QUERY, headers=headers)
    assert answer.status_code == 200 and answer.json()["data"].keys() == {"version"}


@pytest.mark.parametrize("headers", [ELSEWHERE, OTHER_PORT, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
@pytest.mark.parametrize("way", ["json", "params"])
def test_other_pages_are_refused(client: TestClient, headers: dict[str, str], way: str) -> None:
    answer = client.post("/graphql", headers=headers, **{way: MUTATION})
    assert answer.status_code == 403 and "may not use this server" in answer.text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:3000", "127.0.0.1.evil.example", "10.0.0.7:3000", "localhost@x"]
)
def test_a_name_that_leads_here_from_outside_is_refused(client: TestClient, host: str) -> None:
    answer = client.post("/graphql", json=QUERY, headers={"Host": host})
    assert answer.status_code == 403 and "is not known as" in answer.text


@pytest.mark.parametrize("path", ["/graphql", "/graphql/"])
def test_no_get_changes_anything(client: TestClient, path: str) -> None:
    assert client.get(path, params=MUTATION).status_code == 403
    assert client.get(path, params=MUTATION, headers=LINK).status_code == 403


def test_a_link_from_elsewhere_opens_a_page_but_no_frame(client: TestClient) -> None:
    assert client.get("/server_info", headers=LINK).status_code == 200
    assert client.get("/server_info", headers={**LINK, "Sec-Fetch-Dest": "iframe"}).status_code == 403


def test_subscriptions_are_guarded_too(client: TestClient) -> None:
    with client.websocket_connect("ws://127.0.0.1:3000/graphql", subprotocols=["graphql-ws"]) as socket:
        socket.send_json({"type": "connection_init"})
        assert socket.receive_json() == {"type": "connection_ack"}
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/graphql", headers=ELSEWHERE):
        pass
    assert refused.value.code == 1008


def test_dagster_starts_the_webserver_by_the_command_that_is_replaced() -> None:
    source = inspect.getsource(dev.dev_command_impl)
    assert 'open_ipc_subprocess(\n                [sys.executable, "-m", "dagster_webserver"]' in source
    assert own_command(["python", "-m", "dagster_webserver", "--port", "1"]) == [
        *("python", "-m", "thread_embed_assets.defs.ui", "--serve-as-dagster-webserver", "--port", "1")
    ]
    assert own_command(["python", "-m", "dagster._daemon", "run"]) == ["python", "-m", "dagster._daemon", "run"]
