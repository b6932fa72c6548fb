"""A gate: the numbers of a stage against its rule, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kanbatsu.rollout.config import ShadowRule


class Gate(NamedTuple):
    """Verdict of the numbers of a stage."""

    numbers: Mapping[str, int | float]
    """The numbers, by name."""
    rule: str
    """The rule that they are held against, as a sentence."""
    missing: tuple[str, ...]
    """Sentences about what keeps a person from advancing; empty where nothing does."""
    harm: str = ""
    """Why to roll back; empty where there is no reason."""

    @property
    def passed(self) -> bool:
        """Whether a person may advance."""
        return not self.missing and not self.harm


def shadow_gate(numbers: Mapping[str, int | float], rule: ShadowRule) -> Gate:
    """Hold the numbers of a shadow against its rule.

    Args:
        numbers: as `kanbatsu.rollout.shadow.Tally.numbers` gives them.
        rule: the rule of the first stage.

    Example:
        >>> numbers = {"answers": 50, "dropped_share": 0.0, "failures": 0, "late_share": 0.0,
        ...     "violation_share": 0.0}
        >>> shadow_gate(numbers, ShadowRule(answers=100)).missing
        ('answers: 50, at least 100 are needed',)
    """
    missing = []
    if numbers["answers"] < rule.answers:
        missing.append(f"answers: {numbers['answers']}, at least {rule.answers} are needed")
    for name in ("violation_share", "late_share", "dropped_share", "failures"):
        most = getattr(rule, name)
        if numbers[name] > most:
            missing.append(f"{name}: {numbers[name]:.4g}, at most {most:g} is allowed")
    said = (
        f"at least {rule.answers} answers, the guard would have acted at no more than "
        f"{rule.violation_share:g} of them, {rule.late_share:g} late, {rule.dropped_share:g} of "
        f"the observations dropped, {rule.failures} failures"
    )
    return Gate(dict(numbers), said, tuple(missing))
