"""What is tried again and what is not, in real runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest
import yaml
from dagster._core.events import RunFailureReason
from dagster._core.execution.retries import auto_reexecution_should_retry_run

from thread_embed_assets.defs.retries import KILLED, NETWORK, only_what_passes
from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.sources import download
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.defs.runs import assets, errors

POLICIES = {
    **dict.fromkeys(["raw_dataset", "conversation_summaries", "benchmark_results"], NETWORK),
    **dict.fromkeys(["stage1_checkpoint", "stage2_checkpoint", "stage3_checkpoint", "mined_negatives"], KILLED),
    **dict.fromkeys(["reranker_checkpoint", "ablation"], KILLED),
}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the policies ask for; none is made."""
    asked: list[float] = []
    calculate = dg.RetryPolicy.calculate_delay

    def none(policy: dg.RetryPolicy, attempt: int) -> float:
        asked.append(float(calculate(policy, attempt)))
        return 0.0

    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", none)
    return asked


@pytest.fixture
def server() -> Iterator[list[int]]:
    """Statuses that a server gives, one a request, then 200; the first item of the list is its port."""
    state: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(state.pop(1) if len(state) > 1 else 200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.append(http.server_address[1])
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def _run(work: Callable[[], object], policy: dg.RetryPolicy) -> tuple[dg.ExecuteInProcessResult, int]:
    """A step that does this work; its end and how often it was tried."""
    tried = []

    @dg.asset(retry_policy=policy)
    def worked() -> None:
        tried.append(1)
        with only_what_passes():
            work()

    return dg.materialize([worked], raise_on_error=False), len(tried)


def test_a_server_that_is_busy_twice_is_asked_a_third_time(
    server: list[int], pauses: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "ATTEMPTS", 1)  # of the request inside the step
    server += [503, 429]
    target = tmp_path / "file"
    result, tried = _run(lambda: download.download(f"http://127.0.0.1:{server[0]}/file", target), NETWORK)
    assert result.success, errors(result)
    assert tried == 3 and target.read_bytes() == b"ok"
    assert 0 <= pauses[0] <= 60 <= pauses[1] <= 120, "30 and 90 seconds, give or take 30"


def test_a_server_that_stays_busy_is_given_up(
    server: list[int], pauses: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server += [503] * 9
    result, tried = _run(lambda: download.download(f"http://127.0.0.1:{server[0]}/file", tmp_path / "file"), NETWORK)
    assert not result.success and tried == 4 and "the server answered 503" in errors(result)


def _missing(server: list[int], folder: Path) -> Callable[[], object]:
    server.append(404)
    return lambda: download.download(f"http://127.0.0.1:{server[0]}/file", folder / "file")


def _raising(error: Exception) -> Callable[[], object]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize("policy", [NETWORK, KILLED])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InputError("users.json", "it is cut off", "Export it again"), "users.json: it is cut off"),
        (KeyError("ts"), "KeyError: 'ts'"),
    ],
)
def test_bad_data_is_tried_once(error: Exception, told: str, policy: dg.RetryPolicy, pauses: list[float]) -> None:
    result, tried = _run(_raising(error), policy)
    assert not result.success and tried == 1 and told in errors(result) and pauses == []


def test_what_is_not_there_is_asked_for_once(server: list[int], pauses: list[float], tmp_path: Path) -> None:
    result, tried = _run(_missing(server, tmp_path), NETWORK)
    assert not result.success and tried == 1 and "the server answered 404" in errors(result)


def test_another_process_in_the_folder_passes_with_time(pauses: list[float]) -> None:
    result, tried = _run(_raising(TransientError("folder", "a process trains here", "Wait")), KILLED)
    assert not result.success and tried == 3
    assert 0 <= pauses[0] <= 20 <= pauses[1] <= 40


def test_the_assets_that_are_tried_again_are_the_declared_ones() -> None:
    found = {a.key.path[-1]: a.op.retry_policy for a in assets() if a.op.retry_policy is not None}
    assert found == POLICIES
    assert all(policy.jitter and policy.backoff is dg.Backoff.EXPONENTIAL for policy in found.values())


@dg.job
def _nothing() -> None: ...


@pytest.mark.parametrize(
    ("reason", "again"), [(RunFailureReason.STEP_FAILURE, False), (RunFailureReason.UNKNOWN, True), (None, True)]
)
def test_only_a_run_whose_worker_crashed_is_run_again(
    reason: RunFailureReason | None, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Layout.from_environment().root / "data" / "dagster_home" / "dagster.yaml"
    settings = yaml.safe_load(home.read_text(encoding="utf-8"))
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"run_retries": settings["run_retries"]}) as instance:
        run = instance.create_run_for_job(_nothing, status=dg.DagsterRunStatus.FAILURE)
        assert auto_reexecution_should_retry_run(instance, run, reason) is again
