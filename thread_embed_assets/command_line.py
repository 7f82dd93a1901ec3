"""The console script ``thread-embed``: search, serve, route, release, push, models, rollback, sync."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from thread_embed_assets.benchmark.embeddings import ModelEncoder
from thread_embed_assets.errors import InputError
from thread_embed_assets.language_models.anthropic_api import ChatModel
from thread_embed_assets.release.command import add_release_command, run_release
from thread_embed_assets.release.current_model import model_for_search
from thread_embed_assets.release.hub import add_push_command, run_push
from thread_embed_assets.release.rollback import add_history_commands, run_models, run_rollback
from thread_embed_assets.reranker.candidates import Floats
from thread_embed_assets.reranker.command import add_route_command, run_route
from thread_embed_assets.reranker.router import Embedder
from thread_embed_assets.search.command import add_search_commands, run_search, run_serve
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.remote_root import REMOTE_VARIABLE, remote_root
from thread_embed_assets.training.base_models import model_fingerprint


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="thread-embed", description="Find conversations by what they are about")
    commands = parser.add_subparsers(dest="command", required=True)
    add_search_commands(commands)
    add_release_command(commands)
    add_push_command(commands)
    add_route_command(commands)
    add_history_commands(commands)
    commands.add_parser("sync", help=f"bring and send what this machine and {REMOTE_VARIABLE} lack of each other")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("thread_embed_assets.search.progress").setLevel(logging.INFO)
    os.environ.setdefault("TQDM_DISABLE", "1")  # loading a small model needs no progress bar
    layout = Layout.from_environment()
    try:
        match options.command:
            case "release":
                print(run_release(options, layout))
            case "push":
                print(run_push(options, layout))
            case "models":
                print(run_models(layout))
            case "rollback":
                print(run_rollback(options, layout))
            case "route":
                print(run_route(options, layout, _embedder(layout), ChatModel))
            case "sync":
                print(_sync(layout))
            case "serve":
                run_serve(options, layout)
            case _:
                print(run_search(options, layout))
    except InputError as error:
        print(f"thread-embed: {error}", file=sys.stderr)
        return 1
    return 0


def _sync(layout: Layout) -> str:
    remote = remote_root(layout)
    if remote is None:
        raise InputError(REMOTE_VARIABLE, "it names no remote root", "Give it the form s3://bucket/prefix")
    brought, sent = remote.bring(), remote.send()
    return (
        f"{layout.root}: {brought.files} files brought, {brought.removed} removed\n"
        f"{remote.url}: {sent.files} files sent, {sent.removed} removed"
    )


def _embedder(layout: Layout) -> Embedder | None:
    """Of the promoted or the released model, loaded when the first text comes; None where there is none."""
    try:
        folder = model_for_search(layout, None)
    except InputError:
        return None
    encoder = ModelEncoder(folder, model_fingerprint(folder))

    def embed(text: str) -> Floats:
        vector: Floats = encoder.encode([text], "document")[0]
        return vector

    return embed


if __name__ == "__main__":
    sys.exit(main())
