"""Who takes part in the benchmark: the registry of reference models, and the rows of the leaderboard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from thread_embed_assets.benchmark.api_models import ApiEncoder, no_key, provider_of
from thread_embed_assets.benchmark.embeddings import Encoder, ModelEncoder, Pooling
from thread_embed_assets.benchmark.readings import Reading, in_formats, whole_and_by_window
from thread_embed_assets.chat.formats import DEFAULT_FORMAT, FORMATS
from thread_embed_assets.errors import InputError, wrong_field
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.base_models import MIRROR_VARIABLE, local_folder, model_fingerprint, resolve
from thread_embed_assets.training.checkpoint import MODEL_DETAILS
from thread_embed_assets.training.devices import pick_device
from thread_embed_assets.training.token_weights import weighs_tokens

MODELS = Path(__file__).with_name("models.yaml")
OWN_MODELS = Path(__file__).resolve().parents[1] / "own_models.yaml"
OWN_MODELS_VARIABLE = "THREAD_EMBED_OWN_MODELS"
DOWNLOAD_VARIABLE = "THREAD_EMBED_DOWNLOAD_MODELS"
API_VARIABLE = "THREAD_EMBED_API_MODELS"

ContenderKind = Literal["bm25", "dense", "hybrid", "recency", "speakers"]
ContenderRole = Literal[
    "baseline", "base", "base_hybrid", "reference", "control", "champion", "tuned", "tuned_transfer", "tuned_hybrid"
]
Fusion = Literal["z_score", "reciprocal_rank"]


@dataclass(frozen=True)
class Model:
    """A model to be scored.

    Attributes:
        name: as the leaderboard shows it.
        location: its folder, a hub id, or a model behind an API such as ``openai/text-embedding-3-small``.
        fingerprint: names its weights. The key of the embedding cache is that of its encoder (:func:`open_encoder`), which
            covers prompts, pooling and precision as well.
        query_prompt, document_prompt: None leaves what the model's own settings say.
        pooling: used where the folder does not say it.
        dollars_per_million_tokens: of a model behind an API.
    """

    name: str
    location: Path | str
    fingerprint: str
    query_prompt: str | None = None
    document_prompt: str | None = None
    pooling: Pooling | None = None
    dollars_per_million_tokens: float | None = None


def open_encoder(model: Model, fitted_to: Sequence[str] | None = None) -> Encoder:
    """The encoder of a model, local or behind an API.

    Args:
        model: what is to be opened.
        fitted_to: see :class:`ModelEncoder`.

    Raises:
        InputError: there is no key for its API, or the environment names an unknown precision.
    """
    if _behind_api(model.location):
        price = model.dollars_per_million_tokens
        return ApiEncoder(str(model.location), price, model.query_prompt, model.document_prompt)
    return ModelEncoder(
        model.location,
        model.fingerprint,
        query_prompt=model.query_prompt,
        document_prompt=model.document_prompt,
        pooling=model.pooling,
        fitted_to=fitted_to,
    )


def _behind_api(location: Path | str) -> bool:
    return isinstance(location, str) and provider_of(location) is not None


@dataclass(frozen=True)
class Contender:
    """One row of the leaderboard.

    Attributes:
        name: unique among the contenders of a benchmark.
        kind: ``recency`` and ``speakers`` read no text; ``hybrid`` is the sum of the two contenders named in ``parts``.
        role: what it is compared as.
        readings: how it may read texts; dev decides between several. A hybrid takes its parts'.
        model: the model of a dense contender.
        truncate_dim: use only the first components of its vectors.
        parts: names of a hybrid's two contenders, which must be declared before it.
        fusion: what a hybrid adds up.
        not_run: why it cannot take part; its rows then say so.
    """

    name: str
    kind: ContenderKind
    role: ContenderRole
    readings: tuple[Reading, ...] = ()
    model: Model | None = None
    truncate_dim: int | None = None
    parts: tuple[str, str] | tuple[()] = ()
    fusion: Fusion = "z_score"
    not_run: str = ""


@dataclass(frozen=True)
class Tuned:
    """A trained model: ``tuned_transfer`` where the platform it is scored on was left out of its training."""

    model: Model
    role: Literal["tuned", "tuned_transfer"]


BM25 = Contender("bm25", "bm25", "baseline", in_formats(FORMATS))
RECENCY = Contender("recency", "recency", "baseline", (Reading(),))
SPEAKERS = Contender("speakers", "speakers", "baseline", (Reading(),))


def standard_contenders(base: Model, tuned: Sequence[Tuned], references: Sequence[Contender]) -> list[Contender]:
    """The baselines, the base model and its sums with BM25, each reference and tuned model alone and with BM25.

    A tuned model that weighs its tokens may be fitted to what is searched. Two controls then tell what fitting does and what
    training: the base, fitted, and the tuned model as it was trained.

    Args:
        base: the model that training started from, given every text format, whole and by window.
        tuned: checkpoints, each with a ``thread_embed.json`` that names its one text format.
        references: rows of :func:`reference_contenders`.
    """
    rows = [
        BM25,
        RECENCY,
        SPEAKERS,
        Contender(base.name, "dense", "base", whole_and_by_window(in_formats(FORMATS)), base),
        _with_bm25(base.name, "base_hybrid"),
        _with_bm25(base.name, "base_hybrid", "reciprocal_rank"),
    ]
    for reference in references:
        rows += [reference] if reference.not_run else [reference, _with_bm25(reference.name, "reference")]
    for one in tuned:
        trained, *fitted = _readings_of(one.model)
        rows.append(Contender(one.model.name, "dense", one.role, whole_and_by_window((trained, *fitted)), one.model))
        rows.append(_with_bm25(one.model.name, "tuned_hybrid"))
        controls = ((f"{base.name}, fitted", fitted, base), (f"{one.model.name}, unfitted", (trained,), one.model))
        known = {row.name for row in rows}
        rows += [
            Contender(name, "dense", "control", whole_and_by_window(readings), model)
            for name, readings, model in controls
            if fitted and name not in known
        ]
    return rows


def champion_contender(model: Model) -> Contender:
    """The promoted model, read as a tuned one: what a new model has to beat (:mod:`.duel`)."""
    return Contender(model.name, "dense", "champion", whole_and_by_window(_readings_of(model)), model)


def _readings_of(model: Model) -> tuple[Reading, ...]:
    """Of a trained model: in its text format, as it was trained and, if it weighs tokens, fitted to what is searched."""
    trained = Reading(text_format_of(model.location))
    return (trained, replace(trained, fitted=True)) if weighs_tokens(Path(model.location)) else (trained,)


def _with_bm25(name: str, role: ContenderRole, fusion: Fusion = "z_score") -> Contender:
    suffix = "" if fusion == "z_score" else " (rrf)"
    return Contender(f"{name}+bm25{suffix}", "hybrid", role, parts=(BM25.name, name), fusion=fusion)


def text_format_of(location: Path | str) -> str:
    """The text format a model was trained with, from its folder; ``plain`` for models that do not say.

    Raises:
        InputError: the model names a format that is not declared.
    """
    settings = Path(location) / MODEL_DETAILS
    if not settings.exists():
        return DEFAULT_FORMAT
    named = json.loads(settings.read_text("utf-8")).get("text_format", DEFAULT_FORMAT)
    if named not in FORMATS:
        raise InputError(settings, f"unknown text_format {named!r}", f"Known formats: {', '.join(FORMATS)}")
    return str(named)


class Reference(BaseModel):
    """A line of models.yaml or own_models.yaml.

    Attributes:
        name: in tables.
        model: a hub id, a folder, or a model behind an API (``openai/...``, ``voyage/...``).
        query_prompt, document_prompt: what the model's card has written before queries and documents; None leaves its own.
        pooling: how token vectors become one vector, where the files do not say it themselves.
        formats: text formats it may be given, of which the best on dev is taken.
        formats_without_gpu: of these, on a machine without a GPU.
        dollars_per_million_tokens: what an API asks.
        price_source: where and when that was read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[\w.+-]+$")
    model: str = Field(min_length=1)
    query_prompt: str | None = None
    document_prompt: str | None = None
    pooling: Pooling | None = None
    formats: tuple[str, ...] = Field(default=tuple(FORMATS), min_length=1)
    formats_without_gpu: tuple[str, ...] = Field(default=(DEFAULT_FORMAT,), min_length=1)
    dollars_per_million_tokens: float | None = Field(default=None, gt=0)
    price_source: str = ""

    @field_validator("formats", "formats_without_gpu")
    @classmethod
    def _known(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in formats if name not in FORMATS]
        if unknown:
            raise ValueError(f"unknown text format {unknown[0]!r}: write some of {', '.join(FORMATS)}")
        return formats

    @model_validator(mode="after")
    def _consistent(self) -> Reference:
        if (self.dollars_per_million_tokens is not None) != bool(self.price_source):
            raise ValueError("dollars_per_million_tokens and price_source (where and when it was read) go together")
        if self.pooling and _behind_api(self.model):
            raise ValueError("a model behind an API pools for itself: remove 'pooling'")
        return self

    def formats_here(self) -> tuple[str, ...]:
        """The formats it is given on this machine."""
        if _behind_api(self.model) or pick_device().device != "cpu":
            return self.formats
        return tuple(name for name in self.formats if name in self.formats_without_gpu) or self.formats[:1]


def load_references(path: Path = MODELS) -> dict[str, Reference]:
    """The reference models by name, in the file's order; then those of ``own_models.yaml``, if it is there.

    That file lies beside ``catalog.yaml``; ``THREAD_EMBED_OWN_MODELS`` names another in its place.

    Raises:
        InputError: a file is not YAML, or an entry has an unknown, missing or wrong field; the message names both.
    """
    defaults, entries = _entries(path)
    references = {name: _reference(path, name, {**defaults, **entry}) for name, entry in entries.items()}
    own = _own_models()
    if own is not None:
        own_defaults, entries = _entries(own)
        for name, entry in entries.items():
            if name in references:
                remedy = "Choose another name: it names a row of the leaderboard"
                raise InputError(f"{own}, entry '{name}'", f"{path.name} has a model of that name", remedy)
            references[name] = _reference(own, name, {**defaults, **own_defaults, **entry})
    return references


def _own_models() -> Path | None:
    named = os.environ.get(OWN_MODELS_VARIABLE)
    if not named:
        return OWN_MODELS if OWN_MODELS.exists() else None
    path = Path(named).expanduser().resolve()
    if not path.is_file():
        raise InputError(
            path, f"{OWN_MODELS_VARIABLE} names this file, but it is not there", "Correct or unset the variable"
        )
    return path


def _entries(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The defaults of a file and its entries by name."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(path, f"not valid YAML ({error})", "Mend the file at that line") from error
    if not isinstance(content, dict) or not isinstance(content.get("models"), dict):
        raise InputError(path, "the file has no mapping 'models'", "Start it with 'models:' and indent the entries")
    unknown = sorted(map(str, set(content) - {"models", "defaults"}))
    if unknown:
        raise InputError(path, f"unknown top-level field {unknown[0]!r}", "Only 'models' and 'defaults' are allowed there")
    defaults = content.get("defaults") or {}
    for name, entry in {"defaults": defaults, **content["models"]}.items():
        if not isinstance(entry, dict):
            remedy = "Write it as `name: {model: organisation/model}`"
            raise InputError(f"{path}, entry '{name}'", "is not a mapping of fields", remedy)
    return defaults, {str(name): entry for name, entry in content["models"].items()}


def _reference(path: Path, name: str, entry: Mapping[str, Any]) -> Reference:
    try:
        return Reference.model_validate({**entry, "name": name})
    except ValidationError as error:
        fields = ", ".join(field for field in Reference.model_fields if field != "name")
        raise wrong_field(error, f"{path}, entry '{name}'", f"Known fields: {fields}", whole="(entry)") from error


def reference_contenders(references: Mapping[str, Reference] | None = None) -> list[Contender]:
    """A row for each reference model of the registry; what is not available here says why.

    Nothing is downloaded unless ``THREAD_EMBED_DOWNLOAD_MODELS=1``, and no text goes to a service unless
    ``THREAD_EMBED_API_MODELS=1``.

    Raises:
        InputError: see :func:`load_references`.
    """
    rows = []
    for one in (load_references() if references is None else references).values():
        found = find_model(one, download=_is_set(DOWNLOAD_VARIABLE), send=_is_set(API_VARIABLE))
        if isinstance(found, str):
            rows.append(Contender(one.name, "dense", "reference", not_run=found))
        else:
            rows.append(
                Contender(one.name, "dense", "reference", whole_and_by_window(in_formats(one.formats_here())), found)
            )
    return rows


def _is_set(variable: str) -> bool:
    return os.environ.get(variable) == "1"


def find_model(reference: Reference, *, download: bool, send: bool) -> Model | str:
    """The model of a reference, or the reason why it cannot run here.

    Args:
        reference: a relative folder is taken from the root folder, then from the working folder.
        download: take from the hub what is not on this machine.
        send: let texts go to a service.
    """
    name, settings = reference.name, (reference.query_prompt, reference.document_prompt)
    provider = provider_of(reference.model)
    if provider is not None:
        if not os.environ.get(provider.key_variable, "").strip():
            return no_key(provider)
        if not send:
            return f"{API_VARIABLE} is not set to 1, so no text is sent to {provider.name}"
        return Model(name, reference.model, reference.model, *settings, None, reference.dollars_per_million_tokens)
    try:
        folder = _folder(reference.model, download)
    except InputError as error:
        return str(error)
    if isinstance(folder, str):
        return folder
    if not (folder / "modules.json").exists() and reference.pooling is None:
        return f"{folder} has no modules.json and the model's line no 'pooling', so nothing says how its vectors are made"
    return Model(name, folder, model_fingerprint(folder), *settings, reference.pooling)


def _folder(model: str, download: bool) -> Path | str:
    """Where a model's files lie, or why they are not here."""
    below_root = resolve(str(Layout.from_environment().root / Path(model).expanduser()))
    if isinstance(below_root, Path):
        return below_root
    found = local_folder(model) if download else resolve(model)
    if isinstance(found, Path):
        return found
    ways = f"${MIRROR_VARIABLE} can name a folder that holds it, {DOWNLOAD_VARIABLE}=1 lets it be downloaded"
    return f"{model} is not on this machine; {ways}"
