"""What must hold before examples are trained on, and a reranker is measured or used."""

from __future__ import annotations

from collections.abc import Callable

from thread_embed_assets.defs.checks import PartitionCheck, blocking_checks
from thread_embed_assets.reranker import quality
from thread_embed_assets.reranker.origins import written
from thread_embed_assets.reranker.package import scores_as_trained
from thread_embed_assets.reranker.train import latest_reranker
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets.verdict import Verdict


def _of_examples(check: Callable[[TableHandle], Verdict]) -> PartitionCheck:
    """The check of each origin's table; the first that fails speaks for all."""

    def of_all(layout: Layout, _: str) -> Verdict:
        verdicts = [check(table) for table in written(layout).values()]
        failed = [verdict for verdict in verdicts if not verdict.passed]
        if failed or not verdicts:
            return failed[0] if failed else Verdict(False, "there are no examples")
        return Verdict(True, verdicts[0].description, {"tables": len(verdicts)})

    of_all.__doc__ = check.__doc__
    return of_all


def _head_is_trained(layout: Layout, _: str) -> Verdict:
    return quality.head_is_trained(latest_reranker(layout.reranker_checkpoints))


def _scores_as_trained(layout: Layout, _: str) -> Verdict:
    return scores_as_trained(latest_reranker(layout.reranker_checkpoints), layout.reranker_package)


_head_is_trained.__doc__ = quality.head_is_trained.__doc__
_scores_as_trained.__doc__ = scores_as_trained.__doc__

example_checks = blocking_checks(
    "reranker_examples",
    None,
    {
        "split_by_profile_and_wording": _of_examples(quality.split_by_profile_and_wording),
        "nothing_from_the_future": _of_examples(quality.nothing_from_the_future),
        "one_right_candidate": _of_examples(quality.one_right_candidate),
    },
)
checkpoint_checks = blocking_checks("reranker_checkpoint", None, {"head_is_trained": _head_is_trained})
package_checks = blocking_checks("reranker_package", None, {"scores_as_trained": _scores_as_trained})
reranker_checks = [*example_checks, *checkpoint_checks, *package_checks]
