r"""The products of a pruned layer, as JAX primitives.

A layer computes `y = x W`. Its products are `y` itself, what an error `dy` passes back to the
inputs, `dx = dy W^T`, and to the weights, `dW = x^T dy`, of which only the kept entries are
computed. All three come from the one form $\sum x_i W_{ij} dy_j$, so each is linear in two of
(x, W, dy), and the derivatives of each are the other two: any order of differentiation works.

`affine` adds a bias and a ReLU while the sums are still in registers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad

from kanbatsu.kernels.layouts import LAYOUTS, Structure
from kanbatsu.kernels.primitive import call, define, rows
from kanbatsu.kernels.sums import spread_batch

Array = jax.Array


class LayerSizes(NamedTuple):
    """Sizes of a layer, and its layout: all that its arrays do not say."""

    layout: str
    """A name in `LAYOUTS`."""
    inputs: int
    outputs: int
    group_size: int
    """Outputs per group; 1 where every output has its own inputs."""


def product(x: Array, values: Array, structure: Structure, sizes: LayerSizes) -> Array:
    """Return `x W`, `[..., outputs]`, of activations `[..., inputs]`."""
    x, values = _promoted(x, values)
    return PRODUCT.bind(x, values, *structure, sizes=sizes)


def affine(
    x: Array, values: Array, bias: Array, structure: Structure, sizes: LayerSizes, relu: bool
) -> Array:
    """Return `x W + bias`, or its positive part, `[..., outputs]`."""
    x, values, bias = _promoted(x, values, bias)
    return AFFINE.bind(x, values, bias, *structure, sizes=sizes, relu=relu)


def _promoted(*arrays: Array) -> list[Array]:
    """Bring arrays to the one type that a dense product of them would have."""
    dtype = jnp.result_type(*arrays)
    return [jnp.asarray(array, dtype) for array in arrays]


def add_bias(y: Array, bias: Array) -> Array:
    """Return `y + bias`, `[..., outputs]`, also where JAX is told not to promote ranks.

    This is the very program that `y + bias` is by default: gradients sum in the same order.
    """
    return y + jax.lax.broadcast_to_rank(bias, y.ndim)


def _dense(values: Array, structure: Structure, sizes: LayerSizes) -> Array:
    return LAYOUTS[sizes.layout].to_dense(values, structure, sizes.inputs, sizes.outputs)


def _product(x: Array, values: Array, *structure: Array, sizes: LayerSizes) -> Array:
    return x @ _dense(values, structure, sizes)


def _input_gradient(dy: Array, values: Array, *structure: Array, sizes: LayerSizes) -> Array:
    return dy @ _dense(values, structure, sizes).T


def _weight_gradient(x: Array, dy: Array, *structure: Array, sizes: LayerSizes) -> Array:
    dense = rows(x).T @ rows(dy)
    return LAYOUTS[sizes.layout].from_dense(dense, structure, sizes.group_size)


def _affine(
    x: Array, values: Array, bias: Array, *structure: Array, sizes: LayerSizes, relu: bool
) -> Array:
    y = add_bias(x @ _dense(values, structure, sizes), bias)
    return jax.nn.relu(y) if relu else y


def _product_on_cpu(x: Array, values: Array, *structure: Array, sizes: LayerSizes) -> Array:
    no_bias = jnp.zeros(0, x.dtype)
    return _affine_on_cpu(x, values, no_bias, *structure, sizes=sizes, relu=False)


def _affine_on_cpu(
    x: Array, values: Array, bias: Array, *structure: Array, sizes: LayerSizes, relu: bool
) -> Array:
    batch = rows(x)
    (y,) = call(
        f"{sizes.layout}_affine",
        (batch, values, bias, *LAYOUTS[sizes.layout].forwards(structure)),
        jax.ShapeDtypeStruct((batch.shape[0], sizes.outputs), x.dtype),
        relu=relu,
    )
    return y.reshape(*x.shape[:-1], sizes.outputs)


def _input_gradient_on_cpu(dy: Array, values: Array, *structure: Array, sizes: LayerSizes) -> Array:
    batch = rows(dy)
    layout = LAYOUTS[sizes.layout]
    reordered = [jax.ShapeDtypeStruct(values.shape, values.dtype)] if layout.reorders else []
    dx, *_ = call(
        f"{sizes.layout}_input_gradient",
        (batch, values, *layout.backwards(structure)),
        jax.ShapeDtypeStruct((batch.shape[0], sizes.inputs), dy.dtype),
        *reordered,
    )
    return dx.reshape(*dy.shape[:-1], sizes.inputs)


def _weight_gradient_on_cpu(x: Array, dy: Array, *structure: Array, sizes: LayerSizes) -> Array:
    (dvalues,) = call(
        f"{sizes.layout}_weight_gradient",
        (rows(x), rows(dy), *LAYOUTS[sizes.layout].forwards(structure)),
        jax.ShapeDtypeStruct(values_shape(structure, sizes), x.dtype),
    )
    return dvalues


def values_shape(structure: tuple[Any, ...], sizes: LayerSizes) -> tuple[int, ...]:
    """Return the shape of a layer's values."""
    sources = LAYOUTS[sizes.layout].forwards(structure)[-1]
    return sources.shape if sizes.group_size == 1 else (*sources.shape, sizes.group_size)


def _batch(activations: jax.core.ShapedArray, features: int) -> tuple[int, ...]:
    """Leading axes of activations that fit the layer."""
    *batch, width = activations.shape
    if width != features:
        raise ValueError(f"activations {activations.shape} must have {features} features, last")
    return tuple(batch)


PRODUCT = define(
    "product",
    _product,
    _product_on_cpu,
    lambda x, values, *structure, sizes: (*_batch(x, sizes.inputs), sizes.outputs),
    maps_batch=True,
)
INPUT_GRADIENT = define(
    "input_gradient",
    _input_gradient,
    _input_gradient_on_cpu,
    lambda dy, values, *structure, sizes: (*_batch(dy, sizes.outputs), sizes.inputs),
    maps_batch=True,
)
WEIGHT_GRADIENT = define(
    "weight_gradient",
    _weight_gradient,
    _weight_gradient_on_cpu,
    lambda x, dy, *structure, sizes: values_shape(structure, sizes),
)
AFFINE = define(
    "affine",
    _affine,
    _affine_on_cpu,
    lambda x, values, bias, *structure, sizes, relu: (*_batch(x, sizes.inputs), sizes.outputs),
    maps_batch=True,
)


def _define_derivatives(
    primitive: Primitive, of_first: Callable[..., Array], of_second: Callable[..., Array]
) -> None:
    """Let a primitive be differentiated that is linear in each of its first two arguments.

    Args:
        primitive: a product of a layer.
        of_first: carries a cotangent back to the first argument, given the second.
        of_second: carries a cotangent back to the second argument, given the first.
    """

    def transpose(cotangent: Any, one: Any, other: Any, *structure: Array, **sizes: Any) -> Any:
        def back(undefined: Any, known: Any, product: Callable[..., Array]) -> Any:
            if not ad.is_undefined_primal(undefined):
                return None
            if type(cotangent) is ad.Zero:
                return ad.Zero(undefined.aval)
            return product(cotangent, known, *structure, **sizes)

        nothing = (None,) * len(structure)
        return back(one, other, of_first), back(other, one, of_second), *nothing

    def differentiate(
        primals: Sequence[Array], tangents: Sequence[Any], **sizes: Any
    ) -> tuple[Array, Any]:
        one, other, *structure = primals
        bind = functools.partial(primitive.bind, **sizes)
        parts = []
        if type(tangents[0]) is not ad.Zero:
            parts.append(bind(tangents[0], other, *structure))
        if type(tangents[1]) is not ad.Zero:
            parts.append(bind(one, tangents[1], *structure))
        return bind(*primals), functools.reduce(ad.add_jaxvals, parts)

    ad.primitive_jvps[primitive] = differentiate
    ad.primitive_transposes[primitive] = transpose


def _reversed(primitive: Primitive) -> Callable[..., Array]:
    """Return a product that is given its first two arguments in the other order."""
    return lambda one, other, *rest, **sizes: primitive.bind(other, one, *rest, **sizes)


_define_derivatives(PRODUCT, INPUT_GRADIENT.bind, _reversed(WEIGHT_GRADIENT))
_define_derivatives(INPUT_GRADIENT, PRODUCT.bind, WEIGHT_GRADIENT.bind)
_define_derivatives(WEIGHT_GRADIENT, _reversed(INPUT_GRADIENT), _reversed(PRODUCT))


def _differentiate_affine(
    primals: Sequence[Array], tangents: Sequence[Any], *, sizes: LayerSizes, relu: bool
) -> tuple[Array, Any]:
    x, values, _, *structure = primals
    y = AFFINE.bind(*primals, sizes=sizes, relu=relu)
    parts = []
    if type(tangents[0]) is not ad.Zero:
        parts.append(PRODUCT.bind(tangents[0], values, *structure, sizes=sizes))
    if type(tangents[1]) is not ad.Zero:
        parts.append(PRODUCT.bind(x, tangents[1], *structure, sizes=sizes))
    if type(tangents[2]) is not ad.Zero:
        parts.append(spread_batch(tangents[2], x.shape[:-1]))
    tangent = functools.reduce(ad.add_jaxvals, parts)
    return y, jnp.where(y > 0, tangent, jnp.zeros_like(tangent)) if relu else tangent


ad.primitive_jvps[AFFINE] = _differentiate_affine
