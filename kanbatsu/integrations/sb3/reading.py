"""What a Stable-Baselines3 model computes: normaliser, layers and end of its greedy policy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Space
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from torch import nn

from kanbatsu.deploy.contract import Image, Moments
from kanbatsu.deploy.entry import GREATEST
from kanbatsu.deploy.layers import Clip, End, Layer, Normalise, Squash
from kanbatsu.torch.activations import is_activation
from kanbatsu.torch.constants import scaled
from kanbatsu.torch.deploy import as_it_comes, choice
from kanbatsu.torch.graph import layers_of
from kanbatsu.torch.kernels import averaged

CHOICES = (CategoricalDistribution, MultiCategoricalDistribution)
FEWEST_SEEN = 2
"""Observations from which on there are moments of the training data."""


def boxes_of(space: Space) -> Mapping[str, Box]:
    """Return the boxes of an observation by name, in the order in which they are laid end to end.

    Gymnasium sorts them by name.

    Raises:
        ValueError: there is something else than boxes of numbers.

    Example:
        >>> list(boxes_of(Dict({"b": Box(0, 1, (2,)), "a": Box(0, 1, (3,))})))
        ['a', 'b']
    """
    boxes: Any = space.spaces if isinstance(space, Dict) else {"": space}
    for name, box in boxes.items():
        where = f"the observation {name!r}" if name else "the observation"
        if not isinstance(box, Box):
            raise ValueError(
                f"{where} is {box}: a policy for the small runtime observes boxes of numbers, or a "
                "dictionary of them"
            )
        if name and is_image_space(box):
            raise ValueError(
                f"{where} is an image, and one in a dictionary cannot be exported: a policy for "
                "the small runtime observes one image, or boxes of numbers"
            )
    return boxes


def image_of(model: Any, boxes: Mapping[str, Box]) -> Image | None:
    """Return what an observation is, if it is an image; None if it is something else.

    Args:
        model: the model.
        boxes: observations by name.
    """
    box = boxes.get("")
    if box is None or len(box.shape) != 3:
        return None
    dtype = "uint8" if is_image_space(box, normalized_image=False) else "float32"
    return Image(box.shape, dtype, channels_first=True)


def is_divided(model: Any, image: Image | None) -> bool:
    """Return whether a model divides what it sees by 255."""
    return image is not None and image.dtype == "uint8" and model.policy.normalize_images


def begin_of(boxes: Mapping[str, Box], normaliser: Any, divided: bool) -> list[Layer]:
    """Return the layers that normalise, as a `VecNormalize` does; its statistics are frozen.

    Args:
        boxes: observations by name.
        normaliser: the `VecNormalize`, or None.
        divided: flag of images that the model divides by 255.

    Raises:
        ValueError: images are normalised twice.
    """
    sizes = {name: math.prod(box.shape) for name, box in boxes.items()}
    if normaliser is None or not normaliser.norm_obs:
        return [as_it_comes(sum(sizes.values()), 255.0 if divided else 1.0)]
    if divided:
        raise ValueError(
            "the observation is an image, which is divided by 255, and VecNormalize takes it as "
            "well: train with norm_obs=False"
        )
    means, scales, ends = [], [], []
    for name, size in sizes.items():
        statistics: Any = (
            normaliser.obs_rms[name] if name in (normaliser.norm_obs_keys or ()) else None
        )
        statistics = normaliser.obs_rms if name == "" else statistics
        plain = statistics is None
        means.append(np.zeros(size) if plain else np.ravel(statistics.mean))
        variance = np.ones(size) if plain else np.ravel(statistics.var) + normaliser.epsilon
        scales.append(np.sqrt(variance))
        ends.append(np.full(size, GREATEST if plain else normaliser.clip_obs))
    mean, scale, end = (np.concatenate(x).astype(np.float32) for x in (means, scales, ends))
    return [Normalise(mean, scale), Clip(-end, end)]


def body_of(model: Any) -> tuple[list[Layer], End]:
    """Return the layers of a model's greedy policy, and its end.

    SAC, TQC, CrossQ and whatever has `actor.latent_pi` and `actor.mu`; TD3 and DDPG, with
    `actor.mu` alone; DQN, with `q_net`; QR-DQN, with `quantile_net`, whose mean is taken; ARS,
    whose `action_net` is a sequence; PPO, A2C, TRPO and whatever has `mlp_extractor` and
    `action_net`.

    Raises:
        ValueError: for another model.
    """
    policy, space = model.policy, model.action_space
    if hasattr(policy, "lstm_actor"):
        raise _refused(model, "it remembers, and a policy of the small runtime holds no state")
    if hasattr(policy, "actor") and policy.actor is not None:
        actor = policy.actor
        both = (actor.latent_pi, actor.mu) if hasattr(actor, "latent_pi") else (actor.mu,)
        layers = _read(model, actor.features_extractor, *both)
        layers = layers[:-1] if is_activation(layers[-1], "tanh") else layers
        return layers, Squash(*_bounds(space))
    if hasattr(policy, "q_net"):
        q_net = policy.q_net
        return _read(model, q_net.features_extractor, q_net.q_net), choice(int(space.n))
    if hasattr(getattr(policy, "quantile_net", None), "n_quantiles"):
        network = policy.quantile_net
        *hidden, last = network.quantile_net
        scores = averaged(last, int(network.n_quantiles))
        layers = _read(model, network.features_extractor, *hidden, scores)
        return layers, choice(int(space.n))
    if isinstance(getattr(policy, "action_net", None), nn.Sequential):
        layers = _read(model, policy.features_extractor, policy.action_net)
        return _of_ars(policy, layers, space)
    if hasattr(policy, "action_net") and hasattr(policy, "mlp_extractor"):
        rest = (policy.mlp_extractor.policy_net, policy.action_net)
        layers = _read(model, policy.pi_features_extractor, *rest)
        return layers, _end_of(model)
    raise _refused(model, "it has neither an actor nor action values that are understood")


def _of_ars(policy: Any, layers: list[Layer], space: Any) -> tuple[list[Layer], End]:
    """The layers and the end of a policy of ARS."""
    if isinstance(space, Discrete):
        return layers, choice(int(space.n))
    if not policy.squash_output:
        return layers, Clip(*_bounds(space))
    return layers[:-1], Squash(*_bounds(space))  # its network ends in tanh


def _end_of(model: Any) -> End:
    """The end of an actor-critic policy, by its distribution."""
    space, distribution = model.action_space, model.policy.action_dist
    if isinstance(distribution, CHOICES) and isinstance(space, Discrete):
        return choice(int(space.n))
    if isinstance(distribution, CHOICES) and isinstance(space, MultiDiscrete):
        return choice(*(int(n) for n in np.ravel(space.nvec)), scalar=False)
    if isinstance(distribution, DiagGaussianDistribution):
        return Clip(*_bounds(space))
    if isinstance(distribution, StateDependentNoiseDistribution):
        ends = _bounds(space)
        return Squash(*ends) if model.policy.squash_output else Clip(*ends)
    raise _refused(model, f"its actions are drawn from a {type(distribution).__name__}")


def _bounds(space: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise ValueError(f"actions must be a vector of numbers, or choices: they are {space}")
    return tuple(  # type: ignore[return-value]
        np.clip(end.astype(np.float32), -GREATEST, GREATEST).astype(np.float32)
        for end in (space.low, space.high)
    )


def _read(model: Any, extractor: Any, *rest: nn.Module) -> list[Layer]:
    """The layers of what extracts features, and of what comes after it."""
    inner = extractor.extractors.values() if isinstance(extractor, CombinedExtractor) else ()
    plain = isinstance(extractor, FlattenExtractor) or (
        isinstance(extractor, CombinedExtractor) and all(isinstance(x, nn.Flatten) for x in inner)
    )
    if plain:
        return _after_another(layers_of(nn.Sequential(*rest)))
    if type(extractor) is NatureCNN:
        shape: Any = model.observation_space.shape
        return layers_of(nn.Sequential(extractor.cnn, extractor.linear, *rest), shape)
    raise _refused(model, f"its observations pass a feature extractor, {type(extractor).__name__}")


def _after_another(layers: list[Layer]) -> list[Layer]:
    """Layers that come after a normaliser; one of their own, as CrossQ's, is one of them."""
    begin = layers[0]
    if not isinstance(begin, Normalise):
        return layers
    scaling = scaled(begin.mean.size, begin)
    return layers[1:] if scaling is None else [scaling, *layers[1:]]


def _refused(model: Any, why: str) -> ValueError:
    return ValueError(
        f"{type(model).__name__} cannot be exported: {why}. PPO, A2C, DQN, SAC, TD3, DDPG, TQC, "
        "CrossQ, QR-DQN, TRPO and ARS with MlpPolicy, CnnPolicy or MultiInputPolicy can; "
        "kanbatsu.torch.deploy.export_policy takes modules"
    )


def moments_of(model: Any, boxes: Mapping[str, Box], normaliser: Any) -> Moments | None:
    """Return the moments of what a model was trained on: of its replay, or of its normaliser.

    Args:
        model: the model, trained or not.
        boxes: observations by name.
        normaliser: the `VecNormalize`, or None.
    """
    replay = getattr(model, "replay_buffer", None)
    if replay is not None and replay.size() >= FEWEST_SEEN:
        stored: Any = replay.observations
        arrays = stored.values() if isinstance(stored, dict) else [stored]
        flat = [np.asarray(a[: replay.size()]) for a in arrays]
        rows = [array.reshape(array.shape[0] * array.shape[1], -1) for array in flat]
        return Moments.of("replay", np.concatenate(rows, axis=-1))
    if normaliser is not None and normaliser.norm_obs:
        statistics: Any = normaliser.obs_rms
        tables = [statistics[name] for name in boxes] if isinstance(statistics, dict) else None
        if isinstance(statistics, dict) and set(statistics) != set(boxes):
            return None
        tables = tables or [statistics]
        if tables[0].count >= FEWEST_SEEN:
            mean = np.concatenate([np.ravel(table.mean) for table in tables])
            variance = np.concatenate([np.ravel(table.var) for table in tables])
            return Moments("normaliser", float(tables[0].count), mean, np.sqrt(variance))
        return None
    rollout = getattr(model, "rollout_buffer", None)
    if rollout is None or not rollout.full:
        return None
    stored = rollout.observations
    arrays = list(stored.values()) if isinstance(stored, dict) else [stored]
    steps = rollout.buffer_size * rollout.n_envs
    return Moments.of("rollout", np.concatenate([a.reshape(steps, -1) for a in arrays], axis=-1))
