"""Wraps the factories that Brax makes its networks with, so that their `init` draws masks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from brax.training.networks import FeedForwardNetwork

from kanbatsu.flax.masked import MASKS, Masking, masked, masking, masks_in
from kanbatsu.sparsity.count import count as count_tree
from kanbatsu.sparsity.table import Count

DEFAULT = 0.8
"""The sparsity of a network that nothing is said about."""
ACTOR, CRITICS = "policy_network", ("value_network", "q_network")
"""Fields of what Brax's factories return."""
Factory = Callable[..., Any]


def prune_networks(
    network_factory: Factory,
    actor: float = DEFAULT,
    critic: float = DEFAULT,
    *,
    distribution: str = "erk",
    pattern: str = "element",
    group_size: int = 16,
) -> Factory:
    """Return a factory whose networks are pruned, for `network_factory=` of Brax's `train`.

    Masks are drawn where the parameters are, from the seed of `train`, and are a part of them:
    target networks, checkpoints and what `train` returns carry them along. Moments of pruned
    weights stay zero. To run a policy that was trained, or to load one, give Brax this factory too.

    Args:
        network_factory: `make_ppo_networks`, `make_sac_networks`, or one of your own that returns
            such a record; with `functools.partial` for sizes.
        actor: share of the policy network's weights to remove, in [0, 1).
        critic: the same for the value network, or for all Q networks together.
        distribution: how a sparsity is spread over layers: `uniform`, `er` or `erk`.
        pattern: `element`, `grouped` or `bernoulli`; see `kanbatsu.prune`.
        group_size: outputs per group, for `grouped`.

    Returns:
        A function with the arguments of `network_factory`.

    Raises:
        ValueError: for an unknown word; from the factory, for a record without such networks; from
            `init`, for a sparsity that cannot be met.

    Example:
        >>> from brax.training.agents.ppo.networks import make_ppo_networks
        >>> factory = prune_networks(make_ppo_networks, actor=0.5, critic=0.9)
        >>> params = factory(8, 2).policy_network.init(jax.random.key(0))
        >>> print(count(params).sparsity)  # and then train(env, ..., network_factory=factory)
        0.5
    """
    words = (distribution, pattern, group_size)
    records = {ACTOR: masking(actor, *words)} | {name: masking(critic, *words) for name in CRITICS}

    @functools.wraps(network_factory)
    def pruned_factory(*args: Any, **kwargs: Any) -> Any:
        networks = network_factory(*args, **kwargs)
        found = {
            name: _pruned(getattr(networks, name), record)
            for name, record in records.items()
            if record.pruning.sparsity and hasattr(networks, name)
        }
        if not any(hasattr(networks, name) for name in records):
            raise ValueError(
                f"{type(networks).__name__} has none of {', '.join(records)}: give a factory such "
                "as brax.training.agents.ppo.networks.make_ppo_networks"
            )
        return networks.replace(**found)

    return pruned_factory


def count(params: Any) -> Count:
    """Count kept and total weights of every kernel of one network's parameters.

    Args:
        params: of one network, as `init` returns them; of what `train` returns, `params[1]` is the
            policy's.

    Returns:
        The table that `kanbatsu.count` returns.
    """
    return count_tree(params["params"], masks_in(params) if MASKS in params else None)


def _pruned(network: FeedForwardNetwork, record: Masking) -> FeedForwardNetwork:
    def init(key: Any) -> Any:
        return record.put(network.init(key), jax.random.fold_in(key, len(MASKS)))

    def apply(processor_params: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        return network.apply(processor_params, masked(params), *args, **kwargs)

    return FeedForwardNetwork(init=init, apply=apply)
