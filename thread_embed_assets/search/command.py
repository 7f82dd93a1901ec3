"""``thread-embed search``: the threads that fit a sentence; ``thread-embed serve``: the same as a page in the browser."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from thread_embed_assets.search.filters import Filters, time_of
from thread_embed_assets.search.progress import shown_progress
from thread_embed_assets.search.searcher import Searcher, open_source, open_workspace
from thread_embed_assets.search.show import show
from thread_embed_assets.search.web import PORT, SearchServer
from thread_embed_assets.storage.layout import Layout

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

LINES_SHOWN = 6


def add_search_commands(commands: Commands) -> None:
    find = commands.add_parser("search", help="print the threads nearest to a sentence, with the lines that match")
    find.add_argument("query")
    _add_room(find)
    find.add_argument("--top", type=int, default=5, help="threads to print (default: 5)")
    find.add_argument("--lines", type=int, default=LINES_SHOWN, help=f"lines of each (default: {LINES_SHOWN})")
    find.add_argument("--channel", action="append", default=[], help="only in this channel; may be given again")
    find.add_argument("--person", action="append", default=[], help="only where they took part; may be given again")
    find.add_argument("--since", help="only from then on: 2026-03-01, 2026-03-01T09:30 (UTC), or 7d for seven days ago")
    find.add_argument("--until", help="only up to then, written likewise")
    serve = commands.add_parser("serve", help="search in the browser, on this machine alone")
    _add_room(serve)
    serve.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0 takes a free one")


def _add_room(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workspace", help="a team's own export, as own_chat.yaml names it; people are shown by name")
    where.add_argument("--source", help="a source whose conversations are materialised; people stay masked")
    parser.add_argument("--model", help="a model folder, a released model's name or an id (default: models/thread-embed)")


def run_search(options: argparse.Namespace, layout: Layout) -> str:
    """What ``search`` prints.

    Raises:
        InputError: there is no such workspace, source, model, channel or person, or no such time, or the query is blank.
    """
    since = None if options.since is None else time_of(options.since, "--since")
    until = None if options.until is None else time_of(options.until, "--until", end=True)
    filters = Filters(options.channel, options.person, since, until)
    with _opened(options, layout) as searcher:
        return show(searcher.search(options.query, filters, options.top), options.lines)


def run_serve(options: argparse.Namespace, layout: Layout) -> None:
    """Answer until Ctrl-C.

    Raises:
        InputError: see :func:`run_search`; or the port is taken.
    """
    with _opened(options, layout) as searcher, SearchServer(searcher, options.port) as server:
        print(f"{searcher.name}: {server.url} (Ctrl-C ends it)", flush=True)
        server.run()


def _opened(options: argparse.Namespace, layout: Layout) -> Searcher:
    name = options.workspace or options.source
    with shown_progress(name) as progress:
        return (open_workspace if options.workspace else open_source)(name, layout, options.model, progress)
