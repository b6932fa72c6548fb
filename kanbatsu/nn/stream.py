"""The network that learns from a stream: SparseInit, LayerNorm without gain, LeakyReLU."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kanbatsu.nn.layers import Linear
from kanbatsu.ranges import Natural, Share
from kanbatsu.sparsity.config import Compute, Pruning
from kanbatsu.sparsity.prune import make_masks_as, prune_as
from kanbatsu.sparsity.weight import with_masks
from kanbatsu.types import Key

STREAM_NORM_EPSILON = 1e-5
"""Number added to the variance by `layer_norm`: PyTorch's default, which the paper used."""

NEGATIVE_SLOPE = 0.01
"""The slope of LeakyReLU below zero."""


@dataclass(frozen=True)
class StreamShape:
    """A network's size and how it starts."""

    width: Natural = 128
    """Units of each hidden layer."""
    blocks: Natural = 2
    """Hidden layers."""
    initial_sparsity: Share = 0.9
    """Share of each unit's inputs whose weight starts at zero, and trains (SparseInit); 0 = none.
    It is no mask: these weights move from the first step."""


@dataclass(frozen=True)
class StreamNetworkConfig(Pruning, StreamShape):
    """A network's shape, how it starts, and how much of it is removed for good."""

    compute: Compute = "masked"
    """Form in which pruned weights are stored and multiplied: as masked dense ones, packed (kept
    values only), or whichever is faster for a batch of 256 (auto). The same function either way."""


@partial(jax.jit, static_argnames=("shape", "dtype", "sparsity"))
def sparse_init(
    key: Key, shape: tuple[int, int], dtype: Any = jnp.float32, *, sparsity: float = 0.9
) -> Float[Array, "inputs outputs"]:
    r"""Draw a kernel from $U(\pm 1/\sqrt{inputs})$ and set some inputs of each unit to zero.

    Each unit (a column) loses exactly `ceil(sparsity * inputs)`, its own random choice. With
    0.9 and fewer than ten inputs that is all of them.

    Args:
        key: decides the values and which of them are zero.
        shape: `(inputs, outputs)`.
        dtype: type of the kernel.
        sparsity: share of the inputs, in [0, 1].

    Example:
        >>> kernel = sparse_init(jax.random.key(0), (25, 4))
        >>> (kernel == 0).sum(axis=0)  # ceil(0.9 * 25)
        Array([23, 23, 23, 23], dtype=int32)

    Reference:
        Elsayed, Vasan and Mahmood 2024, "Streaming Deep Reinforcement Learning Finally Works".
    """
    value_key, zero_key = jax.random.split(key)
    inputs = shape[0]
    bound = 1.0 / math.sqrt(inputs)
    value = jax.random.uniform(value_key, shape, dtype, -bound, bound)
    # Rounded first: 0.9 times an integer may lie a bit above the integer that is meant.
    zeros = math.ceil(round(sparsity * inputs, 9))
    order = jnp.argsort(jax.random.uniform(zero_key, shape), axis=0)
    return jnp.where(order < zeros, jnp.zeros_like(value), value)


def layer_norm(x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
    """Normalise a layer to mean 0 and variance 1; there is no gain and no bias to learn.

    Example:
        >>> layer_norm(jnp.array([1.0, 3.0])).round(3)
        Array([-1.,  1.], dtype=float32)
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + STREAM_NORM_EPSILON)


class NormalHead(eqx.Module):
    """Mean and standard deviation (a softplus) of a Gaussian that is not squashed."""

    mean: Linear
    deviation: Linear

    def __init__(self, inputs: int, action_dim: int, *, initializer: Any, key: Key):
        mean_key, deviation_key = jax.random.split(key)
        self.mean = Linear(inputs, action_dim, initializer, key=mean_key)
        self.deviation = Linear(inputs, action_dim, initializer, key=deviation_key)

    def __call__(
        self, features: Float[Array, "*batch width"]
    ) -> tuple[Float[Array, "*batch action_dim"], Float[Array, "*batch action_dim"]]:
        """Return the mean and the standard deviation."""
        return self.mean(features), jax.nn.softplus(self.deviation(features))


class StreamNetwork(eqx.Module):
    """Linear, LayerNorm, LeakyReLU, `blocks` times; then a head with nothing after it."""

    layers: tuple[Linear, ...]
    head: eqx.Module

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Any:
        """Encode an input and apply the head."""
        features, _ = self.encode(x)
        return self.head(features)  # type: ignore[operator]

    def encode(
        self, x: Float[Array, "*batch inputs"]
    ) -> tuple[Float[Array, "*batch width"], dict[str, Float[Array, "*batch width"]]]:
        """Return the last features, and the outputs of every LeakyReLU by layer."""
        activations = {}
        for index, layer in enumerate(self.layers):
            x = jax.nn.leaky_relu(layer_norm(layer(x)), NEGATIVE_SLOPE)
            activations[f"hidden{index}"] = x
        return x, activations


def make_stream_network(
    config: StreamNetworkConfig,
    inputs: int,
    make_head: Callable[..., eqx.Module],
    *,
    key: Key,
    masks: Any = None,
) -> StreamNetwork:
    """Initialise a network and prune it, as its configuration says or with masks given.

    The same key draws the same initial weights whatever the sparsity. Masks are drawn on the host;
    inside `jit` or `vmap` they must be given, as `make_stream_masks` draws them.

    Args:
        config: shape, start and sparsity.
        inputs: length of the input.
        make_head: called with the width, `initializer=` and `key=`.
        key: draws the weights, and the masks where none are given.
        masks: a tree like the network, with a mask in place of each kernel and None elsewhere;
            the configuration's own sparsity is then not read.

    Raises:
        ValueError: for a sparsity that the network cannot meet.

    Example:
        >>> config, head = StreamNetworkConfig(width=32, sparsity=0.5), partial(Linear, outputs=1)
        >>> critic = make_stream_network(config, 12, head, key=jax.random.key(0))
        >>> critic(jnp.ones((7, 12))).shape
        (7, 1)
    """
    network = _initial(config, inputs, make_head, key)
    if masks is not None:
        return with_masks(network, masks)
    return prune_as(network, config, jax.random.split(key, 3)[2])


def make_stream_masks(
    config: StreamNetworkConfig, inputs: int, make_head: Callable[..., eqx.Module], *, key: Key
) -> Any:
    """Draw the masks that `make_stream_network` draws for this key.

    Args: as for `make_stream_network`.

    Returns:
        Its `masks`; of several keys, they may be stacked for `vmap`. A dense network's are True
        throughout.

    Raises:
        ValueError: as for `make_stream_network`.
    """
    network = _initial(config, inputs, make_head, key)
    return make_masks_as(network, config, jax.random.split(key, 3)[2])


def _initial(
    config: StreamNetworkConfig, inputs: int, make_head: Callable[..., eqx.Module], key: Key
) -> StreamNetwork:
    """Draw a network that is not pruned yet."""
    layer_key, head_key, _ = jax.random.split(key, 3)
    initializer = partial(sparse_init, sparsity=config.initial_sparsity)
    layers = tuple(
        Linear(inputs if index == 0 else config.width, config.width, initializer, key=each)
        for index, each in enumerate(jax.random.split(layer_key, config.blocks))
    )
    return StreamNetwork(layers, make_head(config.width, initializer=initializer, key=head_key))
