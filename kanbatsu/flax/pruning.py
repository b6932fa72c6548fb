"""Flax modules that prune themselves, for libraries that take a network and build the optimizer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
from flax import linen

from kanbatsu.flax.keeping import Keeping
from kanbatsu.flax.masked import MASKS, Masking, masking, masks_in
from kanbatsu.sparsity.config import check_choice, pruning_of
from kanbatsu.sparsity.kernel import Paths, globs
from kanbatsu.tree import PyTree

Module = TypeVar("Module", bound=linen.Module)
STORAGE = ("dense", "kept")
"""How the parameter of a pruned kernel is stored: as an array with zeros, or as what it keeps."""
RECORD = "kanbatsu_pruning"
"""Attribute of a pruned module's class that says how it is pruned."""


def masks(variables: PyTree, network: linen.Module | None = None) -> PyTree:
    """Return the masks of a pruned module's variables, as `kanbatsu.count` takes them.

    Args:
        variables: what the `init` of a pruned module returned, or what training made of it.
        network: that module; needed where it stores kept values, whose places are not variables.

    Returns:
        A tree like the dense `params`: True where a weight is kept, None for what is dense.

    Raises:
        ValueError: for variables that are not those of a pruned module.

    Example:
        >>> import jax.numpy as jnp, kanbatsu
        >>> network = pruned(linen.Dense(4), 0.75)
        >>> variables = network.init(jax.random.key(0), jnp.ones(8))
        >>> kanbatsu.count(variables["params"], masks(variables)).kept
        8
    """
    record = getattr(type(network), RECORD, None)
    return masks_in(variables) if record is None else record.masks(variables)


def opened(network: linen.Module, variables: PyTree) -> tuple[Callable[..., Any], PyTree]:
    """Return how to apply a network to dense kernels, and the variables with those.

    Args:
        network: pruned or not.
        variables: what its `init` returned.
    """
    record = getattr(type(network), RECORD, None)
    if not isinstance(record, Keeping):
        return network.apply, variables
    plain: Any = type(network).__mro__[1]
    return functools.partial(plain.apply, network), record.opened(variables)


def pruned(
    module: Module,
    sparsity: float,
    *,
    distribution: str = "erk",
    pattern: str = "element",
    group_size: int = 16,
    include: Paths | None = None,
    exclude: Paths | None = None,
    storage: str = "dense",
    seed: int = 0,
) -> Module:
    """Return a linen module that prunes itself: its `init` draws masks, its `apply` obeys them.

    For libraries that take a network and build the optimizer inside. Where the optimizer is your
    own, `kanbatsu.make_masks` and `keep_pruned` do without another collection of variables.

    With `storage="dense"` `init` returns `{"params": ..., "masks": ...}` with zeros where the masks
    are -1, and all of it belongs into the train state. Every optimizer leaves the zeros alone that
    moves weights by gradients, moments and decay; whatever else is written where nothing is kept
    has no say. Every call of `init` with another key draws other masks, under `vmap` too.

    With `storage="kept"` the parameter of a pruned kernel is what it keeps (see `to_kept`), so
    that gradients, moments, targets and checkpoints are as small as the network is sparse; there is
    no collection of masks, and `seed` decides which weights stay. Seeds that `vmap` trains side by
    side then keep the same weights, with other values. On CPUs layers multiply by what they keep.

    Args:
        module: what the library calls `init` and `apply` of; no part of another module.
        sparsity: share of the kernels' weights to remove, in [0, 1).
        distribution: how the sparsity is spread over layers: `uniform`, `er` or `erk`.
        pattern: `element`, `grouped` or `bernoulli`; see `kanbatsu.prune`.
        group_size: outputs per group, for `grouped`.
        include: globs of the only kernels to prune, such as `Dense_0`.
        exclude: globs of kernels to leave dense.
        storage: `dense` or `kept`.
        seed: decides which weights stay, where kept values are stored: the masks are those that
            `kanbatsu.make_masks` draws of `jax.random.key(seed)`.

    Returns:
        A module of a class made from that of `module`, with the same fields and methods.

    Raises:
        ValueError: for an unknown word or a module that is pruned already; from `init`, for a
            sparsity that cannot be met, a glob that matches nothing, or a module without kernels;
            from `apply`, for variables of another network, or without masks;
            where it is made a part of another module, which would not ask it for its masks.

    Example:
        >>> import jax.numpy as jnp
        >>> network = pruned(linen.Sequential([linen.Dense(64), linen.relu, linen.Dense(2)]), 0.5)
        >>> variables = network.init(jax.random.key(0), jnp.ones((1, 4)))
        >>> int((variables["params"]["layers_0"]["kernel"] != 0).sum())
        97
        >>> network.apply(variables, jnp.ones((5, 4))).shape
        (5, 2)
        >>> network = pruned(linen.Dense(2), 0.5, storage="kept")
        >>> params = network.init(jax.random.key(0), jnp.ones((1, 4)))["params"]
        >>> _, name = sorted(params)
        >>> name.startswith("kernel_4x2_"), params[name].shape
        (True, (4,))
    """
    check_choice("storage", storage, STORAGE)
    if hasattr(type(module), RECORD):
        raise ValueError(f"{type(module).__name__} is pruned already: prune the plain module anew")
    record: Masking | Keeping
    if storage == "dense":
        record = masking(sparsity, distribution, pattern, group_size, include, exclude)
    else:
        pruning = pruning_of(sparsity, distribution, pattern, group_size)
        record = Keeping(pruning, globs(include), globs(exclude), seed)
    fields = {
        name: getattr(module, name)
        for name, field in type(module).__dataclass_fields__.items()
        if field.init and name not in ("parent", "name")
    }
    kind: Any = type(module)
    return _pruned_class(kind, record)(**fields, name=module.name)


@functools.cache
def _pruned_class(plain: Any, record: Masking | Keeping) -> Any:
    """Make the class of a module that prunes itself; the same one for the same arguments."""

    @linen.nowrap
    def init_with_output(self: Any, rngs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Return what `plain` does, with masks among the variables."""
        _, variables = plain.init_with_output(self, rngs, *args, **kwargs)
        key = rngs.get(MASKS, rngs.get("params")) if isinstance(rngs, Mapping) else rngs
        variables = record.put(variables, jax.random.fold_in(key, len(MASKS)))
        call = {name: value for name, value in kwargs.items() if name not in ("mutable",)}
        of_self = functools.partial(plain.apply, self)
        output = record.call(of_self, variables, *args, rngs=rngs, mutable=True, **call)[0]
        return output, variables

    @linen.nowrap
    def apply(self: Any, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute what `plain` does with the weights that are kept."""
        return record.call(functools.partial(plain.apply, self), variables, *args, **kwargs)

    @linen.nowrap
    def bind(self: Any, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Bind the weights that are kept."""
        return plain.bind(self, record.opened(variables), *args, **kwargs)

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
        RECORD: record,
        "__module__": __name__,
        "__doc__": plain.__doc__,
    }
    return type(f"Pruned{plain.__name__}", (plain,), methods)
