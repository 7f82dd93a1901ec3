"""Nothing in the package runs what it reads: no pickles, no code from model folders, no parser or server left open.

ruff's S rules (bandit's) see most of it; they are on for the package, and one test here plants what they see. The walk below
sees what they do not.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest

from .test_layers import PACKAGE

ROOT = PACKAGE.parent
IMPORTS = {
    **dict.fromkeys(("pickle", "marshal", "shelve", "joblib", "dill", "cloudpickle", "skops"), "unpickles"),
    **dict.fromkeys(("xml.etree", "xml.dom", "xml.sax", "lxml", "xmlrpc"), "expands entities; expat refuses them"),
}
CALLS = {  # the call's last name: what is wrong with it
    **dict.fromkeys(("unsafe_load", "full_load", "unsafe_load_all", "full_load_all"), "use yaml.safe_load"),
    **dict.fromkeys(("extract", "extractall", "unpack_archive"), "use sources/archives.py"),
    "read_pickle": "unpickles",
    "compile": "makes code",
}
BUILT_IN = {"compile"}  # the others are methods, or functions of a module
ARGUMENTS = {  # (the call's last name or "" for any, argument): the one value it may have
    ("load", "weights_only"): True,
    ("load", "allow_pickle"): False,
    ("", "trust_remote_code"): False,
    ("", "shell"): False,
    ("", "verify"): True,
}
ALL_INTERFACES = {"0.0.0.0", "::", "*"}
NOQA = re.compile(r"# noqa: ((?:[A-Z]+\d+,? ?)+)")
# What ruff is told to pass over, with the reason beside it in the code.
PASSED_OVER = {
    ("chat/secrets.py", "S105"),  # the name of a kind of secret
    ("release/hub.py", "S105"),  # the name of a variable
    ("alerts.py", "S105"),
    ("defs/training/process.py", "S603"),  # starts this package's own modules
    ("defs/retraining.py", "S603"),  # likewise; what a launchpad gives it are names that the catalogue knows
    ("release/stores/chroma_store.py", "S603"),
    ("defs/retraining.py", "S603"),  # the graph from the command line
}


def findings(code: str) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) of a module's text."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in names:
                for dangerous, why in IMPORTS.items():
                    if f"{name}.".startswith(f"{dangerous}."):
                        yield node.lineno, f"imports {name}, which {why}"
            if isinstance(node, ast.ImportFrom) and node.module == "torch" and any(a.name == "load" for a in node.names):
                yield node.lineno, "imports torch.load by name, so that its calls are not seen"
        elif isinstance(node, ast.Call):
            yield from _call(node)


def _call(node: ast.Call) -> Iterator[tuple[int, str]]:
    before, _, name = ast.unparse(node.func).rpartition(".")
    given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    if name in CALLS and bool(before) != (name in BUILT_IN):
        yield node.lineno, f"calls {name}: {CALLS[name]}"
    if before == "torch" and name == "load" and "weights_only" not in given:
        yield node.lineno, "calls torch.load without weights_only=True"
    for (call, argument), allowed in ARGUMENTS.items():
        value = given.get(argument)
        if call in ("", name) and value is not None and not (isinstance(value, ast.Constant) and value.value is allowed):
            yield node.lineno, f"calls {name} with {argument}={ast.unparse(value)}"
    if name in ("bind", "HTTPServer", "ThreadingHTTPServer") and node.args and isinstance(node.args[0], ast.Tuple):
        host = node.args[0].elts[0]
        if isinstance(host, ast.Constant) and host.value in {"", *ALL_INTERFACES}:
            yield node.lineno, "serves every network"


def test_the_package_does_nothing_of_the_kind() -> None:
    paths = sorted(PACKAGE.rglob("*.py"))
    assert len(paths) > 150, "the walk finds nothing"
    found = [f"{path}:{line} {what}" for path in paths for line, what in findings(path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("import torch\ntorch.load(path)", "without weights_only"),
        ("import torch\ntorch.load(path, weights_only=False)", "weights_only=False"),
        ("import torch\ntorch.load(path, weights_only=careful)", "weights_only=careful"),
        ("from torch import load\nload(path)", "imports torch.load by name"),
        ("def f():\n    import pickle", "imports pickle"),
        ("from joblib import load", "imports joblib"),
        ("import cloudpickle as c", "imports cloudpickle"),
        ("import shelve, json", "imports shelve"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "allow_pickle=True"),
        ("import pandas as pd\npd.read_pickle(path)", "calls read_pickle"),
        ("yaml.full_load(text)", "calls full_load"),
        ("import xml.etree.ElementTree as ET", "imports xml.etree.ElementTree"),
        ("from xml.dom import minidom", "imports xml.dom"),
        ("from lxml import etree", "imports lxml"),
        ("tar.extract(member)", "calls extract"),
        ("zipped.extractall(folder)", "calls extractall"),
        ("shutil.unpack_archive(path)", "calls unpack_archive"),
        ("compile(text, 'x', 'exec')", "calls compile"),
        ("subprocess.run(text, shell=quick)", "shell=quick"),
        ("AutoModel.from_pretrained(name, trust_remote_code=True)", "trust_remote_code=True"),
        ("httpx.Client(verify=context)", "verify=context"),
        ("listener.bind(('', 0))", "serves every network"),
        ("ThreadingHTTPServer(('0.0.0.0', 80), Handler)", "serves every network"),
    ],
)
def test_the_walk_sees_it(planted: str, said: str) -> None:
    assert any(said in what for _, what in findings(planted))


def test_the_walk_passes_what_is_sound() -> None:
    sound = "import re, torch, yaml\nre.compile('a')\nyaml.safe_load(t)\ntorch.load(p, weights_only=True)\nnp.load(p)\n"
    sound += "from xml.parsers import expat\nlistener.bind(('127.0.0.1', 0))\nmodel.load(path)\n"
    assert list(findings(sound)) == []


def test_ruff_looks_for_the_rest_of_it() -> None:
    planted = {
        "S102": "exec(text)",
        "S104": "host = '0.0.0.0'",
        "S202": "tarfile.open(path).extractall()",
        "S301": "pickle.loads(raw)",
        "S302": "marshal.loads(raw)",
        "S306": "tempfile.mktemp()",
        "S307": "eval(text)",
        "S314": "xml.etree.ElementTree.parse(path)",
        "S324": "hashlib.md5(raw)",
        "S501": "httpx.get(url, verify=False)",
        "S506": "yaml.load(text, Loader=yaml.Loader)",
        "S602": "subprocess.run(text, shell=True)",
        "S605": "os.system(text)",
    }
    code = "import hashlib, httpx, marshal, os, pickle, subprocess, tarfile, tempfile, xml.etree.ElementTree, yaml\n"
    code += "".join(f"{line}\n" for line in planted.values())
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"]
    place = ["--stdin-filename", str(PACKAGE / "planted.py"), "-"]
    done = subprocess.run([*command, *place], input=code, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1, done.stderr
    assert planted.keys() - set(re.findall(r"\bS\d{3}\b", done.stdout)) == set()


def test_what_ruff_passes_over_is_declared_here() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), rule.strip())
        for path in PACKAGE.rglob("*.py")
        for rules in NOQA.findall(path.read_text(encoding="utf-8"))
        for rule in rules.replace(",", " ").split()
        if re.fullmatch(r"S\d{3}", rule)
    }
    assert found == PASSED_OVER
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert {rule for rule in lint["ignore"] if rule.startswith("S")} == {"S101", "S311", "S608"}
    assert not [place for place in lint.get("per-file-ignores", {}) if not place.startswith("thread_embed_assets_tests")]


def test_every_server_that_is_started_listens_on_this_machine_alone() -> None:
    """Of the Makefile, the workspace and every file that names a host to listen on.

    A container listens on its own network; what of that is published is tested in ``deploy/test_deploy.py``.
    """
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    starting = [
        line for line in makefile.splitlines() if re.search(r"\bdg dev|dagster dev|dagster-webserver|defs\.ui", line)
    ]
    assert starting and all("--host 127.0.0.1" in line for line in starting)
    declared = [path for path in PACKAGE.rglob("*.yaml") if path != PACKAGE / "deploy" / "compose.yaml"]
    texts = [*PACKAGE.rglob("*.py"), *declared, ROOT / "Makefile", ROOT / "workspace.yaml"]
    named = [
        (path, host)
        for path in texts
        for host in re.findall(r"""--host["',]*[ =]["']?([^\s"',]+)""", path.read_text(encoding="utf-8"))
    ]
    assert named and {host for _, host in named} == {"127.0.0.1"}, named
