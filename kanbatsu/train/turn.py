"""What both loops tell of their turns, and what a run's time is spent on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from kanbatsu.envs.vector import Episode


class Position(NamedTuple):
    """Position of a run; with the seed it determines every random draw that follows."""

    interactions: int = 0
    """Interactions so far, over all environments."""
    updates: int = 0
    """Gradient updates so far."""


class Turn(NamedTuple):
    """Record of one turn of a loop: an interaction in every environment, or a stretch of them.

    Entries are by member. The members' own states are those of an earlier turn until `settle` is
    called, and are given to the next turn: use them before asking for it.
    """

    env_steps: int
    """Simulator steps, before action repeat, that each member has done."""
    stride: int
    """Env steps since the turn before."""
    position: Position
    """Position of all members."""
    episodes: tuple[tuple[tuple[int, Episode], ...], ...]
    """Episodes that ended in this turn, each with the env steps at its end."""
    faults: tuple[Exception | None, ...]
    """Reason why a member stopped, by its number; it then stays stopped, and the others go on."""
    settle: Callable[[], None]
    """Hands every member its state and metrics. Taking them apart costs more than a small update,
    so it is for turns after which somebody looks."""


@dataclass
class Stopwatch:
    """Seconds spent on each kind of work, and the latest update times."""

    seconds: dict[str, float] = field(default_factory=lambda: {"total": 0.0})
    """Seconds so far, by kind of work."""
    update_milliseconds: list[float] = field(default_factory=list)
    """Milliseconds of each update since they were last written down."""
    started: float = field(default_factory=time.perf_counter)
    """Moment up to which the total is booked."""
    share: float = 1.0
    """Share of the time that passes which is booked: 1 / n for one of n runs in one program."""

    def add(self, kind: str, started: float) -> float:
        """Book the time since `started` (of `time.perf_counter`) and return it."""
        return self.book(kind, time.perf_counter() - started)

    def book(self, kind: str, elapsed: float) -> float:
        """Book this run's share of some seconds and return it."""
        elapsed *= self.share
        self.seconds[kind] = self.seconds.get(kind, 0.0) + elapsed
        return elapsed

    def book_updates(self, elapsed: float, updates: int) -> None:
        """Book seconds of learning, and the milliseconds that one update took."""
        self.update_milliseconds.append(1e3 * self.book("update", elapsed) / updates)

    def total(self) -> float:
        """Bring the total up to date and return it."""
        now = time.perf_counter()
        self.seconds["total"] += self.share * (now - self.started)
        self.started = now
        return self.seconds["total"]


def stop_unfit(
    metrics: Sequence[Mapping[str, Any] | None], faults: list[Exception | None], env_steps: int
) -> None:
    """Stop the members whose metrics are no longer finite.

    Args:
        metrics: of each member.
        faults: of members that have stopped, to which they are added.
        env_steps: of each member, when it was seen.
    """
    for index, own in enumerate(metrics):
        unfit = [name for name, x in (own or {}).items() if not np.isfinite(x)]
        if unfit and faults[index] is None:
            faults[index] = not_finite(", ".join(unfit), env_steps)


def not_finite(what: str, env_steps: int) -> FloatingPointError:
    """Return the error that fails a member whose numbers are no longer finite.

    Example:
        >>> not_finite("critic_loss", 30)  # doctest: +ELLIPSIS
        FloatingPointError('critic_loss is not finite at env step 30: the agent has diverged, ...')
    """
    return FloatingPointError(
        f"{what} is not finite at env step {env_steps}: the agent has diverged, or the environment "
        "returned something that is not finite. Try a smaller learning_rate"
    )
