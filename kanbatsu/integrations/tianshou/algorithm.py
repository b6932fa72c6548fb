"""Prunes the networks of a tianshou algorithm once, before it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar, Unpack

from torch import nn

from kanbatsu.integrations.networks import Choices, Networks
from kanbatsu.torch.loading import check_when_loading
from kanbatsu.torch.reading import masks

ACTORS, CRITICS = ("actor",), ("critic", "critic2", "model")
"""Attributes of an algorithm and of its policy that are networks; `model` is a DQN's."""
Algorithm = TypeVar("Algorithm", bound=nn.Module)


def prune_algorithm(
    algorithm: Algorithm,
    actor: float | None = None,
    critic: float | None = None,
    **choices: Unpack[Choices],
) -> Algorithm:
    """Remove a share of the weights of a tianshou algorithm's networks, once, at random, in place.

    Call it when the algorithm was built, before `run_training`. Target networks get the masks of
    what they follow; a second critic, which tianshou makes as a copy of the first, gets masks of
    its own. Optimizers stay valid. `algorithm.state_dict()` has the masks, and `load_state_dict`
    takes them into an algorithm that is pruned in the same layers, with whatever seed.

    Args:
        algorithm: of tianshou 2: SAC, TD3, DDPG, PPO, A2C, DQN and those made like them.
        actor: share of the actor's weights to remove, in [0, 1), 0.8 by default; 0 leaves it
            dense. DQN has none. What actor and critic share belongs to the actor.
        critic: the same for all critics together, or for DQN's network, 0.8 by default.
        **choices: `seed`, `distribution`, `pattern`, `group_size`, `include`, `exclude` and
            `compute`, as for `kanbatsu.torch.prune`. Paths begin with the part and tianshou's name
            of the network, such as `critic.critic2.*`.

    Returns:
        The same algorithm.

    Raises:
        ValueError: for another object, a sparsity outside [0, 1) or for a part that the algorithm
            does not have, an algorithm that is pruned or has learned, or whatever
            `kanbatsu.torch.prune` refuses. The algorithm is then as it was.

    Example:
        >>> from tianshou.algorithm import SAC  # doctest: +SKIP
        >>> algorithm = SAC(policy=policy, critic=critic, **optimizers)  # doctest: +SKIP
        >>> prune_algorithm(algorithm, actor=0.8, critic=0.9)  # doctest: +SKIP
    """
    owner = f"this {type(algorithm).__name__}"
    parts: dict[str, dict[str, nn.Module]] = {}
    for part, name, network in _networks(algorithm):
        parts.setdefault(part, {}).setdefault(name, network)
    optimizers = getattr(algorithm, "_optimizers", None)
    if not parts or optimizers is None:
        raise ValueError(
            f"{owner} is no algorithm of tianshou 2 with an actor, a critic or a DQN's model: a "
            "network alone goes to kanbatsu.torch.prune, before the algorithm is built"
        )
    lagged = getattr(getattr(algorithm, "_lagged_networks", None), "_lagged_network_pairs", ())
    targets = {
        f"{part}.{name}": pair.target
        for pair in lagged
        for part, named in parts.items()
        for name, network in named.items()
        if pair.source is network
    }
    networks = Networks(owner, parts, targets, tuple(each._optim for each in optimizers))
    networks.prune({"actor": actor, "critic": critic}, **choices)
    if masks(algorithm):
        check_when_loading(algorithm)
    return algorithm


def _networks(algorithm: Any) -> Iterator[tuple[str, str, nn.Module]]:
    """Each network of an algorithm, with its part and name."""
    for holder in (algorithm, getattr(algorithm, "policy", None)):
        for part, names in (("actor", ACTORS), ("critic", CRITICS)):
            for name in names:
                network = getattr(holder, name, None)
                if isinstance(network, nn.Module):
                    yield part, name, network
