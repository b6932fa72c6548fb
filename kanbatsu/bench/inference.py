"""Single actions: one observation in, one action out, with kanbatsu's runtime and with others."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kanbatsu.agents.ddpg import DDPG, DDPGConfig
from kanbatsu.bench.entrant import ACTION_DIM, OBS_DIM, SIZES, Entrant, Facts
from kanbatsu.deploy import export_policy, load
from kanbatsu.deploy.compute import run
from kanbatsu.deploy.files import read
from kanbatsu.deploy.layers import (
    Add,
    Layer,
    LayerNorm,
    Linear,
    Normalise,
    Remember,
    Squash,
    to_dense,
    with_dense_weights,
)
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.sparsity.count import count
from kanbatsu.types import Spec

Call = Callable[[np.ndarray], Any]


def prepare_inference(spec: Entrant) -> tuple[Callable[[], Any], int, Facts]:
    """Export an untrained policy and load it as the contender says; see `contender.prepare`."""
    config, obs_dim = network(spec)
    critic = CriticConfig(width=8, blocks=1)
    agent = DDPG(
        Spec((obs_dim,), action_dim=ACTION_DIM, episode_length=None),
        DDPGConfig(actor=config, critic=critic),
    )
    state = agent.init(jax.random.key(0))
    kept = count(state.actor)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        export_policy(state.actor, state.normaliser, folder)
        call = LOADERS[spec.compute](folder)
        size = (folder / "policy.safetensors").stat().st_size
    observation = np.random.default_rng(0).normal(size=obs_dim).astype(np.float32)
    facts = Facts(weights=kept.kept, operations=2.0 * kept.kept, state_bytes=size)
    return lambda: call(observation), 1, facts


def network(spec: Entrant) -> tuple[NetworkConfig, int]:
    """Return the policy of a size, and how much it observes.

    Example:
        >>> config, obs_dim = network(Entrant("inference", "3x512", 0.9, "grouped", "packed"))
        >>> config.network, config.width, config.blocks, obs_dim
        ('mlp', 512, 3, 512)
    """
    pruning: dict[str, Any] = {}
    if spec.pattern != "dense":
        pruning = {"sparsity": spec.sparsity, "pattern": spec.pattern, "compute": "packed"}
    if spec.size in SIZES:
        return NetworkConfig(width=SIZES[spec.size][0], blocks=1, **pruning), OBS_DIM
    layers, width = (int(number) for number in spec.size.split("x"))
    return NetworkConfig(network="mlp", width=width, blocks=layers, **pruning), width


def _numpy(folder: Path) -> Call:
    layers = with_dense_weights(read(folder)[0])
    return lambda observation: run(layers, observation[None])


def _onnxruntime(folder: Path) -> Call:
    import onnx  # noqa: F401  (the model is written only where it is installed)
    import onnxruntime

    session = onnxruntime.InferenceSession(
        folder / "policy.onnx", providers=["CPUExecutionProvider"]
    )
    return lambda observation: session.run(None, {"observation": observation[None]})


def _torch(folder: Path) -> Call:
    import torch

    torch.set_grad_enabled(False)
    layers, _ = read(folder)
    tensors = [[torch.from_numpy(np.array(array)) for array in arrays(layer)] for layer in layers]

    def call(observation: np.ndarray) -> Any:
        x = kept = torch.from_numpy(observation)
        for layer, of in zip(layers, tensors, strict=True):
            match layer:
                case Normalise():
                    x = (x - of[0]) / of[1]
                case Remember():
                    kept = x
                case Add():
                    x = x + kept
                case LayerNorm(epsilon=epsilon):
                    x = torch.nn.functional.layer_norm(x, x.shape, of[0], of[1], epsilon)
                case Linear(relu=relu):
                    x = torch.addmv(of[1], of[0], x)
                    x = torch.relu(x) if relu else x
                case Squash():
                    x = torch.tanh(x) * of[1] + of[0]
        return x.numpy()

    return call


def arrays(layer: Layer) -> Sequence[np.ndarray]:
    """Return what PyTorch needs of a layer; weights are `[outputs, inputs]` there."""
    match layer:
        case Normalise(mean=mean, scale=scale):
            return mean, scale
        case LayerNorm(scale=scale, shift=shift):
            return scale, shift
        case Linear(bias=bias):
            return np.ascontiguousarray(to_dense(layer).T), bias
        case Squash():
            return layer.centre, layer.half
        case _:
            return ()


LOADERS: dict[str, Callable[[Path], Call]] = {
    "dense": load,
    "packed": load,
    "numpy": _numpy,
    "onnxruntime": _onnxruntime,
    "torch": _torch,
}
