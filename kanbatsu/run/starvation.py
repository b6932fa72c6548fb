"""Warn of a mask that starves a deep network: its inputs can hardly be told apart any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax

from kanbatsu.agents import AGENTS
from kanbatsu.agents.common import one_of_each, with_dense_networks
from kanbatsu.probes.norms import feature_norm
from kanbatsu.probes.rank import srank
from kanbatsu.run.check import task_facts
from kanbatsu.run.record import Run

FEWEST_LAYERS = 3
"""Hidden layers from which on a plain network is looked at. Fewer have not been seen to starve."""
RANK_LEFT, NORM_LEFT = 0.25, 0.01
"""Shares of the dense network's srank and feature norm below which features count as starved.
Conventions. The rank alone does not show it: without biases a ReLU network that is scaled down
layer by layer has the rank that it had."""
INPUTS = 512
"""Standard normal inputs on which the features are compared."""


def starved(run: Run) -> Iterator[str]:
    """Yield a warning for each network without normalisation that its mask starves.

    The features at the first weights are compared with those of the dense network, by srank and by
    norm. Only deep pruned MLPs with neither LayerNorm nor a residual stream are drawn; for all
    others this costs nothing.

    Args:
        run: one that `kanbatsu.run.check.check` lets pass.

    Example:
        >>> from kanbatsu.agents.ddpg import DDPGConfig
        >>> from kanbatsu.nn.config import CriticConfig
        >>> critic = CriticConfig(network="mlp", width=16, blocks=5, sparsity=0.9)
        >>> (warning,) = starved(Run("jax/pendulum", "ddpg", config=DDPGConfig(critic=critic)))
        >>> warning.partition(":")[0]
        'the mask starves the critic'
    """
    config: Any = run.config
    named = {name: getattr(config, name, None) for name in ("actor", "critic")}
    plain = [name for name, network in named.items() if _may_starve(network)]
    if not plain:
        return
    spec, _ = task_facts(run.task, run.agent, config, run.train)
    key = jax.random.key(run.seed)
    pruned, dense = (
        one_of_each(agent.networks(agent.init(key)))
        for agent in (
            AGENTS[run.agent].agent(spec, own) for own in (config, with_dense_networks(config))
        )
    )
    for name in plain:
        width = dense[name].encoder.layers[0].weight.shape[0]
        x = jax.random.normal(key, (INPUTS, width))
        features = [each[name].encode(x)[0] for each in (pruned, dense)]
        rank, dense_rank = (int(srank(each)) for each in features)
        norm, dense_norm = (float(feature_norm(each)) for each in features)
        if rank < RANK_LEFT * dense_rank or norm < NORM_LEFT * dense_norm:
            yield (
                f"the mask starves the {name}: at its first weights the features have srank {rank} "
                f"and norm {norm:.2g}, those of the dense network {dense_rank} and "
                f"{dense_norm:.2g}, so that it may hardly learn. Set {name}.norm = "
                f'"layernorm", {name}.residual = true or {name}.rescale = true, or remove fewer '
                "weights (docs/pruning.md)"
            )


def _may_starve(network: Any) -> bool:
    """Whether a network is pruned, deep, and without anything that keeps its outputs apart."""
    return (
        getattr(network, "network", None) == "mlp"
        and network.sparsity > 0.0
        and network.blocks >= FEWEST_LAYERS
        and network.norm == "none"
        and not network.residual
        and not network.rescale
    )
