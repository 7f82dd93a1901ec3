from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import dagster as dg
import pytest
from pydantic import BaseModel, Field

import thread_embed_assets
from thread_embed_assets.definitions import defs
from thread_embed_assets.defs import configuration
from thread_embed_assets.defs.configuration import COMMAND, DOCUMENT, PARTS, descriptions, document
from thread_embed_assets_tests.test_layers import PACKAGE

DOCUMENTED = {described for part in PARTS for described in part.classes}
# What no person writes: job files, answers of a language model, whole files, and what others inherit.
NO_CONFIGURATION = {"Job", "JobInput", "TableReference", "Written", "_Asked", "_Table", "Declaration", "HandleIOManager"}


def below(parent: type) -> Iterator[type]:
    for child in parent.__subclasses__():
        yield child
        yield from below(child)


def test_the_document_is_what_the_types_say() -> None:
    stored = (PACKAGE.parent / DOCUMENT).read_text(encoding="utf-8")
    assert stored == document(), f"a field has changed since {DOCUMENT} was written: {COMMAND}"


def test_every_class_of_configuration_is_in_it() -> None:
    for module in pkgutil.walk_packages(thread_embed_assets.__path__, "thread_embed_assets."):
        importlib.import_module(module.name)
    found = {c for c in below(BaseModel) if c.__module__.startswith("thread_embed_assets.")}
    missing = {c.__name__ for c in found - DOCUMENTED if "[" not in c.__name__}  # a generic of Dagster's, filled in
    assert missing == NO_CONFIGURATION
    assert found >= DOCUMENTED


@pytest.mark.parametrize("described", sorted(DOCUMENTED, key=lambda c: c.__name__))
def test_no_field_lacks_a_description(described: type[BaseModel]) -> None:
    assert [name for name, text in descriptions(described).items() if not text.strip()] == []
    stale = configuration._attributes(described).keys() - described.model_fields.keys()
    assert not stale, "the docstring describes what is no field"


def test_a_field_without_a_description_is_seen() -> None:
    class Planted(dg.Config):
        """Planted.

        Attributes:
            said, and_said: in the docstring,
                on two lines.
        """

        said: int = 1
        and_said: str
        described: float = Field(0.5, gt=0, le=1, description="A | B.")
        silent: bool = False

    assert [name for name, text in descriptions(Planted).items() if not text] == ["silent"]
    lines = configuration._table(Planted).splitlines()[2:]
    assert lines[:3] == [
        "| `said` | whole number | `1` | in the docstring, on two lines |",
        "| `and_said` | text | (needed) | in the docstring, on two lines |",
        "| `described` | number, > 0, ≤ 1 | `0.5` | A \\| B |",
    ]


def test_an_override_may_be_nothing() -> None:
    """Some fields take none, and Dagster's mappings refuse it where their type does not say so."""
    whole = defs().get_repository_def().get_implicit_global_asset_job_def()
    fields = {
        op.name: getattr(op.config_schema.config_type, "fields", {})
        for op in whole.all_node_defs
        if isinstance(op, dg.OpDefinition)
    }
    taking = [name for name, found in fields.items() if "overrides" in found]
    asked = {name: {"config": {"overrides": {"of_none": None}}} for name in taking}
    read = dg.validate_run_config(whole, {"ops": asked})["ops"]
    assert len(taking) >= 6 and all(read[name]["config"]["overrides"] == {"of_none": None} for name in taking)
