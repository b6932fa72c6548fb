"""Exports a policy: from the folder of a run, or from an actor in memory."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
import safetensors.numpy

from kanbatsu.agents import AGENTS
from kanbatsu.deploy.files import (
    ARRAYS,
    DESCRIPTION,
    ENVIRONMENT,
    FORMAT,
    VERSION,
    canonical,
    decode,
    digest,
    encode,
)
from kanbatsu.deploy.layers import Layer
from kanbatsu.deploy.network import policy_layers
from kanbatsu.files.disk import write_json
from kanbatsu.files.store import RunFolder
from kanbatsu.nn.normaliser import Normaliser
from kanbatsu.train.checkpoint import load_latest, to_arrays

log = logging.getLogger(__name__)

ONNX = "policy.onnx"
Bound = float | int | Sequence[float | int] | np.ndarray
UNIT = (-1.0, 1.0)
"""Bounds of an actor, before an environment rescales."""


def export(
    run: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    low: Bound | None = None,
    high: Bound | None = None,
) -> None:
    """Write the policy of a run's newest checkpoint, and what the run knew of its environment.

    Args:
        run: the run's folder, OUT/runs/<run id>.
        out_dir: gets `policy.json`, `policy.safetensors` and, where the package onnx is
            installed, `policy.onnx`.
        low: lowest value of each entry of an action, `[action_dim]` or one for all; that of the
            run's environment by default. Agents act in [-1, 1] and the environment rescales, which
            the exported policy does by itself.
        high: highest value likewise.

    Raises:
        FileNotFoundError: if the folder holds no run, or the run no checkpoint.
        ValueError: if its agent or its network cannot be exported, a number is not finite, the
            bounds do not fit, or the run does not say them.
    """
    files = RunFolder(Path(run))
    if not (files.path / "config.json").exists():
        raise FileNotFoundError(
            f"{run} is not the folder of a run: config.json is missing. Name OUT/runs/<run id>"
        )
    agent = files.read_config()["agent"]
    fit = [name for name, entry in AGENTS.items() if entry.tanh_of_mean]
    if agent not in fit:
        raise ValueError(f"the policy of {agent} cannot be exported, only {', '.join(fit)}")
    checkpoint = load_latest(files.checkpoint)
    if checkpoint is None:
        raise FileNotFoundError(
            f"{run} holds no checkpoint: it was trained with --train.checkpoint-every 0, or has "
            "not reached its first one"
        )
    arrays = checkpoint.arrays["agent"]
    # Around an agent with remedies there is a state of their own.
    arrays = {name.removeprefix("inner/"): array for name, array in arrays.items()}
    actor = {
        name.removeprefix("actor/"): array
        for name, array in arrays.items()
        if name.startswith("actor/")
    }
    environment = files.environment()
    low = environment.get("low") if low is None else low
    high = environment.get("high") if high is None else high
    if low is None or high is None:
        raise ValueError(
            f"{run} does not say the bounds of its actuators: it is older than their record, or "
            "its environment is not one of Gymnasium's and keeps them to itself. Name them, low= "
            "and high=, or -1 and 1 if whoever takes the actions rescales them"
        )
    environment |= {"low": np.ravel(low).tolist(), "high": np.ravel(high).tolist()}
    mean, variance = arrays["normaliser/mean"], arrays["normaliser/variance"]
    write_policy(policy_layers(actor, mean, variance, low, high), out_dir, environment)


def export_policy(
    actor: eqx.Module,
    normaliser: Normaliser,
    out_dir: str | os.PathLike[str],
    *,
    low: Bound | None = None,
    high: Bound | None = None,
) -> None:
    """Write the policy of an agent in memory.

    Args:
        actor: the `Network` of a SAC or DDPG state.
        normaliser: of the same state.
        out_dir: as in `export`.
        low: as in `export`, but -1 by default, and the log says so: no environment is known here.
        high: likewise, 1 by default.

    Raises:
        ValueError: as in `export`.

    Example:
        >>> import jax, tempfile
        >>> from kanbatsu.agents.ddpg import DDPG, DDPGConfig
        >>> from kanbatsu.nn.config import CriticConfig, NetworkConfig
        >>> config = DDPGConfig(NetworkConfig(width=8, blocks=1), CriticConfig(width=8, blocks=1))
        >>> from kanbatsu.types import Spec
        >>> state = DDPG(Spec((3,), 1, episode_length=100), config).init(jax.random.key(0))
        >>> folder = Path(tempfile.mkdtemp())
        >>> export_policy(state.actor, state.normaliser, folder, low=-2.0, high=2.0)
        >>> [(folder / name).exists() for name in ("policy.json", "policy.safetensors")]
        [True, True]
    """
    if low is None or high is None:
        log.warning(
            "the bounds of the actuators are not known, so actions lie in [-1, 1]: name low= and "
            "high= if nothing rescales them"
        )
    low, high = (unit if x is None else x for unit, x in zip(UNIT, (low, high), strict=True))
    mean, variance = np.asarray(normaliser.mean), np.asarray(normaliser.variance)
    write_policy(policy_layers(to_arrays(actor), mean, variance, low, high), out_dir)


def write_policy(
    layers: Sequence[Layer],
    out_dir: str | os.PathLike[str],
    environment: Mapping[str, Any] | None = None,
) -> None:
    """Write the layers of a policy, wherever they come from.

    Args:
        layers: as `kanbatsu.deploy.layers` describes them: a `Normalise` first, a `Squash` last.
        out_dir: as in `export`.
        environment: what is known of the environment, as JSON; nothing by default.

    Raises:
        ValueError: if the layers do not fit each other, or a number is not finite.
    """
    entries, arrays = encode(layers)
    decode(entries, arrays)  # what load would refuse is never written
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    content = safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()})
    # The description comes last: until then, checksums tell that the two do not belong together.
    (folder / ARRAYS).write_bytes(content)
    description: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "sha256": {ARRAYS: digest(content), DESCRIPTION: digest(canonical(entries))},
        "layers": entries,
    }
    if environment:
        description["environment"] = environment
        description["sha256"][ENVIRONMENT] = digest(canonical(environment))
    write_json(folder / DESCRIPTION, description)
    _write_onnx(layers, folder / ONNX)


def _write_onnx(layers: Sequence[Layer], path: Path) -> None:
    path.unlink(missing_ok=True)  # one of an earlier export would be another policy
    if importlib.util.find_spec("onnx") is None:
        log.warning(
            "%s was not written: the package onnx is missing. `pip install 'kanbatsu[onnx]'` and "
            "export again, if you want it; kanbatsu.deploy.load does not need it.",
            path,
        )
        return
    from kanbatsu.deploy.onnx_file import to_onnx

    path.write_bytes(to_onnx(layers))
