"""What must hold before something leaves."""

from __future__ import annotations

from pathlib import Path

from thread_embed_assets.defs.checks import blocking_checks
from thread_embed_assets.defs.partitions import CATALOG, stores
from thread_embed_assets.release import benchmark_dataset, pack, package, store_roundtrip, weights
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.verdict import Verdict


def _tasks(layout: Layout) -> dict[str, Path]:
    return {name: layout.tasks(name) for name in CATALOG if layout.tasks(name).exists()}


def _no_withheld_text(layout: Layout, _: str) -> Verdict:
    return benchmark_dataset.no_withheld_text(layout.benchmark_dataset, _tasks(layout), CATALOG)


def _no_people(layout: Layout, _: str) -> Verdict:
    people = {name: layout.people(name) for name in CATALOG if layout.people(name).exists()}
    return benchmark_dataset.no_people(layout.benchmark_dataset, _tasks(layout), people)


def _restores_bit_for_bit(layout: Layout, _: str) -> Verdict:
    return weights.restores_bit_for_bit(layout)


def _may_be_passed_on(layout: Layout, _: str) -> Verdict:
    return pack.may_be_passed_on(layout, CATALOG)


def _recall_at_10(layout: Layout, store: str) -> Verdict:
    return store_roundtrip.finds_what_exact_search_finds(layout, store)


def _loads_plainly_and_encodes_the_same(layout: Layout, _: str) -> Verdict:
    return package.loads_plainly_and_encodes_the_same(layout)


def _exported_encodes_the_same(layout: Layout, _: str) -> Verdict:
    return package.exported_encodes_the_same(layout)


_recall_at_10.__doc__ = store_roundtrip.finds_what_exact_search_finds.__doc__
_loads_plainly_and_encodes_the_same.__doc__ = package.loads_plainly_and_encodes_the_same.__doc__
_exported_encodes_the_same.__doc__ = package.exported_encodes_the_same.__doc__
_restores_bit_for_bit.__doc__ = weights.restores_bit_for_bit.__doc__
_may_be_passed_on.__doc__ = pack.may_be_passed_on.__doc__
_no_withheld_text.__doc__ = benchmark_dataset.no_withheld_text.__doc__
_no_people.__doc__ = benchmark_dataset.no_people.__doc__

package_checks = blocking_checks(
    "model_package", None, {"loads_plainly_and_encodes_the_same": _loads_plainly_and_encodes_the_same}
)
release_checks = [
    *package_checks,
    *blocking_checks("onnx_model", None, {"exported_encodes_the_same": _exported_encodes_the_same}),
    *blocking_checks("benchmark_dataset", None, {"no_withheld_text": _no_withheld_text, "no_people": _no_people}),
    *blocking_checks("vector_store_roundtrip", stores, {"recall_at_10": _recall_at_10}),
    *blocking_checks(
        "released_weights", None, {"restores_bit_for_bit": _restores_bit_for_bit, "may_be_passed_on": _may_be_passed_on}
    ),
]
