r"""The products of a pruned layer, as JAX primitives.

A layer computes `y = x W`. Its products are `y` itself, what an error `dy` passes back to the
inputs, `dx = dy W^T`, and to the weights, `dW = x^T dy`, of which only the kept entries are
computed. All three come from the one form $\sum x_i W_{ij} dy_j$, so each is linear in two of
(x, W, dy), and the derivatives of each are the other two: any order of differentiation works.

`affine` adds a bias and a ReLU while the sums are still in registers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad

from kanbatsu.kernels.layouts import LAYOUTS, Structure
from kanbatsu.kernels.primitive import batch_activations, batch_one_by_one, call, define, rows
from kanbatsu.kernels.sums import spread_batch

Array = jax.Array


class Shape(NamedTuple):
    """What a layer's arrays do not say."""

    layout: str
    """A name in `LAYOUTS`."""
    inputs: int
    outputs: int
    group_size: int
    """Outputs per group; 1 where every output has its own inputs."""


def product(x: Array, values: Array, structure: Structure, shape: Shape) -> Array:
    """Return `x W`, `[..., outputs]`, of activations `[..., inputs]`."""
    return PRODUCT.bind(x, values, *structure, shape=shape)


def affine(
    x: Array, values: Array, bias: Array, structure: Structure, shape: Shape, relu: bool
) -> Array:
    """Return `x W + bias`, or its positive part, `[..., outputs]`."""
    return AFFINE.bind(x, values, bias, *structure, shape=shape, relu=relu)


def _dense(values: Array, structure: Structure, shape: Shape) -> Array:
    return LAYOUTS[shape.layout].to_dense(values, structure, shape.inputs, shape.outputs)


def _product(x: Array, values: Array, *structure: Array, shape: Shape) -> Array:
    return x @ _dense(values, structure, shape)


def _input_gradient(dy: Array, values: Array, *structure: Array, shape: Shape) -> Array:
    return dy @ _dense(values, structure, shape).T


def _weight_gradient(x: Array, dy: Array, *structure: Array, shape: Shape) -> Array:
    dense = rows(x).T @ rows(dy)
    return LAYOUTS[shape.layout].from_dense(dense, structure, shape.group_size)


def _affine(
    x: Array, values: Array, bias: Array, *structure: Array, shape: Shape, relu: bool
) -> Array:
    y = x @ _dense(values, structure, shape) + bias
    return jax.nn.relu(y) if relu else y


def _product_on_cpu(x: Array, values: Array, *structure: Array, shape: Shape) -> Array:
    no_bias = jnp.zeros(0, x.dtype)
    return _affine_on_cpu(x, values, no_bias, *structure, shape=shape, relu=False)


def _affine_on_cpu(
    x: Array, values: Array, bias: Array, *structure: Array, shape: Shape, relu: bool
) -> Array:
    batch = rows(x)
    (y,) = call(
        f"{shape.layout}_affine",
        (batch, values, bias, *LAYOUTS[shape.layout].forwards(structure)),
        jax.ShapeDtypeStruct((batch.shape[0], shape.outputs), x.dtype),
        relu=relu,
    )
    return y.reshape(*x.shape[:-1], shape.outputs)


def _input_gradient_on_cpu(dy: Array, values: Array, *structure: Array, shape: Shape) -> Array:
    batch = rows(dy)
    layout = LAYOUTS[shape.layout]
    reordered = [jax.ShapeDtypeStruct(values.shape, values.dtype)] if layout.reorders else []
    dx, *_ = call(
        f"{shape.layout}_input_gradient",
        (batch, values, *layout.backwards(structure)),
        jax.ShapeDtypeStruct((batch.shape[0], shape.inputs), dy.dtype),
        *reordered,
    )
    return dx.reshape(*dy.shape[:-1], shape.inputs)


def _weight_gradient_on_cpu(x: Array, dy: Array, *structure: Array, shape: Shape) -> Array:
    (dvalues,) = call(
        f"{shape.layout}_weight_gradient",
        (rows(x), rows(dy), *LAYOUTS[shape.layout].forwards(structure)),
        jax.ShapeDtypeStruct(values_shape(structure, shape), x.dtype),
    )
    return dvalues


def values_shape(structure: tuple[Any, ...], shape: Shape) -> tuple[int, ...]:
    """Return the shape of a layer's values."""
    sources = LAYOUTS[shape.layout].forwards(structure)[-1]
    return sources.shape if shape.group_size == 1 else (*sources.shape, shape.group_size)


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
    lambda x, values, *structure, shape: (*_batch(x, shape.inputs), shape.outputs),
)
INPUT_GRADIENT = define(
    "input_gradient",
    _input_gradient,
    _input_gradient_on_cpu,
    lambda dy, values, *structure, shape: (*_batch(dy, shape.outputs), shape.inputs),
)
WEIGHT_GRADIENT = define(
    "weight_gradient",
    _weight_gradient,
    _weight_gradient_on_cpu,
    lambda x, dy, *structure, shape: values_shape(structure, shape),
)
AFFINE = define(
    "affine",
    _affine,
    _affine_on_cpu,
    lambda x, values, bias, *structure, shape, relu: (*_batch(x, shape.inputs), shape.outputs),
)

batch_activations(PRODUCT)
batch_activations(INPUT_GRADIENT)
batch_activations(AFFINE)
batch_one_by_one(WEIGHT_GRADIENT)

TRANSPOSES = {
    # Of a product, for each of its two arguments: the primitive that carries a cotangent back to
    # it, and whether the argument that is known comes first there.
    PRODUCT: ((INPUT_GRADIENT, False), (WEIGHT_GRADIENT, True)),
    INPUT_GRADIENT: ((PRODUCT, False), (WEIGHT_GRADIENT, False)),
    WEIGHT_GRADIENT: ((INPUT_GRADIENT, True), (PRODUCT, True)),
}


def _differentiate_product(
    primitive: Primitive, primals: Sequence[Array], tangents: Sequence[Any], *, shape: Shape
) -> tuple[Array, Any]:
    one, other, *structure = primals
    bind = functools.partial(primitive.bind, shape=shape)
    parts = []
    if type(tangents[0]) is not ad.Zero:
        parts.append(bind(tangents[0], other, *structure))
    if type(tangents[1]) is not ad.Zero:
        parts.append(bind(one, tangents[1], *structure))
    return bind(*primals), functools.reduce(ad.add_jaxvals, parts)


def _differentiate_affine(
    primals: Sequence[Array], tangents: Sequence[Any], *, shape: Shape, relu: bool
) -> tuple[Array, Any]:
    x, values, _, *structure = primals
    y = AFFINE.bind(*primals, shape=shape, relu=relu)
    parts = []
    if type(tangents[0]) is not ad.Zero:
        parts.append(PRODUCT.bind(tangents[0], values, *structure, shape=shape))
    if type(tangents[1]) is not ad.Zero:
        parts.append(PRODUCT.bind(x, tangents[1], *structure, shape=shape))
    if type(tangents[2]) is not ad.Zero:
        parts.append(spread_batch(tangents[2], x.shape[:-1]))
    tangent = functools.reduce(ad.add_jaxvals, parts)
    return y, jnp.where(y > 0, tangent, jnp.zeros_like(tangent)) if relu else tangent


def _transpose_product(
    primitive: Primitive, cotangent: Any, one: Any, other: Any, *structure: Array, shape: Shape
) -> tuple[Any, ...]:
    first = ad.is_undefined_primal(one)
    undefined, known = (one, other) if first else (other, one)
    if type(cotangent) is ad.Zero:
        back = ad.Zero(undefined.aval)
    else:
        target, known_first = TRANSPOSES[primitive][0 if first else 1]
        pair = (known, cotangent) if known_first else (cotangent, known)
        back = target.bind(*pair, *structure, shape=shape)
    nothing = (None,) * len(structure)
    return (back, None, *nothing) if first else (None, back, *nothing)


for _primitive in TRANSPOSES:
    ad.primitive_jvps[_primitive] = functools.partial(_differentiate_product, _primitive)
    ad.primitive_transposes[_primitive] = functools.partial(_transpose_product, _primitive)
ad.primitive_jvps[AFFINE] = _differentiate_affine
