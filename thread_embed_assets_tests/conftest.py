from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

# The same examples in every run, and no verdict that depends on how busy the machine is.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

_DEFS = "thread_embed_assets_tests/defs/"


class _DefsTogether(LoadFileScheduling):
    """A file goes to one worker, and so does all of ``defs/``, whose finished workspace takes a worker a minute to build."""

    def _split_scope(self, nodeid: str) -> str:
        return _DEFS if nodeid.startswith(_DEFS) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return _DefsTogether(config, log) if config.getvalue("dist") == "loadfile" else None
