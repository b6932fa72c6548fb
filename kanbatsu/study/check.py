"""Refuse a run that cannot work, before anything trains."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax

from kanbatsu.agents import AGENTS
from kanbatsu.envs.make import make
from kanbatsu.sparsity.count import Count
from kanbatsu.sparsity.prune import plan
from kanbatsu.study.run import Run
from kanbatsu.types import Spec

AT_LEAST_ZERO = ("warmup_interactions", "checkpoint_every", "weight_decay", "exploration_std")
SHARES = {"discount": (0.0, 1.0), "tau": (1e-6, 1.0)}
ANY = ("sparsity", "target_entropy_per_action")
"""Numbers with a range of their own: `plan` judges the sparsity, and an entropy may be negative."""


def check(run: Run) -> dict[str, Count]:
    """Refuse a run that cannot work, before anything trains.

    Returns:
        What each network will keep, by layer.

    Raises:
        ValueError: for an unknown task or agent, spaces that the agent cannot use, a sparsity
            that cannot be met, or a schedule that makes no sense; the message says what to do.
    """
    if run.agent not in AGENTS:
        raise ValueError(f"unknown agent {run.agent!r}: choose from {', '.join(AGENTS)}")
    if not isinstance(run.config, AGENTS[run.agent].config):
        raise ValueError(f"{type(run.config).__name__} is not the configuration of {run.agent}")
    if run.env_steps < 1 or run.seed < 0:
        raise ValueError("env_steps must be at least 1, and seed at least 0")
    _check_ranges("train.", run.train)
    _check_ranges("", run.config)
    spec = _spec_of(run.task, run.train.action_repeat)
    templates = _dense_templates(run, spec)
    counts = {}
    for name, network in (("actor", run.config.actor), ("critic", run.config.critic)):
        try:
            counts[name] = plan(
                templates[name],
                network.sparsity,
                distribution=network.distribution,
                pattern=network.pattern,
            )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return counts


def _check_ranges(prefix: str, config: Any) -> None:
    """Refuse numbers with which nothing could work, by the name that a user types."""
    for item in dataclasses.fields(config):
        name, value = prefix + item.name, getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            _check_ranges(f"{name}.", value)
        elif not isinstance(value, int | float) or item.name in ANY:
            continue
        elif item.name in SHARES:
            lowest, highest = SHARES[item.name]
            if not lowest <= value <= highest:
                raise ValueError(f"{name} must lie in [{lowest}, {highest}]: got {value}")
        elif item.name in AT_LEAST_ZERO:
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0: got {value}")
        elif not value > 0:
            raise ValueError(f"{name} must be greater than 0: got {value}")


@functools.lru_cache(maxsize=64)  # a study asks once per arm and seed
def _spec_of(task: str, action_repeat: int | None) -> Spec:
    """Build a task's environment once and ask what it looks like."""
    environment = make(task, action_repeat)
    environment.close()
    return environment.spec


def _dense_templates(run: Run, spec: Spec) -> Mapping[str, Any]:
    """Return the shapes of the run's networks, unpruned, without drawing a number."""
    config = dataclasses.replace(
        run.config,
        actor=dataclasses.replace(run.config.actor, sparsity=0.0),
        critic=dataclasses.replace(run.config.critic, sparsity=0.0),
    )
    agent = AGENTS[run.agent].agent(spec, config)
    networks = jax.eval_shape(lambda key: agent.networks(agent.init(key)), jax.random.key(0))
    return {"actor": networks["actor"], "critic": networks["critic"][0]}
