"""A package's card where the model lies elsewhere or runs otherwise: on the hub, and in the ONNX package."""

from __future__ import annotations

PLACE, ONNX_PLACE = "models/thread-embed", "models/thread-embed-onnx"  # what a card calls the folder it lies in
_USE, _CHAT = "## Use\n", "## How to write a chat\n"
_ONNX_USE = """\
With `onnxruntime`, `tokenizers` and `numpy`; `onnx_embedder.py` in this folder needs nothing else.

```python
import sys
from pathlib import Path

folder = Path("{place}")  # this folder
sys.path.append(str(folder))
from onnx_embedder import OnnxEmbedder

model = OnnxEmbedder(folder{shorter})
threads = model.encode(["the nightly job times out\\nsince when?\\nsince we moved the cache"])
print(threads @ model.encode(["why is the nightly build slow?"])[0])
```

`model.onnx` takes token numbers and mask, and gives unit vectors: token weights, pooling and normalisation are inside. On a
few probes its vectors differ from torch's by {difference:.1g} at most.{int8}

"""
_INT8 = (
    ' `model_int8.onnx` (`OnnxEmbedder(folder, model="model_int8.onnx")`) has eight-bit weights; the least cosine of its '
    "vectors with torch's is {cosine:.3f}."
)


def hub_card(card: str, repository: str) -> str:
    """The card as it stands on the hub, where the folder is a download."""
    card = card.replace(f'SentenceTransformer("{PLACE}"', f'SentenceTransformer("{repository}"')
    for place in (ONNX_PLACE, PLACE):
        card = card.replace(f'"{place}"', f'snapshot_download("{repository}")')
    return card.replace("import sys\n", "import sys\n\nfrom huggingface_hub import snapshot_download\n")


def onnx_card(card: str, difference: float, cosine_int8: float | None, truncate_dim: int | None) -> str:
    """The card of the same model's ONNX package: its own way to use it, and how far it is from torch.

    Args:
        card: of the model package.
        difference: the largest of a component of the exact graph's vectors, on a few probes.
        cosine_int8: the smallest of the eight-bit graph's vectors with torch's; None where there is no such graph.
        truncate_dim: shown in the example; None where the model has no shorter vectors.
    """
    head, rest = card.split(_USE, 1)
    head = head.replace("library_name: sentence-transformers", "library_name: onnx")
    head = head.replace("- sentence-transformers\n", "- onnx\n", 1)
    use = _ONNX_USE.format(
        place=ONNX_PLACE,
        shorter=f", truncate_dim={truncate_dim}" if truncate_dim else "",
        difference=difference,
        int8="" if cosine_int8 is None else _INT8.format(cosine=cosine_int8),
    )
    chat = rest.split(_CHAT, 1)[1].replace(f'"{PLACE}"', f'"{ONNX_PLACE}"')
    return f"{head}{_USE}\n{use}{_CHAT}{chat}"
