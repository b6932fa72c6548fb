"""What the layers of a policy compute, in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kanbatsu.deploy.functions import activate
from kanbatsu.deploy.layers import (
    Activate,
    Add,
    ChannelsLast,
    Choose,
    Clip,
    Conv,
    Dense,
    Layer,
    LayerNorm,
    Linear,
    Normalise,
    Remember,
    Squash,
)


def run(layers: Sequence[Layer], x: np.ndarray) -> np.ndarray:
    """Compute the actions of observations with numpy; weights are dense.

    Args:
        layers: the policy; the weight of every `Linear` and `Conv` is `Dense`.
        x: float32 `[batch, obs_dim]`.

    Returns:
        float32 `[batch, action_dim]`; choices are numbered from 0.

    Example:
        >>> one = np.ones(1, np.float32)
        >>> run([Normalise(one, one), Squash(0 * one, 10 * one)], np.ones((1, 1), np.float32))
        array([[5.]], dtype=float32)
    """
    remembered = x
    for layer in layers:
        match layer:
            case Normalise():
                x = (x - layer.mean) / layer.scale
            case Remember():
                remembered = x
            case Add():
                x = x + remembered
            case ChannelsLast(channels, pixels):
                x = x.reshape(len(x), channels, pixels).swapaxes(1, 2).reshape(x.shape)
            case Conv(weight=Dense(values)):
                x = _patches(layer, x) @ values + layer.bias
                x = np.maximum(x, 0) if layer.relu else x
                x = x.reshape(len(x), layer.features)
            case LayerNorm(scale, shift):
                places = x.shape[-1] // scale.size  # of an image; 1 of a vector
                centred = x.reshape(len(x), places, scale.size)
                centred = centred - centred.mean(axis=-1, keepdims=True)
                variance = (centred**2).mean(axis=-1, keepdims=True)
                centred = centred / np.sqrt(variance + np.float32(layer.epsilon))
                x = (centred * scale + shift).reshape(x.shape)
            case Linear(weight=Dense(values)):
                x = x @ values + layer.bias
                x = np.maximum(x, 0) if layer.relu else x
            case Activate(function, alpha):
                x = activate(function, x, alpha)
            case Clip(low, high):
                x = np.clip(x, low, high)
            case Choose(sizes):
                edges = np.cumsum(sizes)[:-1]
                best = [scores.argmax(axis=-1) for scores in np.split(x, edges, axis=-1)]
                x = np.stack(best, axis=-1).astype(np.float32)
            case Squash():
                x = layer.centre + layer.half * np.tanh(x)
    return x


def _patches(layer: Conv, x: np.ndarray) -> np.ndarray:
    """Lay out the patches of images, `[batch, rows * columns, inputs]`."""
    images = x.reshape(len(x), layer.height, layer.width, layer.channels)
    windows = (layer.window, layer.window)
    views = np.lib.stride_tricks.sliding_window_view(images, windows, axis=(1, 2))
    views = views[:, :: layer.stride, :: layer.stride].transpose(0, 1, 2, 4, 5, 3)
    return views.reshape(len(x), layer.rows * layer.columns, layer.inputs)
