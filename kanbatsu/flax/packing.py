"""Flax layers that multiply by what they keep and nothing else, on CPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from flax.core.meta import unbox
from jax import Array, lax

from kanbatsu.flax.kept import kept_apply
from kanbatsu.flax.pruning import STORAGE
from kanbatsu.sparsity.compute import resolve
from kanbatsu.sparsity.config import check_choice
from kanbatsu.sparsity.masks import fit_masks
from kanbatsu.sparsity.stored_dense import Products, multiply, products_of
from kanbatsu.tree import PyTree, leaves_by_path


def packed(
    module: linen.Module, masks: PyTree, *, compute: str = "auto", storage: str = "dense"
) -> Callable[..., Any]:
    """Return the `apply` of a linen module, with products that touch kept weights only.

    With `storage="dense"` parameters stay the dense arrays that they are, with zeros where they are
    pruned: optimizers, checkpoints and target networks are as before. What is saved is time, on
    CPUs, in `nn.Dense` layers in float32, on batches (a single sample is multiplied densely). All
    other layers compute as always, and so do those inside `nn.jit`, `nn.scan` and `nn.remat`.

    With `storage="kept"` parameters are what `to_kept` makes of the dense ones: memory is saved as
    well, any optimizer trains them as they are, without `keep_pruned`, and a single sample is
    multiplied by kept weights too. What is no such layer computes with the dense kernel, which is
    built from the values for it.

    A packed product never reads what is pruned, and a dense one does: keep it zero, by
    `apply_masks` and `keep_pruned`.

    Args:
        module: as its `init` made the parameters.
        masks: what `kanbatsu.make_masks` returned for those. Critics that `nn.vmap` stacked have
            masks of their own, and are multiplied one after the other.
        compute: `packed` packs all layers that it can, `masked` none, `mixed` those for which that
            is faster, as in `kanbatsu.prune`; `auto` is `mixed` on a CPU with kernels, else
            `masked`.
        storage: `dense` or `kept`.

    Returns:
        A function with the arguments of `module.apply`, for an `apply_fn` say. It raises ValueError
        if its parameters are not those that the masks were made for.

    Raises:
        ValueError: for another `compute` or `storage`.

    Example:
        >>> import jax, kanbatsu
        >>> module = linen.Dense(4)
        >>> params = module.init(jax.random.key(0), jnp.ones(8))
        >>> masks = kanbatsu.make_masks(params, 0.75, key=jax.random.key(1))
        >>> params = kanbatsu.apply_masks(params, masks)
        >>> apply = packed(module, masks, compute="packed")
        >>> bool(jnp.allclose(apply(params, jnp.ones(8)), module.apply(params, jnp.ones(8))))
        True
    """
    check_choice("storage", storage, STORAGE)
    if storage == "kept":
        return kept_apply(module, masks, compute)
    of_params = masks.get("params", masks)
    return _Apply(module, of_params, _products(leaves_by_path(of_params), resolve(compute)))


def pack_nnx(model: nnx.Module, masks: PyTree, *, compute: str = "auto") -> None:
    """Let an nnx model multiply by its kept weights only: as `packed`, but in place.

    The `dot_general` of its `nnx.Linear` layers is replaced, where they have none of their own.
    Layers that `nnx.vmap` stacked compute as always. Given again, with other masks or
    `compute="masked"`, it takes back what was packed before.

    Args:
        model: pruned with the masks; what is called already stays as it was compiled.
        masks: what `kanbatsu.make_masks` returned for `nnx.state(model, nnx.Param)`.
        compute: as for `packed`.

    Raises:
        ValueError: for another `compute`, or masks of another model.

    Example:
        >>> import jax, kanbatsu
        >>> model = nnx.Linear(8, 4, rngs=nnx.Rngs(0))
        >>> params = nnx.state(model, nnx.Param)
        >>> masks = kanbatsu.make_masks(params, 0.75, key=jax.random.key(1))
        >>> nnx.update(model, kanbatsu.apply_masks(params, masks))
        >>> y = model(jnp.ones(8))
        >>> pack_nnx(model, masks, compute="packed")
        >>> bool(jnp.allclose(model(jnp.ones(8)), y))
        True
    """
    compute = resolve(compute)
    products = _products(fit_masks(masks, nnx.state(model, nnx.Param)), compute)
    for path, layer in nnx.iter_modules(model):
        if type(layer) is not nnx.Linear:
            continue
        if isinstance(layer.dot_general, _DotGeneral):
            layer.dot_general = lax.dot_general
        found = products.get("/".join(map(str, path)))
        # Nothing tells of a layer that is one of several whether it is mapped, or scanned.
        if found and len(found) == 1 and layer.dot_general is lax.dot_general:
            layer.dot_general = _DotGeneral(found)


@dataclass(frozen=True, eq=False)
class _Apply:
    """What `packed` returns; a class, so that libraries which pickle train states can do so."""

    module: linen.Module
    masks: PyTree
    products: dict[str, Products]

    def __call__(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        fit_masks(self.masks, variables["params"])
        kernels = leaves_by_path(variables["params"])

        def listen(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            layer = context.module
            if type(layer) is linen.Dense and context.method_name == "__call__":
                path = "/".join(layer.path)
                products = self.products.get(path)
                kernel = kernels.get(f"{path}/kernel".removeprefix("/"))
                if products and _is_plain(layer, kernel, len(products)):
                    y = _multiply(layer, products, *args, *kwargs.values())
                    if y is not None:
                        return y
            return call(*args, **kwargs)

        with linen.intercept_methods(listen):
            # That of the class: an instance may carry a compiled one, which knows no interceptors.
            return type(self.module).apply(self.module, variables, *args, **kwargs)


def _is_plain(layer: linen.Dense, given: Any, members: int) -> bool:
    """Tell whether a layer's kernel is what `apply` was given, or one member of it under `nn.vmap`.

    It is another array inside whatever Flax or JAX compiles by itself (`nn.jit`, `nn.scan`,
    `nn.remat`), where one trace may serve several layers, and in another module that is applied
    within this one. There the layer computes as always.
    """
    if not (layer.dot_general is None and layer.dot_general_cls is None):
        return False
    kernel = unbox(layer.get_variable("params", "kernel"))
    if members > 1:  # what `vmap` maps carries the array of all members, and along which axis
        kernel = getattr(kernel, "val", None) if getattr(kernel, "batch_dim", None) == 0 else None
    return kernel is not None and kernel is given


def _multiply(layer: linen.Dense, products: Products, inputs: Array) -> Array | None:
    """Return what a layer computes, or None if that is not in float32."""
    kernel, bias = (
        unbox(layer.get_variable("params", name)) if layer.has_variable("params", name) else None
        for name in ("kernel", "bias")
    )
    promote: Any = layer.promote_dtype
    x, kernel, bias = promote(inputs, kernel, bias, dtype=layer.dtype)
    return multiply(products, x, kernel, bias) if x.dtype == jnp.float32 else None


@dataclass(frozen=True, eq=False)
class _DotGeneral:
    """The product of an `nnx.Linear`."""

    products: Products

    def __deepcopy__(self, memo: Any) -> _DotGeneral:
        return self  # a copy of a model has the same structure: trees of both are alike

    def __call__(self, x: Array, kernel: Array, *dimensions: Any, **options: Any) -> Array:
        if x.dtype == kernel.dtype == jnp.float32 and not any(options.values()):
            return multiply(self.products, x, kernel)
        return lax.dot_general(x, kernel, *dimensions, **options)


def _products(mask_at: dict[str, Any], compute: str) -> dict[str, Products]:
    """The products of all layers that are packed, by the path of the layer."""
    if compute == "masked":
        return {}
    found = {
        path.rpartition("/")[0]: products_of(np.asarray(mask), compute)
        for path, mask in mask_at.items()
        if mask is not None and path.rpartition("/")[2] == "kernel"
    }
    return {layer: products for layer, products in found.items() if products}
