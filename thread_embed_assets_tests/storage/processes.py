"""Other processes, for tests of what processes do to each other's files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

NOBODY = 65_534


def dead_pid() -> int:
    """The id of a process that has just ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def message_as_nobody(act: Callable[[], Any]) -> str:
    """What ``act`` raises in a child process without rights, as ``ErrorClass: message``; empty when nothing is raised."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        text = ""
        try:
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            act()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()
