from __future__ import annotations

import importlib.util
import json
from types import ModuleType
from typing import Any

import pytest

from .test_layers import PACKAGE


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", PACKAGE.parent / ".ci" / "audit.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PINNED = {"requests": "2.1", "urllib3": "2.2", "holed": "1.0"}
HOLE = {"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": ["CVE-1"], "description": "a hole"}


class Service:
    """pip-audit's answers where a service knows some of the packages."""

    def __init__(self, **known: set[str]) -> None:
        self.known = known
        self.asked: list[tuple[str, int]] = []

    def __call__(self, service: str, requirements: str) -> str:
        names = [line.split("==") for line in requirements.split()]
        self.asked.append((service, len(names)))
        if service not in self.known:
            return ""
        entries: list[dict[str, Any]] = [
            {"name": name, "version": version, "vulns": [HOLE] if name == "holed" else []}
            if name in self.known[service]
            else {"name": name, "skip_reason": "Dependency not found on PyPI"}
            for name, version in names
        ]
        return json.dumps({"dependencies": entries})


def test_a_package_that_is_not_as_pinned_is_named(audit: ModuleType) -> None:
    pinned = audit.pins("Sound_Package==1.0  # why\n\nother.one==2.0\n")
    installed = {"sound-package": "1.0+cpu", "other-one": "2.1", "slipped-in": "3", "pip": "99", "thread-embed-assets": "0"}
    assert audit.drift(pinned, installed) == [
        "other-one 2.1 is installed, the pin is 2.0",
        "slipped-in 3 is installed, the pin is missing",
    ]


def test_a_hole_is_named_and_what_is_accepted_is_not(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = Service(pypi=set(PINNED))
    found, looked = audit.audit(PINNED, everything)
    assert found == ["holed 1.0: PYSEC-1, mended in 1.1"] and looked == "pypi knows 3 of 3 pinned versions"
    monkeypatch.setitem(audit.ACCEPTED, "CVE-1", "not called")
    assert audit.audit(PINNED, everything)[0] == []


def test_where_no_service_answers_it_says_so_and_asks_no_further(audit: ModuleType) -> None:
    """A service that knows none of the versions lets pip-audit end well, with nothing looked at."""
    ignorant = Service(pypi=set())
    found, looked = audit.audit(PINNED, ignorant)
    assert found == [] and looked.startswith("NOT RUN")
    assert ignorant.asked == [("pypi", 2), ("osv", 2)]


def test_the_second_service_stands_in_for_the_first(audit: ModuleType) -> None:
    assert audit.audit(PINNED, Service(osv={"requests", "urllib3"})) == ([], "osv knows 2 of 3 pinned versions")


def test_the_pins_hold_here_what_is_tried_first(audit: ModuleType) -> None:
    pinned = audit.pins((PACKAGE.parent / "constraints.txt").read_text(encoding="utf-8"))
    assert set(audit.PROBES) <= set(pinned) and all(pinned.values())
