"""``thread-embed release``: pack a mix's checkpoint, or put its benchmark results beside a packed one."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from thread_embed_assets.benchmark.metrics import HEADLINE
from thread_embed_assets.benchmark.report import read_leaderboard
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.pack import pack
from thread_embed_assets.release.standing import contender_name
from thread_embed_assets.release.weights import DELTA, Released, add_results, find_released
from thread_embed_assets.sources.catalog import Source, load_catalog
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import Checkpoint, final_checkpoint

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

OPEN = "open"


def add_release_command(commands: Commands) -> None:
    parser = commands.add_parser("release", help="pack a checkpoint as a small difference from its base")
    parser.add_argument("name", help="of the folder below models/released")
    parser.add_argument("--mix", default=OPEN, help=f"whose latest checkpoint is packed (default: {OPEN})")
    parser.add_argument("--trained-by", default="", help="the command that trained it, where no profile's settings did")
    parser.add_argument("--results", action="store_true", help="pack nothing: put the leaderboard's rows beside it")


def run_release(options: argparse.Namespace, layout: Layout) -> str:
    """What the command prints.

    Raises:
        InputError: there is no checkpoint, no such released model, or it cannot be packed.
    """
    if options.results:
        released = find_released(options.name, layout)
        if released is None:
            raise InputError(layout.released / options.name, "there is no such released model", "Pack it first")
        rows = leaderboard_rows(released, layout)
        add_results(released, rows)
        return f"{released.folder}: {len(rows)} scores"
    checkpoint = final_checkpoint(layout, options.mix)
    if checkpoint is None:
        raise InputError(f"mix '{options.mix}'", "it has no checkpoint", "Train it first, or name another with --mix")
    released = pack_compared(checkpoint, options.name, layout, load_catalog(), options.trained_by)
    size = (released.folder / DELTA).stat().st_size
    return f"{released.folder}: {size / 1e6:.2f} MB, weights {released.weights_sha256}"


def pack_compared(
    checkpoint: Checkpoint, name: str, layout: Layout, catalog: Mapping[str, Source], trained_by: str = ""
) -> Released:
    """Pack a checkpoint, its training texts compared with all tasks that are here.

    Raises:
        InputError: see ``pack.pack``.
    """
    tasks = {source: layout.tasks(source) for source in catalog if layout.tasks(source).exists()}
    return pack(checkpoint, layout, catalog, name, tasks=tasks, trained_by=trained_by)


def leaderboard_rows(released: Released, layout: Layout) -> list[dict[str, Any]]:
    """The headline of a released model on each source and task, from the leaderboard that is here."""
    found = []
    for source in read_leaderboard(layout).content["sources"]:
        for row in source["rows"]:
            if row["contender"] == contender_name(released) and row["status"] == "RUN":
                for task, scores in row["scores"].items():
                    found.append({"source": source["source"], "task": task, "metric": HEADLINE, **scores[HEADLINE]})
    return found
