"""Masks inside a Flax module, for libraries that take a network and build the optimizer themselves.

The masks are variables of the module: `init` draws them from its key, inside `jit` and `vmap` too,
and whatever carries the variables about, a train state or a checkpoint, carries them along. They
are numbers, 1 where a weight is kept and -1 where not, whose gradient is zero: a library that
differentiates and optimizes all variables leaves their signs alone, and only the sign is read.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from flax.core import unfreeze
from jax import Array

from kanbatsu.sparsity.config import Pruning, pruning_of
from kanbatsu.sparsity.draw import kept_by_path
from kanbatsu.sparsity.kernel import Kernel, Paths, globs
from kanbatsu.sparsity.roles import check_members, find_kernels
from kanbatsu.tree import PyTree, leaves_by_path, path_name

MASKS = "masks"
"""The collection of variables that holds the masks."""
Module = TypeVar("Module", bound=linen.Module)


@dataclass(frozen=True)
class Masking:
    """What is pruned in a tree of parameters, as a function of variables alone."""

    pruning: Pruning
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

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
    if MASKS not in variables:
        raise ValueError(
            f"these variables have no {MASKS!r}: they are not from the init of this pruned module. "
            f"Pass all that init returned, not only its 'params'"
        )
    mask_at = leaves_by_path(variables[MASKS])

    def keep(keys: Any, leaf: Any) -> Any:
        mask = mask_at.get(path_name(keys))
        return leaf if mask is None else jnp.where(mask > 0, leaf, jnp.zeros_like(leaf))

    params = jax.tree_util.tree_map_with_path(keep, variables["params"])
    rest = {name: value for name, value in variables.items() if name not in (MASKS, "params")}
    return {**rest, "params": params}


def masks(variables: PyTree) -> PyTree:
    """Return the masks of a pruned module's variables, as `kanbatsu.count` takes them.

    Args:
        variables: what the `init` of a pruned module returned, or what training made of it.

    Returns:
        A tree like `variables["params"]`: True where a weight is kept, None for what is dense.

    Example:
        >>> import kanbatsu
        >>> network = pruned(linen.Dense(4), 0.75)
        >>> variables = network.init(jax.random.key(0), jnp.ones(8))
        >>> kanbatsu.count(variables["params"], masks(variables)).kept
        8
    """
    mask_at = leaves_by_path(variables[MASKS])

    def mask_of(keys: Any, _: Any) -> Any:
        mask = mask_at.get(path_name(keys))
        return None if mask is None else mask > 0

    return jax.tree_util.tree_map_with_path(mask_of, variables["params"])


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


def pruned(
    module: Module,
    sparsity: float,
    *,
    distribution: str = "erk",
    pattern: str = "element",
    group_size: int = 16,
    include: Paths | None = None,
    exclude: Paths | None = None,
) -> Module:
    """Return a linen module that prunes itself: its `init` draws masks, its `apply` obeys them.

    For libraries that take a network and build the optimizer inside. Where the optimizer is your
    own, `kanbatsu.make_masks` and `keep_pruned` do without another collection of variables.

    `init` returns `{"params": ..., "masks": ...}` with zeros where the masks are -1, and all of it
    belongs into the train state. Every optimizer leaves the zeros alone that moves weights by
    gradients, moments and decay; whatever else is written where nothing is kept has no say. Every
    call of `init` with another key draws other masks, under `vmap` too.

    Args:
        module: what the library calls `init` and `apply` of; no part of another module.
        sparsity: share of the kernels' weights to remove, in [0, 1).
        distribution: how the sparsity is spread over layers: `uniform`, `er` or `erk`.
        pattern: `element`, `grouped` or `bernoulli`; see `kanbatsu.prune`.
        group_size: outputs per group, for `grouped`.
        include: globs of the only kernels to prune, such as `Dense_0`.
        exclude: globs of kernels to leave dense.

    Returns:
        A module of a class made from that of `module`, with the same fields and methods.

    Raises:
        ValueError: for an unknown word; from `init`, for a sparsity that cannot be met, a glob that
            matches nothing, or a module without kernels; from `apply`, for variables without masks;
            where it is made a part of another module, which would not ask it for its masks.

    Example:
        >>> network = pruned(linen.Sequential([linen.Dense(64), linen.relu, linen.Dense(2)]), 0.5)
        >>> variables = network.init(jax.random.key(0), jnp.ones((1, 4)))
        >>> int((variables["params"]["layers_0"]["kernel"] != 0).sum())
        97
        >>> network.apply(variables, jnp.ones((5, 4))).shape
        (5, 2)
    """
    record = masking(sparsity, distribution, pattern, group_size, include, exclude)
    fields = {
        name: getattr(module, name)
        for name, field in type(module).__dataclass_fields__.items()
        if field.init and name not in ("parent", "name")
    }
    kind: Any = type(module)
    return _pruned_class(kind, record)(**fields, name=module.name)


@functools.cache
def _pruned_class(plain: Any, record: Masking) -> Any:
    """Make the class of a module that prunes itself; the same one for the same arguments."""

    @linen.nowrap
    def init_with_output(self: Any, rngs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Return what `plain` does, with masks among the variables."""
        _, variables = plain.init_with_output(self, rngs, *args, **kwargs)
        key = rngs.get(MASKS, rngs.get("params")) if isinstance(rngs, Mapping) else rngs
        variables = record.put(variables, jax.random.fold_in(key, len(MASKS)))
        call = {name: value for name, value in kwargs.items() if name not in ("mutable",)}
        output = plain.apply(self, masked(variables), *args, rngs=rngs, mutable=True, **call)[0]
        return output, variables

    @linen.nowrap
    def apply(self: Any, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute what `plain` does with the weights that are kept."""
        return plain.apply(self, masked(variables), *args, **kwargs)

    @linen.nowrap
    def bind(self: Any, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Bind the weights that are kept."""
        return plain.bind(self, masked(variables), *args, **kwargs)

    @linen.nowrap
    def post_init(self: Any) -> None:
        """Refuse to become a part of another module."""
        plain.__post_init__(self)
        if isinstance(self.parent, linen.Module):
            raise ValueError(
                f"a pruned {plain.__name__} cannot be a part of {type(self.parent).__name__}, "
                "which would not ask it for its masks: prune the whole module, with "
                "include='*name*' for this part alone"
            )

    methods = {
        "init_with_output": init_with_output,
        "apply": apply,
        "bind": bind,
        "__post_init__": post_init,
        "__module__": __name__,
        "__doc__": plain.__doc__,
    }
    return type(f"Pruned{plain.__name__}", (plain,), methods)


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
