"""How the products batch, run in other types, and refuse buffers that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.kernels.library import library
from kanbatsu.kernels.products import LayerSizes, affine, product

SIZES = [1, 8]
"""Outputs per group; 1 is the packed layout."""


def whole(seed, *shape):
    """Small whole numbers: sums of their products are exact, whatever the order."""
    return jnp.array(np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32))


@pytest.fixture(params=SIZES)
def layer(request, make_layer):
    return make_layer(6, 10, 0.5, request.param, whole=True)


def multiply(layer, x, values=None):
    return product(x, layer.values if values is None else values, layer.structure, layer.shape)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_vmap_over_activations_is_a_batch(layer, axis):
    x = whole(0, 5, 6)
    mapped = jax.vmap(lambda x: multiply(layer, x), in_axes=axis)(x if axis == 0 else x.T)
    np.testing.assert_array_equal(mapped, x @ layer.dense)
    shifted = jax.vmap(
        lambda x: affine(x, layer.values, jnp.ones(10), layer.structure, layer.shape, relu=True)
    )(x)
    np.testing.assert_array_equal(shifted, np.maximum(x @ layer.dense + 1, 0))


def test_a_vmap_of_a_gradient_is_one_gradient_per_sample(layer):
    x, dy = whole(0, 3, 6), whole(1, 3, 10)

    def gradient(x, dy):
        return jax.grad(lambda x, v: multiply(layer, x, v) @ dy, argnums=(0, 1))(x, layer.values)

    dx, dvalues = jax.jit(jax.vmap(gradient))(x, dy)
    np.testing.assert_array_equal(dx, dy @ layer.dense.T)
    for sample in range(3):
        dense = np.outer(x[sample], dy[sample])
        np.testing.assert_array_equal(dvalues[sample], layer.values_of(dense))


def test_members_of_a_vmap_over_values_are_each_alone(layer):
    members, x = jnp.stack([layer.values, 2 * layer.values, -layer.values]), whole(0, 4, 6)
    together = jax.jit(jax.vmap(lambda values: multiply(layer, x, values)))(members)
    for y, factor in zip(together, (1, 2, -1), strict=True):
        np.testing.assert_array_equal(y, factor * (x @ layer.dense))
    own = jax.jit(jax.vmap(lambda x, values: multiply(layer, x, values)))(
        whole(1, 3, 4, 6), members
    )
    for y, x, factor in zip(own, whole(1, 3, 4, 6), (1, 2, -1), strict=True):
        np.testing.assert_array_equal(y, factor * (x @ layer.dense))


@pytest.mark.parametrize("size", SIZES)
def test_jit_and_eager_are_the_same_bits(make_layer, size):
    layer = make_layer(30, 20, 0.5, size)
    x = jnp.array(np.random.default_rng(0).standard_normal((7, 30)).astype(np.float32))
    gradient = jax.grad(lambda values: (multiply(layer, x, values) ** 2).sum())
    np.testing.assert_array_equal(jax.jit(lambda x: multiply(layer, x))(x), multiply(layer, x))
    np.testing.assert_allclose(jax.jit(gradient)(layer.values), gradient(layer.values), rtol=1e-6)


def test_other_types_take_the_dense_formula(layer):
    x, values = whole(0, 4, 6).astype(jnp.bfloat16), layer.values.astype(jnp.bfloat16)
    y, back = jax.vjp(lambda x, values: multiply(layer, x, values), x, values)
    dx, dvalues = back(y)
    assert {array.dtype for array in (y, dx, dvalues)} == {jnp.dtype(jnp.bfloat16)}
    # Whole numbers below 256 are exact in bfloat16.
    np.testing.assert_array_equal(y.astype(jnp.float32), whole(0, 4, 6) @ layer.dense)


def packed(**changes):
    """Arguments of a product with two kept weights, (0, 0) and (1, 1), of which some are broken."""
    arguments = {
        "x": jnp.ones((2, 3)),
        "values": jnp.ones(2),
        "starts": [0, 1, 2],
        "sources": [0, 1],
        "back_starts": [0, 1, 2, 2],
        "back_sources": [0, 1],
        "order": [0, 1],
        "shape": LayerSizes("packed", 3, 2, 1),
    } | changes
    types = {"starts": np.int32, "back_starts": np.int32, "order": np.int32}
    x, values, *structure, shape = (
        jnp.array(np.array(value, types.get(name, np.uint16))) if isinstance(value, list) else value
        for name, value in arguments.items()
    )
    return x, values, tuple(structure), shape


def grouped(x=None, sources=((0, 2),), size=8, outputs=8, kept=2):
    x = jnp.ones((2, 3)) if x is None else x
    structure = (jnp.array(np.array(sources, np.int32)),)
    return x, jnp.ones((1, kept, size)), structure, LayerSizes("grouped", 3, outputs, size)


def all_products(x, values, structure, shape):
    y, back = jax.vjp(lambda x, values: product(x, values, structure, shape), x, values)
    return jax.block_until_ready((y, back(y)))


def test_what_the_broken_ones_are_made_from_is_fine():
    y, (dx, dvalues) = all_products(*packed())
    np.testing.assert_array_equal(y, jnp.ones((2, 2)))
    np.testing.assert_array_equal(dx, [[1, 1, 0]] * 2)
    np.testing.assert_array_equal(dvalues, [2, 2])
    np.testing.assert_array_equal(all_products(*grouped())[0], jnp.full((2, 8), 2.0))


# The list of the 65th block names input 1, which 16 bits cannot tell from input 65,537.
BEYOND_16_BITS = {
    "x": jnp.ones((2, 66_000)),
    "starts": [0] * 130 + [2],
    "shape": LayerSizes("packed", 66_000, 2, 1),
}
REFUSED = (ValueError, jax.errors.JaxRuntimeError)
"""Of a computation that runs at once, and of one that runs while Python goes on."""
NO_INPUT, NO_OUTPUT = "names an input that does not exist", "names an output that does not exist"
DO_NOT_FIT = "the shapes of a packed weight"
BROKEN = {
    "an input beyond the last": (packed(sources=[0, 3]), NO_INPUT),
    "the largest input": (packed(sources=[0, 65_535]), NO_INPUT),
    "an input beyond 16 bits": (packed(**BEYOND_16_BITS), NO_INPUT),
    "descending starts": (packed(starts=[0, 3, 2]), NO_INPUT),
    "a negative start": (packed(starts=[0, -1, 2]), NO_INPUT),
    "starts that do not begin at 0": (packed(starts=[1, 1, 2]), NO_INPUT),
    "starts that end early": (packed(starts=[0, 1, 1]), NO_INPUT),
    "starts that end late": (packed(starts=[0, 1, 3]), NO_INPUT),
    "an output beyond the last": (packed(back_sources=[0, 2]), NO_OUTPUT),
    "a value beyond the last": (packed(order=[0, 2]), "names a value that does not exist"),
    "a negative value": (packed(order=[-1, 0]), "names a value that does not exist"),
    "too few starts": (packed(starts=[0, 2]), DO_NOT_FIT),
    "too many starts": (packed(starts=[0, 1, 2, 2]), DO_NOT_FIT),
    "too few sources": (packed(sources=[0]), NO_INPUT),
    "too few values": (packed(values=jnp.ones(1)), DO_NOT_FIT),
    "too short an order": (packed(order=[0]), DO_NOT_FIT),
    "a grouped input beyond the last": (grouped(sources=((0, 3),)), "does not fit"),
    "a negative grouped input": (grouped(sources=((-1, 2),)), "does not fit"),
    "groups of 4": (grouped(size=4, outputs=4), "does not fit"),
    "too few groups": (grouped(outputs=9), "does not fit"),
    "too few grouped sources": (grouped(sources=((0,),)), "do not fit"),
}


@pytest.mark.skipif(library() is None, reason="kanbatsu has no kernels here")
@pytest.mark.parametrize("broken", BROKEN)
def test_buffers_that_do_not_fit_are_refused(broken):
    arguments, message = BROKEN[broken]
    with pytest.raises(REFUSED, match=f"INVALID_ARGUMENT: .*{message}"):
        all_products(*arguments)


@pytest.mark.skipif(library() is None, reason="kanbatsu has no kernels here")
@pytest.mark.parametrize("arguments", [packed(), grouped()], ids=["packed", "grouped"])
def test_a_bias_of_another_length_is_refused(arguments):
    x, values, structure, shape = arguments
    with pytest.raises(REFUSED, match=r"a bias must be \[outputs\]"):
        jax.block_until_ready(affine(x, values, jnp.ones(3), structure, shape, relu=False))


@pytest.mark.parametrize("features", [2, 4])
@pytest.mark.parametrize("make", [packed, grouped])
def test_activations_of_another_width_are_refused(make, features):
    with pytest.raises(ValueError, match=r"activations \(2, \d\) must have 3 features"):
        product(*make(x=jnp.ones((2, features))))
