"""Exports the greedy policy of a Stable-Baselines3 model to files that run without PyTorch."""

from __future__ import annotations

import os
from typing import Any

from gymnasium.spaces import Box
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from kanbatsu.torch import deploy


def export_policy(model: BaseAlgorithm, out_dir: str | os.PathLike[str]) -> None:
    """Write what `model.predict(obs, deterministic=True)` computes, for `kanbatsu.deploy.load`.

    Of pruned layers, the kept weights are written and no others. The bounds are those of the
    action space.

    Args:
        model: SAC, TD3 or DDPG with `MlpPolicy`, ReLU, observations `[obs_dim]` and actions
            `[action_dim]`.
        out_dir: gets `policy.json`, `policy.safetensors` and, where the package onnx is installed,
            `policy.onnx`.

    Raises:
        ValueError: for another model; nothing is written then.

    Example:
        >>> import tempfile
        >>> from kanbatsu.deploy import load
        >>> folder = tempfile.mkdtemp()
        >>> export_policy(SAC("MlpPolicy", "Pendulum-v1"), folder)
        >>> policy = load(folder)
        >>> policy, policy.low
        (Policy(obs_dim=3, action_dim=1), array([-2.], dtype=float32))
    """
    if not isinstance(model, SAC | TD3):
        raise ValueError(
            f"{type(model).__name__} cannot be exported: a policy ends in tanh, as those of SAC, "
            "TD3 and DDPG do"
        )
    observations: Any = model.observation_space
    actions: Any = model.action_space
    for space in (observations, actions):
        if not isinstance(space, Box) or len(space.shape) != 1:
            raise ValueError(f"observations and actions must be vectors: one is {space}")
    if not isinstance(model.actor.features_extractor, FlattenExtractor):
        raise ValueError("only actors without a feature extractor of their own can be exported")
    normalised = model.get_vec_normalize_env()
    if normalised is not None and normalised.norm_obs:
        raise ValueError(
            "VecNormalize clips what it normalises, which the compact runtime cannot: train "
            "without norm_obs, or export model.actor with kanbatsu.torch.deploy.export_policy and "
            "normalise what you feed it"
        )
    actor: Any = model.actor
    layers = nn.Sequential(actor.latent_pi, actor.mu) if isinstance(model, SAC) else actor.mu
    deploy.export_policy(layers, out_dir, low=actions.low, high=actions.high)
