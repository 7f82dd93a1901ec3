"""The model card of a package: sentence-transformers' own card data, filled with what is known of the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from thread_embed_assets.benchmark.metrics import HEADLINE
from thread_embed_assets.chat.formats import chat_text
from thread_embed_assets.release.card_copies import PLACE
from thread_embed_assets.release.card_facts import Facts
from thread_embed_assets.release.weights_card import compared_words

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData
    from sentence_transformers import SentenceTransformer

_TEMPLATE = Path(__file__).with_name("model_card.md")
_EXAMPLE = ({"author": "ann", "text": "bo: is the build red?"}, {"author": "bo", "text": "@ann since noon"})
_TASK = "finding the conversation that a chat message belongs to"
_CONDITIONS = {
    "CC-BY-4.0": "whoever made it is named and its [licence](https://creativecommons.org/licenses/by/4.0/) linked, and the "
    "change is told: its texts were turned into weights.",
    "CDLA-Sharing-1.0": "its [licence](https://cdla.dev/sharing-1-0/) sets no conditions on what is computed from the data, "
    "such as these weights; who passes its texts on does so under the same licence.",
    "Apache-2.0": "its [licence](https://www.apache.org/licenses/LICENSE-2.0) goes along.",
    "MIT": "its [licence](https://opensource.org/license/mit) and notice go along with texts of it.",
    "public domain": "nothing is asked.",
}
_CITATION = """\
@software{{threadembed,
  title = {{ThreadEmbed: {name}}},
  note = {{trained from {base}; checkpoint {fingerprint}}},
  license = {{Apache-2.0}}
}}"""


def model_card(model: SentenceTransformer, facts: Facts, text_format: str) -> str:
    """The README of a package, in Markdown with the hub's front matter.

    Args:
        model: the packaged model, loaded.
        facts: what is told of it.
        text_format: how it reads chat.
    """
    from huggingface_hub import ModelCard
    from sentence_transformers.sentence_transformer.model_card import SentenceTransformerModelCardData

    data = SentenceTransformerModelCardData(
        language="en",
        license="other" if facts.withheld else "apache-2.0",
        model_name=facts.name,
        task_name=_TASK,
        train_datasets=[{"name": about["title"], "size": about["rows_used"]} for about in facts.sources.values()],
        local_files_only=True,  # else it asks the hub about each name
        generate_widget_examples=False,
    )
    data.add_tags(["chat", "conversation", "thread-retrieval"])
    data.base_model = facts.base
    data.register_model(model)
    seconds = sum(stage.get("seconds") or 0 for stage in facts.stages)
    card = ModelCard.from_template(
        cast("ModelCardData", data),
        template_path=str(_TEMPLATE),
        place=PLACE,
        text_format=text_format,
        prompts=_prompts(model),
        dims=facts.dims,
        example=chat_text(_EXAMPLE, text_format),
        sources=facts.sources,
        withheld=facts.withheld,
        conditions=_conditions(facts.sources),
        training=[_stage_row(stage) for stage in facts.stages],
        training_time=f"{seconds / 60:.0f} minutes" if seconds else "a time that was not kept",
        rebuild=facts.rebuild,
        compared=compared_words(facts.compared),
        metric=HEADLINE,
        scores=facts.scores,
        shorter=facts.shorter,
        general=facts.general,
        citation=_CITATION.format(name=facts.name, base=facts.base, fingerprint=facts.stages[-1]["fingerprint"]),
    )
    return str(card)


def _conditions(sources: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What each licence asks of who passes the model on, and of whose texts."""
    of: dict[str, list[str]] = {}
    for name, about in sources.items():
        of.setdefault(about["licence"], []).append(f"`{name}`")
    unknown = "read it before you pass the model on."
    return [f"{licence} ({', '.join(names)}): {_CONDITIONS.get(licence, unknown)}" for licence, names in sorted(of.items())]


def _prompts(model: SentenceTransformer) -> str:
    used = {name: text for name, text in model.prompts.items() if text}
    return ", ".join(f"`{name}`: {json.dumps(text)}" for name, text in used.items()) or "none, for queries as for documents"


def _stage_row(stage: Mapping[str, Any]) -> list[str]:
    config, dev = stage["config"], stage.get("dev") or {}
    on_dev = [(dev.get(key) or {}).get("mrr@10") for key in ("base", "model")]
    told = [stage["stage"], stage["mix"], *(config.get(key) for key in ("learning_rate", "batch_size", "loss"))]
    told += [", ".join(sorted(config.get("strategies") or ())), stage.get("steps"), stage.get("tokens")]
    device, seconds = stage.get("device") or {}, stage.get("seconds")
    told += [device.get("name") or device.get("device"), None if seconds is None else f"{seconds / 60:.0f} min"]
    told.append(", ".join("-" if value is None else f"{value:.3f}" for value in on_dev))
    return ["-" if value in (None, "") else str(value) for value in told]
