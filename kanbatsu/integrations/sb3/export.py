"""Exports the greedy policy of a Stable-Baselines3 model to files that run without PyTorch."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from kanbatsu.deploy.contract import Contract
from kanbatsu.deploy.golden import TOLERANCE
from kanbatsu.deploy.seal import Key
from kanbatsu.deploy.task import of_spaces, seconds_of
from kanbatsu.deploy.write import Export, Original, write_policy
from kanbatsu.integrations.sb3.reading import (
    begin_of,
    body_of,
    boxes_of,
    image_of,
    is_divided,
    moments_of,
)


def export_policy(
    model: BaseAlgorithm,
    out_dir: str | os.PathLike[str],
    *,
    normaliser: VecNormalize | None = None,
    contract: Contract | None = None,
    key: Key | None = None,
    tolerance: float = TOLERANCE,
    onnx: bool | None = None,
    c: bool = False,
) -> None:
    """Write what `model.predict(obs, deterministic=True)` computes, for `kanbatsu.deploy.load`.

    Of pruned layers, the kept weights are written and no others. The bounds are those of the
    action space. A `VecNormalize` is frozen and written along: the policy takes observations as
    the environment gives them.

    Args:
        model: PPO, A2C, DQN, SAC, TD3, DDPG, or TQC, CrossQ, QR-DQN, TRPO and ARS of sb3-contrib,
            with `MlpPolicy`, `CnnPolicy` or, where the observation is a dictionary of boxes,
            `MultiInputPolicy`.
        out_dir: folder of its own, which gets `policy.json`, `policy.safetensors` and
            `contract.json`.
        normaliser: what the model was trained with, as `VecNormalize.load` returns it; that of the
            model's environment by default, which a loaded model does not have.
        contract: names, units, licence, and whatever else you know.
        key: path of a key file to sign the policy with.
        tolerance: largest difference from `predict`, in halves of the action's range.
        onnx: flag of `policy.onnx`; by default it is written where the package onnx is installed.
        c: flag of `policy.c`, one file of C99 for machines without Python.

    Raises:
        ValueError: for another model; nothing is written then.
        ParityError: if the exported policy differs from `predict` by more than the tolerance.

    Example:
        >>> import tempfile
        >>> from stable_baselines3 import SAC
        >>> from kanbatsu.deploy import load
        >>> folder = tempfile.mkdtemp()
        >>> export_policy(SAC("MlpPolicy", "Pendulum-v1"), folder)
        >>> policy = load(folder)
        >>> policy, policy.low
        (Policy(obs_dim=3, action_dim=1), array([-2.], dtype=float32))
    """
    space: Any = model.observation_space
    boxes = boxes_of(space)
    normaliser = normaliser or model.get_vec_normalize_env()
    layers, end = body_of(model)
    environments = getattr(getattr(model.get_env(), "unwrapped", None), "envs", None)
    seconds = seconds_of(environments[0]) if environments else None
    image = image_of(model, boxes)
    divided = is_divided(model, image)
    moments = None if image else moments_of(model, boxes, normaliser)
    said = of_spaces(space, seconds) if image is None else Contract(control_period=seconds)
    frozen = normaliser is not None and normaliser.norm_obs
    write_policy(
        [*begin_of(boxes, normaliser, divided), *layers, end],
        out_dir,
        Original(lambda obs: _predict(model, space, boxes, normaliser, obs), "model.predict"),
        Export((contract or Contract()).over(said), key, tolerance, onnx, c),
        moments=moments,
        seen=_count(normaliser) if frozen else None,
        image=image,
    )


def _count(normaliser: Any) -> float:
    statistics = normaliser.obs_rms
    tables = list(statistics.values()) if isinstance(statistics, dict) else [statistics]
    return float(tables[0].count)


def _predict(
    model: Any, space: Any, boxes: Mapping[str, Box], normaliser: Any, obs: np.ndarray
) -> np.ndarray:
    """The model's own greedy actions for observations that are laid out flat."""
    edges = np.cumsum([math.prod(box.shape) for box in boxes.values()])[:-1]
    arrays: dict[str, np.ndarray] = {
        name: part.reshape(len(obs), *box.shape).astype(box.dtype)
        for (name, box), part in zip(boxes.items(), np.split(obs, edges, axis=1), strict=True)
    }
    given: Any = arrays if isinstance(space, Dict) else arrays[""]
    if normaliser is not None:
        given = normaliser.normalize_obs(given)
    actions, _ = model.predict(given, deterministic=True)
    return np.asarray(actions)
