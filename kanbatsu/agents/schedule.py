"""How a run spends its time: how often it learns, evaluates, probes and saves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """The schedule of one run. Env steps are simulator steps before action repeat."""

    batch_size: int = 256
    """Transitions per gradient update."""
    updates_per_interaction: int = 2
    """Gradient updates per agent decision (SimBa: 2)."""
    warmup_interactions: int = 5_000
    """Uniformly random decisions before the first update (SimBa: 5,000)."""
    replay_capacity: int = 1_000_000
    """Transitions that are kept; the oldest go first."""
    action_repeat: int | None = None
    """Simulator steps per decision; the task's own by default (2 for dmc/, 1 elsewhere)."""
    environments: int = 1
    """Simulators stepped side by side in this process; each adds one decision per interaction."""
    evaluate_every: int = 50_000
    """Env steps between evaluations; one more comes before training, and one at the end."""
    evaluation_episodes: int = 10
    """Greedy episodes per evaluation, on an environment with its own seeds."""
    probe_every: int = 10_000
    """Env steps between measurements of the networks' health."""
    probe_batch: int = 2_048
    """Transitions per probe; fewer where the replay holds fewer."""
    log_every: int = 2_000
    """Env steps between records of losses and speed."""
    checkpoint_every: int = 50_000
    """Env steps between checkpoints; none are written for 0."""


@dataclass(frozen=True)
class StreamTrainConfig:
    """The schedule of a run that learns from a stream: no batch, no replay, no warm-up."""

    action_repeat: int | None = None
    """Simulator steps per decision; the task's own by default (2 for dmc/, 1 elsewhere)."""
    evaluate_every: int = 50_000
    """Env steps between evaluations; one more comes before training, and one at the end."""
    evaluation_episodes: int = 10
    """Greedy episodes per evaluation, on an environment with its own seeds."""
    probe_every: int = 10_000
    """Env steps between measurements of the networks' health."""
    probe_batch: int = 2_048
    """Latest transitions kept for probes, and for nothing else."""
    log_every: int = 2_000
    """Env steps between records of metrics and speed."""
    checkpoint_every: int = 50_000
    """Env steps between checkpoints; none are written for 0."""


Schedule = TrainConfig | StreamTrainConfig


def schedule_of(agent: str) -> type[TrainConfig] | type[StreamTrainConfig]:
    """Return the kind of schedule that an agent runs by.

    Example:
        >>> schedule_of("sac").__name__, schedule_of("stream_ac").__name__
        ('TrainConfig', 'StreamTrainConfig')
    """
    from kanbatsu.agents import STREAMING  # slow to import, and the command line wants this file

    return StreamTrainConfig if agent in STREAMING else TrainConfig
