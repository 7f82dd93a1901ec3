"""The model card of a released model, from its manifest and its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_CARD = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
base_model: {base}
---

# {name}

Embeds chat messages and threads, so that a message finds its conversation: {base}, trained on.

```python
from thread_embed_assets.release.weights import load

model = load("{name}")
vectors = model.encode(["does the nightly build time out for you too?"])
```

The folder holds the difference from the base in few bits; base and difference make the same weights, bit for bit, on every
machine (sha256 `{weights}`), and loading checks that. Give it texts in the format `{text_format}` of
`thread_embed_assets.chat.formats`: one message per line, names masked. {dimension} dimensions, of which the first
{dims} are vectors by themselves.

## Trained on

| source | licence | revision | pairs used |
| --- | --- | --- | --- |
{sources}

Stages, the last first: {stages}. Rebuilt by:

```
{rebuild}
```

## Results

{fidelity}

{compared}

{leaderboard}
"""


def card(manifest: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """A model card in Markdown."""
    stages = [f"`{s['stage']}` of the mix `{s['mix']}` (`{s['fingerprint']}`)" for s in manifest["stages"]]
    return _CARD.format(
        base=manifest["base_model"]["id"],
        name=manifest["name"],
        weights=manifest["weights_sha256"],
        text_format=manifest["text_format"],
        dimension=manifest["dimension"],
        dims=", ".join(map(str, manifest["matryoshka_dims"][1:])) or "none",
        sources="\n".join(
            f"| `{name}`: {about['title']} | {about['licence']} | {about['revision']} | {about['rows_used']} |"
            for name, about in sorted(manifest["sources"].items())
        ),
        stages=", ".join(stages),
        rebuild="\n".join(manifest["rebuild"]),
        fidelity=_fidelity(results["fidelity"]),
        compared=compared_words(manifest["compared"]),
        leaderboard=_leaderboard(results["leaderboard"]),
    )


def _fidelity(found: Mapping[str, Any]) -> str:
    mean, least, base = (f"{found[f'cosine_{name}']:.6f}" for name in ("mean", "min", "of_base_mean"))
    return (
        f"Its vectors beside those of the checkpoint it was taken from, on {found['texts']} {found['of']}: cosine {mean} on "
        f"average, {least} at least (the base's: {base} on average). It differs from the checkpoint by "
        f"{100 * found['error_of_change']:.2f} % of what training changed."
    )


def compared_words(compared: Mapping[str, Any]) -> str:
    """What is known of benchmark texts among the training texts."""
    if not compared:
        return "Its training texts were not compared with the benchmark's texts when it was packed."
    hit = ", ".join(f"`{name}` {about['dev_texts_hit']}" for name, about in compared.items() if about["dev_texts_hit"])
    dev = f"dev texts that do: {hit}" if hit else "no dev text does"
    return f"No test text of {', '.join(f'`{n}`' for n in compared)} stands in a training text; {dev}."


def _leaderboard(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "It has not been scored by the benchmark yet."
    lines = [
        f"| {r['source']} | {r['task']} | {r['metric']} | {r['mean']:.3f} | {r['low']:.3f} | {r['high']:.3f} |" for r in rows
    ]
    head = ["| source | task | metric | test | low | high |", "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join(["Test splits, masked texts, one index per source, 95 % intervals:", "", *head, *lines])
