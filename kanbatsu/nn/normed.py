"""A network of action values, for images and vectors: LayerNorm and ReLU after each layer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from kanbatsu.files.tables import ADDED
from kanbatsu.nn.conv import Conv
from kanbatsu.nn.layers import LayerNorm, Linear
from kanbatsu.ranges import Natural
from kanbatsu.sparsity.config import Pruning
from kanbatsu.sparsity.prune import make_masks_as, prune_as
from kanbatsu.sparsity.weight import with_masks
from kanbatsu.types import Key

WINDOW = 3
"""Height and width of the convolution's kernel (MinAtar's networks: 3)."""


@dataclass(frozen=True)
class NormedShape:
    """A network's size."""

    width: Natural = 128
    """Units of each hidden layer."""
    blocks: Natural = 1
    """Hidden layers; of images, those after the convolution."""
    channels: Natural = 16
    """Channels of the convolution that images pass first; not read where there are no images."""
    residual: bool = field(default=False, metadata=ADDED)
    """Flag of hidden layers after the first that add their outputs to their inputs."""


@dataclass(frozen=True)
class NormedNetworkConfig(Pruning, NormedShape):
    """A network's size and its sparsity."""


class NormedNetwork(eqx.Module):
    """Linear, LayerNorm, ReLU, `blocks` times; of images, after a convolution with the same.

    With `residual`, each of the layers after the first adds its outputs to its inputs.
    """

    conv: Conv | None
    layers: tuple[Linear, ...]
    norms: tuple[LayerNorm, ...]
    """Normalisations of the convolution, where there is one, and of each layer."""
    head: Linear
    residual: bool = eqx.field(static=True, default=False)

    def __call__(self, obs: Num[Array, "*batch_and_obs"]) -> Float[Array, "*batch outputs"]:
        """Return the values of observations."""
        features, _ = self.encode(obs)
        return self.head(features)

    def encode(
        self, obs: Num[Array, "*batch_and_obs"]
    ) -> tuple[Float[Array, "*batch width"], dict[str, Float[Array, "*batch units"]]]:
        """Return the last features, and the outputs of every ReLU by layer.

        Args:
            obs: vectors `[..., length]`, or images `[..., height, width, channels]`, which are
                divided by 255 where they are uint8.
        """
        x = obs.astype(jnp.float32) / 255.0 if obs.dtype == jnp.uint8 else obs
        norms, activations = iter(self.norms), {}
        if self.conv is not None:
            x = jax.nn.relu(next(norms)(self.conv(x)))
            x = activations["conv"] = x.reshape(*x.shape[:-3], -1)
        for index, layer in enumerate(self.layers):
            units = activations[f"hidden{index}"] = jax.nn.relu(next(norms)(layer(x)))
            x = x + units if self.residual and index else units
        return x, activations


def make_normed_network(
    config: NormedNetworkConfig,
    obs_shape: tuple[int, ...],
    outputs: int,
    *,
    key: Key,
    masks: Any = None,
) -> NormedNetwork:
    """Initialise a network and prune it, as its configuration says or with masks given.

    The same key draws the same initial weights whatever the sparsity. Masks are drawn on the host;
    inside `jit` or `vmap` they must be given, as `make_normed_masks` draws them.

    Args:
        config: size and sparsity.
        obs_shape: `(length,)` of a vector, or `(height, width, channels)` of an image.
        outputs: values for each observation.
        key: draws the weights, and the masks where none are given.
        masks: a tree like the network, with a mask in place of each kernel and None elsewhere;
            the configuration's own sparsity is then not read.

    Raises:
        ValueError: for a sparsity that the network cannot meet, or an image smaller than the
            convolution's kernel.

    Example:
        >>> config = NormedNetworkConfig(width=32, sparsity=0.5)
        >>> critic = make_normed_network(config, (10, 10, 4), 3, key=jax.random.key(0))
        >>> critic(jnp.ones((7, 10, 10, 4), jnp.uint8)).shape
        (7, 3)

    Reference:
        Young and Tian 2019, "MinAtar", for the convolution; Gallici et al. 2024, "Simplifying Deep
        Temporal Difference Learning", for LayerNorm after each layer.
    """
    network = _initial(config, obs_shape, outputs, key)
    if masks is not None:
        return with_masks(network, masks, rescale=config.rescale)
    return prune_as(network, config, jax.random.split(key, 3)[2])


def make_normed_masks(
    config: NormedNetworkConfig, obs_shape: tuple[int, ...], outputs: int, *, key: Key
) -> Any:
    """Draw, on the host, the masks that `make_normed_network` draws for this key.

    Args: as for `make_normed_network`.

    Returns:
        Its `masks`; of several keys, they may be stacked for `vmap`. A dense network's are True
        throughout.

    Raises:
        ValueError: as for `make_normed_network`.
    """
    network = _initial(config, obs_shape, outputs, key)
    return make_masks_as(network, config, jax.random.split(key, 3)[2])


def _initial(
    config: NormedNetworkConfig, obs_shape: tuple[int, ...], outputs: int, key: Key
) -> NormedNetwork:
    """Draw a network that is not pruned yet: He's kernels, and LeCun's for the head."""
    layer_key, head_key, _ = jax.random.split(key, 3)
    conv_key, *layer_keys = jax.random.split(layer_key, config.blocks + 1)
    he = jax.nn.initializers.he_normal()
    conv, norms, inputs = None, [], math.prod(obs_shape)
    if len(obs_shape) == 3:
        height, width, channels = obs_shape
        if min(height, width) < WINDOW:
            raise ValueError(
                f"images of {height} x {width} pixels are smaller than the convolution's kernel of "
                f"{WINDOW} x {WINDOW}"
            )
        conv = Conv(channels, config.channels, he, window=WINDOW, key=conv_key)
        norms.append(LayerNorm(config.channels))
        inputs = (height - WINDOW + 1) * (width - WINDOW + 1) * config.channels
    layers = tuple(
        Linear(inputs if index == 0 else config.width, config.width, he, key=own_key)
        for index, own_key in enumerate(layer_keys)
    )
    norms += [LayerNorm(config.width) for _ in layers]
    head = Linear(config.width, outputs, jax.nn.initializers.lecun_normal(), key=head_key)
    return NormedNetwork(conv, layers, tuple(norms), head, config.residual)
