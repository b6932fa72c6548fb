"""The weight leaves, and the one function that multiplies by them.

A linear layer holds a weight and calls `matmul(x, weight)`. A plain array is dense. `Masked` is a
dense array that already holds zeros where it is pruned, and the mask that keeps them there.
`Packed` and `Grouped` hold the kept values only. All are the same function of the same weights.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from kanbatsu.kernels.products import add_bias
from kanbatsu.sparsity.fixed import Fixed, unfixed
from kanbatsu.sparsity.packed import Grouped, Packed
from kanbatsu.sparsity.pruned import PrunedWeight


@jax.custom_vjp
def _keep(value: Array, mask: Array) -> Array:
    """Pass the value forward as it is; let gradients through only where the mask is True."""
    return value


def _keep_forward(value: Array, mask: Array) -> tuple[Array, Array]:
    return value, mask


def _keep_backward(mask: Array, gradient: Array) -> tuple[Array, None]:
    return jnp.where(mask, gradient, jnp.zeros_like(gradient)), None


_keep.defvjp(_keep_forward, _keep_backward)


class Masked(PrunedWeight):
    """A pruned weight: zero wherever the mask is False, now and after every update.

    The stored value is zero where pruned, and its gradient is. Weight decay, Adam moments, target
    averages, clipping and norms are then right without knowing about sparsity, because all that
    they see of a pruned weight is zeros.

    Example:
        >>> weight = Masked.of(jnp.ones((2, 2)), jnp.array([[True, False], [True, True]]))
        >>> matmul(jnp.array([1.0, 10.0]), weight)
        Array([11., 10.], dtype=float32)
    """

    value: Float[Array, "..."]
    mask: Bool[Array, "..."] | Fixed

    @classmethod
    def of(cls, value: Float[Any, "..."], mask: Bool[Any, "..."]) -> Masked:
        """Set the pruned weights to zero.

        Args:
            value: any shape.
            mask: the same shape, True = kept.

        Raises:
            ValueError: if the shapes differ.
        """
        value, mask = jnp.asarray(value), jnp.asarray(mask)
        if value.shape != mask.shape:
            raise ValueError(f"the mask {mask.shape} must have the weight's shape {value.shape}")
        return cls(jnp.where(mask, value, jnp.zeros_like(value)), mask)

    def remasked(self, mask: Bool[Array, "..."]) -> Masked:
        """Return the weight under another mask; what is newly kept begins at zero.

        Moments of a masked weight, which hold no mask of their own, follow in the same way.

        Args:
            mask: the weight's shape, True = kept.

        Example:
            >>> weight = Masked.of(jnp.ones(2), jnp.array([True, False]))
            >>> weight.remasked(jnp.array([False, True])).value.tolist()
            [0.0, 0.0]
        """
        value = jnp.where(mask, self.value, jnp.zeros_like(self.value))
        if isinstance(self.mask, Fixed):
            return Masked(value, Fixed(mask))
        leaves, structure = jax.tree.flatten(self)
        moved: Masked = jax.tree.unflatten(structure, [value, mask][: len(leaves)])
        return moved

    def like(self, array: Float[Array, "..."]) -> Masked:
        """Return a weight under the same mask, with the values of a dense array."""
        return Masked(jnp.where(unfixed(self.mask), array, jnp.zeros_like(array)), self.mask)

    @property
    def array(self) -> Float[Array, "..."]:
        """The dense array, with a gradient that is zero where pruned."""
        if isinstance(self.mask, Fixed):
            if self.value.ndim < self.mask.ndim:  # a part of the weight, inside `vmap`
                return self.value
            # Zeros once more: anybody's optimizer trains it, and may add something of its own.
            return jnp.where(unfixed(self.mask), self.value, jnp.zeros_like(self.value))
        return _keep(self.value, self.mask)

    @property
    def kept(self) -> int:
        """Number of weights that exist."""
        return int(np.asarray(self.mask).sum())

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dense array."""
        return (self.mask if self.value is None else self.value).shape

    @property
    def dtype(self) -> Any:
        """Type of the values."""
        return self.value.dtype

    def __jax_array__(self) -> Array:
        return self.array


def with_masks(model: Any, masks: Any, *, rescale: bool = False) -> Any:
    """Prune a model with masks that are given: a pure function, inside `jit` and `vmap` as well.

    Args:
        model: a tree of arrays.
        masks: a tree like it, with a mask in place of each kernel and None elsewhere, as
            `kanbatsu.make_masks` draws them.
        rescale: whether what survives is divided by the square root of its kernel's density.

    Example:
        >>> mask = {"w": jnp.array([True, False, False, False])}
        >>> with_masks({"w": jnp.ones(4)}, mask)["w"].value.tolist()
        [1.0, 0.0, 0.0, 0.0]
        >>> with_masks({"w": jnp.ones(4)}, mask, rescale=True)["w"].value.tolist()
        [2.0, 0.0, 0.0, 0.0]
    """

    def thin(mask: Any, leaf: Any) -> Any:
        if mask is None:
            return leaf
        return Masked.of(leaf / jnp.sqrt(mask.mean()) if rescale else leaf, mask)

    return jax.tree.map(thin, masks, model, is_leaf=lambda node: node is None)


Pruned = Masked | Packed | Grouped
Weight = Float[Array, "..."] | Pruned


def is_pruned(node: Any) -> bool:
    """Return True for a pruned weight, where a node of a tree may be one."""
    return isinstance(node, Pruned)


def matmul(
    x: Float[Array, "*batch inputs"], weight: Float[Array, "inputs outputs"] | Pruned
) -> Float[Array, "*batch outputs"]:
    """Multiply activations by a weight, whatever the weight is stored as.

    Args:
        x: activations, `[..., inputs]`.
        weight: `[inputs, outputs]`.

    Returns:
        `[..., outputs]`. Gradients of pruned weights are exactly zero, or do not exist.
    """
    return weight.multiply(x) if isinstance(weight, Packed | Grouped) else x @ to_dense(weight)


def affine(
    x: Float[Array, "*batch inputs"],
    weight: Float[Array, "inputs outputs"] | Pruned,
    bias: Float[Array, " outputs"],
    *,
    relu: bool = False,
) -> Float[Array, "*batch outputs"]:
    """Multiply by a weight, add a bias, and with `relu` keep the positive part.

    Args:
        x: activations, `[..., inputs]`.
        weight: `[inputs, outputs]`.
        bias: `[outputs]`.
        relu: whether negative results become 0.

    Returns:
        `[..., outputs]`.

    Example:
        >>> affine(jnp.ones(2), jnp.ones((2, 1)), jnp.array([-3.0]), relu=True)
        Array([0.], dtype=float32)
    """
    if isinstance(weight, Packed | Grouped):
        return weight.affine(x, bias, relu)
    y = add_bias(x @ to_dense(weight), bias)
    return jax.nn.relu(y) if relu else y


def to_dense(weight: Weight) -> Float[Array, "..."]:
    """Return the weight as a dense array.

    Example:
        >>> to_dense(Masked.of(jnp.ones(2), jnp.array([True, False])))
        Array([1., 0.], dtype=float32)
    """
    return weight.array if isinstance(weight, Pruned) else weight
