"""What a candidate did in shadow, counted, and kept in a small file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kanbatsu.files.disk import read_json, sealed, write_json
from kanbatsu.files.shape import NUMBER, Each
from kanbatsu.rollout.events import FAILURES

REMEDY = "delete it: the shadow then counts from nothing"
SHAPE = {
    "total": [NUMBER],
    "squares": [NUMBER],
    **dict.fromkeys(("shown", "dropped", "answers", "late"), int),
    "longest_us": NUMBER,
    **dict.fromkeys(("would_violate", "failures"), Each(int)),
}


@dataclass
class Tally:
    """Counts of what a candidate did in shadow.

    Example:
        >>> tally = Tally.empty(action_dim=2)
        >>> tally.answered([0.5, 0.0], latency_us=20.0, violated=["action_box"], late=False)
        >>> tally.numbers()["violation_share"], tally.numbers()["largest_difference"]
        (1.0, 0.5)
    """

    total: list[float]
    """Sum of the differences, candidate less incumbent, by dimension of the action."""
    squares: list[float]
    """Sum of their squares."""
    shown: int = 0
    """Observations that the candidate was shown."""
    dropped: int = 0
    """Observations that it was not shown: it was still loading, or its queue was full."""
    answers: int = 0
    """Usable actions that came back."""
    late: int = 0
    """Answers that took longer than the guard's deadline."""
    longest_us: float = 0.0
    """Microseconds of the slowest answer."""
    would_violate: dict[str, int] = field(default_factory=dict)
    """Answers at which the guard would have acted, by trigger."""
    failures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAILURES, 0))
    """Failures by name."""

    @classmethod
    def empty(cls, action_dim: int) -> Tally:
        """Return the tally of nothing."""
        return cls([0.0] * action_dim, [0.0] * action_dim)

    def answered(
        self, difference: Sequence[float], latency_us: float, violated: Sequence[str], late: bool
    ) -> None:
        """Count one usable answer."""
        self.answers += 1
        self.late += late
        self.longest_us = max(self.longest_us, latency_us)
        for trigger in violated:
            self.would_violate[trigger] = self.would_violate.get(trigger, 0) + 1
        for at, value in enumerate(difference):
            self.total[at] += value
            self.squares[at] += value * value

    def numbers(self) -> dict[str, int | float]:
        """Return the numbers that a gate holds against its rule."""
        count = max(self.answers, 1)
        return {
            "answers": self.answers,
            "dropped_share": self.dropped / max(self.dropped + self.shown, 1),
            "failures": sum(self.failures.values()),
            "violation_share": max([0, *self.would_violate.values()]) / count,
            "late_share": self.late / count,
            "longest_us": self.longest_us,
            "largest_difference": (max(self.squares) / count) ** 0.5,
        }

    def store(self, path: Path) -> None:
        """Replace a file by this, atomically."""
        write_json(path, sealed({name: getattr(self, name) for name in SHAPE}))

    @classmethod
    def stored(cls, path: Path, action_dim: int) -> Tally:
        """Return what a file holds; the tally of nothing where there is none.

        Raises:
            kanbatsu.files.disk.DamagedFile: The file is not what was written.
        """
        if not path.exists():
            return cls.empty(action_dim)
        return cls(**read_json(path, SHAPE, REMEDY))
