"""Whole SAC updates at three published sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.bench.entrant import (
    ACTION_DIM,
    BATCH,
    EPISODE_LENGTH,
    OBS_DIM,
    SIZES,
    UPDATES_PER_CALL,
    Entrant,
    Facts,
)
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.sparsity.count import count
from kanbatsu.types import Spec, Transition


def prepare_update(spec: Entrant) -> tuple[Callable[[], Any], int, Facts]:
    """Make an agent and a call that updates it; see `contender.prepare`."""
    agent = make_agent(spec)
    state = agent.init(jax.random.key(0))
    networks = {name: count(network) for name, network in agent.networks(state).items()}
    facts = Facts(
        weights=sum(network.kept for network in networks.values()),
        operations=float(
            sum(2 * BATCH * agent.passes[name] * net.kept for name, net in networks.items())
        ),
        state_bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
    )
    rng = np.random.default_rng(0)
    shape = (UPDATES_PER_CALL, BATCH)
    never = np.zeros(shape, bool)
    batches = Transition(
        obs=rng.normal(size=(*shape, OBS_DIM)).astype(np.float32),
        action=rng.uniform(-1, 1, (*shape, ACTION_DIM)).astype(np.float32),
        reward=rng.normal(size=shape).astype(np.float32),
        terminated=never,
        truncated=never,
        next_obs=rng.normal(size=(*shape, OBS_DIM)).astype(np.float32),
    )
    update = jax.jit(agent.update, donate_argnums=0)
    key = jax.random.key(1)
    holder = [state]
    del state

    def call() -> None:
        holder[0], metrics = update(holder[0], batches, key)
        jax.block_until_ready(metrics)

    return call, UPDATES_PER_CALL, facts


def make_agent(spec: Entrant) -> SAC:
    """Return SAC with SimBa at a size, pruned and computed as the contender says."""
    actor, critic = SIZES[spec.size]
    pruning: dict[str, Any] = {}
    if spec.pattern != "dense":
        pruning = {"sparsity": spec.sparsity, "pattern": spec.pattern, "compute": spec.compute}
    return SAC(
        Spec((OBS_DIM,), action_dim=ACTION_DIM, episode_length=EPISODE_LENGTH),
        SACConfig(
            actor=NetworkConfig(width=actor, blocks=1, **pruning),
            critic=CriticConfig(width=critic, blocks=2, **pruning),
        ),
    )
