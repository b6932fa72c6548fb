"""Operations of a run, counted over its kernels as the layers really compute."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from kanbatsu.agents import AGENTS, AgentConfig
from kanbatsu.sparsity.flops import multiplied
from kanbatsu.types import Spec


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of an agent: two for each weight that a product multiplies."""

    update: int
    """Operations of one update with its whole batch, or of one decision on a stream."""
    decision: int
    """Operations of choosing one action; 0 on a stream, where they are part of the update."""

    def total(self, interactions: int, updates: int) -> int:
        """Operations of that many decisions and updates. Evaluations and probes are not counted.

        Example:
            >>> Operations(update=100, decision=3).total(interactions=10, updates=2)
            230
        """
        return self.update * updates + self.decision * interactions


def operations(agent: Any, networks: Mapping[str, Any], batch: int, acts_apart: bool) -> Operations:
    """Count the operations of an agent.

    Args:
        agent: Says how many products it makes with each kernel per update and sample (`passes`).
        networks: By name, drawn and pruned.
        batch: Samples of one update.
        acts_apart: Whether actions are products of their own, beside those of updates.
    """
    weights = {name: sum(multiplied(network).values()) for name, network in networks.items()}
    update = sum(2 * agent.passes[name] * batch * count for name, count in weights.items())
    acts = weights.get("actor", weights["critic"])
    return Operations(update, 2 * acts if acts_apart else 0)


@functools.lru_cache(maxsize=64)  # the runs of an arm ask alike
def operations_of(agent: str, config: AgentConfig, batch: int, spec: Spec) -> Operations:
    """Count the operations of an arm on a task, by drawing its networks once."""
    entry: Any = AGENTS[agent]
    made = entry.agent(spec, config)
    networks = made.networks(made.init(jax.random.key(0)))
    return operations(made, networks, batch, entry.schedule.acts_apart)


def turns(env_steps: int, train: Any, action_repeat: int) -> int:
    """Return how often a run of `env_steps` decides in all of its environments.

    Example:
        >>> from kanbatsu.agents.schedule import TrainConfig
        >>> turns(env_steps=7, train=TrainConfig(environments=2), action_repeat=2)
        2
    """
    return math.ceil(env_steps / (action_repeat * train.environments))
