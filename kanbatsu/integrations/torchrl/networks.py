"""Prunes the networks that a TorchRL loss is to be built from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar, Unpack

from torch import nn

from kanbatsu.integrations.networks import DEFAULT, Choices, Networks

Actor = TypeVar("Actor", bound=nn.Module)
Critic = TypeVar("Critic", bound=nn.Module)


def prune_networks(
    actor_network: Actor,
    critic_network: Critic | Sequence[Critic],
    actor: float = DEFAULT,
    critic: float = DEFAULT,
    *,
    critics: int = 2,
    **choices: Unpack[Choices],
) -> tuple[Actor, list[Critic]]:
    """Remove a share of the weights of an actor and critics, once, at random, for a TorchRL loss.

    Call it before the loss is built, and give the loss what it returns. A loss that is given one
    critic and `num_qvalue_nets=2` makes two of it by itself, which would share one mask: it copies
    buffers, and masks are buffers. Given as a list, each critic keeps its own. Target parameters
    are copies that the loss makes, masks included.

    Args:
        actor_network: the actor, such as a `ProbabilisticActor`; pruned in place.
        critic_network: a critic, such as a `ValueOperator`, of which copies are drawn anew by
            `reset_parameters`; or a list of critics, which are pruned in place as they are.
        actor: share of the actor's weights to remove, in [0, 1); 0 leaves it dense.
        critic: the same for all critics together.
        critics: number of critics to make of one, the loss's `num_qvalue_nets`; 1 for PPO.
        **choices: `seed`, `distribution`, `pattern`, `group_size`, `include`, `exclude` and
            `compute`, as for `kanbatsu.torch.prune`. Paths begin with the part, and the number of
            a critic, such as `critic.0.*`.

    Returns:
        The actor network, and the list of critics, whose first is `critic_network`.

    Raises:
        ValueError: for a loss that is built already, a sparsity outside [0, 1), no critic, networks
            that are pruned, or whatever `kanbatsu.torch.prune` refuses. The networks are then as
            they were.

    Example:
        >>> actor, critics = prune_networks(nn.Linear(8, 2), nn.Linear(8, 1), 0.5, 0.75)
        >>> from kanbatsu.torch import count
        >>> count(actor).kept, [count(each).kept for each in critics]
        (8, [2, 2])
    """
    given: Any = critic_network
    networks = list(given) if isinstance(given, Sequence | nn.ModuleList) else [given]
    for network in [actor_network, *networks]:
        if hasattr(network, "convert_to_functional"):
            raise ValueError(
                f"{type(network).__name__} is a loss, whose parameters are copies already: prune "
                "the networks, then build the loss from what prune_networks returns"
            )
    if not networks or critics < 1:
        raise ValueError(f"there must be a critic: got {len(networks)}, and critics={critics}")
    is_list = networks[0] is not given
    made = networks if is_list else networks * 1 + [_anew(given) for _ in range(critics - 1)]
    parts: dict[str, dict[str, nn.Module]] = {
        "actor": {"network": actor_network},
        "critic": {str(number): network for number, network in enumerate(made)},
    }
    shares = {"actor": actor, "critic": critic}
    Networks("this pair of networks", parts, {}, ()).prune(shares, **choices)
    return actor_network, made


def _anew(network: Critic) -> Critic:
    """A copy with parameters of its own draw."""
    fresh = copy.deepcopy(network)
    for layer in fresh.modules():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
    return fresh
