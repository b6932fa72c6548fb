"""Prune once, before training: a whole model, or the parameters of any library that uses Optax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kanbatsu.sparsity.allocate import allocate, check_sparsity
from kanbatsu.sparsity.break_even import is_faster_packed
from kanbatsu.sparsity.count import Count, LayerCount, parameters
from kanbatsu.sparsity.packed import Grouped, Packed
from kanbatsu.sparsity.pattern import draw, granule
from kanbatsu.sparsity.roles import Kernel, PyTree, find_kernels, path_name
from kanbatsu.sparsity.weight import Masked, is_pruned, to_dense
from kanbatsu.types import Key

Paths = str | Sequence[str]
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
    sparsity: float,
    *,
    key: Key,
    distribution: str = "erk",
    pattern: str = "element",
    group_size: int = 16,
    include: Paths = (),
    exclude: Paths = (),
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
        sparsity: share of the kernels' weights to remove, in [0, 1).
        key: decides which ones.
        distribution: how the sparsity is spread over layers: `uniform`, `er` or `erk`.
        pattern: `element` (any weight), `grouped` (`group_size` neighbouring outputs lose the
            same inputs), or `bernoulli` (any weight, counts exact on average only).
        group_size: outputs per group, for `grouped`.
        include: path patterns of the only kernels to prune; all of them by default.
        exclude: path patterns of kernels to leave dense.
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
            model that is already pruned or has nothing to prune, or a pattern of paths that
            matches nothing.

    Example:
        >>> model = eqx.nn.MLP(4, 2, 64, 2, key=jax.random.key(0))
        >>> pruned = prune(model, 0.9, key=jax.random.key(1))
        >>> from kanbatsu.sparsity.count import count
        >>> count(pruned).kept, count(pruned).total
        (448, 4480)

    Reference:
        "Network Sparsity Unlocks the Scaling Potential of Deep RL", ICML 2025, section 3.
    """
    kernels = find_kernels(model, include, exclude)
    if compute not in COMPUTE:
        raise ValueError(f"unknown compute {compute!r}: choose from {COMPUTE}")
    if any(is_pruned(kernel.leaf) for kernel in kernels.values()):
        raise ValueError(
            "this model is already pruned; prune a fresh one (see kanbatsu.count for what it keeps)"
        )
    masks = _draw_masks(model, kernels, sparsity, key, distribution, pattern, group_size, budget)

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
    sparsity: float,
    *,
    distribution: str = "erk",
    pattern: str = "element",
    include: Paths = (),
    exclude: Paths = (),
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
    kernels = find_kernels(model, include, exclude)
    kept = _allocate(model, kernels, sparsity, distribution, pattern, budget)
    return Count(
        tuple(
            LayerCount(kernel.path, kernel.shape, kept[path], math.prod(kernel.shape))
            for path, kernel in kernels.items()
        )
    )


def make_masks(
    params: PyTree,
    sparsity: float,
    *,
    key: Key,
    distribution: str = "erk",
    pattern: str = "element",
    group_size: int = 16,
    include: Paths = (),
    exclude: Paths = (),
    budget: str = "kernels",
) -> PyTree:
    """Draw masks for the parameters of any JAX library (Flax, Haiku, plain pytrees).

    Args: as for `prune`; `params` is the tree of arrays.

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
    kernels = find_kernels(params, include, exclude)
    masks = _draw_masks(params, kernels, sparsity, key, distribution, pattern, group_size, budget)
    return jax.tree_util.tree_map_with_path(
        lambda keys, leaf: (
            jnp.asarray(masks[path_name(keys)]) if path_name(keys) in masks else None
        ),
        params,
    )


def apply_masks(params: PyTree, masks: PyTree) -> PyTree:
    """Set the pruned weights to zero.

    Args:
        params: a tree of arrays.
        masks: what `make_masks` returned for it.

    Example:
        >>> apply_masks({"w": jnp.ones(2)}, {"w": jnp.array([True, False])})
        {'w': Array([1., 0.], dtype=float32)}

    Raises:
        ValueError: if the trees or a mask's shape do not fit.
    """

    def zero(mask: Any, leaf: Any) -> Any:
        if mask is None:
            return leaf
        if mask.shape != leaf.shape:
            raise ValueError(f"a mask of shape {mask.shape} does not fit weights of {leaf.shape}")
        return jnp.where(mask, leaf, jnp.zeros_like(leaf))

    return jax.tree.map(zero, masks, params, is_leaf=lambda node: node is None)


def keep_pruned(
    optimizer: optax.GradientTransformation, masks: PyTree
) -> optax.GradientTransformationExtraArgs:
    """Wrap an Optax optimizer so that pruned weights stay zero.

    Gradients are masked before the optimizer sees them, so its moments (and norms, for clipping)
    hold zeros where weights are pruned; updates are masked after it, so that nothing that an
    optimizer adds of its own moves a pruned weight.

    Args:
        optimizer: any gradient transformation.
        masks: what `make_masks` returned.

    Example:
        >>> params = {"w": jnp.array([1.0, 0.0])}
        >>> masks = {"w": jnp.array([True, False])}
        >>> optimizer = keep_pruned(optax.sgd(0.5), masks)
        >>> updates, _ = optimizer.update({"w": jnp.ones(2)}, optimizer.init(params), params)
        >>> updates
        {'w': Array([-0.5,  0. ], dtype=float32)}
    """
    inner = optax.with_extra_args_support(optimizer)

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        updates, state = inner.update(apply_masks(updates, masks), state, params, **extra)
        return apply_masks(updates, masks), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _draw_masks(
    tree: PyTree,
    kernels: dict[str, Kernel],
    sparsity: float,
    key: Key,
    distribution: str,
    pattern: str,
    group_size: int,
    budget: str,
) -> dict[str, np.ndarray]:
    """One mask per kernel, by path, in the layout of its leaf."""
    kept = _allocate(tree, kernels, sparsity, distribution, pattern, budget)
    keys = jax.random.split(key, len(kernels))
    return {
        path: kernel.to_layout(draw(layer_key, kernel.shape, kept[path], pattern, group_size))
        for (path, kernel), layer_key in zip(kernels.items(), keys, strict=True)
    }


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


def _allocate(
    tree: PyTree,
    kernels: dict[str, Kernel],
    sparsity: float,
    distribution: str,
    pattern: str,
    budget: str,
) -> dict[str, int]:
    """How many weights each kernel keeps, by path."""
    check_sparsity(sparsity)
    shapes = [kernel.shape for kernel in kernels.values()]
    if budget == "all":
        prunable = sum(math.prod(shape) for shape in shapes)
        sparsity = sparsity * parameters(tree) / max(prunable, 1)
    elif budget != "kernels":
        raise ValueError(f"unknown budget {budget!r}: choose 'kernels' or 'all'")
    kept = allocate(shapes, sparsity, distribution, [granule(shape, pattern) for shape in shapes])
    return dict(zip(kernels, kept, strict=True))


def _wrap_convolutions(model: PyTree) -> PyTree:
    def is_convolution(node: Any) -> bool:
        return isinstance(node, eqx.nn.Conv | eqx.nn.ConvTranspose)

    def wrap(node: Any) -> Any:
        pruned = is_convolution(node) and isinstance(node.weight, Masked)
        return MaskedConv(node) if pruned else node

    return jax.tree.map(wrap, model, is_leaf=is_convolution)
