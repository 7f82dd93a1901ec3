"""Are the packages those that were pinned, and does anybody know of a hole in them? ``make audit``

Every installed package must have the version that ``constraints.txt`` names. Then pip-audit asks PyPI's advisories, or
OSV's, about these versions. It calls a package that the service does not know "skipped" and ends well, so two pins are
tried first: where neither service knows them, the audit is said to be NOT RUN, and nothing more is asked. Wheels' hashes
are not pinned.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOL = "pip-audit==2.10.1"
SERVICES = ("pypi", "osv")
PROBES = ("requests", "urllib3")
OURS = {"thread-embed-assets", "pip", "setuptools", "wheel"}
ACCEPTED: dict[str, str] = {}  # advisory: why it does not reach us

Ask = Callable[[str, str], str]


def pins(text: str) -> dict[str, str]:
    """Name to version of a constraints file."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return {_plain(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def drift(pinned: Mapping[str, str], installed: Mapping[str, str]) -> list[str]:
    """What is installed in another version than the pin, or has none."""
    there = {name: version.partition("+")[0] for name, version in installed.items() if name not in OURS}  # torch 2+cpu is 2
    return [
        f"{name} {version} is installed, the pin is {pinned.get(name, 'missing')}"
        for name, version in sorted(there.items())
        if pinned.get(name) != version
    ]


def audit(pinned: Mapping[str, str], ask: Ask) -> tuple[list[str], str]:
    """Advisories that were found, and what was looked at.

    Args:
        ask: from a service's name and requirements to pip-audit's JSON; empty where the service does not answer.
    """
    for service in SERVICES:
        tried = {name: pinned[name] for name in PROBES}
        if _read(ask(service, _requirements(tried)))[1] < len(tried):
            continue
        found, known = _read(ask(service, _requirements(pinned)))
        return found, f"{service} knows {known} of {len(pinned)} pinned versions"
    return [], f"NOT RUN: neither {' nor '.join(SERVICES)} can be asked about these versions from here"


def _read(answer: str) -> tuple[list[str], int]:
    """Advisories, and how many packages the service knows."""
    looked = json.loads(answer)["dependencies"] if answer else []
    known = [entry for entry in looked if "skip_reason" not in entry]
    found = [
        f"{entry['name']} {entry['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no version'}"
        for entry in known
        for hole in entry["vulns"]
        if not {hole["id"], *hole.get("aliases", ())} & ACCEPTED.keys()
    ]
    return found, len(known)


def _requirements(pinned: Mapping[str, str]) -> str:
    return "".join(f"{name}=={version}\n" for name, version in pinned.items())


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _ask(python: Path) -> Ask:
    def ask(service: str, requirements: str) -> str:
        listed = python.parent / "pins.txt"
        listed.write_text(requirements, encoding="utf-8")
        asked = ["--vulnerability-service", service, "--requirement", str(listed), "--no-deps", "--disable-pip"]
        command = [
            str(python),
            "-m",
            "pip_audit",
            *asked,
            "--format",
            "json",
            "--progress-spinner",
            "off",
            "--timeout",
            "10",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout if done.stdout.startswith("{") else ""

    return ask


def _tool() -> Path | None:
    """The Python of an environment that has pip-audit; None where it cannot be installed."""
    folder = Path(sys.prefix) / "audit"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TOOL]
    return python if subprocess.run(install, capture_output=True, check=False).returncode == 0 else None  # noqa: S603


def main() -> int:
    pinned = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    wrong = drift(pinned, {_plain(found.name): found.version for found in distributions()})
    python = _tool()
    found, looked = audit(pinned, _ask(python)) if python else ([], f"NOT RUN: {TOOL} cannot be installed here")
    lines = [*wrong, f"pins: {len(wrong)} of the installed packages differ", *found, f"advisories: {looked}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if wrong or found else 0


if __name__ == "__main__":
    sys.exit(main())
