"""Every field that can be configured, written from the types: ``python -m thread_embed_assets.defs.configuration``.

Descriptions are those of the fields, or of the class's ``Attributes:``. A test says when the document is old.
"""

import enum
import inspect
import re
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types as limits
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from thread_embed_assets.benchmark.ablation_plan import Arm, Plan, Question
from thread_embed_assets.benchmark.contenders import Reference
from thread_embed_assets.defs.ablations.assets import AblationConfig
from thread_embed_assets.defs.benchmark.assets import RegressionConfig
from thread_embed_assets.defs.conversations.assets import SummaryConfig
from thread_embed_assets.defs.pairs.assets import HardNegativeConfig, PairConfig
from thread_embed_assets.defs.release.assets import (
    ModelPackageConfig,
    OnnxModelConfig,
    ReleasedWeightsConfig,
    VectorStoreConfig,
)
from thread_embed_assets.defs.reranker.assets import ExamplesConfig, ResultsConfig, TrainConfig
from thread_embed_assets.defs.resources import GpuResource, LanguageModelResource, LayoutResource
from thread_embed_assets.defs.retraining import DemoConfig, RefreshDataConfig, RetrainConfig, RetrainingResource
from thread_embed_assets.defs.training.assets import StageRunConfig
from thread_embed_assets.defs.training.mining import MiningConfig
from thread_embed_assets.language_models.cost import Price
from thread_embed_assets.reranker.config import Phase, RerankerConfig
from thread_embed_assets.sources import catalog
from thread_embed_assets.training.config import StageConfig

DOCUMENT = Path("thread_embed_assets", "configuration.md")
COMMAND = "make docs"
_FROM_ENVIRONMENT = {(known, "profile") for known in (StageRunConfig, MiningConfig, DemoConfig, RetrainConfig)}
_ALTERNATIVES = {"kind", "by"}  # of one value each, which tells the classes of a union apart
_LIMITS = {limits.Ge: "≥ {0.ge}", limits.Gt: "> {0.gt}", limits.Le: "≤ {0.le}", limits.Lt: "< {0.lt}"}


@dataclass(frozen=True)
class Part:
    """Configuration that stands in one place."""

    title: str
    where: str
    classes: Sequence[type[BaseModel]]


PARTS = (
    Part(
        "Sources",
        "An entry of `catalog.yaml` or of your `own_chat.yaml`, where `path` stands for `origin` and the rest has defaults.",
        (
            *(catalog.Source, catalog.GithubOrigin, catalog.HubOrigin, catalog.HubStreamOrigin, catalog.PackageOrigin),
            *(catalog.FolderOrigin, catalog.PublishedSplit, catalog.TimeSplit, catalog.ConversationSplit),
        ),
    ),
    Part(
        "Assets",
        "In the run configuration, below `ops: {ASSET: {config: ...}}`; the UI's launchpad knows the fields, too.",
        (
            *(SummaryConfig, PairConfig, HardNegativeConfig, StageRunConfig, MiningConfig, AblationConfig, RegressionConfig),
            *(ExamplesConfig, TrainConfig, ResultsConfig, ModelPackageConfig, OnnxModelConfig, ReleasedWeightsConfig),
            VectorStoreConfig,
        ),
    ),
    Part(
        "Jobs",
        "In the run configuration of the jobs `demo`, `refresh_data` and `retrain`, below `ops: {run_JOB: {config: ...}}`.",
        (DemoConfig, RefreshDataConfig, RetrainConfig),
    ),
    Part(
        "Resources",
        "In the run configuration, below `resources: {NAME: {config: ...}}`.",
        (LayoutResource, LanguageModelResource, GpuResource, RetrainingResource),
    ),
    Part(
        "Training",
        "In a profile (`training/config.py`, `reranker/config.py`), or in `overrides` of a run's configuration.",
        (StageConfig, RerankerConfig, Phase),
    ),
    Part(
        "Benchmark",
        "In `benchmark/models.yaml` or your `own_models.yaml`, `benchmark/ablations.yaml` and `prices.yaml`.",
        (Reference, Plan, Question, Arm, Price),
    ),
)


def document() -> str:
    """The whole text of ``thread_embed_assets/configuration.md``."""
    parts = [
        "# Configuration",
        f"Written by `{COMMAND}` from the types; do not edit. Environment variables: README, Settings.",
    ]
    for part in PARTS:
        parts += [f"## {part.title}", part.where]
        for described in part.classes:
            parts += [f"### {described.__name__}", _purpose(described), _table(described)]
    return "\n\n".join(parts) + "\n"


def descriptions(described: type[BaseModel]) -> dict[str, str]:
    """What is said of each field; empty where nothing is."""
    told = _attributes(described)
    found = {name: field.description or told.get(name, "") for name, field in described.model_fields.items()}
    one = {name for name in found.keys() & _ALTERNATIVES if len(get_args(described.model_fields[name].annotation)) == 1}
    return found | dict.fromkeys(one, "tells this from its alternatives")


def _purpose(described: type[BaseModel]) -> str:
    return _plain(inspect.cleandoc(described.__doc__ or "").partition("\n\n")[0])


def _attributes(described: type[BaseModel]) -> dict[str, str]:
    """Of ``Attributes:`` in the docstring: name to text; ``a, b: text`` is of both."""
    _, _, section = inspect.cleandoc(described.__doc__ or "").partition("Attributes:\n")
    found = re.findall(r"^ {4}(\w+(?:, \w+)*): (.+(?:\n {5,}.+)*)", section, re.MULTILINE)
    return {name: _plain(text) for names, text in found for name in names.split(", ")}


def _table(described: type[BaseModel]) -> str:
    lines = ["| field | takes | default | |", "|---|---|---|---|"]
    for name, text in descriptions(described).items():
        field = described.model_fields[name]
        environment = (described, name) in _FROM_ENVIRONMENT
        default = "`quick`, or `THREAD_EMBED_PROFILE`" if environment else _default(field)
        lines.append(f"| `{name}` | {_takes(field)} | {default} | {_cell(text)} |")
    return "\n".join(lines)


def _takes(field: FieldInfo) -> str:
    bounds = [text.format(entry) for entry in field.metadata for kind, text in _LIMITS.items() if type(entry) is kind]
    return _cell(", ".join([_kind(field.annotation), *bounds]))


def _kind(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in inner)
    if origin in (Union, types.UnionType):
        return " or ".join("nothing" if kind is type(None) else _kind(kind) for kind in inner)
    if hasattr(annotation, "__metadata__"):
        return ", ".join([_kind(inner[0]), *_bounds(annotation.__metadata__)])
    if origin in (tuple, list, frozenset, set, Sequence):
        return f"list of {_kind(inner[0])}"
    if origin is not None and len(inner) == 2:
        return f"mapping of {_kind(inner[0])} to {_kind(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(f"`{choice.value}`" for choice in annotation)
    names = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", Any: "anything", Path: "path"}
    return names.get(annotation) or f"`{annotation.__name__}`"


def _bounds(metadata: Sequence[Any]) -> Iterator[str]:
    for entry in metadata:
        yield from (text.format(entry) for kind, text in _LIMITS.items() if type(entry) is kind)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(needed)"
    value = field.get_default(call_default_factory=True)
    assert value is not PydanticUndefined
    return _cell(f"`{_written(value)}`") if value not in ("", None) else ("empty" if value == "" else "nothing")


def _written(value: Any) -> str:
    """As YAML would have it, on one line."""
    if isinstance(value, BaseModel):
        return "{" + ", ".join(f"{k}: {_written(getattr(value, k))}" for k in type(value).model_fields) + "}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(k)}: {_written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(map(_written, sorted(value) if isinstance(value, set | frozenset) else value)) + "]"
    if isinstance(value, enum.Enum):
        return str(value.value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(text: str) -> str:
    """One line of Markdown from a docstring's text."""
    text = re.sub(r":\w+:`[.~]?([^`<]+)`", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`").rstrip(".")


def _cell(text: str) -> str:
    return text.rstrip(".").replace("|", "\\|")


def main() -> None:
    path = Path(__file__).resolve().parents[2] / DOCUMENT
    path.parent.mkdir(exist_ok=True)
    path.write_text(document(), encoding="utf-8")
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
