"""What a run is: one configuration, one task, one seed."""

from __future__ import annotations

from dataclasses import dataclass, field

from kanbatsu.agents import AgentConfig
from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.schedule import Schedule, TrainConfig


@dataclass(frozen=True)
class Run:
    """Everything that decides what a run does."""

    task: str
    """Task: `dmc/<domain>-<task>`, `gym/<id>`, `brax/<name>` or another of docs/environments.md."""
    agent: str = "sac"
    """Name of the algorithm: sac, ddpg, stream_ac or stream_q."""
    seed: int = 0
    """Seed of every random draw in the run."""
    env_steps: int = 200_000
    """Simulator steps, before action repeat, at which the run ends."""
    config: AgentConfig = field(default_factory=SACConfig)
    """The algorithm's own configuration."""
    train: Schedule = field(default_factory=TrainConfig)
    """The schedule; `kanbatsu.agents.schedule.schedule_of` says which kind an agent wants."""
