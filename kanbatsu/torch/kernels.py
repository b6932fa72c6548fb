"""Torch layers with a weight as layers of a policy: pruned or dense, linear or of images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from kanbatsu.deploy.layers import Conv, Linear
from kanbatsu.deploy.network import smallest
from kanbatsu.torch.pruned import Pruned

KNOWN = (
    "nn.Linear and, of images, nn.Conv2d (pruned or not), nn.LayerNorm, nn.ReLU, LeakyReLU, ELU, "
    "GELU, SiLU, Tanh, Sigmoid, Softplus, Hardtanh, Identity, Dropout and Flatten, sums of a "
    "branch with what went into it, and a normaliser and clips at the start"
)


class CannotExport(ValueError):
    """A module that the small runtime cannot compute."""

    def __init__(self, what: str) -> None:
        super().__init__(f"this actor cannot be exported: {what}. What can be: {KNOWN}")


def linear_of(layer: nn.Linear, image: tuple[int, int, int] | None = None) -> Linear:
    """Store a layer in the fewest bytes; a weight of zero need not be stored, pruned or not.

    Args:
        layer: the layer.
        image: channels, height and width of what it takes, where that is an image laid out flat.
    """
    value = _weight(layer).T
    if image is not None:  # a policy lays images out pixel by pixel, torch channel by channel
        places = np.arange(np.prod(image)).reshape(image).transpose(1, 2, 0).ravel()
        if places.size != len(value):
            raise CannotExport(f"a linear layer takes {len(value)} numbers of {places.size}")
        value = np.ascontiguousarray(value[places])
    stored = smallest(value, value != 0)
    sizes = (int(layer.in_features), int(layer.out_features))  # numpy's, with some libraries
    return Linear(stored, _bias(layer), *sizes, relu=False)


def first_outputs(layer: nn.Linear, count: int) -> nn.Linear:
    """Return a dense layer that computes the first outputs of one, as it multiplies now.

    Args:
        layer: the layer, pruned or not, such as one that gives means and standard deviations.
        count: number of outputs to keep.

    Example:
        >>> first_outputs(nn.Linear(3, 4), 2)
        Linear(in_features=3, out_features=2, bias=True)
    """
    return _linear(_weight(layer)[:count], _bias(layer)[:count])


def averaged(layer: nn.Linear, parts: int) -> nn.Linear:
    """Return a dense layer that computes the mean of equal parts of what one gives.

    Args:
        layer: the layer, pruned or not, such as one that gives quantiles, one action after another.
        parts: number of parts, such as that of the quantiles.

    Example:
        >>> averaged(nn.Linear(3, 8), 4)
        Linear(in_features=3, out_features=2, bias=True)
    """
    weight, bias = (x.reshape(parts, -1, *x.shape[1:]) for x in (_weight(layer), _bias(layer)))
    return _linear(weight.mean(axis=0), bias.mean(axis=0))


def _linear(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    layer = nn.Linear(*weight.shape[::-1])
    layer.weight, layer.bias = (nn.Parameter(torch.from_numpy(x.copy())) for x in (weight, bias))
    return layer


def conv_of(layer: nn.Conv2d, image: tuple[int, int, int]) -> Conv:
    """Store a convolution of images of `(channels, height, width)`, as `linear_of` does.

    Raises:
        CannotExport: it pads, or has another kind of kernel.
    """
    channels, height, width = image
    window, stride = layer.kernel_size[0], layer.stride[0]
    plain = (
        set(layer.kernel_size) == {window}
        and set(layer.stride) == {stride}
        and set(layer.dilation) == {1}
        and layer.padding in (0, (0, 0), "valid")
        and layer.groups == 1
    )
    if not plain:
        raise CannotExport(f"it holds {layer}, which is not square, or pads, dilates or has groups")
    if layer.in_channels != channels or window > min(height, width):
        raise CannotExport(f"it holds {layer}, and is given an image of {list(image)}")
    outputs = int(layer.out_channels)
    value = _weight(layer).transpose(2, 3, 1, 0).reshape(-1, outputs)
    stored = smallest(np.ascontiguousarray(value), value != 0)
    sizes = (int(channels), int(height), int(width), outputs, int(window), int(stride))
    return Conv(stored, _bias(layer), *sizes, relu=False)


def _weight(layer: nn.Linear | nn.Conv2d) -> np.ndarray:
    return to_numpy(layer.masked_weight() if isinstance(layer, Pruned) else layer.weight)


def _bias(layer: nn.Linear | nn.Conv2d) -> np.ndarray:
    if layer.bias is None:
        return np.zeros(layer.weight.shape[0], np.float32)
    return to_numpy(layer.bias)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """Return a tensor as float32 on the host."""
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
