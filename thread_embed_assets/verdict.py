"""What a check of stored data says."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Verdict:
    """Outcome of one check.

    Attributes:
        passed: whether the data may go on.
        description: one sentence for the reader; on failure it names examples.
        numbers: what was counted or measured.
    """

    passed: bool
    description: str
    numbers: dict[str, int | float] = field(default_factory=dict)


def no_faults(what: str, faults: list[str], checked: int) -> Verdict:
    """Passed when nothing was found among ``checked`` things, and there was something to check."""
    numbers: dict[str, int | float] = {"checked": checked, "faults": len(faults)}
    if not checked:
        return Verdict(False, f"there was nothing to check for: {what}", numbers)
    if faults:
        return Verdict(False, f"{what}: {len(faults)} of {checked}, such as {'; '.join(faults[:3])}", numbers)
    return Verdict(True, f"{what}: none among {checked}", numbers)
