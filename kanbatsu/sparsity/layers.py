"""Equinox layers that stay pruned, whatever is put in the place of their weights.

`equinox.tree_at` builds a layer again without asking it: fields are set, no method is called. So
a field looks after the weight, the one that is set last: the form that the weight must have.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import PyTreeDef

from kanbatsu.sparsity.fixed import OTHER_WEIGHTS, Fixed, Stamp, is_fixed
from kanbatsu.sparsity.weight import is_pruned, to_dense
from kanbatsu.types import Key

Form = tuple[PyTreeDef, tuple[Any, ...]]
"""Structure of a pruned weight, and shapes in the place of its values."""


class _Form:
    """The field that prunes an array which stands where a pruned weight stood."""

    def __get__(self, layer: Any, owner: Any = None) -> Any:
        return self if layer is None else vars(layer)["form"]

    def __set__(self, layer: Any, form: Form | None) -> None:
        fields = vars(layer)
        fields["form"] = form
        if form and isinstance(fields["stamp"], Stamp) and fields["stamp"] != _stamp_of(form):
            raise ValueError(OTHER_WEIGHTS)
        if form is not None and hasattr(fields["stamp"], "dtype"):
            fields["stamp"] = _stamp_of(form)
        held = fields.get("layer")
        if "weight" in fields:
            fields["weight"] = _pruned_alike(fields["weight"], form)
        elif isinstance(held, eqx.nn.Conv | eqx.nn.ConvTranspose):
            weight = _pruned_alike(held.weight, form)
            if weight is not held.weight:
                fields["layer"] = eqx.tree_at(lambda layer: layer.weight, held, weight)


class _Formed(eqx.Module):
    stamp: Any
    """A plain number that goes with the form into saved weights."""
    form: Form | None = eqx.field(static=True)
    """The weight without its values; None where an ensemble holds several."""


class PrunedLinear(eqx.nn.Linear, _Formed):
    """An Equinox linear layer of which a part is removed for good.

    It is used, and trained, like any `equinox.nn.Linear`. An array that is put in the place of its
    weight is pruned as the weight was.

    Example:
        >>> import kanbatsu
        >>> layer = eqx.nn.Linear(8, 4, key=jax.random.key(0))
        >>> pruned = kanbatsu.prune(layer, 0.75, key=jax.random.key(1))
        >>> anew = eqx.tree_at(lambda layer: layer.weight, pruned, jnp.ones((4, 8)))
        >>> int(to_dense(anew.weight).sum())
        8
    """

    form = _Form()

    def __init__(self, layer: eqx.nn.Linear):
        for name, value in vars(layer).items():
            object.__setattr__(self, name, value)
        self.weight, self.stamp, self.form = _taken_apart(layer.weight)


class _HoldsConv(_Formed):
    layer: eqx.nn.Conv | eqx.nn.ConvTranspose


class MaskedConv(_HoldsConv):
    """An Equinox convolution whose kernel is pruned; it is called like the layer itself."""

    form = _Form()

    def __init__(self, layer: eqx.nn.Conv | eqx.nn.ConvTranspose):
        weight, self.stamp, form = _taken_apart(layer.weight)
        self.layer = eqx.tree_at(lambda layer: layer.weight, layer, weight)
        self.form = form

    def __call__(self, x: jax.Array, *, key: Key | None = None) -> jax.Array:
        """Convolve `[channels, *space]`."""
        layer = eqx.tree_at(lambda c: c.weight, self.layer, to_dense(self.layer.weight))
        return layer(x, key=key)


def stay_pruned(model: Any) -> Any:
    """Return a model whose pruned Equinox layers stay so.

    Args:
        model: any tree; linear layers and convolutions in it may hold pruned weights.
    """

    def is_layer(node: Any) -> bool:
        return isinstance(node, eqx.nn.Linear | eqx.nn.Conv | eqx.nn.ConvTranspose)

    def wrap(node: Any) -> Any:
        if not is_layer(node) or not is_pruned(node.weight):
            return node
        if isinstance(node, eqx.nn.Linear):
            alone = type(node) is eqx.nn.Linear and is_fixed(node.weight)
            return PrunedLinear(node) if alone else node
        return MaskedConv(node)

    return jax.tree.map(wrap, model, is_leaf=is_layer)


def _taken_apart(weight: Any) -> tuple[Any, Stamp | None, Form | None]:
    """Return a weight without stamps, what it is without its values, and the stamp of that.

    `vmap` over the weight alone, as in `equinox.nn.WeightNorm`, then maps its values.
    """
    if not is_fixed(weight):
        return weight, None, None
    leaves, structure = jax.tree.flatten(weight)
    form = (
        structure,
        tuple(
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if eqx.is_array(leaf) else None
            for leaf in leaves
        ),
    )
    return eqx.filter(weight, eqx.is_array), _stamp_of(form), form


def _stamp_of(form: Form) -> Stamp:
    parts = jax.tree.leaves(jax.tree.unflatten(*form), is_leaf=lambda x: isinstance(x, Fixed))
    fixed = [part for part in parts if isinstance(part, Fixed)]
    return Stamp(functools.reduce(operator.xor, (each.content.stamp for each in fixed)))


def _pruned_alike(weight: Any, form: Form | None) -> Any:
    """Prune an array as a form says; whatever else a transformation left there stays what it is."""
    if form is None or not isinstance(weight, jax.Array):
        return weight
    pruned = jax.tree.unflatten(*form)
    if weight.shape == pruned.shape and jnp.issubdtype(weight.dtype, jnp.inexact):
        return pruned.like(weight)
    if weight.ndim == pruned.ndim:
        raise ValueError(
            f"an array of shape {weight.shape} and type {weight.dtype} cannot take the place of a "
            f"pruned weight of shape {pruned.shape}: replace the whole layer, and prune it"
        )
    return weight
