"""Masks on the trees of any library that uses Optax: applied once, and kept while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kanbatsu.tree import PyTree, leaves_by_path, path_name


class KeepPrunedState(NamedTuple):
    """The state of an optimizer that keeps weights pruned."""

    inner: PyTree
    """The state of the optimizer that is wrapped."""
    masks: PyTree
    """The masks that the next update keeps to."""

    @property
    def hyperparams(self) -> Any:
        """The settings of a wrapped `optax.inject_hyperparams`, where training loops set them."""
        return self.inner.hyperparams


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

    The masks are part of the optimizer's state. Training goes on with others, and nothing is
    compiled again, after `state._replace(masks=...)`; weights that those prune are yet to be set
    to zero, by `apply_masks`.

    Args:
        optimizer: any gradient transformation.
        masks: what `make_masks` returned. Masks of another tree or shape are a ValueError when
            the optimizer is initialised.

    Returns:
        An optimizer whose state is a `KeepPrunedState`.

    Example:
        >>> params = {"w": jnp.array([1.0, 0.0])}
        >>> masks = {"w": jnp.array([True, False])}
        >>> optimizer = keep_pruned(optax.sgd(0.5), masks)
        >>> updates, _ = optimizer.update({"w": jnp.ones(2)}, optimizer.init(params), params)
        >>> updates
        {'w': Array([-0.5,  0. ], dtype=float32)}
    """
    kept = _KeepPruned(optax.with_extra_args_support(optimizer), masks)
    return optax.GradientTransformationExtraArgs(kept.init, kept.update)


@dataclass(frozen=True, eq=False)
class _KeepPruned:
    """What `keep_pruned` returns; a class, so that libraries which pickle optimizers can do so."""

    inner: optax.GradientTransformationExtraArgs
    masks: PyTree

    def init(self, params: PyTree) -> KeepPrunedState:
        fit_masks(self.masks, params)
        # A copy: a step that is given the state's own buffers may take them for its results.
        masks = jax.tree.map(lambda mask: jnp.array(mask, copy=True), self.masks)
        return KeepPrunedState(self.inner.init(params), masks)

    def update(
        self,
        updates: PyTree,
        state: KeepPrunedState,
        params: PyTree | None = None,
        **extra: Any,
    ) -> tuple[PyTree, KeepPrunedState]:
        updates = apply_masks(updates, state.masks)
        updates, inner = self.inner.update(updates, state.inner, params, **extra)
        return apply_masks(updates, state.masks), KeepPrunedState(inner, state.masks)


def fit_masks(masks: PyTree, tree: PyTree) -> dict[str, Any]:
    """Return the mask of every leaf by path (or None), if the masks are those of the tree.

    Containers may differ (a `FrozenDict` and a dict, `nnx.Param` and the array in it); paths and
    shapes may not.

    Raises:
        ValueError: if they are not; the message says where they differ.
    """

    def is_none(node: Any) -> bool:
        return node is None

    mask_at, leaf_at = leaves_by_path(masks, is_none), leaves_by_path(tree, is_none)
    if mask_at.keys() != leaf_at.keys():
        strange = [path for path in mask_at if path not in leaf_at]
        unknown = [path for path in leaf_at if path not in mask_at]
        raise ValueError(
            "these masks were made for another tree: only the masks have "
            f"{', '.join(strange) or 'nothing'}, and only the tree has "
            f"{', '.join(unknown) or 'nothing'}. Make them with make_masks from the whole tree "
            "that the optimizer trains, and let keep_pruned be the outermost wrapper"
        )
    for path, mask in mask_at.items():
        if mask is not None and mask.shape != getattr(leaf_at[path], "shape", None):
            raise ValueError(
                f"{path}: a mask of shape {mask.shape} does not fit weights of "
                f"{getattr(leaf_at[path], 'shape', leaf_at[path])}"
            )
    return mask_at
