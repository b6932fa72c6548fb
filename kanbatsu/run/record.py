"""What a run is: one configuration, one task, one seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kanbatsu.agents import AGENTS
from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.envs.residual import ResidualConfig
from kanbatsu.files.tables import ADDED, from_dict
from kanbatsu.remedies.reading import read_remedies
from kanbatsu.remedies.records import Remedy
from kanbatsu.report.gather import EXTERNAL
from kanbatsu.report.results import INCUMBENT
from kanbatsu.run.external import ExternalConfig, ExternalSchedule, RunConfig, RunSchedule
from kanbatsu.run.incumbent import IncumbentConfig, IncumbentSchedule

SEEDS = 2**32
"""Number of seeds that there are: random draws take 32 bits of one, and no more."""


@dataclass(frozen=True)
class Run:
    """Everything that decides what a run does."""

    task: str
    """Task: `dmc/<domain>-<task>`, `gym/<id>`, `brax/<name>` or another of docs/environments.md."""
    agent: str = "sac"
    """Name of the algorithm: sac, ddpg, drqv2, pqn, stream_ac or stream_q; external where a
    function of the user's trains, incumbent where a rule is evaluated."""
    seed: int = 0
    """Seed of every random draw in the run, below 2**32."""
    env_steps: int = 200_000
    """Simulator steps, before action repeat, at which the run ends."""
    config: RunConfig = field(default_factory=SACConfig)
    """The algorithm's own configuration."""
    train: RunSchedule = field(default_factory=TrainConfig)
    """Schedule of the run, of the kind that `kanbatsu.agents.AGENTS` names for the agent."""
    remedy: tuple[Remedy, ...] = field(default=(), metadata=ADDED)
    """Remedies of the run; none by default."""
    residual: ResidualConfig | None = field(default=None, metadata=ADDED)
    """Rule that the agent corrects; none by default, where the agent's action is its own."""
    measures: tuple[str, ...] = field(default=(), metadata=ADDED)
    """Measures of evaluation episodes beside the return; none by default."""


def refuse_seed(seed: int, name: str = "seed") -> None:
    """Refuse a seed of which only a part would be used, so that two seeds would draw alike.

    Raises:
        ValueError: It is negative, or takes more than 32 bits.

    Example:
        >>> refuse_seed(2**32 + 1)
        Traceback (most recent call last):
        ...
        ValueError: seed must lie in 0 to 4,294,967,295 (32 bits), not 4294967297
    """
    if not 0 <= seed < SEEDS:
        raise ValueError(f"{name} must lie in 0 to {SEEDS - 1:,} (32 bits), not {seed}")


def run_from_dict(table: Mapping[str, Any]) -> Run:
    """Build a run from what `config.json` holds.

    Raises:
        RecordError: It is not the record of a run.

    Example:
        >>> from kanbatsu.files.tables import to_dict
        >>> run = Run("gym/Pendulum-v1", "ddpg", config=AGENTS["ddpg"].config(tau=0.01))
        >>> run_from_dict(to_dict(run)) == run
        True
    """
    config: Any
    train: Any
    if table["agent"] == EXTERNAL:
        config, train = ExternalConfig(**table["config"]), ExternalSchedule()
    elif table["agent"] == INCUMBENT:
        config = from_dict(IncumbentConfig, table["config"], "config")
        train = from_dict(IncumbentSchedule, table["train"], "train")
    else:
        entry = AGENTS[table["agent"]]
        config = from_dict(entry.config, table["config"], "config")
        train = from_dict(entry.schedule, table["train"], "train")
    remedy = read_remedies(table.get("remedy", ()))
    corrects = table.get("residual")
    residual = None if corrects is None else from_dict(ResidualConfig, corrects, "residual")
    task, agent, seed, env_steps = (table[x] for x in ("task", "agent", "seed", "env_steps"))
    return Run(
        task,
        agent,
        seed,
        env_steps,
        config,
        train,
        remedy,
        residual,
        tuple(table.get("measures", ())),
    )
