"""Faults at seeded moments of the graph on a tiny workspace, and what is left after each.

``python -m thread_embed_assets_tests.chaos --moments 20 --seed 7``: so many kills of a step, a run worker and the daemon in
turn, and each other fault ``--times`` times. JSON goes to ``--out``, a table to stdout. With a ``--folder`` it can be
stopped: the same call goes on after the last moment of ``--out``. As root, for it mounts a tmpfs; ``CHAOS_FAKETIME`` names
libfaketime.so.1 for the clock.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from random import Random

import dagster as dg

from thread_embed_assets_tests.chaos.cluster import LONGEST, Cluster, cluster, happens
from thread_embed_assets_tests.chaos.faults import KILLS, OTHERS, Injected
from thread_embed_assets_tests.chaos.verdict import Verdict, stuck_slots, verdict
from thread_embed_assets_tests.chaos.workspace import GRAPH


@dataclass(frozen=True)
class Moment:
    """A fault, the run after it, and what was found then."""

    fault: str
    injected: Injected
    next_run_succeeded: bool
    found: Verdict
    seconds: float

    @property
    def well(self) -> bool:
        return self.injected.as_expected and self.next_run_succeeded and self.found.well


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--moments", type=int, default=20, help=f"of {', '.join(KILLS)} together")
    parser.add_argument("--times", type=int, default=1, help="of each other fault")
    parser.add_argument("--faults", default=",".join([*KILLS, *OTHERS]), help="comma-separated; default: all")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--folder", type=Path, help="keeps workspace and logs here, and goes on with those of an earlier call"
    )
    parser.add_argument("--out", type=Path, default=Path("chaos.json"))
    options = parser.parse_args(arguments)
    wanted = options.faults.split(",")
    unknown = set(wanted) - {*KILLS, *OTHERS}
    if unknown:
        parser.error(f"unknown fault {min(unknown)!r}; there are {', '.join([*KILLS, *OTHERS])}")
    moments, seconds = _earlier(options.out) if options.folder and options.folder.exists() else ([], {})
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        with cluster(folder / "workspace") as served:
            seconds = seconds or _first_run(served)
            print(f"the graph once: {seconds}", flush=True)
            served.start()
            for number, fault in islice(enumerate(_plan(wanted, options.moments, options.times)), len(moments), None):
                moment = _moment(served, fault, seconds, Random(f"{options.seed} {number} {fault}"))
                moments.append(moment)
                print(f"{'well' if moment.well else 'NOT WELL'}: {json.dumps(asdict(moment))}", flush=True)
                told = {"seed": options.seed, "seconds": seconds, "moments": [asdict(one) for one in moments]}
                options.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(moments)))
    return 0 if all(moment.well for moment in moments) else 1


def _plan(wanted: Sequence[str], moments: int, times: int) -> Iterator[str]:
    kills = [name for name in KILLS if name in wanted]
    yield from islice(cycle(kills), moments if kills else 0)
    for name in OTHERS:
        yield from [name] * (times if name in wanted else 0)


def _earlier(out: Path) -> tuple[list[Moment], dict[str, float]]:
    """The moments of an earlier call, and the seconds that each job took it."""
    told = json.loads(out.read_text(encoding="utf-8"))
    moments = [
        Moment(**{**one, "injected": Injected(**one["injected"]), "found": Verdict(**one["found"])})
        for one in told["moments"]
    ]
    return moments, told["seconds"]


def _first_run(served: Cluster) -> dict[str, float]:
    """The whole graph, with all its checks; the seconds of each job, as it tells them."""
    process = served.steps(GRAPH)
    process.wait(LONGEST)
    told = served.logs[-1].read_text(encoding="utf-8", errors="replace")
    if process.returncode != 0:
        raise RuntimeError(f"the graph does not run even without a fault: {served.logs[-1]}")
    return {job: float(seconds) for job, seconds in re.findall(r"^\[\d/5\] (\w+) .*: (\d+) s$", told, re.MULTILINE)}


def _moment(served: Cluster, fault: str, seconds: dict[str, float], draw: Random) -> Moment:
    """Inject the fault, make the next run, and look; what the run took is what the next moments are drawn from."""
    began = time.monotonic()
    layout = served.workspace.layout
    had_model = layout.promoted_model.exists()
    injected = (KILLS | OTHERS)[fault](served, seconds, draw)
    if injected.through_queue:
        run = served.submit(injected.job)
        status, retries = served.settled(run)
        succeeded = status is dg.DagsterRunStatus.SUCCESS
        if succeeded and not retries:
            seconds[injected.job] = served.lasted(run)
    else:
        succeeded = served.steps(injected.job).wait(LONGEST) == 0
    # The daemon frees the slots of ended runs when it looks next.
    happens(lambda: not any(stuck_slots(served.instance)), 60.0)
    found = verdict(layout, served.instance, served.temporary, had_model)
    return Moment(fault, injected, succeeded, found, round(time.monotonic() - began, 1))


def table(moments: Sequence[Moment]) -> Iterator[str]:
    """Markdown: a line for each fault, counts of what came of it."""
    columns = ("fault", "times", "the run that met it", "next run succeeded", "half tables", "leftovers", "stuck slots")
    yield "| " + " | ".join([*columns, "model loads"]) + " |"
    yield "|---|---:|---|---:|---:|---:|---:|---:|"
    for fault in dict.fromkeys(moment.fault for moment in moments):
        of = [moment for moment in moments if moment.fault == fault]
        outcomes = Counter(moment.injected.outcome for moment in of).most_common()
        cells = [
            fault,
            len(of),
            ", ".join(f"{count} {outcome}" for outcome, count in outcomes),
            sum(moment.next_run_succeeded for moment in of),
            sum(len(moment.found.half_tables) for moment in of),
            sum(len(moment.found.leftovers) for moment in of),
            sum(len(moment.found.stuck_slots) + len(moment.found.open_runs) for moment in of),
            sum(moment.found.model_loads is True for moment in of),
        ]
        yield "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    sys.exit(main())
