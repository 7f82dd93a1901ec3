"""Imports flow one way, from storage and chat up to search, the command line and the definitions, as ``LAYERS`` says."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import thread_embed_assets

PACKAGE = Path(thread_embed_assets.__file__).parent
GROUND = ("storage", "errors", "verdict")
LAYERS = (
    "chat",
    "language_models",
    "sources",
    "pairs",
    "training",
    "benchmark",
    "reranker",
    "release",
    "search",
    "examples",
    "alerts",
    "command_line",
    "defs",
    "definitions",
)
RANK = dict.fromkeys(GROUND, 0) | {name: rank for rank, name in enumerate(LAYERS, 1)}
COMMAND = Path("defs", "run_graph.py")  # runs the definitions from above; nothing imports it
HEAVY = ("torch", "transformers", "datasets", "sentence_transformers", "matplotlib")


def _modules() -> Iterator[tuple[Path, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if relative.parts != ("__init__.py",):
            yield relative, "definitions" if relative == COMMAND else relative.parts[0].removesuffix(".py")


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports by a relative name"
            yield node.module or ""


def test_every_module_has_a_layer() -> None:
    assert {top for _, top in _modules()} == set(RANK)


def test_only_defs_and_definitions_import_dagster() -> None:
    allowed = {"defs", "definitions"}
    found = {str(path) for path, top in _modules() for name in _imported(path) if name.split(".")[0] == "dagster"}
    assert found, "the walk finds nothing"
    assert not [path for path in found if Path(path).parts[0].removesuffix(".py") not in allowed]


def test_imports_never_run_back_up() -> None:
    back = [
        f"{path} ({top}) imports {name}"
        for path, top in _modules()
        for name in _imported(path)
        if name.startswith("thread_embed_assets.") and RANK[name.split(".")[1]] > RANK[top]
    ]
    assert not back, "\n".join(back)
    assert not [path for path, _ in _modules() for name in _imported(path) if name.endswith(".run_graph")]


def test_loading_the_code_location_imports_nothing_heavy() -> None:
    code = f"import sys, thread_embed_assets.definitions as d; d.defs(); print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
