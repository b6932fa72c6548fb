"""How a run spends its time: how often it learns, evaluates, probes and saves."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Transitions kept; the oldest go first."""
    action_repeat: Natural | None = None
    """Simulator steps per decision; None = the task's own (2 for dmc/, 1 elsewhere)."""
    environments: Natural = 1
    """Simulators stepped side by side in this process; each adds one decision per interaction."""
    evaluate_every: Natural = 50_000
    """Env steps between evaluations; one more comes before training and one at the end."""
    evaluation_episodes: Natural = 10
    """Greedy episodes per evaluation, on an environment with its own seeds."""
    probe_every: Natural = 10_000
    """Env steps between measurements of the networks' health."""
    probe_batch: Natural = 2_048
    """Transitions per probe; fewer where the replay holds fewer."""
    log_every: Natural = 2_000
    """Env steps between records of losses and speed."""
    checkpoint_every: Whole = 50_000
    """Env steps between checkpoints; 0 = none."""


@dataclass(frozen=True)
class StreamTrainConfig:
    """The schedule of a run that learns from a stream: no batch, no replay, no warm-up."""

    action_repeat: Natural | None = None
    """Simulator steps per decision; None = the task's own (2 for dmc/, 1 elsewhere)."""
    evaluate_every: Natural = 50_000
    """Env steps between evaluations; one more comes before training and one at the end."""
    evaluation_episodes: Natural = 10
    """Greedy episodes per evaluation, on an environment with its own seeds."""
    probe_every: Natural = 10_000
    """Env steps between measurements of the networks' health."""
    probe_batch: Natural = 2_048
    """Latest transitions kept for probes, and for nothing else."""
    log_every: Natural = 2_000
    """Env steps between records of metrics and speed."""
    checkpoint_every: Whole = 50_000
    """Env steps between checkpoints; 0 = none."""


Schedule = TrainConfig | StreamTrainConfig


def schedule_of(agent: str) -> type[TrainConfig] | type[StreamTrainConfig]:
    """Return the kind of schedule that an agent runs by.

    Example:
        >>> schedule_of("sac").__name__, schedule_of("stream_ac").__name__
        ('TrainConfig', 'StreamTrainConfig')
    """
    from kanbatsu.agents import STREAMING  # slow to import, and the command line wants this file

    return StreamTrainConfig if agent in STREAMING else TrainConfig
