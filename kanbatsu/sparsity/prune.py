"""Prune once, before training: a whole model, or the parameters of any library that uses Optax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kanbatsu.sparsity.break_even import is_faster_packed
from kanbatsu.sparsity.count import Count, LayerCount
from kanbatsu.sparsity.draw import Sparsity, draw_masks, find_meant, fit_masks, kept_by_path
from kanbatsu.sparsity.packed import Grouped, Packed
from kanbatsu.sparsity.roles import Kernel, Paths, PyTree, path_name
from kanbatsu.sparsity.weight import Masked, to_dense
from kanbatsu.types import Key

COMPUTE = ("auto", "masked", "packed")


class MaskedConv(eqx.Module):
    """An Equinox convolution whose kernel is pruned; it is called like the layer itself."""

    layer: eqx.nn.Conv | eqx.nn.ConvTranspose

    def __call__(self, x: jax.Array, *, key: Key | None = None) -> jax.Array:
        """Convolve `[channels, *space]`."""
        layer = eqx.tree_at(lambda c: c.weight, self.layer, to_dense(self.layer.weight))
        return layer(x, key=key)


def prune(
    model: PyTree,
    sparsity: Sparsity,
    *,
    key: Key,
    distribution: str = "erk",
    pattern: str = "element",
    group_size: int = 16,
    include: Paths = (),
    exclude: Paths = (),
    ensemble: Paths | None = None,
    budget: str = "kernels",
    compute: str = "auto",
) -> PyTree:
    """Remove a share of an Equinox model's weights, once, at random, and keep them removed.

    Kernels of linear and convolution layers become pruned weights: `Masked` ones, or, where
    `compute` says so, `Packed` or `Grouped` ones that store and multiply only what they keep. A
    convolution is always masked, and wrapped in `MaskedConv`. A kernel that loses nothing stays as
    it was, so sparsity 0 returns the model unchanged. Surviving weights are not rescaled.

    Train it as usual: partition with `equinox.is_inexact_array`, use any Optax optimizer; pruned
    weights and their optimizer moments stay exactly zero. A copy (a target network) is pruned
    alike.

    Args:
        model: any Equinox model, or a pytree of them.
        sparsity: share of the kernels' weights to remove, in [0, 1); or one share for each path
            pattern, such as `{"actor/*": 0.8, "critic/*": 0.9}`: the kernels that a pattern names
            share out its sparsity, and kernels that none names stay dense.
        key: decides which ones.
        distribution: how the sparsity is spread over layers: `uniform`, `er` or `erk`.
        pattern: `element` (any weight), `grouped` (`group_size` neighbouring outputs lose the
            same inputs), or `bernoulli` (any weight, counts exact on average only).
        group_size: outputs per group, for `grouped`.
        include: path patterns of the only kernels (or layers) to prune; all of them by default.
        exclude: path patterns of kernels (or layers) to leave dense.
        ensemble: path patterns of kernels whose first axis counts the members of an ensemble, as
            `vmap` stacks them; every member gets a mask of its own. By default the layer's type or
            its bias tells, and a kernel of which neither tells is refused; `()` if there is none.
        budget: `kernels`, or `all` to count every parameter of the model in the sparsity while
            still removing kernels' weights only (as the paper's public code does).
        compute: how pruned weights are stored and multiplied. `masked`: as dense ones, on any
            device; `packed`: kept values only; `auto`: whichever is faster for the layer on this
            machine's CPU (see `kanbatsu.sparsity.break_even`), masked elsewhere. All three are the
            same function.

    Returns:
        The same model with pruned weights.

    Raises:
        ValueError: for a sparsity outside [0, 1) or too high to leave every layer a weight, a
            model that is already pruned or has nothing to prune, a pattern of paths that matches
            nothing, or a kernel that may or may not hold an ensemble.

    Example:
        >>> model = eqx.nn.MLP(4, 2, 64, 2, key=jax.random.key(0))
        >>> pruned = prune(model, 0.9, key=jax.random.key(1))
        >>> from kanbatsu.sparsity.count import count
        >>> count(pruned).kept, count(pruned).total
        (448, 4480)

    Reference:
        "Network Sparsity Unlocks the Scaling Potential of Deep RL", ICML 2025, section 3.
    """
    check_compute(compute)
    kernels = find_meant(model, sparsity, include, exclude, ensemble)
    kept = kept_by_path(model, kernels, sparsity, distribution, pattern, budget)
    masks = draw_masks(kernels, kept, key, pattern, group_size)

    def thin(keys: Any, leaf: Any) -> Any:
        path = path_name(keys)
        if path not in masks or masks[path].all():
            return leaf
        if _is_packed(masks[path], pattern, group_size, compute):
            return _pack(kernels[path], masks[path], pattern, group_size)
        return Masked.of(leaf, masks[path])

    return _wrap_convolutions(jax.tree_util.tree_map_with_path(thin, model))


def plan(
    model: PyTree,
    sparsity: Sparsity,
    *,
    distribution: str = "erk",
    pattern: str = "element",
    include: Paths = (),
    exclude: Paths = (),
    ensemble: Paths | None = None,
    budget: str = "kernels",
) -> Count:
    """Say what `prune` would keep, without drawing anything; shapes are enough.

    Args: as for `prune`; `model` may hold `jax.ShapeDtypeStruct` in place of arrays.

    Raises:
        ValueError: as for `prune`.

    Example:
        >>> plan({"w": jax.ShapeDtypeStruct((8, 4), jnp.float32)}, 0.75).kept
        8
    """
    kernels = find_meant(model, sparsity, include, exclude, ensemble)
    kept = kept_by_path(model, kernels, sparsity, distribution, pattern, budget)
    return Count(
        tuple(
            LayerCount(
                path,
                (*kernel.members, *kernel.shape),
                kept[path] * math.prod(kernel.members),
                math.prod(kernel.leaf.shape),
            )
            for path, kernel in kernels.items()
        )
    )


def make_masks(
    params: PyTree,
    sparsity: Sparsity,
    *,
    key: Key,
    distribution: str = "erk",
    pattern: str = "element",
    group_size: int = 16,
    include: Paths = (),
    exclude: Paths = (),
    ensemble: Paths | None = None,
    budget: str = "kernels",
) -> PyTree:
    """Draw masks for the parameters of any JAX library (Flax, Haiku, plain pytrees).

    Args: as for `prune`; `params` is the tree of arrays: what a linen module's `init` returns,
        `nnx.state(model, nnx.Param)`, Haiku's dicts, or lists and tuples of arrays that `include`
        names.

    Returns:
        A tree of the same structure: a boolean array (True = kept) for each kernel, None for
        every other leaf.

    Raises:
        ValueError: as for `prune`.

    Example:
        >>> params = {"dense": {"kernel": jnp.ones((8, 4)), "bias": jnp.ones(4)}}
        >>> masks = make_masks(params, 0.75, key=jax.random.key(0))
        >>> masks["dense"]["bias"] is None, int(masks["dense"]["kernel"].sum())
        (True, 8)
    """
    kernels = find_meant(params, sparsity, include, exclude, ensemble)
    kept = kept_by_path(params, kernels, sparsity, distribution, pattern, budget)
    masks = draw_masks(kernels, kept, key, pattern, group_size)

    def mask_of(keys: Any, _: Any) -> jax.Array | None:
        path = path_name(keys)
        return jnp.asarray(masks[path]) if path in masks else None

    return jax.tree_util.tree_map_with_path(mask_of, params)


def apply_masks(params: PyTree, masks: PyTree) -> PyTree:
    """Set the pruned weights to zero.

    Args:
        params: a tree of arrays.
        masks: what `make_masks` returned for it, or for the same tree in other containers: what
            counts is the path of each leaf.

    Example:
        >>> apply_masks({"w": jnp.ones(2)}, {"w": jnp.array([True, False])})
        {'w': Array([1., 0.], dtype=float32)}

    Raises:
        ValueError: if the trees or a mask's shape do not fit.
    """
    mask_at = fit_masks(masks, params)

    def zero(keys: Any, leaf: Any) -> Any:
        mask = mask_at[path_name(keys)]
        return leaf if mask is None else jnp.where(mask, leaf, jnp.zeros_like(leaf))

    return jax.tree_util.tree_map_with_path(zero, params)


def keep_pruned(
    optimizer: optax.GradientTransformation, masks: PyTree
) -> optax.GradientTransformationExtraArgs:
    """Wrap an Optax optimizer so that pruned weights stay zero.

    Gradients are masked before the optimizer sees them, so its moments (and norms, for clipping)
    hold zeros where weights are pruned; updates are masked after it, so that nothing that an
    optimizer adds of its own moves a pruned weight.

    Args:
        optimizer: any gradient transformation.
        masks: what `make_masks` returned. Masks of another tree or shape are a ValueError when
            the optimizer is initialised.

    Example:
        >>> params = {"w": jnp.array([1.0, 0.0])}
        >>> masks = {"w": jnp.array([True, False])}
        >>> optimizer = keep_pruned(optax.sgd(0.5), masks)
        >>> updates, _ = optimizer.update({"w": jnp.ones(2)}, optimizer.init(params), params)
        >>> updates
        {'w': Array([-0.5,  0. ], dtype=float32)}
    """
    kept = _Kept(optax.with_extra_args_support(optimizer), masks)
    return optax.GradientTransformationExtraArgs(kept.init, kept.update)


@dataclass(frozen=True, eq=False)
class _Kept:
    """What `keep_pruned` returns; a class, so that libraries which pickle optimizers can do so."""

    inner: optax.GradientTransformationExtraArgs
    masks: PyTree

    def init(self, params: PyTree) -> PyTree:
        fit_masks(self.masks, params)
        return self.inner.init(params)

    def update(
        self, updates: PyTree, state: PyTree, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        updates = apply_masks(updates, self.masks)
        updates, state = self.inner.update(updates, state, params, **extra)
        return apply_masks(updates, self.masks), state


def check_compute(compute: str) -> None:
    """Refuse a way to multiply that there is not.

    Raises:
        ValueError: unless it is one of `COMPUTE`.
    """
    if compute not in COMPUTE:
        raise ValueError(f"unknown compute {compute!r}: choose from {COMPUTE}")


def _is_packed(mask: np.ndarray, pattern: str, group_size: int, compute: str) -> bool:
    """Whether a kernel is to hold kept values only."""
    if compute == "masked" or mask.ndim != 2:
        return False
    return compute == "packed" or is_faster_packed(mask, pattern, group_size)


def _pack(kernel: Kernel, mask: np.ndarray, pattern: str, group_size: int) -> Packed | Grouped:
    first = kernel.outputs_first
    if pattern == "grouped":
        return Grouped.of(kernel.leaf, mask, group_size=group_size, outputs_first=first)
    return Packed.of(kernel.leaf, mask, outputs_first=first)


def _wrap_convolutions(model: PyTree) -> PyTree:
    def is_convolution(node: Any) -> bool:
        return isinstance(node, eqx.nn.Conv | eqx.nn.ConvTranspose)

    def wrap(node: Any) -> Any:
        pruned = is_convolution(node) and isinstance(node.weight, Masked)
        return MaskedConv(node) if pruned else node

    return jax.tree.map(wrap, model, is_leaf=is_convolution)
