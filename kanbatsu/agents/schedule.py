"""How a run spends its time: how often it learns, evaluates, probes and saves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from kanbatsu.ranges import Natural, Whole


@dataclass(frozen=True)
class TrainConfig:
    """The schedule of one run. Env steps are simulator steps before action repeat."""

    batch_size: Natural = 256
    """Transitions per gradient update."""
    updates_per_interaction: Natural = 2
    """Gradient updates per agent decision (SimBa: 2)."""
    warmup_interactions: Whole = 5_000
    """Uniformly random decisions before the first update (SimBa: 5,000)."""
    replay_capacity: Natural = 1_000_000
    """Transitions that are kept; the oldest go first."""
    action_repeat: Natural | None = None
    """Simulator steps per decision; the task's own by default (2 for dmc/, 1 elsewhere)."""
    environments: Natural = 1
    """Simulators stepped side by side in this process; each adds one decision per interaction."""
    evaluate_every: Natural = 50_000
    """Env steps between evaluations; one more comes before training, and one at the end."""
    evaluation_episodes: Natural = 10
    """Greedy episodes per evaluation, on an environment with its own seeds."""
    probe_every: Natural = 10_000
    """Env steps between measurements of the networks' health."""
    probe_batch: Natural = 2_048
    """Transitions per probe; fewer where the replay holds fewer."""
    log_every: Natural = 2_000
    """Env steps between records of losses and speed."""
    checkpoint_every: Whole = 50_000
    """Env steps between checkpoints; none are written for 0."""

    samples: ClassVar[str] = "batches from a replay"
    """Source of what an agent that runs by such a schedule learns from."""
    acts_apart: ClassVar[bool] = True
    """Flag of actions that are products of their own, beside those of updates."""

    @property
    def remembers(self) -> int:
        """Number of past transitions that are kept."""
        return self.replay_capacity

    def counts(self, turns: int) -> tuple[int, int]:
        """Return interactions and updates after that many decisions in every environment.

        Example:
            >>> train = TrainConfig(warmup_interactions=3, updates_per_interaction=2)
            >>> train.counts(2), train.counts(3), train.counts(5)
            ((2, 0), (3, 2), (5, 6))
        """
        before = max(math.ceil(self.warmup_interactions / self.environments) - 1, 0)
        updates = max(turns - before, 0) * self.environments * self.updates_per_interaction
        return turns * self.environments, updates


@dataclass(frozen=True)
class StreamTrainConfig:
    """The schedule of a run that learns from a stream: no batch, no replay, no warm-up."""

    action_repeat: Natural | None = None
    """Simulator steps per decision; the task's own by default (2 for dmc/, 1 elsewhere)."""
    evaluate_every: Natural = 50_000
    """Env steps between evaluations; one more comes before training, and one at the end."""
    evaluation_episodes: Natural = 10
    """Greedy episodes per evaluation, on an environment with its own seeds."""
    probe_every: Natural = 10_000
    """Env steps between measurements of the networks' health."""
    probe_batch: Natural = 2_048
    """Latest transitions kept for probes, and for nothing else."""
    log_every: Natural = 2_000
    """Env steps between records of metrics and speed."""
    checkpoint_every: Whole = 50_000
    """Env steps between checkpoints; none are written for 0."""

    batch_size: ClassVar[int] = 1
    updates_per_interaction: ClassVar[int] = 1
    warmup_interactions: ClassVar[int] = 0
    replay_capacity: ClassVar[int] = 0
    environments: ClassVar[int] = 1
    samples: ClassVar[str] = "every sample once, without batch and replay"
    """Source of what an agent that runs by such a schedule learns from."""
    acts_apart: ClassVar[bool] = False
    """Flag of actions that are products of their own, beside those of updates."""

    @property
    def remembers(self) -> int:
        """Number of past transitions that are kept, for probes and for nothing else."""
        return self.probe_batch

    def counts(self, turns: int) -> tuple[int, int]:
        """Return interactions and updates after that many decisions: one of each.

        Example:
            >>> StreamTrainConfig().counts(5)
            (5, 5)
        """
        return turns, turns


Schedule = TrainConfig | StreamTrainConfig


def stretch(schedule: Schedule, env_steps_per_turn: int) -> int:
    """Return the turns between two moments at which anything may be due.

    Args:
        schedule: says how often anything is.
        env_steps_per_turn: env steps of one decision in every environment.

    Example:
        >>> stretch(StreamTrainConfig(log_every=2_000), env_steps_per_turn=2)
        1000
    """
    moments = (
        schedule.log_every,
        schedule.probe_every,
        schedule.evaluate_every,
        schedule.checkpoint_every or schedule.log_every,
    )
    return max(1, min(moments) // env_steps_per_turn)
