"""Addresses of servers, which end up in logs, errors and metadata and so must hold nothing secret."""

from __future__ import annotations

from urllib.parse import urlsplit


def fault_of(url: str) -> str:
    """What is wrong with a server's base URL, in words that repeat no password; empty where nothing is.

    A user name, a password or a query is refused, for clients log the addresses that they ask.
    """
    if any(mark in url for mark in "@?#"):
        return "the URL holds a user name, a password, a query or a fragment, which logs would show"
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:  # brackets that do not close, or a port that is none
        known = None
    return "" if known else f"{url!r} is no URL"
