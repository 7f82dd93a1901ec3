"""``thread-embed models`` lists what was promoted; ``thread-embed rollback`` goes back to a model before."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from thread_embed_assets.release.history import packages, records, roll_back
from thread_embed_assets.release.package import export_is_of_promoted
from thread_embed_assets.storage.layout import Layout

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_history_commands(commands: Commands) -> None:
    commands.add_parser("models", help="the models that were promoted, and the last decision")
    parser = commands.add_parser("rollback", help="make a model that was promoted before the promoted one again")
    parser.add_argument("--to", metavar="NAME", help="as `models` lists it (default: the one before)")


def run_models(layout: Layout) -> str:
    """What the command prints: the newest last, the promoted one marked."""
    lines = [f"{'*' if one.promoted else ' '} {one.name}  {one.identity}" for one in packages(layout)]
    if not lines:
        return "no model has been promoted yet"
    last = [f"last decision, {one.at}: {one.event}: {one.why}" for one in records(layout)[-1:]]
    return "\n".join([*lines, *last, *_warnings(layout)])


def run_rollback(options: argparse.Namespace, layout: Layout) -> str:
    """What the command prints.

    Raises:
        InputError: there is nothing to go back to, or no model of that name.
    """
    back = roll_back(layout, options.to)
    return "\n".join([f"{layout.promoted_model} is {back.name} again ({back.identity})", *_warnings(layout)])


def _warnings(layout: Layout) -> list[str]:
    if not layout.onnx_package.exists():
        return []
    try:
        same = export_is_of_promoted(layout)
    except OSError:
        same = False
    return [] if same else [f"{layout.onnx_package} is of another model: run the job export"]
