"""Exports a policy: from the folder of a run, or from an actor in memory."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import numpy as np
import safetensors.numpy

from kanbatsu.agents import AGENTS
from kanbatsu.deploy.files import (
    ARRAYS,
    DESCRIPTION,
    FORMAT,
    VERSION,
    canonical,
    decode,
    digest,
    encode,
)
from kanbatsu.deploy.layers import Layer
from kanbatsu.deploy.network import Arrays, policy_layers
from kanbatsu.files.disk import write_json
from kanbatsu.files.store import RunFolder
from kanbatsu.nn.normaliser import Normaliser
from kanbatsu.train.checkpoint import load_latest, to_arrays

log = logging.getLogger(__name__)

ONNX = "policy.onnx"
Bound = float | int | Sequence[float | int] | np.ndarray


def export(
    run: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    low: Bound = -1.0,
    high: Bound = 1.0,
) -> None:
    """Write the policy of a run's newest checkpoint.

    Args:
        run: the run's folder, OUT/runs/<run id>.
        out_dir: gets `policy.json`, `policy.safetensors` and, where the package onnx is
            installed, `policy.onnx`.
        low: lowest value of each entry of an action, `[action_dim]` or one for all. Agents act in
            [-1, 1] and the environment rescales; without the environment, name its bounds here.
        high: highest value likewise.

    Raises:
        FileNotFoundError: if the folder holds no run, or the run no checkpoint.
        ValueError: if its agent or its network cannot be exported, a number is not finite, or the
            bounds do not fit.
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
    actor = {
        name.removeprefix("actor/"): array
        for name, array in arrays.items()
        if name.startswith("actor/")
    }
    _export(actor, arrays["normaliser/mean"], arrays["normaliser/variance"], out_dir, low, high)


def export_policy(
    actor: eqx.Module,
    normaliser: Normaliser,
    out_dir: str | os.PathLike[str],
    *,
    low: Bound = -1.0,
    high: Bound = 1.0,
) -> None:
    """Write the policy of an agent in memory.

    Args:
        actor: the `Network` of a SAC or DDPG state.
        normaliser: of the same state.
        out_dir: as in `export`.
        low: as in `export`.
        high: as in `export`.

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
    mean, variance = np.asarray(normaliser.mean), np.asarray(normaliser.variance)
    _export(to_arrays(actor), mean, variance, out_dir, low, high)


def _export(
    actor: Arrays,
    mean: np.ndarray,
    variance: np.ndarray,
    out_dir: str | os.PathLike[str],
    low: Bound,
    high: Bound,
) -> None:
    write_policy(policy_layers(actor, mean, variance, np.asarray(low), np.asarray(high)), out_dir)


def write_policy(layers: Sequence[Layer], out_dir: str | os.PathLike[str]) -> None:
    """Write the layers of a policy, wherever they come from.

    Args:
        layers: as `kanbatsu.deploy.layers` describes them: a `Normalise` first, a `Squash` last.
        out_dir: as in `export`.

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
    description = {
        "format": FORMAT,
        "version": VERSION,
        "sha256": {ARRAYS: digest(content), DESCRIPTION: digest(canonical(entries))},
        "layers": entries,
    }
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
