"""A run whose training is somebody else's function: what it is, and what of it can be checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from kanbatsu.agents import AgentConfig
from kanbatsu.agents.schedule import Schedule
from kanbatsu.envs.spec import refuse_own_code
from kanbatsu.files.tables import did_you_mean
from kanbatsu.run.incumbent import IncumbentConfig, IncumbentSchedule
from kanbatsu.run.signature import Parameters, parameters

GIVEN = ("arm", "task", "seed", "env_steps", "folder")
"""Parameters that a training function is given, beside its arm's settings, if it has them."""


@dataclass(frozen=True)
class ExternalConfig:
    """What decides a training by somebody else's function, beside task, seed and env steps."""

    function: str
    """Training function, as `package.module:function`."""
    arm: str
    """Name of the arm."""
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Settings of the arm, which are parameters of the function."""


@dataclass(frozen=True)
class ExternalSchedule:
    """The schedule of a training that kanbatsu does not see into: env steps, and nothing else."""

    environments: ClassVar[int] = 1
    batch_size: ClassVar[int] = 0
    updates_per_interaction: ClassVar[int] = 0
    action_repeat: ClassVar[int] = 1
    acts_apart: ClassVar[bool] = False
    log_every: ClassVar[int] = 1
    checkpoint_every: ClassVar[int] = 0
    probe_batch: ClassVar[int] = 0
    probes: ClassVar[tuple[str, ...]] = ()
    replay_capacity: ClassVar[int] = 0
    evaluation_episodes: ClassVar[int] = 0
    evaluate_every: ClassVar[int] = 1
    probe_every: ClassVar[int] = 1

    def counts(self, turns: int) -> tuple[int, int]:
        """Return the interactions and updates after so many turns; updates are not known."""
        return turns, 0


RunConfig = AgentConfig | ExternalConfig | IncumbentConfig
"""What decides a run beside task, seed, env steps and schedule."""

RunSchedule = Schedule | ExternalSchedule | IncumbentSchedule
"""Schedule of a run."""


def check_external(config: ExternalConfig) -> None:
    """Refuse a function that cannot be had, and settings that it does not take.

    Raises:
        ValueError: One line per mistake.
    """
    refuse_own_code(config.function)
    takes = parameters(config.function)
    where = f"train = {config.function!r}"
    problems = [
        f"{where} has no parameter {name!r}, which the arm sets. {did_you_mean(name, takes.names)}"
        for name in config.settings
        if not takes.any and name not in takes.names
    ]
    problems += [
        f"{where} is given {name!r} by the run, so that an arm cannot set it"
        for name in config.settings
        if name in GIVEN
    ]
    problems += [
        f"{where} needs {name!r}: set it in the arm"
        for name in takes.required
        if name not in GIVEN and name not in config.settings
    ]
    if problems:
        raise ValueError("\n".join(problems))


def arguments(
    config: ExternalConfig, given: Mapping[str, Any], takes: Parameters
) -> dict[str, Any]:
    """Return what a training function is called with.

    Args:
        config: Settings of the run.
        given: Values of `GIVEN`.
        takes: Parameters of the function; of the given values it gets those that it has.
    """
    fit = {name: value for name, value in given.items() if takes.any or name in takes.names}
    return fit | dict(config.settings)
