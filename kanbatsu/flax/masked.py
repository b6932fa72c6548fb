"""Masks inside a Flax module, for libraries that take a network and build the optimizer themselves.

The masks are variables of the module: `init` draws them from its key, inside `jit` and `vmap` too,
and whatever carries the variables about, a train state or a checkpoint, carries them along. They
are numbers, 1 where a weight is kept and -1 where not, whose gradient is zero: a library that
differentiates and optimizes all variables leaves their signs alone, and only the sign is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import unfreeze
from jax import Array

from kanbatsu.sparsity.config import Pruning, pruning_of
from kanbatsu.sparsity.draw import kept_by_path
from kanbatsu.sparsity.kernel import Kernel, Paths, globs
from kanbatsu.sparsity.roles import check_members, find_kernels
from kanbatsu.tree import PyTree, leaves_by_path, path_name

MASKS = "masks"
"""The collection of variables that holds the masks."""
Apply = Callable[..., Any]


@dataclass(frozen=True)
class Masking:
    """What is pruned in a tree of parameters, as a function of variables alone."""

    pruning: Pruning
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def call(self, apply: Apply, variables: PyTree, *args: Any, **kwargs: Any) -> Any:
        """Call a module's own `apply` with the weights that are kept."""
        return apply(masked(variables), *args, **kwargs)

    def opened(self, variables: PyTree) -> dict[str, Any]:
        """Return the variables of the module alone: see `masked`."""
        return masked(variables)

    def masks(self, variables: PyTree) -> PyTree:
        """Return the masks: see `kanbatsu.flax.masks`."""
        return masks_in(variables)

    def put(self, variables: PyTree, key: Any) -> dict[str, Any]:
        """Draw masks, and set to zero what they remove.

        Args:
            variables: what the `init` of a module returned, with `params`.
            key: a JAX random key; its value need not be known.

        Raises:
            ValueError: if there is nothing to prune, a glob matches nothing, or the sparsity cannot
                be met.
        """
        variables = dict(unfreeze(variables))
        if MASKS in variables:
            raise ValueError(f"the module has variables called {MASKS!r} already: is it pruned?")
        found = find_kernels(variables["params"], self.include or None, self.exclude or None)
        kernels = list(found.values())
        if not kernels:
            raise ValueError("there is nothing to prune: no layer that is named has a kernel")
        check_members(kernels)
        kept = kept_by_path(kernels, self.pruning)
        drawn: dict[str, Any] = {}
        for kernel, its_key in zip(kernels, jax.random.split(key, len(kernels)), strict=True):
            if kept[kernel.path] < math.prod(kernel.shape):
                mask = _draw(its_key, kernel, kept[kernel.path], self.pruning)
                drawn = _placed(drawn, kernel.path.split("/"), jnp.where(mask, 1.0, -1.0))
        return masked({**variables, MASKS: drawn}) | {MASKS: drawn}


def masked(variables: PyTree) -> dict[str, Any]:
    """Return the variables of the module alone, whose pruned weights are zero and get no gradient.

    Raises:
        ValueError: if the variables have no masks, as those of a module that is not pruned.
    """
    check_masks(variables)
    mask_at = leaves_by_path(variables[MASKS])

    def keep(keys: Any, leaf: Any) -> Any:
        mask = mask_at.get(path_name(keys))
        return leaf if mask is None else jnp.where(mask > 0, leaf, jnp.zeros_like(leaf))

    params = jax.tree_util.tree_map_with_path(keep, variables["params"])
    rest = {name: value for name, value in variables.items() if name not in (MASKS, "params")}
    return {**rest, "params": params}


def masks_in(variables: PyTree) -> PyTree:
    """Return the masks among variables as booleans, and None for what is dense.

    Raises:
        ValueError: if there are none.
    """
    check_masks(variables)
    mask_at = leaves_by_path(variables[MASKS])

    def mask_of(keys: Any, _: Any) -> Any:
        mask = mask_at.get(path_name(keys))
        return None if mask is None else mask > 0

    return jax.tree_util.tree_map_with_path(mask_of, variables["params"])


def check_masks(variables: PyTree) -> None:
    """Refuse variables without masks.

    Raises:
        ValueError: if they are; the message says where masks come from.
    """
    if MASKS not in variables:
        raise ValueError(
            f"these variables have no {MASKS!r}: they are not from the init of this pruned module. "
            f"Pass all that init returned, not only its 'params'; where the network stores kept "
            "values, give masks() the network too"
        )


def masking(
    sparsity: float,
    distribution: str = "erk",
    pattern: str = "element",
    group_size: int = 16,
    include: Paths | None = None,
    exclude: Paths | None = None,
) -> Masking:
    """Build the record from words that a caller may have mistyped; arguments as for `pruned`."""
    pruning = pruning_of(sparsity, distribution, pattern, group_size)
    return Masking(pruning, globs(include), globs(exclude))


def _draw(key: Any, kernel: Kernel, kept: int, pruning: Pruning) -> Array:
    """Draw a mask as `kanbatsu.sparsity.pattern` does, of a key whose value need not be known."""
    *window, outputs = kernel.shape
    inputs = math.prod(window)
    members = math.prod(kernel.members)
    keys = jax.random.split(key, members)
    if pruning.pattern == "bernoulli":
        share = kept / math.prod(kernel.shape)
        return jnp.stack(
            [jax.random.bernoulli(each, share, kernel.shape) for each in keys]
        ).reshape(kernel.stored)
    if pruning.pattern == "element":
        drawn = [_smallest(each, (1, inputs * outputs), kept) for each in keys]
    else:
        groups = math.ceil(outputs / pruning.group_size)
        drawn = [
            jnp.repeat(
                _smallest(each, (groups, inputs), kept // outputs).T, pruning.group_size, axis=1
            )[:, :outputs]
            for each in keys
        ]
    return jnp.stack(drawn).reshape(kernel.stored)


def _smallest(key: Any, shape: tuple[int, int], kept: int) -> Array:
    """True at the `kept` smallest of each row of random numbers; the first of equal ones."""
    bits = jax.random.bits(key, shape, np.uint32)
    ranks = jnp.argsort(jnp.argsort(bits, axis=1, stable=True), axis=1, stable=True)
    return ranks < kept


def _placed(tree: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """Put a value into nested dictionaries."""
    name, *rest = path
    return tree | {name: _placed(tree.get(name, {}), rest, value) if rest else value}
