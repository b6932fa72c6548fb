"""Prune once, before training: a whole model, or the parameters of any library that uses Optax."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.sparsity.compute import resolve
from kanbatsu.sparsity.config import IN_GROUPS, Pruning, pruning_of
from kanbatsu.sparsity.count import parameters
from kanbatsu.sparsity.draw import (
    EVERYWHERE,
    Scope,
    Sparsity,
    check_shares,
    draw_masks,
    kept_by_path,
    split,
)
from kanbatsu.sparsity.fixed import fix
from kanbatsu.sparsity.kept_name import is_kept
from kanbatsu.sparsity.kernel import Kernel, Paths
from kanbatsu.sparsity.layers import stay_pruned
from kanbatsu.sparsity.packed import Grouped, Packed
from kanbatsu.sparsity.roles import check_members, find_kernels
from kanbatsu.sparsity.table import Count, kernel_count
from kanbatsu.sparsity.weight import Masked, Pruned, is_pruned
from kanbatsu.sparsity.worth import is_worth_packing
from kanbatsu.tree import PyTree, leaves_by_path, path_name
from kanbatsu.types import Key


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

    Train it as usual, with any Optax optimizer: the arrays of the model are what trains, and masks
    are part of its form, as its sizes are. Pruned weights and their moments stay exactly zero, and
    an array that is put in the place of a weight is pruned as it was. A copy (a target network) is
    pruned alike.

    Args:
        model: any Equinox model, or a pytree of them.
        sparsity: share of the kernels' weights to remove, in [0, 1); or one share for each
            glob, such as `{"actor/*": 0.8, "critic/*": 0.9}`: the kernels that a glob names
            share out its sparsity, and kernels that none names stay dense.
        key: decides which ones.
        distribution: how the sparsity is spread over layers: `uniform`, `er` or `erk`.
        pattern: `element` (any weight), `grouped` (`group_size` neighbouring outputs lose the
            same inputs), `channel` (likewise, with all places of a convolution's window at once),
            or `bernoulli` (any weight, counts exact on average only).
        group_size: outputs per group, for `grouped` and `channel`.
        include: globs of the only kernels (or layers) to prune; all of them by default.
        exclude: globs of kernels (or layers) to leave dense.
        ensemble: globs of kernels whose first axis counts the members of an ensemble, as
            `vmap` stacks them; every member gets a mask of its own. By default the layer's type or
            its bias tells, and a kernel of which neither tells is refused; `()` if there is none.
        budget: `kernels`, or `all` to count every parameter of the model in the sparsity while
            still removing kernels' weights only (as the paper's public code does).
        compute: how pruned weights are stored and multiplied. `masked`: as dense ones, on any
            device; `packed`: kept values only; `mixed`: packed where that is faster (linear layers
            of at least 16,384 weights that keep at most 0.3 of them, or 0.5 in groups of 8, 16 or
            32), masked elsewhere; `auto`: `mixed` on a CPU with kernels, else `masked`. All are
            the same function.

    Returns:
        The same model with pruned weights.

    Raises:
        ValueError: for a sparsity outside [0, 1) or too high to leave every layer a weight, a
            model that is already pruned or has nothing to prune, a glob that matches
            nothing, or a kernel that may or may not hold an ensemble.

    Example:
        >>> import equinox as eqx
        >>> model = eqx.nn.MLP(4, 2, 64, 2, key=jax.random.key(0))
        >>> pruned = prune(model, 0.9, key=jax.random.key(1))
        >>> from kanbatsu.sparsity.count import count
        >>> count(pruned).kept, count(pruned).total
        (448, 4480)

    Reference:
        "Network Sparsity Unlocks the Scaling Potential of Deep RL", ICML 2025, section 3.
    """
    share, shares = split(sparsity)
    pruning = pruning_of(share, distribution, pattern, group_size, compute)
    scope = Scope(include, exclude, ensemble, budget, shares)
    return stay_pruned(prune_as(model, pruning, key, scope, fixed=True))


def prune_as(
    model: PyTree, pruning: Pruning, key: Key, scope: Scope = EVERYWHERE, *, fixed: bool = False
) -> PyTree:
    """Prune an Equinox model as a record says: see `prune`.

    Args:
        model: any Equinox model, or a pytree of them.
        pruning: the sparsity, and how it is met.
        key: decides which weights go.
        scope: the part of the model that is pruned.
        fixed: whether masks and lists are part of the model's form, and no leaves of its tree.
            Those of an ensemble, which `vmap` takes apart, are leaves in any case.
    """
    masks = _masks(model, pruning, key, scope)
    compute = resolve(pruning.compute)

    def thin(keys: Any, leaf: Any) -> Any:
        path = path_name(keys)
        if path not in masks or masks[path][1].all():
            return leaf
        kernel, mask = masks[path]
        leaf = leaf / math.sqrt(mask.mean()) if pruning.rescale else leaf
        weight: Pruned = Masked.of(leaf, mask)
        if _is_packed(mask, pruning, compute):
            weight = _pack(leaf, mask, pruning, kernel.outputs_first)
        return fix(weight) if fixed and not kernel.members else weight

    with jax.ensure_compile_time_eval():  # masks stay known where the caller compiles something
        return jax.tree_util.tree_map_with_path(thin, model)


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
    share, shares = split(sparsity)
    pruning = pruning_of(share, distribution, pattern)
    return plan_as(model, pruning, Scope(include, exclude, ensemble, budget, shares))


def plan_as(model: PyTree, pruning: Pruning, scope: Scope = EVERYWHERE) -> Count:
    """Say what `prune_as` would keep, without drawing anything: see `plan`."""
    kernels, kept = _kept(model, pruning, scope)
    return Count(
        tuple(
            kernel_count(kernel, kept[kernel.path] * math.prod(kernel.members))
            for kernel in kernels
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

    Args:
        params: Tree of arrays: what a linen module's `init` returns, `nnx.state(model, nnx.Param)`,
            Haiku's dicts, or lists and tuples of arrays that `include` names.
        sparsity: As for `prune`.
        key: As for `prune`.
        distribution: As for `prune`.
        pattern: As for `prune`.
        group_size: As for `prune`.
        include: As for `prune`.
        exclude: As for `prune`.
        ensemble: As for `prune`.
        budget: As for `prune`.

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
    share, shares = split(sparsity)
    pruning = pruning_of(share, distribution, pattern, group_size)
    return make_masks_as(params, pruning, key, Scope(include, exclude, ensemble, budget, shares))


def make_masks_as(params: PyTree, pruning: Pruning, key: Key, scope: Scope = EVERYWHERE) -> PyTree:
    """Draw masks as a record says: see `make_masks`."""
    masks = _masks(params, pruning, key, scope)

    def mask_of(keys: Any, _: Any) -> jax.Array | None:
        path = path_name(keys)
        return jnp.asarray(masks[path][1]) if path in masks else None

    return jax.tree_util.tree_map_with_path(mask_of, params)


def _masks(
    tree: PyTree, pruning: Pruning, key: Key, scope: Scope
) -> dict[str, tuple[Kernel, np.ndarray]]:
    """Draw the mask of every kernel that is to be pruned, by path."""
    kernels, kept = _kept(tree, pruning, scope)
    masks = draw_masks(kernels, kept, pruning, key)
    return {kernel.path: (kernel, masks[kernel.path]) for kernel in kernels}


def _kept(tree: PyTree, pruning: Pruning, scope: Scope) -> tuple[list[Kernel], dict[str, int]]:
    """Find the kernels that are to be pruned, in flatten order, and how many weights each keeps.

    A record may have `shares` of its own, for a network whose parts have sparsities of their own.
    """
    if scope.budget not in ("kernels", "all"):
        raise ValueError(f"unknown budget {scope.budget!r}: choose 'kernels' or 'all'")
    shares = getattr(pruning, "shares", None) if scope.shares is None else scope.shares
    kernels = list(find_kernels(tree, scope.included, scope.exclude, scope.ensemble).values())
    if shares is not None:
        kernels = check_shares(kernels, shares)
    leaves = leaves_by_path(tree, is_leaf=is_pruned)
    if any(is_pruned(leaves[kernel.path]) for kernel in kernels) or any(map(is_kept, leaves)):
        raise ValueError(
            "this model is already pruned; prune a fresh one (see kanbatsu.count for what it keeps)"
        )
    if not kernels:
        raise ValueError(
            "there is nothing to prune: no layer has a prunable kernel. Name other arrays with "
            "include, and give an nnx model as nnx.state(model, nnx.Param)"
        )
    check_members(kernels)
    scale = 1.0
    if scope.budget == "all":
        if shares is not None:
            raise ValueError(
                "budget='all' shares out one sparsity over everything: give one number"
            )
        scale = parameters(tree) / sum(kernel.size for kernel in kernels)
    return kernels, kept_by_path(kernels, pruning, shares, scale)


def _is_packed(mask: np.ndarray, pruning: Pruning, compute: str) -> bool:
    """Return True where a kernel is to hold kept values only."""
    if compute == "masked" or mask.ndim != 2:
        return False
    group_size = pruning.group_size if pruning.pattern in IN_GROUPS else None
    return compute == "packed" or is_worth_packing(mask, group_size)


def _pack(
    leaf: jax.Array, mask: np.ndarray, pruning: Pruning, outputs_first: bool
) -> Packed | Grouped:
    if pruning.pattern in IN_GROUPS:
        return Grouped.of(leaf, mask, group_size=pruning.group_size, outputs_first=outputs_first)
    return Packed.of(leaf, mask, outputs_first=outputs_first)
