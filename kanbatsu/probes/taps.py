"""What every layer of a network reads, and what its outputs are blamed for, sample by sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kanbatsu.nn.conv import Conv
from kanbatsu.nn.layers import Linear
from kanbatsu.sparsity.weight import is_pruned, to_dense
from kanbatsu.tree import leaves_by_path


class Factors(NamedTuple):
    """The gradients of one layer's kernel, sample by sample, as factors that are small.

    The gradient of sample i is the sum over places of `inputs[i]` times `errors[i]`, where the
    mask is 1.
    """

    inputs: Float[Array, "batch *places inputs"]
    errors: Float[Array, "batch *places outputs"]
    """Derivatives of the loss in the layer's outputs."""
    mask: Float[Array, "inputs outputs"] | None
    """1 where a weight is kept; None where all are."""


class _Tap:
    """A layer that notes its inputs and adds a nudge to its outputs; no part of any tree."""

    def __init__(self, layer: Linear | Conv, nudge: Array | None) -> None:
        self.layer, self.nudge = layer, nudge
        self.seen: tuple[Array, Array] | None = None
        """Inputs and outputs of the one call."""
        self.weight = to_dense(layer.weight).reshape(-1, layer.bias.shape[-1])

    def __call__(self, x: Array, *, relu: bool = False) -> Array:
        """Do what the layer does."""
        if self.seen is not None:
            raise ValueError("a layer that is called twice in one pass cannot be probed")
        inputs = self.layer.patches(x) if isinstance(self.layer, Conv) else x
        y = inputs @ self.weight + self.layer.bias
        self.seen = inputs, y
        y = y if self.nudge is None else y + self.nudge
        return jax.nn.relu(y) if relu else y


def kernel_factors(network: Any, loss: Callable[[Any], Array]) -> dict[str, Factors]:
    """Take the gradients of a mean loss apart, by layer and by sample, in one backward pass.

    Args:
        network: a module of `Linear` and `Conv` layers, each called once, on a whole batch;
            samples must not act on one another.
        loss: the mean over samples of their losses, as a function of the network.

    Returns:
        Factors by the path of the layer. Layers that the loss does not call are left out.

    Raises:
        ValueError: a layer is called twice.

    Example:
        >>> layer = Linear(2, 1, jax.nn.initializers.ones, key=jax.random.key(0))
        >>> x = jnp.array([[1.0, 0.0], [0.0, 3.0]])
        >>> (factors,) = kernel_factors(layer, lambda layer: layer(x).mean()).values()
        >>> factors.errors.tolist(), factors.mask is None
        ([[0.5], [0.5]], True)
    """
    layers = leaves_by_path(network, is_leaf=_is_layer)
    paths = [path for path, layer in layers.items() if _is_layer(layer)]

    def run(nudges: dict[str, Array]) -> tuple[Array, dict[str, tuple[Array, Array]]]:
        taps = {path: _Tap(layers[path], nudges.get(path)) for path in paths}
        leaves, structure = jax.tree.flatten(network, is_leaf=_is_layer)
        waiting = iter(taps.values())
        tapped = [next(waiting) if _is_layer(leaf) else leaf for leaf in leaves]
        value = loss(jax.tree.unflatten(structure, tapped))
        return value, {path: tap.seen for path, tap in taps.items() if tap.seen is not None}

    _, shapes = jax.eval_shape(run, {})
    nudges = {path: jnp.zeros(outputs.shape) for path, (_, outputs) in shapes.items()}
    errors, seen = jax.grad(run, has_aux=True)(nudges)
    return {
        path: Factors(seen[path][0], errors[path], _mask(layers[path].weight)) for path in errors
    }


def _is_layer(node: Any) -> bool:
    return isinstance(node, Linear | Conv)


def _mask(weight: Any) -> Array | None:
    """Return 1 where a weight is kept, laid out as the layer multiplies; None of a dense one."""
    if not is_pruned(weight):
        return None
    ones = weight.like(jnp.ones(weight.shape)).array
    return ones.reshape(-1, weight.shape[-1])
