"""SimBa as the network of Stable-Baselines3's policies: actors and critics of SAC, TD3 and PPO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from stable_baselines3 import A2C, PPO, SAC, TD3
from stable_baselines3.common.policies import ActorCriticPolicy, ContinuousCritic
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import Actor as TD3Actor
from stable_baselines3.td3.policies import TD3Policy
from torch import Tensor, nn

from kanbatsu.nn.constants import LOG_STD_RANGE
from kanbatsu.torch.simba import SimBa

SimbaPolicy = "SimbaPolicy"
"""The name under which SAC, TD3, DDPG, PPO and A2C find SimBa: `SAC(SimbaPolicy, env)`.

They know it once `kanbatsu.integrations.sb3` is imported. `policy_kwargs` are those of `MlpPolicy`,
with one number in `net_arch` for each residual block, all of one width: the paper's
`{"pi": [128], "qf": [512, 512]}` (`vf` for PPO) is the default. The optimizer is AdamW with the
paper's weight decay of 1e-2, unless `optimizer_class` says otherwise. Observations are to be
normalised: wrap the environment in Stable-Baselines3's `VecNormalize(env, norm_reward=False)`.
"""
ACTOR, CRITIC = (128,), (512, 512)
"""Widths of the blocks of the paper's actor and critic (Lee et al. 2025, "SimBa", for SAC)."""


class SimbaSACPolicy(SACPolicy):
    """The policy of SAC with SimBa in the actor and in each critic; see `SimbaPolicy`.

    Example:
        >>> from kanbatsu.integrations.sb3 import SimbaPolicy, prune_policy
        >>> arch = {"pi": [16], "qf": [32, 32]}
        >>> model = SAC(SimbaPolicy, "Pendulum-v1", policy_kwargs={"net_arch": arch})
        >>> model = prune_policy(model, actor=0.5, critic=0.9)  # and then model.learn(10_000)
        >>> type(model.policy).__name__
        'SimbaSACPolicy'
    """

    def __init__(self, *spaces_and_schedule: Any, net_arch: Any = None, **settings: Any) -> None:
        settings = _settings(net_arch, "qf", settings)
        super().__init__(*spaces_and_schedule, **settings)

    def make_actor(self, features_extractor: Any = None) -> SACActor:
        """Build the actor: a Gaussian whose log standard deviation is squashed as in the paper."""
        actor: Any = super().make_actor(features_extractor)
        actor.latent_pi = _encoder(actor.features_dim, actor.net_arch)
        _begin(actor.mu)
        if not actor.use_sde:
            _begin(actor.log_std)
            actor.log_std = nn.Sequential(actor.log_std, SquashLogStd())
        return actor.to(self.device)

    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        """Build the critics."""
        return _with_simba(super().make_critic(features_extractor), self.critic_kwargs)


class SimbaTD3Policy(TD3Policy):
    """The policy of TD3 and DDPG with SimBa in the actor and in each critic; see `SimbaPolicy`."""

    def __init__(self, *spaces_and_schedule: Any, net_arch: Any = None, **settings: Any) -> None:
        settings = _settings(net_arch, "qf", settings)
        super().__init__(*spaces_and_schedule, **settings)

    def make_actor(self, features_extractor: Any = None) -> TD3Actor:
        """Build the actor, which ends in tanh."""
        actor: Any = super().make_actor(features_extractor)
        head = actor.mu[-2]
        _begin(head)
        actor.mu = nn.Sequential(_encoder(actor.features_dim, actor.net_arch), head, nn.Tanh())
        return actor.to(self.device)

    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        """Build the critics."""
        return _with_simba(super().make_critic(features_extractor), self.critic_kwargs)


class SimbaActorCriticPolicy(ActorCriticPolicy):
    """The policy of PPO and A2C with a SimBa for the actor and one for the critic.

    The last layers begin as those of Stable-Baselines3's `MlpPolicy`: the first actions of PPO have
    to be near zero. See `SimbaPolicy`.
    """

    def __init__(self, *spaces_and_schedule: Any, net_arch: Any = None, **settings: Any) -> None:
        settings = _settings(net_arch, "vf", settings)
        super().__init__(*spaces_and_schedule, **{"ortho_init": False} | settings)

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        hidden = self.mlp_extractor
        arch: Any = self.net_arch
        hidden.policy_net = _encoder(self.features_dim, arch["pi"])  # type: ignore[assignment]
        hidden.value_net = _encoder(self.features_dim, arch["vf"])  # type: ignore[assignment]
        hidden.to(self.device)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        _begin(self.action_net, gain=0.01)
        _begin(self.value_net)


class SquashLogStd(nn.Module):
    """A log standard deviation, squashed by tanh into the range of SimBa's published code."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any numbers into `LOG_STD_RANGE`."""
        low, high = LOG_STD_RANGE
        return low + 0.5 * (high - low) * (1.0 + torch.tanh(x))


def register() -> None:
    """Let Stable-Baselines3's algorithms know `SimbaPolicy` by its name."""
    for algorithm, policy in _POLICIES.items():
        algorithm.policy_aliases[SimbaPolicy] = policy


_POLICIES: Mapping[Any, Any] = {
    SAC: SimbaSACPolicy,
    TD3: SimbaTD3Policy,
    PPO: SimbaActorCriticPolicy,
    A2C: SimbaActorCriticPolicy,
}


def _settings(net_arch: Any, critic: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a policy of Stable-Baselines3, with SimBa's defaults."""
    arch = net_arch
    if net_arch is None:
        arch = {"pi": list(ACTOR), critic: list(CRITIC)}
    elif not isinstance(net_arch, Mapping):
        arch = {"pi": list(net_arch), critic: list(net_arch)}
    for name in ("pi", critic):
        widths = arch.get(name, ())
        if len(set(widths)) != 1:
            raise ValueError(
                f"net_arch of SimbaPolicy must hold one number for each residual block, all of one "
                f"width, such as {{'pi': [128], {critic!r}: [512, 512]}}: got {name!r}: "
                f"{list(widths)}"
            )
    if settings.get("activation_fn", nn.ReLU) is not nn.ReLU:
        raise ValueError("the activation of SimBa is ReLU: leave activation_fn out")
    chosen = {"activation_fn": nn.ReLU, "optimizer_class": torch.optim.AdamW} | dict(settings)
    if chosen["optimizer_class"] is torch.optim.AdamW:
        chosen["optimizer_kwargs"] = {"weight_decay": 1e-2} | (chosen.get("optimizer_kwargs") or {})
    return chosen | {"net_arch": arch}


def _encoder(inputs: int, widths: Sequence[int]) -> SimBa:
    return SimBa(inputs, widths[0], len(widths))


def _begin(layers: nn.Module, gain: float = 1.0) -> None:
    """Draw the weights of a head as SimBa does: orthogonal, and zero biases."""
    for layer in layers.modules():
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)


def _with_simba(critic: Any, settings: Mapping[str, Any]) -> ContinuousCritic:
    """Put a SimBa into each of the critics, before its last layer."""
    widths = settings["net_arch"]
    for index, network in enumerate(critic.q_networks):
        head = network[-1]
        _begin(head)
        network = nn.Sequential(_encoder(network[0].in_features, widths), head)
        critic.add_module(f"qf{index}", network)
        critic.q_networks[index] = network
    return critic.to(next(critic.parameters()).device)
