"""Parameters of a Flax module that are the kept values alone, and the `apply` that reads them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import linen
from flax.core import unfreeze
from flax.core.meta import unbox
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from kanbatsu.flax.kept_product import multiply
from kanbatsu.flax.places import Places
from kanbatsu.sparsity.compute import resolve
from kanbatsu.sparsity.kept_name import KeptName
from kanbatsu.sparsity.masks import fit_masks
from kanbatsu.tree import PyTree, leaves_by_path

Path = tuple[str, ...]
KeptPlaces = Mapping[str, Places]
"""The places of the values of each kernel, by the name that the values have in the tree."""


def to_kept(params: PyTree, masks: PyTree) -> dict[str, Any]:
    """Return the parameters that `storage="kept"` trains: kept values in place of pruned kernels.

    Args:
        params: dense parameters in mappings: what a linen module's `init` returned, with or without
            `{"params": ...}`, or anything of their form, such as moments of Adam.
        masks: what `kanbatsu.make_masks` returned for them.

    Returns:
        The same mappings. The values of a kernel are a vector, or `[groups, inputs, group_size]`
        where the pattern is grouped, under a name that tells the kernel's shape and its mask.

    Raises:
        ValueError: if the masks are not those of the tree.

    Example:
        >>> params = {"kernel": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "bias": jnp.ones(2)}
        >>> masks = {"kernel": jnp.array([[True, False], [True, True]]), "bias": None}
        >>> kept = to_kept(params, masks)
        >>> _, name = sorted(kept)
        >>> name.startswith("kernel_2x2_"), kept[name].tolist()
        (True, [1.0, 3.0, 4.0])
        >>> to_dense(kept, masks)["kernel"].tolist()
        [[1.0, 0.0], [3.0, 4.0]]
    """
    return take_kept(params, places_by_path(masks, params))


def to_dense(params: PyTree, masks: PyTree) -> dict[str, Any]:
    """Return the dense parameters, zero where pruned, that kept values stand for.

    Args:
        params: what `to_kept` returned, or what training made of it.
        masks: those that were given to `to_kept`.

    Raises:
        ValueError: if the values were kept under other masks.

    Example:
        >>> masks = {"w": {"kernel": jnp.array([[True, False]])}}
        >>> to_dense(to_kept({"w": {"kernel": jnp.ones((1, 2))}}, masks), masks)
        {'w': {'kernel': Array([[1., 0.]], dtype=float32)}}
    """
    return make_dense(params, by_name(places_by_path(masks).values()))


def places_by_path(masks: PyTree, params: PyTree | None = None) -> dict[Path, Places]:
    """Return the places of what each mask keeps; masks that keep everything have none.

    Raises:
        ValueError: if there are parameters, and the masks are not theirs.
    """
    mask_at = leaves_by_path(masks) if params is None else fit_masks(masks, unbox(params))
    paths = {path: tuple(path.split("/")) for path, mask in mask_at.items() if mask is not None}
    return {
        keys: Places.of(mask_at[path], keys[-1])
        for path, keys in paths.items()
        if not bool(jnp.all(mask_at[path]))
    }


def by_name(places: Iterable[Places]) -> dict[str, Places]:
    """Return places by the name of the values."""
    return {str(each.name): each for each in places}


def take_kept(params: PyTree, places: Mapping[Path, Places]) -> dict[str, Any]:
    """Put kept values in the place of the kernels that have places: see `to_kept`."""
    flat = flatten_dict(unbox(unfreeze(params)), keep_empty_nodes=True)
    return unflatten_dict(
        {
            (*path[:-1], str(places[path].name)) if path in places else path: (
                places[path].values(jnp.asarray(leaf)) if path in places else leaf
            )
            for path, leaf in flat.items()
        }
    )


def make_dense(params: PyTree, places: KeptPlaces, beside: Collection[str] = ()) -> dict[str, Any]:
    """Put dense kernels in the place of kept values: see `to_dense`.

    Args:
        params: a tree with kept values.
        places: theirs.
        beside: the names of the values that stay, beside the kernels.

    Raises:
        ValueError: for values that have no places among these.
    """
    dense: dict[Path, Any] = {}
    for path, leaf in flatten_dict(unfreeze(params), keep_empty_nodes=True).items():
        name = KeptName.read(path[-1])
        if name is None:
            dense.setdefault(path, leaf)
            continue
        if path[-1] not in places:
            raise ValueError(_strange(path, places))
        dense[(*path[:-1], name.weight)] = places[path[-1]].dense(jnp.asarray(leaf))
        if path[-1] in beside:
            dense[path] = leaf
    return unflatten_dict(dense)


def _strange(path: Path, places: KeptPlaces) -> str:
    return (
        f"{'/'.join(path)} holds values that were kept under another mask: this network's are "
        f"{', '.join(places) or 'none'}. Prune it with the seed and the arguments of the one that "
        "they come from, or bring them here as dense ones, by to_dense with its masks"
    )


@dataclass(frozen=True, eq=False)
class KeptApply:
    """The `apply` of a linen module whose parameters are kept values.

    A class, so that libraries which pickle train states can do so.
    """

    module: linen.Module
    places: KeptPlaces
    compute: str
    """How layers multiply: `packed`, `mixed` or `masked`."""

    def __call__(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute what the module does with the weights that are kept."""
        # That of the class: an instance may carry a compiled one, which knows no interceptors.
        apply = type(self.module).apply
        return call_kept(
            lambda *a, **k: apply(self.module, *a, **k),
            self.places,
            self.compute,
            variables,
            *args,
            **kwargs,
        )


def kept_apply(module: linen.Module, masks: PyTree, compute: str) -> KeptApply:
    """Return the `apply` of a module whose parameters are what `to_kept` made of its own."""
    return KeptApply(module, by_name(places_by_path(masks).values()), resolve(compute))


def call_kept(
    apply: Callable[..., Any],
    places: KeptPlaces,
    compute: str,
    variables: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Call a module's own `apply` with kept values.

    Every layer finds its dense kernel beside the values, and `nn.Dense` multiplies by the values:
    what no layer reads is not computed in a compiled program. A dense kernel whose values are not
    multiplied (in `nn.scan`, say) is multiplied densely.

    Args:
        apply: of the module.
        places: of all its kept values, by name.
        compute: which layers multiply by kept values.
        variables: with `params` as `to_kept` made them.
        *args: further arguments of `apply`.
        **kwargs: options of `apply`.

    Raises:
        ValueError: if the parameters are dense, or values were kept under other masks.
    """
    params = variables["params"]
    given = {"/".join(path): leaf for path, leaf in flatten_dict(unfreeze(params)).items()}
    if places and not any(KeptName.read(path.rpartition("/")[2]) for path in given):
        raise ValueError(
            "these parameters are dense, and this network stores kept values: bring them to its "
            "form by kanbatsu.flax.to_kept(params, masks)"
        )

    multiplied = {name for name, each in places.items() if each.are_multiplied(compute)}

    def listen(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        if multiplied and _is_plain(layer, context.method_name):
            name = _values_of(layer)
            if name is not None:
                values = layer.get_variable("params", name)
                whole = given.get("/".join((*layer.path, name)))
                if _is_known(values, whole, places[name]):
                    y = _multiply(layer, places[name], values, *args, *kwargs.values())
                    if y is not None:
                        return y
        return call(*args, **kwargs)

    dense = make_dense(params, places, beside=multiplied)
    with linen.intercept_methods(listen):
        return apply({**variables, "params": dense}, *args, **kwargs)


def _is_plain(layer: Any, method: str) -> bool:
    """Tell whether a call is that of an `nn.Dense` with the usual product and a kernel."""
    if type(layer) is not linen.Dense or method != "__call__":
        return False
    usual = layer.dot_general is None and layer.dot_general_cls is None
    return usual and layer.has_variable("params", "kernel")


def _values_of(layer: linen.Dense) -> str | None:
    """The name of the kept values beside a layer's kernel; None if the kernel is all there is."""
    for name in layer.variables["params"]:
        if KeptName.read(name) is not None:
            return str(name)
    return None


def _is_known(values: Any, whole: Any, places: Places) -> bool:
    """Tell whether a layer's values are all that a name stands for, or one member under `vmap`.

    In `nn.scan`, or where a caller maps the members himself, nothing tells which one of several
    members a layer is.
    """
    if len(places.name.shape) == 2:
        return True
    return getattr(values, "batch_dim", None) == 0 and getattr(values, "val", None) is whole


def _multiply(layer: linen.Dense, places: Places, values: Any, inputs: Array) -> Array | None:
    """Return what a layer computes, or None where that is not for the kernels to do.

    Args:
        layer: the layer.
        places: where its values belong.
        values: its kept values.
        inputs: what it is called with.
    """
    kernel: Any = layer.get_variable("params", "kernel")
    bias = layer.get_variable("params", "bias") if layer.has_variable("params", "bias") else None
    promote: Any = layer.promote_dtype
    x, values, bias = promote(inputs, values, bias, dtype=layer.dtype)
    if x.dtype != jnp.float32:
        return None
    return multiply(places.matrices, x, values, kernel, bias)
