"""Exports a greedy policy of PyTorch to files that run without PyTorch and without JAX."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import nn

from kanbatsu.deploy.contract import Contract, Image, Moments
from kanbatsu.deploy.entry import GREATEST
from kanbatsu.deploy.golden import TOLERANCE
from kanbatsu.deploy.layers import ChannelsLast, Choose, Clip, End, Layer, Linear, Normalise, Squash
from kanbatsu.deploy.seal import Key
from kanbatsu.deploy.write import Bound, Export, Original, write_policy
from kanbatsu.torch.activations import is_activation
from kanbatsu.torch.evaluating import evaluating
from kanbatsu.torch.graph import layers_of
from kanbatsu.torch.kernels import CannotExport

Actions = Literal["squash", "clip", "argmax"]


def export_policy(
    actor: nn.Module,
    out_dir: str | os.PathLike[str],
    *,
    actions: Actions = "squash",
    low: Bound = -1.0,
    high: Bound = 1.0,
    image: tuple[int, int, int] | None = None,
    choices: Sequence[int] | None = None,
    observations: np.ndarray | None = None,
    contract: Contract | None = None,
    key: Key | None = None,
    tolerance: float = TOLERANCE,
    onnx: bool | None = None,
    c: bool = False,
) -> None:
    """Write a deterministic policy for `kanbatsu.deploy.load`; of pruned layers, what they keep.

    A normaliser at the start of its forward, such as `(x - self.mean) / (self.std + 1e-2)` and a
    clip, becomes that of the policy: of rsl_rl's actors pass `nn.Sequential(actor.obs_normalizer,
    actor.mlp)`.

    Args:
        actor: linear layers, pruned or dense, LayerNorm, activations and residual sums, in an
            `nn.Sequential` or in a forward that can be traced. Of an actor with a trunk and heads,
            pass `nn.Sequential(actor.trunk, actor.mean)`.
        out_dir: folder of its own, which gets `policy.json`, `policy.safetensors` and
            `contract.json`.
        actions: `squash`: the action is `tanh(actor(obs))`, brought from [-1, 1] to the bounds; an
            actor that ends in `nn.Tanh` may keep it, tanh is applied once. `clip`: the action is
            `actor(obs)`, clipped to the bounds. `argmax`: the number of the largest output.
        low: lowest value of each entry of an action, `[action_dim]` or one for all.
        high: highest value likewise.
        image: channels, height and width of observations that are images: they are given as uint8,
            and the actor takes them divided by 255.
        choices: for `argmax`, the number of options of each choice, where there are several: their
            scores lie end to end.
        observations: some that the actor was trained on, `[count, obs_dim]`: their moments go into
            the contract, and golden pairs lie among them.
        contract: names, units, ranges, licence, and whatever else you know.
        key: path of a key file to sign the policy with.
        tolerance: largest difference between an exported action and the module's, in halves of the
            action's range.
        onnx: flag of `policy.onnx`; by default it is written where the package onnx is installed.
        c: flag of `policy.c`, one file of C99 for machines without Python.

    Raises:
        ValueError: for an actor with other layers, numbers that are not finite, or bounds that do
            not fit; nothing is written then.
        ParityError: if the exported policy differs from the module by more than the tolerance.

    Example:
        >>> import tempfile
        >>> from kanbatsu.deploy import load
        >>> from kanbatsu.torch import prune
        >>> actor = prune(nn.Sequential(nn.Linear(3, 64), nn.ELU(), nn.Linear(64, 2)), 0.5)
        >>> folder = tempfile.mkdtemp()
        >>> export_policy(actor, folder, low=-2.0, high=2.0)
        >>> load(folder)
        Policy(obs_dim=3, action_dim=2)
    """
    layers, squashed = read_policy(
        actor, actions=actions, low=low, high=high, image=image, choices=choices
    )
    end = layers[-1]

    def seen(obs: np.ndarray) -> np.ndarray:
        return obs if image is None else obs.reshape(-1, *image) / np.float32(255)

    write_policy(
        layers,
        out_dir,
        Original(lambda obs: _act(actor, end, squashed, seen(obs)), type(actor).__name__),
        Export(contract or Contract(), key, tolerance, onnx, c),
        moments=None if observations is None else Moments.of("observations", observations),
        image=None if image is None else Image(image, channels_first=True),
    )


def read_policy(
    actor: nn.Module,
    *,
    actions: Actions,
    low: Bound = -1.0,
    high: Bound = 1.0,
    image: tuple[int, int, int] | None = None,
    choices: Sequence[int] | None = None,
) -> tuple[list[Layer], bool]:
    """Read a policy's layers from a module, from the normaliser to the end.

    Args:
        actor: as in `export_policy`, and so are all others.
        actions: `squash`, `clip` or `argmax`.
        low: lowest value of each entry of an action.
        high: highest value likewise.
        image: channels, height and width of observations that are images.
        choices: number of options of each choice, where there are several.

    Returns:
        The layers, and a flag of an actor that squashes by itself.

    Raises:
        ValueError: for an actor with other layers, or bounds that do not fit.

    Example:
        >>> layers, squashed = read_policy(nn.Sequential(nn.Linear(3, 2)), actions="clip")
        >>> [type(layer).__name__ for layer in layers], squashed
        (['Normalise', 'Linear', 'Clip'], False)
    """
    if actions not in ("squash", "clip", "argmax"):
        raise ValueError(f"actions must be 'squash', 'clip' or 'argmax': got {actions!r}")
    layers = layers_of(actor, image)
    inputs, outputs = sizes_of(layers)
    if not isinstance(layers[0], Normalise):
        layers = [as_it_comes(inputs, 1.0 if image is None else 255.0), *layers]
    squashed = actions == "squash" and is_activation(layers[-1], "tanh")
    layers = layers[:-1] if squashed else layers
    end: End
    if actions == "argmax":
        end = choice(outputs) if choices is None else choice(*choices, scalar=False)
    else:
        bounds = _bounds(low, high, outputs)  # without a bound, an entry is not clipped
        end = Squash(*bounds) if actions == "squash" else Clip(*bounds)
    return [*layers, end], squashed


def sizes_of(layers: list[Layer]) -> tuple[int, int]:
    """Return how many numbers the first layer takes, and how many the last linear one gives.

    Raises:
        CannotExport: there is none.
    """
    linear = [layer for layer in layers if isinstance(layer, Linear)]
    if not linear:
        raise CannotExport("it has no linear layer")
    first = layers[0]
    inputs = linear[0].inputs
    if isinstance(first, ChannelsLast):
        inputs = first.channels * first.pixels
    return inputs, linear[-1].outputs


def as_it_comes(obs_dim: int, scale: float = 1.0) -> Normalise:
    """Return the layer that leaves observations as they are, or divides them by a scale."""
    return Normalise(np.zeros(obs_dim, np.float32), np.full(obs_dim, scale, np.float32))


def choice(*sizes: int, scalar: bool = True) -> Choose:
    """Return the layer that numbers the largest of each row of scores, from 0."""
    return Choose(np.array(sizes, np.int32), np.zeros(len(sizes), np.int32), scalar)


def _bounds(low: Bound, high: Bound, outputs: int) -> list[np.ndarray]:
    try:
        ends = [np.broadcast_to(np.asarray(bound, np.float32), outputs) for bound in (low, high)]
    except ValueError:
        raise ValueError(f"low and high must be one number, or {outputs} each") from None
    return [np.clip(end, -GREATEST, GREATEST).astype(np.float32) for end in ends]


def _act(actor: nn.Module, end: Layer, squashed: bool, obs: np.ndarray) -> np.ndarray:
    """The module's own action, as in evaluation."""
    parameter = next(actor.parameters())
    with evaluating(actor):
        out = actor(torch.as_tensor(obs).to(parameter)).float().cpu().numpy()
    if isinstance(end, Choose):
        rows = np.split(out, np.cumsum(end.sizes)[:-1], axis=-1)
        return np.stack([row.argmax(axis=-1) for row in rows], axis=-1)
    if isinstance(end, Clip):
        return np.clip(out, end.low, end.high)
    assert isinstance(end, Squash)
    unit = out if squashed else np.tanh(out)
    return end.centre + end.half * unit
