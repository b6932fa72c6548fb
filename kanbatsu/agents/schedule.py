"""How a run spends its time: how often it learns, evaluates, probes and saves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from kanbatsu.files.tables import ADDED
from kanbatsu.probes.mechanism import Mechanism
from kanbatsu.ranges import Natural, Whole


@dataclass(frozen=True)
class Cadence:
    """The part of a schedule that every run has: when it evaluates, probes, logs and saves."""

    action_repeat: Natural | None = None
    """Simulator steps per interaction; the task's own by default (2 for dmc/, 1 elsewhere)."""
    evaluate_every: Natural = 50_000
    """Env steps between evaluations; one more comes before training, and one at the end."""
    evaluation_episodes: Natural = 10
    """Greedy episodes per evaluation, on an environment with its own seeds."""
    probe_every: Natural = 10_000
    """Env steps between measurements of the networks' health."""
    probe_batch: Natural = 2_048
    """Transitions per probe; fewer where fewer are kept."""
    log_every: Natural = 2_000
    """Env steps between records of losses, metrics and speed."""
    checkpoint_every: Whole = 50_000
    """Env steps between checkpoints; none are written for 0."""
    probes: tuple[Mechanism, ...] = field(default=(), metadata=ADDED)
    """Probes of mechanism that are made beside those of health, each at a cost of its own."""


@dataclass(frozen=True)
class TrainConfig(Cadence):
    """The schedule of one run. Env steps are simulator steps before action repeat."""

    batch_size: Natural = 256
    """Transitions per gradient update."""
    updates_per_interaction: Natural = 2
    """Gradient updates per interaction (SimBa: 2)."""
    warmup_interactions: Whole = 5_000
    """Uniformly random interactions before the first update (SimBa: 5,000)."""
    replay_capacity: Natural = 1_000_000
    """Transitions that are kept; the oldest go first."""
    environments: Natural = 1
    """Simulators stepped side by side in this process; each adds an interaction per turn."""
    first_updates: Whole = field(default=0, metadata=ADDED)
    """Gradient updates made at once when the warm-up is over, on its transitions (priming)."""
    late_updates_per_interaction: Natural | None = field(default=None, metadata=ADDED)
    """Gradient updates per interaction from `late_from_interaction` on; as before by default."""
    late_from_interaction: Whole = field(default=0, metadata=ADDED)
    """Interactions after which `late_updates_per_interaction` holds."""

    interactions_per_update: ClassVar[int] = 1
    """Interactions that `updates_per_interaction` is counted by."""
    samples: ClassVar[str] = "batches from a replay"
    """Source of what an agent that runs by such a schedule learns from."""
    acts_apart: ClassVar[bool] = True
    """Flag of actions that are products of their own, beside those of updates."""

    @property
    def remembers(self) -> int:
        """Number of past transitions that are kept."""
        return self.replay_capacity

    def counts(self, turns: int) -> tuple[int, int]:
        """Return interactions and updates after that many turns.

        Example:
            >>> train = TrainConfig(warmup_interactions=3, updates_per_interaction=2)
            >>> train.counts(2), train.counts(3), train.counts(5)
            ((2, 0), (3, 2), (5, 6))
            >>> primed = replace(train, first_updates=100)
            >>> primed.counts(2), primed.counts(3)
            ((2, 0), (3, 102))
            >>> later = replace(train, late_updates_per_interaction=8, late_from_interaction=5)
            >>> later.counts(4), later.counts(5), later.counts(6)
            ((4, 4), (5, 12), (6, 20))
        """
        n = self.environments
        learning = max(turns - _turns_before(self.warmup_interactions, n), 0)
        late = min(max(turns - _turns_before(self.late_from_interaction, n), 0), learning)
        rate = self.updates_per_interaction
        updates = n * (
            (learning - late) * rate + late * (self.late_updates_per_interaction or rate)
        )
        updates //= self.interactions_per_update
        return turns * n, updates + (self.first_updates if learning else 0)

    def is_primed_at(self, interactions: Any) -> Any:
        """Return whether the turn that ends at that many interactions is the first to learn in."""
        before, warm = interactions - self.environments, self.warmup_interactions
        return (before < max(warm, 1)) & (interactions >= warm)


@dataclass(frozen=True)
class ImageTrainConfig(TrainConfig):
    """The schedule of a run that learns from images in a replay."""

    updates_per_interaction: Natural = 1
    """Gradient updates of every `interactions_per_update` (DrQ-v2: 1)."""
    interactions_per_update: Natural = 2  # type: ignore[misc]
    """Interactions between two times of learning (DrQ-v2: 2)."""
    warmup_interactions: Whole = 2_000
    """Uniformly random interactions before the first update (DrQ-v2: 2,000)."""
    evaluate_every: Natural = 10_000
    """Env steps between evaluations; one more comes before training, and one at the end."""
    probe_batch: Natural = 256
    """Windows per probe; the convolutions' outputs for all of them are held at once."""


def _turns_before(interactions: int, environments: int) -> int:
    """Return the turns that end before that many interactions are reached."""
    return max(math.ceil(interactions / environments) - 1, 0)


@dataclass(frozen=True)
class StreamTrainConfig(Cadence):
    """The schedule of a run that learns from a stream: no batch, no replay, no warm-up."""

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
        """Return interactions and updates after that many turns: one of each.

        Example:
            >>> StreamTrainConfig().counts(5)
            (5, 5)
        """
        return turns, turns


@dataclass(frozen=True)
class RolloutTrainConfig(Cadence):
    """The schedule of a run that learns from rollouts: acts in many environments, then learns."""

    environments: Natural = 128
    """Simulators stepped side by side (PQN on MinAtar: 128)."""
    rollout: Natural = 32
    """Interactions in each environment between two updates (PQN on MinAtar: 32)."""
    evaluate_every: Natural = 100_000
    """Env steps between evaluations; one more comes before training, and one at the end."""
    probe_every: Natural = 50_000
    """Env steps between measurements of the networks' health."""
    probe_batch: Natural = 2_048
    """Transitions per probe; at most those of a rollout, where the simulators are JAX."""
    log_every: Natural = 20_000
    """Env steps between records of losses and speed."""
    checkpoint_every: Whole = 200_000
    """Env steps between checkpoints; none are written for 0."""

    warmup_interactions: ClassVar[int] = 0
    replay_capacity: ClassVar[int] = 0
    samples: ClassVar[str] = "rollouts, without a replay"
    """Source of what an agent that runs by such a schedule learns from."""
    acts_apart: ClassVar[bool] = True
    """Flag of actions that are products of their own, beside those of updates."""

    @property
    def batch_size(self) -> int:
        """Transitions of one rollout, which one update learns from."""
        return self.environments * self.rollout

    @property
    def updates_per_interaction(self) -> float:
        """Updates per interaction, less than one."""
        return 1.0 / self.batch_size

    @property
    def remembers(self) -> int:
        """Number of past transitions that are kept: for one update, and for probes."""
        return max(self.probe_batch, self.batch_size)

    def counts(self, turns: int) -> tuple[int, int]:
        """Return interactions and updates after that many turns; a rollout's are one update.

        Example:
            >>> RolloutTrainConfig(environments=4, rollout=8).counts(17)
            (68, 2)
        """
        return turns * self.environments, turns // self.rollout


Schedule = TrainConfig | ImageTrainConfig | StreamTrainConfig | RolloutTrainConfig


def stretch(schedule: Schedule, env_steps_per_turn: int) -> int:
    """Return the turns between two moments at which anything may be due.

    Args:
        schedule: says how often anything is.
        env_steps_per_turn: env steps of one turn: an interaction in every environment.

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
    turns = max(1, min(moments) // env_steps_per_turn)
    if isinstance(schedule, RolloutTrainConfig):  # whole rollouts, at least one
        return max(1, turns // schedule.rollout) * schedule.rollout
    return turns


def over_training(config: Any, interactions: int) -> Any:
    """Tell a configuration that asks for it how long the run's training is.

    Example:
        >>> from kanbatsu.agents.pqn import PQNConfig
        >>> over_training(PQNConfig(), 500).training_interactions
        500
    """
    asks = getattr(config, "training_interactions", 0) is None
    return replace(config, training_interactions=interactions) if asks else config
