"""The health of a Stable-Baselines3 model's networks on one batch: their calls and their losses.

The losses are those of the papers, with the settings that the model trains with; nothing is
updated. Random draws (actions, noise) come from PyTorch's global generator: whoever measures while
something trains guards it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ContinuousCritic
from torch import Tensor, nn
from torch.nn import functional

from kanbatsu.integrations.sb3.networks import algorithm_of
from kanbatsu.torch.probing import probe

Health = dict[str, float]


def health(model: BaseAlgorithm, batch: Any) -> dict[str, Health]:
    """Measure the actor and the critic of a model; of several critics, the first.

    Args:
        model: SAC, TD3, DDPG, PPO, A2C or DQN.
        batch: what `sample` of its replay buffer, or `get` of its rollout buffer, returns.

    Returns:
        For `actor` and `critic` what `kanbatsu.torch.probe` returns; DQN has no actor. Feature
        extractors belong to the networks that read them.

    Raises:
        ValueError: for another algorithm, or a network without a hidden layer.

    Reference:
        Haarnoja et al. 2018 (SAC), Fujimoto et al. 2018 (TD3), Lillicrap et al. 2016 (DDPG),
        Schulman et al. 2017 (PPO), Mnih et al. 2015 (DQN).
    """
    return measure_of(model)(model, batch)


def measure_of(model: BaseAlgorithm) -> Callable[[Any, Any], dict[str, Health]]:
    """Return what measures a model of this algorithm.

    Raises:
        ValueError: for an algorithm whose losses are not known here.
    """
    algorithm = algorithm_of(model)
    if algorithm not in MEASURES:
        raise ValueError(
            f"the losses of {algorithm} are not known here, only those of {', '.join(MEASURES)}: "
            "kanbatsu.torch.probe measures any module, with a loss of yours"
        )
    return MEASURES[algorithm]


class View(nn.Module):
    """Some modules of a policy and the way they are called, as a network of its own."""

    def __init__(self, call: Callable[..., Any], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self._call = call
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        """Call the modules in their way."""
        return self._call(*inputs)


def _sac(model: SAC, batch: Any) -> dict[str, Health]:
    learned = model.log_ent_coef
    temperature = model.ent_coef_tensor if learned is None else learned.detach().exp()
    with torch.no_grad():
        action, log_prob = model.actor.action_log_prob(batch.next_observations)
        value = _lowest(model.critic_target(batch.next_observations, action))
        target = _bootstrap(model, batch, value - temperature * log_prob.reshape(-1, 1))

    def actor_loss(output: tuple[Tensor, Tensor]) -> Tensor:
        action, log_prob = output
        value = _lowest(model.critic(batch.observations, action))
        return (temperature * log_prob.reshape(-1, 1) - value).mean()

    actor = View(model.actor.action_log_prob, **_parts_of(model.actor))
    return {
        "actor": probe(actor, batch.observations, loss=actor_loss),
        "critic": _first_critic(model.critic, batch, target, scale=0.5),
    }


def _td3(model: TD3, batch: Any) -> dict[str, Health]:
    with torch.no_grad():
        noise = torch.randn_like(batch.actions) * model.target_policy_noise
        noise = noise.clamp(-model.target_noise_clip, model.target_noise_clip)
        action = (model.actor_target(batch.next_observations) + noise).clamp(-1.0, 1.0)
        value = _lowest(model.critic_target(batch.next_observations, action))
        target = _bootstrap(model, batch, value)

    def actor_loss(action: Tensor) -> Tensor:
        return -model.critic.q1_forward(batch.observations, action).mean()

    return {
        "actor": probe(model.actor, batch.observations, loss=actor_loss),
        "critic": _first_critic(model.critic, batch, target, scale=1.0),
    }


def _dqn(model: DQN, batch: Any) -> dict[str, Health]:
    with torch.no_grad():
        value = model.q_net_target(batch.next_observations).amax(dim=1, keepdim=True)
        target = _bootstrap(model, batch, value)

    def loss(values: Tensor) -> Tensor:
        return functional.smooth_l1_loss(values.gather(1, batch.actions.long()), target)

    return {"critic": probe(model.q_net, batch.observations, loss=loss)}


def _ppo(model: PPO | A2C, batch: Any) -> dict[str, Health]:
    """Measure actor and critic as an update begins, before any ratio is clipped."""
    policy, actions = model.policy, batch.actions
    if not model.action_space.shape:  # one of several actions, which the buffer holds as a float
        actions = actions.long().flatten()
    advantages = batch.advantages
    if model.normalize_advantage and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

    def actor_loss(distribution: Any) -> Tensor:
        log_prob, entropy = distribution.log_prob(actions), distribution.entropy()
        bonus = -log_prob.mean() if entropy is None else entropy.mean()
        ratio = torch.exp(log_prob - batch.old_log_prob)
        return -(advantages * ratio).mean() - model.ent_coef * bonus

    def critic_loss(values: Tensor) -> Tensor:
        return model.vf_coef * functional.mse_loss(values.flatten(), batch.returns)

    spread = {"log_std": policy.log_std} if hasattr(policy, "log_std") else {}
    actor = View(
        policy.get_distribution,
        pi_features_extractor=policy.pi_features_extractor,
        policy_net=policy.mlp_extractor.policy_net,
        action_net=policy.action_net,
        **spread,
    )
    critic = View(
        policy.predict_values,
        vf_features_extractor=policy.vf_features_extractor,
        value_net=policy.mlp_extractor.value_net,
        value=policy.value_net,
    )
    return {
        "actor": probe(actor, batch.observations, loss=actor_loss),
        "critic": probe(critic, batch.observations, loss=critic_loss),
    }


MEASURES: dict[str, Callable[[Any, Any], dict[str, Health]]] = {
    "SAC": _sac,
    "TD3": _td3,
    "DQN": _dqn,
    "PPO": _ppo,
    "A2C": _ppo,  # whose gradient is that of PPO as an update begins, where all ratios are 1
}
"""What measures an algorithm's networks, by the algorithm."""


def _first_critic(critic: ContinuousCritic, batch: Any, target: Tensor, scale: float) -> Health:
    """Measure the first of the critics, on its share of their loss."""
    first = critic.q_networks[0]

    def call(observations: Any, actions: Tensor) -> Tensor:
        # A feature extractor that is shared with the actor learns from the actor's loss alone.
        with torch.set_grad_enabled(not critic.share_features_extractor):
            features = critic.extract_features(observations, critic.features_extractor)
        return first(torch.cat([features, actions], dim=1))

    view = View(call, features_extractor=critic.features_extractor, qf0=first)
    inputs = (batch.observations, batch.actions)
    return probe(view, *inputs, loss=lambda value: scale * functional.mse_loss(value, target))


def _parts_of(network: nn.Module) -> dict[str, nn.Module | nn.Parameter]:
    """The direct parts of a network, and parameters that it holds itself."""
    return dict(network.named_children()) | dict(network.named_parameters(recurse=False))


def _lowest(values: tuple[Tensor, ...]) -> Tensor:
    """The most pessimistic critic's values, `[batch, 1]`."""
    return torch.cat(values, dim=1).amin(dim=1, keepdim=True)


def _bootstrap(model: SAC | TD3 | DQN, batch: Any, value: Tensor) -> Tensor:
    """Reward and what the next state is worth; n-step batches bring their own discounts."""
    discount = model.gamma if batch.discounts is None else batch.discounts
    return batch.rewards + (1.0 - batch.dones) * discount * value
