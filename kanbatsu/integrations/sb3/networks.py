"""Which modules of a model of Stable-Baselines3 or sb3-contrib are actor, critic and targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

ALGORITHMS = {
    "stable_baselines3": ("SAC", "TD3", "PPO", "DQN", "A2C"),
    "sb3_contrib": ("TQC", "CrossQ", "QRDQN", "TRPO", "RecurrentPPO", "MaskablePPO", "ARS"),
}
"""Algorithms whose networks are known, by library; DDPG is a TD3."""


@dataclass(frozen=True)
class Networks:
    """The modules of a policy by what they do: the modules themselves, not copies."""

    parts: Mapping[str, nn.Module]
    """What is trained: `actor` and `critic` without their feature extractors, and `features`, the
    extractors that have weights. A part that the model does not have is missing."""
    followers: tuple[tuple[nn.Module, nn.Module], ...]
    """Each network that has a target network, and that."""

    @classmethod
    def of(cls, model: BaseAlgorithm) -> Networks:
        """Sort the modules of a model.

        Raises:
            ValueError: for an algorithm or a policy that is not understood.

        Example:
            >>> from stable_baselines3 import SAC
            >>> networks = Networks.of(SAC("MlpPolicy", "Pendulum-v1"))
            >>> list(networks.parts), list(networks.parts["actor"])
            (['actor', 'critic'], ['latent_pi', 'mu', 'log_std'])
        """
        policy: Any = model.policy
        match algorithm_of(model):
            case "PPO" | "A2C" | "TRPO" | "MaskablePPO" | "RecurrentPPO":
                return cls(_actor_critic(policy), ())
            case "DQN":
                return cls(_split(critic=policy.q_net), ((policy.q_net, policy.q_net_target),))
            case "QRDQN":
                follower = (policy.quantile_net, policy.quantile_net_target)
                return cls(_split(critic=policy.quantile_net), (follower,))
            case "ARS":
                return cls(_split(actor=policy), ())
        # SAC, TD3, TQC and CrossQ; DDPG is a TD3, and CrossQ has no targets.
        pairs = (("critic", "critic_target"), ("actor", "actor_target"))
        followers = [
            (getattr(policy, online), getattr(policy, target))
            for online, target in pairs
            if hasattr(policy, target)
        ]
        return cls(_split(actor=policy.actor, critic=policy.critic), tuple(followers))


def algorithm_of(model: BaseAlgorithm) -> str:
    """Say which known algorithm a model is, or is made from; sb3-contrib need not be installed.

    Raises:
        ValueError: for another one.

    Example:
        >>> from stable_baselines3 import DDPG
        >>> algorithm_of(DDPG("MlpPolicy", "Pendulum-v1"))
        'TD3'
    """
    for kind in type(model).__mro__:
        if kind.__name__ in ALGORITHMS.get(kind.__module__.partition(".")[0], ()):
            return kind.__name__
    known = "; ".join(f"{library}'s {', '.join(names)}" for library, names in ALGORITHMS.items())
    raise ValueError(
        f"{type(model).__module__}.{type(model).__name__} is none of {known}. "
        "kanbatsu.torch.prune takes any torch module, such as "
        "model.policy, whose target networks then follow; models of SBX go to "
        "kanbatsu.integrations.sbx.prune_policy"
    )


def _split(**networks: nn.Module) -> dict[str, nn.Module]:
    """Take each network apart: its feature extractor, and the rest."""
    parts: dict[str, nn.Module] = {}
    extractors = {}
    for name, network in networks.items():
        children = dict(network.named_children())
        extractors[name] = children.pop("features_extractor")
        parts[name] = nn.ModuleDict(children)
    return parts | _features(extractors)


def _actor_critic(policy: Any) -> dict[str, nn.Module]:
    """Sort the layers of the one policy of PPO and its like; recurrent layers stay apart."""
    try:
        hidden = policy.mlp_extractor
        actor = nn.ModuleDict({"policy_net": hidden.policy_net})
        critic = nn.ModuleDict({"value_net": hidden.value_net})
    except AttributeError as error:
        raise ValueError(
            f"the layers of {type(policy).__name__} cannot be told apart into actor and critic "
            f"({error}); kanbatsu.torch.prune takes any module, such as model.policy"
        ) from None
    parts: dict[str, nn.Module] = {
        "actor": nn.ModuleDict({"mlp_extractor": actor, "action_net": policy.action_net}),
        "critic": nn.ModuleDict({"mlp_extractor": critic, "value_net": policy.value_net}),
    }
    extractors = {"actor": policy.pi_features_extractor, "critic": policy.vf_features_extractor}
    return parts | _features(extractors)


def _features(extractors: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Those that have weights; of one that is shared, the first."""
    distinct: dict[str, nn.Module] = {}
    for name, extractor in extractors.items():
        if any(True for _ in extractor.parameters()) and extractor not in distinct.values():
            distinct[name] = extractor
    return {"features": nn.ModuleDict(distinct)} if distinct else {}
