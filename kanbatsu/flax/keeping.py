"""How a Flax module that prunes itself stores kept values: their places come from a seed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax.core import unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict

from kanbatsu.flax.kept import Path, by_name, call_kept, make_dense, places_by_path, take_kept
from kanbatsu.flax.places import Places
from kanbatsu.sparsity.compute import resolve
from kanbatsu.sparsity.config import Pruning
from kanbatsu.sparsity.draw import Scope
from kanbatsu.sparsity.kept_name import KeptName
from kanbatsu.sparsity.prune import make_masks_as
from kanbatsu.tree import PyTree

Shapes = tuple[tuple[Path, tuple[int, ...]], ...]
"""The shapes of dense parameters, by path."""


@dataclass(frozen=True)
class Keeping:
    """What is pruned in a tree of parameters, as a function of the shapes in it and a seed."""

    pruning: Pruning
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    seed: int = 0

    def put(self, variables: PyTree, key: Any) -> dict[str, Any]:
        """Put kept values in the place of pruned kernels.

        Args:
            variables: what the `init` of a module returned, with `params`.
            key: is not read, for masks that are known come from a seed.

        Raises:
            ValueError: if there is nothing to prune, a glob matches nothing, or the sparsity cannot
                be met.
        """
        variables = dict(unfreeze(variables))
        return {**variables, "params": take_kept(variables["params"], self._places(variables))}

    def call(self, apply: Callable[..., Any], variables: PyTree, *args: Any, **kwargs: Any) -> Any:
        """Call a module's own `apply` with kept values."""
        places = by_name(self._places(variables).values())
        return call_kept(apply, places, resolve("auto"), variables, *args, **kwargs)

    def opened(self, variables: PyTree) -> dict[str, Any]:
        """Return the variables of the module alone, with dense kernels."""
        places = by_name(self._places(variables).values())
        return {**variables, "params": make_dense(variables["params"], places)}

    def masks(self, variables: PyTree) -> PyTree:
        """Return the masks: see `kanbatsu.flax.masks`."""
        places = self._places(variables)
        return unflatten_dict(
            {
                path: jnp.asarray(places[path].mask()) if path in places else None
                for path, _ in _shapes(variables["params"])
            }
        )

    def _places(self, variables: PyTree) -> dict[Path, Places]:
        return _drawn(self, _shapes(variables["params"]))


def _shapes(params: PyTree) -> Shapes:
    """The shapes of the dense parameters that a tree stands for."""
    shapes: dict[Path, tuple[int, ...]] = {}
    for path, leaf in flatten_dict(unfreeze(params)).items():
        name = KeptName.read(path[-1])
        if name is None:
            shapes[path] = jnp.shape(leaf)
        else:
            shapes[(*path[:-1], name.weight)] = name.shape
    return tuple(sorted(shapes.items()))


@functools.lru_cache(maxsize=64)
def _drawn(keeping: Keeping, shapes: Shapes) -> dict[Path, Places]:
    """Draw masks for parameters of these shapes, and list what they keep."""
    arrays = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in shapes}
    scope = Scope(keeping.include or None, keeping.exclude or None)
    with jax.ensure_compile_time_eval():  # the caller may be compiling something
        key = jax.random.key(keeping.seed)
        return places_by_path(make_masks_as(unflatten_dict(arrays), keeping.pruning, key, scope))
