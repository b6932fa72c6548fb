"""Opens what Stable-Baselines3 saved: a model's .zip, its algorithm found, and a `VecNormalize`."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from kanbatsu.files.tables import did_you_mean

HOMES = {
    **dict.fromkeys(("PPO", "A2C", "DQN", "SAC", "TD3", "DDPG"), "stable_baselines3"),
    **dict.fromkeys(("TQC", "TRPO"), "sb3_contrib"),
}
"""Algorithms that can be exported, and the package that each is of."""
SIGNS = (
    ("recurrent", "RecurrentPPO"),
    ("maskable", "MaskablePPO"),
    ("qrdqn", "QRDQN"),
    ("crossq", "CrossQ"),
    ("top_quantiles_to_drop_per_net", "TQC"),
    ("cg_max_steps", "TRPO"),
    ("clip_range", "PPO"),
    ("policy_delay", "TD3"),
    ("exploration_fraction", "DQN"),
    ("target_entropy", "SAC"),
    ("vf_coef", "A2C"),
)
"""Words of a policy's module, and settings, by which algorithms are told apart, in this order."""
LEFT_OUT: Mapping[str, Any] = {
    "buffer_size": 1,
    "optimize_memory_usage": False,
    "lr_schedule": lambda _: 0.0,
    "exploration_schedule": lambda _: 0.0,
    "clip_range": 0.2,
    "replay_buffer_class": None,
    "rollout_buffer_class": None,
    "action_noise": None,
    **dict.fromkeys(("_last_obs", "_last_original_obs", "_last_episode_starts")),
    **dict.fromkeys(("ep_info_buffer", "ep_success_buffer")),
}
"""Parts of a model that acting does not need; they are not unpickled."""


def open_model(path: Path, algorithm: str | None = None) -> Any:
    """Open a model as `model.save` wrote it.

    Its policy and spaces are pickles, as all of Stable-Baselines3: opening a file runs whatever
    code is in it.

    Args:
        path: the .zip.
        algorithm: class of the model, such as PPO; found in the file by default.

    Raises:
        ValueError: it is no such file, or the algorithm is not known.

    Example:
        >>> import tempfile
        >>> from stable_baselines3 import DQN
        >>> file = Path(tempfile.mkdtemp()) / "model.zip"
        >>> DQN("MlpPolicy", "CartPole-v1", buffer_size=10).save(file)
        >>> type(open_model(file)).__name__
        'DQN'
    """
    name = algorithm or algorithm_of(path)
    if name not in HOMES:
        raise ValueError(f"models of {name} cannot be exported. {did_you_mean(name, HOMES)}")
    try:
        module = importlib.import_module(HOMES[name])
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{path} is a model of {name}: it needs the package {error.name}"
        ) from None
    return getattr(module, name).load(path, device="cpu", custom_objects=dict(LEFT_OUT))


def algorithm_of(path: Path) -> str:
    """Name the algorithm of a saved model; nothing is unpickled.

    DDPG is TD3 with other settings, and is called that.

    Raises:
        ValueError: the file is not one of Stable-Baselines3's, or the algorithm another.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
        policy = data["policy_class"]
        module = f"{policy.get('__module__')} {policy.get('policy_class')}"  # or what it prunes
    except (zipfile.BadZipFile, AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"{path} is not a model that Stable-Baselines3 saved: model.save(FILE) writes a .zip "
            "with its settings in it"
        ) from None
    for sign, name in SIGNS:
        if sign in data or sign in module:
            return name
    raise ValueError(f"the algorithm of {path} is not known: name it, one of {', '.join(HOMES)}")


class _Spaces(gymnasium.Env):
    """An environment that nobody steps: what a `VecNormalize` asks for."""

    def __init__(self, model: Any) -> None:
        self.observation_space, self.action_space = model.observation_space, model.action_space


def open_normaliser(path: Path, model: Any) -> VecNormalize:
    """Open a `VecNormalize` as its `save` wrote it, which is a pickle: it runs the code in it.

    Args:
        path: the file.
        model: the model that was trained with it.

    Raises:
        ValueError: it holds something else, or the statistics of other observations.
    """
    environment = DummyVecEnv([lambda: _Spaces(model)])
    try:
        normaliser: Any = VecNormalize.load(str(path), environment)
    except Exception as error:  # whatever unpickling runs into
        raise ValueError(f"{path} holds no VecNormalize ({error})") from error
    if not isinstance(normaliser, VecNormalize):
        raise ValueError(f"{path} holds a {type(normaliser).__name__}, not a VecNormalize")
    if normaliser.observation_space.shape != model.observation_space.shape:
        raise ValueError(
            f"{path} is of observations of the shape {normaliser.observation_space.shape}, and the "
            f"model's have {model.observation_space.shape}: it belongs to another model"
        )
    return normaliser
