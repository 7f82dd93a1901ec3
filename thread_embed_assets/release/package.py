"""The promoted model: a folder that loads with plain ``SentenceTransformer``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thread_embed_assets.benchmark.contenders import text_format_of
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import atomic_folder
from thread_embed_assets.storage.layout import Layout

_PROBE = "anyone else seeing the nightly build time out?"


def publish(checkpoint_model_folder: Path, layout: Layout, details: Mapping[str, Any]) -> Path:
    """Copy a checkpoint's model to ``layout.promoted_model`` with a model card; the old model stays if anything fails.

    Args:
        checkpoint_model_folder: a folder that SentenceTransformer loads.
        layout: where the promoted model lies.
        details: the checkpoint's manifest.

    Returns:
        The folder of the promoted model.

    Raises:
        InputError: there is no such model, or the copy does not load and embed.
    """
    remedy = "Materialise the checkpoint again, then the model package"
    if not (checkpoint_model_folder / "modules.json").exists():
        raise InputError(checkpoint_model_folder, "this is not the folder of a SentenceTransformer", remedy)
    with atomic_folder(layout.promoted_model) as part:
        shutil.copytree(checkpoint_model_folder, part, dirs_exist_ok=True)
        (part / "README.md").write_text(model_card(text_format_of(part), details), encoding="utf-8")
        problem = _problem(part)
        if problem:
            raise InputError(checkpoint_model_folder, problem, remedy)
    return layout.promoted_model


def _problem(folder: Path) -> str:
    """Why the model in this folder cannot be used; empty when it embeds a text."""
    import numpy as np
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    try:
        vector = SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(
            _PROBE, show_progress_bar=False
        )
    # Each missing or damaged file of a model folder fails in its own way; none of them is a fault of this function.
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, ImportError, SafetensorError) as error:
        return f"the model does not load ({type(error).__name__}: {error})"
    return "" if np.isfinite(vector).all() else "the model's vectors are not finite"


_CARD = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
base_model: {base}
---

# thread-embed

Embeds chat messages and threads, so that a message finds its conversation. Tuned from {base}.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("models/thread-embed")
vectors = model.encode(["does the nightly build time out for you too?"])
```

It was trained on texts in the format `{text_format}` of `thread_embed_assets.chat.formats`: one message per line, names
masked. Give it the same.

## Trained on (mix `{mix}`, stage `{stage}`)

| source | pairs | rows |
| --- | --- | --- |
{rows}

Checkpoint `{fingerprint}`. The weights carry the conditions of these sources' licences: see `catalog.yaml`.
"""


def model_card(text_format: str, details: Mapping[str, Any]) -> str:
    """A short model card in Markdown from a checkpoint's manifest."""
    rows = [f"| {i['source']} | {i['strategy']} | {i['rows_used']} |" for i in details["inputs"]]
    return _CARD.format(
        base=details.get("original_base", details["config"]["base_model"]),
        text_format=text_format,
        rows="\n".join(rows),
        **{key: details[key] for key in ("mix", "stage", "fingerprint")},
    )
