"""Refuse a run that cannot work, before anything trains."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from kanbatsu.agents import AGENTS
from kanbatsu.agents.common import one_of_each, with_dense_networks
from kanbatsu.agents.schedule import StreamTrainConfig, TrainConfig
from kanbatsu.envs.functional import functional_of
from kanbatsu.envs.make import FUNCTIONAL
from kanbatsu.envs.own import described
from kanbatsu.envs.residual import ResidualConfig
from kanbatsu.envs.spec import Environment, TaskError
from kanbatsu.kernels.constants import GROUP_SIZES
from kanbatsu.ranges import check_ranges
from kanbatsu.remedies.check import check_remedies
from kanbatsu.remedies.records import Gradual
from kanbatsu.run.external import ExternalConfig, check_external
from kanbatsu.run.incumbent import IncumbentConfig, IncumbentSchedule, check_incumbent
from kanbatsu.run.mechanism import refuse_probes
from kanbatsu.run.record import Run, refuse_seed
from kanbatsu.run.trial import build, try_apart
from kanbatsu.sparsity.config import IN_GROUPS, Pruning
from kanbatsu.sparsity.prune import plan_as
from kanbatsu.sparsity.table import Count
from kanbatsu.types import Spec


def check(run: Run) -> dict[str, Count]:
    """Refuse a run that cannot work, before anything trains.

    Returns:
        What each network will keep, by layer; nothing of a training by somebody else's function.

    Raises:
        ValueError: for an unknown task or agent, spaces that the agent cannot use, a sparsity
            that cannot be met, or a schedule that makes no sense; the message says what to do.
    """
    if isinstance(run.config, ExternalConfig):
        if run.env_steps < 1:
            raise ValueError(f"env_steps must be at least 1, not {run.env_steps}")
        refuse_seed(run.seed)
        check_external(run.config)
        return {}
    if isinstance(run.config, IncumbentConfig) and isinstance(run.train, IncumbentSchedule):
        refuse_seed(run.seed)
        check_incumbent(run.task, run.config, run.train)
        return {}
    if run.agent not in AGENTS:
        raise ValueError(f"unknown agent {run.agent!r}: choose from {', '.join(AGENTS)}")
    if not isinstance(run.config, AGENTS[run.agent].config):
        raise ValueError(f"{type(run.config).__name__} is not the configuration of {run.agent}")
    if not isinstance(run.train, AGENTS[run.agent].schedule):
        raise ValueError(
            f"{run.agent} runs by a {AGENTS[run.agent].schedule.__name__}, not by a "
            f"{type(run.train).__name__}: an agent that learns from a stream has no batch_size, no "
            "replay_capacity and no warm-up, one with a replay needs them, and one that learns "
            "from rollouts needs a rollout"
        )
    if run.env_steps < 1:
        raise ValueError(f"env_steps must be at least 1, not {run.env_steps}")
    refuse_seed(run.seed)
    check_ranges(run.train, "train.")
    check_ranges(run.config)
    refuse_probes(run.agent, run.train.probes)
    late = run.train if isinstance(run.train, TrainConfig) else TrainConfig()
    if late.late_from_interaction and not late.late_updates_per_interaction:
        raise ValueError(
            "train.late_from_interaction says from when train.late_updates_per_interaction holds: "
            "set that as well, or remove it"
        )
    parts = getattr(run.config, "minibatches", 1)
    if run.train.batch_size % parts:
        raise ValueError(
            f"minibatches must divide a rollout of {run.train.batch_size} transitions "
            f"(train.rollout * train.environments): got {parts}"
        )
    if 0 < run.train.replay_capacity < run.train.environments:
        raise ValueError(
            "train.replay_capacity must hold a transition of each environment "
            f"({run.train.environments}): got {run.train.replay_capacity}"
        )
    if run.residual is not None:
        check_ranges(run.residual, "residual.")
    spec, _ = task_facts(run.task, run.agent, run.config, run.train, run.residual)
    if run.measures and run.task.startswith(FUNCTIONAL) and run.residual is None:
        raise ValueError(f"measures: {run.task} compiles, and reports nothing in info")
    templates = _dense_templates(run, spec)
    for remedy in run.remedy:
        check_ranges(remedy, f"remedy {remedy.kind}.")
    check_remedies(
        run.remedy,
        {name: getattr(run.config, name) for name in templates},
        run.env_steps,
        run.agent,
        streams=isinstance(run.train, StreamTrainConfig),
    )
    counts = {}
    for name in templates:
        network = getattr(run.config, name)
        grouped = network.sparsity > 0 and network.pattern in IN_GROUPS
        if grouped and network.compute == "packed" and network.group_size not in GROUP_SIZES:
            raise ValueError(
                f'{name}.group_size must be one of {GROUP_SIZES} with compute = "packed": got '
                f"{network.group_size}"
            )
        try:
            counts[name] = plan_as(templates[name], network)
            for remedy in run.remedy:
                if isinstance(remedy, Gradual):
                    plan_as(templates[name], Pruning(remedy.sparsity, remedy.distribution))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return counts


def slowed(run: Run) -> Iterator[str]:
    """Yield a warning of a task that compiles, and does not where its agent corrects a rule.

    Args:
        run: one that `check` lets pass.

    Example:
        >>> from kanbatsu.envs.residual import ResidualConfig
        >>> (warning,) = slowed(Run("jax/pendulum", residual=ResidualConfig("plant:pid")))
        >>> warning.partition(",")[0]
        'with residual jax/pendulum is stepped from the host'
    """
    if run.residual is not None and run.task.startswith(FUNCTIONAL):
        yield (
            f"with residual {run.task} is stepped from the host, which is slower: "
            f"{run.residual.policy} is Python and does not compile into the agent's program"
        )


def environment_of(run: Run, *, drawn: bool = False) -> Environment:
    """Build a run's environment as its agent wants it: its actions, and the time if it reads it.

    Args:
        run: one run.
        drawn: as in `kanbatsu.envs.make.make`.

    Raises:
        TaskError: The task does not exist, or the agent cannot use it.
    """
    wishes = _wishes(run.agent, run.config, run.train)
    return build(run.task, *wishes, residual=run.residual, drawn=drawn)


def task_facts(
    task: str, agent: str, config: Any, train: Any, residual: ResidualConfig | None = None
) -> tuple[Spec, int]:
    """Return what a task looks like to an arm, and the env steps that each interaction takes.

    A rule that the agent corrects changes neither, but the bounds of the actuators.

    Raises:
        TaskError: The task or the rule cannot be had, or fails when an episode begins.
    """
    return _facts_of(task, *_wishes(agent, config, train), residual)


def _wishes(agent: str, config: Any, train: Any) -> tuple[int | None, bool, bool, bool]:
    """Return what an arm wants: action repeat, discrete actions, images, the time."""
    entry = AGENTS[agent]
    return train.action_repeat, entry.discrete, entry.images, getattr(config, "time", False)


@functools.lru_cache(maxsize=64)  # a study asks once per arm and seed
def _facts_of(task: str, *wishes: Any) -> tuple[Spec, int]:
    """Build a task's environment once, begin an episode, and ask what it looks like."""
    try_apart(task, wishes)
    environment = build(task, *wishes)
    try:
        at = "reset"
        environment.reset(0)
        at = "its first step"
        if functional_of(environment) is None:  # others would compile first
            environment.step(np.zeros(environment.spec.action_dim))
    except TaskError:
        raise
    except Exception as error:  # the user's own environment may raise anything
        raise TaskError(
            f"{task} fails at {at}, before anything is trained: {described(error)}"
        ) from error
    finally:
        environment.close()
    return environment.spec, environment.action_repeat


def _dense_templates(run: Run, spec: Spec) -> Mapping[str, Any]:
    """Return the shapes of the run's networks, unpruned, without drawing a number."""
    agent = AGENTS[run.agent].agent(spec, with_dense_networks(run.config))
    networks = jax.eval_shape(lambda key: agent.networks(agent.init(key)), jax.random.key(0))
    return one_of_each(networks)
