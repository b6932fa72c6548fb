"""Gives a rejax algorithm networks that prune themselves."""

from __future__ import annotations

from typing import Any, TypeVar

from flax import linen

from kanbatsu.flax.pruning import pruned
from kanbatsu.sparsity.allocate import check_sparsity

DEFAULT = 0.8
"""The sparsity of a network that nothing is said about."""
FIELDS = {"actor": "actor", "critic": "critic", "agent": "critic"}
"""Networks of rejax's algorithms, and the part that each belongs to; `agent` is a DQN's."""
Algorithm = TypeVar("Algorithm")


def prune_networks(
    algorithm: Algorithm,
    actor: float | None = None,
    critic: float | None = None,
    *,
    distribution: str = "erk",
    pattern: str = "element",
    group_size: int = 16,
) -> Algorithm:
    """Return a rejax algorithm whose networks are pruned.

    Masks are drawn where the parameters are, from the key of `train`, and are a part of them: train
    states and target parameters carry them. Seeds that are trained side by side by `vmap`, and the
    critics of an ensemble, have masks of their own.

    Args:
        algorithm: what `create` of one of rejax's algorithms returned: SAC, TD3, PPO, DQN, PQN or
            IQN.
        actor: share of the actor's weights to remove, in [0, 1), 0.8 by default; 0 leaves it
            dense. DQN, PQN and IQN have none.
        critic: the same for the critic, or each critic, or the Q-network, 0.8 by default.
        distribution: how a sparsity is spread over layers: `uniform`, `er` or `erk`.
        pattern: `element`, `grouped` or `bernoulli`; see `kanbatsu.prune`.
        group_size: outputs per group, for `grouped`.

    Returns:
        An algorithm of the same class; the one that was given is as it was.

    Raises:
        ValueError: for another object, networks that are pruned, an unknown word, or a sparsity
            outside [0, 1) or for a part that the algorithm does not have.

    Example:
        >>> from rejax import SAC  # doctest: +SKIP
        >>> algorithm = SAC.create(env="Pendulum-v1")  # doctest: +SKIP
        >>> algorithm = prune_networks(algorithm, actor=0.8, critic=0.9)  # doctest: +SKIP
        >>> state, _ = algorithm.train(jax.random.PRNGKey(0))  # doctest: +SKIP
    """
    owner = f"this {type(algorithm).__name__}"
    given: Any = algorithm
    networks = {
        field: network
        for field in FIELDS
        if isinstance(network := getattr(given, field, None), linen.Module)
    }
    if not networks or not hasattr(given, "replace"):
        raise ValueError(
            f"{owner} is no algorithm of rejax with an actor, a critic or an agent: a Flax network "
            "alone goes to kanbatsu.flax.pruned"
        )
    parts = {FIELDS[field] for field in networks}
    shares = {"actor": actor, "critic": critic}
    for part, share in shares.items():
        check_sparsity(share or 0.0)
        if share and part not in parts:
            raise ValueError(
                f"{owner} has no {part} to prune, only {' and '.join(sorted(parts))}: leave "
                f"{part}={share} out"
            )
    if any(type(network).__module__ == pruned.__module__ for network in networks.values()):
        raise ValueError(f"the networks of {owner} are pruned already")
    replaced = {}
    for field, network in networks.items():
        share = shares[FIELDS[field]]
        share = DEFAULT if share is None else share
        if share:
            replaced[field] = pruned(
                network, share, distribution=distribution, pattern=pattern, group_size=group_size
            )
    return given.replace(**replaced)
