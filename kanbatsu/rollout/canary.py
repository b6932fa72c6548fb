"""The canary: chance gives the candidate some episodes, and what shows harm stops it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.files.disk import append, durable_size, read_line
from kanbatsu.files.shape import misfit
from kanbatsu.rollout.config import CanaryRule
from kanbatsu.rollout.events import Arm
from kanbatsu.rollout.gate import Gate
from kanbatsu.rollout.sequential import Difference

BEGIN = {"number": int, "arm": str, "share": float}
END = {"number": int, "return": (int, float, type(None)), "violations": int, "steps": int}
"""Shapes of the two lines of an episode."""
REMEDY = "Roll back, and begin anew with `kanbatsu rollout init` in another folder."


def arm_of(number: int, rule: CanaryRule) -> Arm:
    """Return whose episode `number` is: the same for the same seed, on every machine.

    Example:
        >>> rule = CanaryRule(-100.0, 0.0, worse_by=5.0, share=0.25, seed=3)
        >>> arms = [arm_of(number, rule) for number in range(1000)]
        >>> arms.count("candidate")
        261
    """
    drawn = np.random.default_rng([rule.seed, number]).random()
    return "candidate" if drawn < rule.share else "incumbent"


class Canary:
    """The episodes of a canary: drawn, recorded before they begin, and judged after each.

    An episode that began and has no end, because the process died in it, counts with the lowest
    return and a violation, whoever it belonged to: a candidate that takes the process down would
    otherwise never be blamed.

    Args:
        path: file of JSON lines, two for each episode; what it holds already counts.
        rule: what stops the candidate, and what lets it go on.

    Raises:
        kanbatsu.files.disk.DamagedFile: A line of the file is not what was written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "canary.jsonl"
        >>> canary = Canary(path, CanaryRule(-100.0, 0.0, worse_by=5.0, share=0.5))
        >>> for _ in range(50):
        ...     arm = canary.begin()
        ...     gate = canary.end(-80.0 if arm == "candidate" else -40.0, violations=0, steps=9)
        >>> gate.harm
        'the candidate returns less than the incumbent, by at least 20'
    """

    def __init__(self, path: Path, rule: CanaryRule) -> None:
        self._path, self._rule = path, rule
        # Half of alpha for each: they are wrong together no more often than alpha.
        self._returns, self._violations = Difference(rule.alpha), Difference(rule.alpha)
        self._count = {"incumbent": 0, "candidate": 0}
        self._total = {"incumbent": 0.0, "candidate": 0.0}
        self._violated = {"incumbent": 0, "candidate": 0}
        self.unfinished = 0
        """Episodes that began and never ended."""
        self._begun: dict[str, Any] | None = None
        for line in _lines(path):
            if "arm" in line:
                self._forsake()
                self._begun = line
            else:
                self._take(line["return"], line["violations"])
        self._forsake()

    @property
    def number(self) -> int:
        """Number of the episode that is under way, or of the next."""
        return sum(self._count.values())

    def begin(self) -> Arm:
        """Draw whose episode the next is, and write it down before it begins."""
        self._forsake()
        arm = arm_of(self.number, self._rule)
        self._begun = {"number": self.number, "arm": arm, "share": self._rule.share}
        self._write(self._begun)
        return arm

    def end(self, total: float, violations: int, steps: int) -> Gate:
        """Write down how the episode ended, and judge.

        Args:
            total: its return; a number that is not finite counts as the lowest.
            violations: how many there were.
            steps: actions taken.

        Raises:
            ValueError: No episode has begun.
        """
        if self._begun is None:
            raise ValueError("no episode has begun: call begin() first")
        line = {"number": self.number, "return": total, "violations": violations, "steps": steps}
        self._write(line)
        self._take(total if np.isfinite(total) else None, violations)
        return self.gate()

    def gate(self) -> Gate:
        """Hold all episodes so far against the rule."""
        rule, width = self._rule, self._rule.return_high - self._rule.return_low
        low, high = (width * float(limit) for limit in self._returns.limits())
        # Outcomes of this one are 1 for an episode without a violation.
        fewer, more = (-float(limit) for limit in reversed(self._violations.limits()))
        numbers: dict[str, int | float] = {
            **{f"{arm}_episodes": count for arm, count in self._count.items()},
            **{
                f"{arm}_mean_return": self._total[arm] / max(count, 1)
                for arm, count in self._count.items()
            },
            **{f"{arm}_violated": count for arm, count in self._violated.items()},
            "unfinished": self.unfinished,
            "return_difference_low": low,
            "return_difference_high": high,
            "violation_difference_low": fewer,
            "violation_difference_high": more,
        }
        missing, theirs = [], self._count["candidate"]
        if theirs < rule.episodes:
            missing.append(f"candidate_episodes: {theirs}, at least {rule.episodes} are needed")
        if low < -rule.worse_by:
            missing.append(
                f"return_difference_low: {low:.4g}, at least {-rule.worse_by:g} is needed"
            )
        if more > rule.more_violations:
            missing.append(
                f"violation_difference_high: {more:.4g}, at most {rule.more_violations:g} is "
                "allowed"
            )
        harm = ""
        if fewer >= 0.0:
            harm = f"the candidate violates in more episodes than the incumbent, by {fewer:.3g}"
        if high <= 0.0:
            harm = f"the candidate returns less than the incumbent, by at least {-high:.3g}"
        said = (
            f"at least {rule.episodes} episodes of the candidate; with {1 - rule.alpha:.0%} "
            f"confidence at all times it returns at most {rule.worse_by:g} less than the incumbent "
            f"and violates in at most {rule.more_violations:.0%} more episodes; rolled back as "
            "soon as either is shown to be worse"
        )
        return Gate(numbers, said, tuple(missing), harm)

    def _take(self, total: float | None, violations: int) -> None:
        assert self._begun is not None
        rule, arm, share = self._rule, self._begun["arm"], self._begun["share"]
        total = rule.return_low if total is None else total
        clipped = min(max(total, rule.return_low), rule.return_high)
        outcome = (clipped - rule.return_low) / (rule.return_high - rule.return_low)
        self._returns.add(outcome, arm == "candidate", share)
        self._violations.add(float(violations == 0), arm == "candidate", share)
        self._count[arm] += 1
        self._total[arm] += total
        self._violated[arm] += violations > 0
        self._begun = None

    def _forsake(self) -> None:
        """Count an episode that has no end as the worst there is."""
        if self._begun is not None:
            self.unfinished += 1
            self._take(None, 1)

    def _write(self, line: Mapping[str, Any]) -> None:
        append(self._path, line)
        durable_size(self._path)  # forces it to disk


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Return the complete lines of the file; half a line that a kill left is not there."""
    complete = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    begun = None
    for number, text in enumerate(complete, start=1):
        where = f"{path}, line {number},"
        line = read_line(text, where, _misfit, REMEDY)
        if "arm" not in line and line["number"] != begun:
            line = read_line(text, where, lambda line: "an end without a beginning", REMEDY)
        begun = line["number"] if "arm" in line else None
        yield line


def _misfit(line: Any) -> str | None:
    table = misfit(line, dict)
    if table is None and line.get("arm", "incumbent") not in ("incumbent", "candidate"):
        return f"there is no arm {line['arm']!r}"
    return table or misfit(line, BEGIN if "arm" in line else END)
