"""The products of a pruned layer are those of the dense one, and so are all their derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from kanbatsu.kernels.products import LayerSizes, affine, product

LAYOUTS = [1, 8, 16, 32]
"""Outputs per group; 1 is the packed layout."""
BATCHES = [1, 2, 15, 16, 17, 31, 33, 70]
ROUNDING = 16 * np.finfo(np.float32).eps
"""Error allowed per unit of the sum of the absolute terms. A forgotten, doubled or misplaced term
is larger: of the 2,100 terms of the longest sum here, an average one is 250 times that."""


@partial(jax.jit, static_argnames="shape")
def results(x, dy, values, bias, structure, shape):
    """Everything that a layer computes, in one compiled program."""
    y, back = jax.vjp(lambda x, values: product(x, values, structure, shape), x, values)
    return y, affine(x, values, bias, structure, shape, relu=True), *back(dy)


def normal(seed, *shape):
    return jnp.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def whole(seed, *shape):
    """Small whole numbers: sums of their products are exact, whatever the order."""
    return jnp.array(np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32))


def check_products(layer, batch, seed):
    """Compare with the dense products in float64."""
    inputs, outputs = layer.dense.shape
    x, dy, bias = normal(seed, batch, inputs), normal(seed + 1, batch, outputs), normal(2, outputs)
    y, positive, dx, dvalues = results(x, dy, layer.values, bias, layer.structure, layer.shape)

    def close(actual, expected, terms):
        assert actual.shape == expected.shape
        excess = np.abs(np.asarray(actual, np.float64) - expected) - ROUNDING * terms
        assert excess.max() <= 0, f"{excess.max()} beyond what rounding explains"

    x, dy, bias, dense = (np.asarray(array, np.float64) for array in (x, dy, bias, layer.dense))
    terms = np.abs(x) @ np.abs(dense)
    close(y, x @ dense, terms)
    close(positive, np.maximum(x @ dense + bias, 0), terms + np.abs(bias))
    close(dx, dy @ dense.T, np.abs(dy) @ np.abs(dense.T))
    close(dvalues, layer.values_of(x.T @ dy), layer.values_of(np.abs(x.T) @ np.abs(dy)))


@settings(deadline=None, max_examples=20)
@given(
    group_size=st.sampled_from(LAYOUTS),
    inputs=st.integers(1, 80),
    outputs=st.integers(1, 80),
    share=st.floats(0, 1),
    batch=st.sampled_from(BATCHES),
    seed=st.integers(0, 1000),
)
@example(group_size=1, inputs=80, outputs=80, share=0, batch=33, seed=0)  # one weight
@example(group_size=1, inputs=80, outputs=80, share=1, batch=33, seed=0)  # all weights
@example(group_size=16, inputs=80, outputs=80, share=0, batch=33, seed=0)
@example(group_size=16, inputs=80, outputs=79, share=1, batch=33, seed=0)
@example(group_size=32, inputs=1, outputs=1, share=1, batch=1, seed=0)
def test_products_are_the_dense_ones(make_layer, group_size, inputs, outputs, share, batch, seed):
    layer = make_layer(inputs, outputs, share, group_size, seed)
    check_products(layer, batch, seed)


@pytest.mark.parametrize("group_size", [1, 16])
@pytest.mark.parametrize("batch", BATCHES)
def test_every_batch(make_layer, group_size, batch):
    check_products(make_layer(37, 45, 0.3, group_size), batch, seed=0)


@pytest.mark.parametrize("group_size", [1, 16])
@pytest.mark.parametrize(
    ("inputs", "outputs", "batch"), [(1030, 35, 33), (2100, 9, 1), (2100, 9, 17), (35, 1030, 2)]
)
def test_more_than_one_block(make_layer, group_size, inputs, outputs, batch):
    check_products(make_layer(inputs, outputs, 0.2, group_size), batch, seed=0)


@pytest.mark.parametrize("group_size", LAYOUTS)
def test_a_ragged_group_and_a_batch_of_several_gradient_steps(make_layer, group_size):
    # Grouped weight gradients take 256 samples at a time.
    check_products(make_layer(11, 37, 0.5, group_size), batch=256 + 33, seed=0)


def test_by_hand():
    # Output 0 keeps inputs 0 (2) and 2 (3); output 1 keeps input 1 (5).
    starts, sources = jnp.array([0, 2, 3], jnp.int32), jnp.array([0, 2, 1], jnp.uint16)
    back_starts, back_sources = jnp.array([0, 1, 2, 3], jnp.int32), jnp.array([0, 1, 0], jnp.uint16)
    structure = (starts, sources, back_starts, back_sources, jnp.array([0, 2, 1], jnp.int32))
    x, dy = jnp.array([[1.0, 10.0, 100.0]]), jnp.array([[1.0, -1.0]])
    values, bias = jnp.array([2.0, 3.0, 5.0]), jnp.array([1.0, -51.0])
    shape = LayerSizes("packed", inputs=3, outputs=2, group_size=1)
    y, positive, dx, dvalues = results(x, dy, values, bias, structure, shape)
    np.testing.assert_array_equal(y, [[302.0, 50.0]])
    np.testing.assert_array_equal(positive, [[303.0, 0.0]])
    np.testing.assert_array_equal(dx, [[2.0, -5.0, 3.0]])
    np.testing.assert_array_equal(dvalues, [1.0, 100.0, -10.0])


@pytest.mark.parametrize("batch", [(), (0,), (2, 3)])
@pytest.mark.parametrize("group_size", [1, 8])
def test_any_leading_axes(make_layer, group_size, batch):
    layer = make_layer(6, 10, 0.5, group_size, whole=True)
    x, dy, bias = whole(0, *batch, 6), whole(1, *batch, 10), whole(2, 10)
    y, positive, dx, dvalues = results(x, dy, layer.values, bias, layer.structure, layer.shape)
    np.testing.assert_array_equal(y, x @ layer.dense)
    np.testing.assert_array_equal(positive, np.maximum(x @ layer.dense + bias, 0))
    np.testing.assert_array_equal(dx, dy @ layer.dense.T)
    dense = x.reshape(-1, 6).T @ dy.reshape(-1, 10)
    np.testing.assert_array_equal(dvalues, layer.values_of(dense))


@pytest.mark.parametrize("group_size", [1, 16])
@pytest.mark.parametrize("batch", [1, 20])
def test_the_gradient_of_a_relu_is_that_of_the_dense_formula(make_layer, group_size, batch):
    layer = make_layer(12, 19, 0.4, group_size, whole=True)
    x, dy, bias = whole(0, batch, 12), whole(1, batch, 19), whole(2, 19)

    def run(x, values, bias):
        return affine(x, values, bias, layer.structure, layer.shape, relu=True)

    y, back = jax.jit(partial(jax.vjp, run))(x, layer.values, bias)
    sums = x @ layer.dense + bias
    error = np.where(sums > 0, dy, 0)
    assert (sums == 0).any(), "a sum of exactly zero must be among them: it passes nothing back"
    np.testing.assert_array_equal(y, np.maximum(sums, 0))
    dx, dvalues, dbias = jax.jit(back)(dy)
    np.testing.assert_array_equal(dx, error @ layer.dense.T)
    np.testing.assert_array_equal(dvalues, layer.values_of(x.T @ error))
    np.testing.assert_array_equal(dbias, error.sum(axis=0))


@pytest.mark.parametrize("group_size", [1, 8])
def test_not_a_number_passes_a_relu(make_layer, group_size):
    layer = make_layer(4, 20, 1.0, group_size)
    for batch in (1, 5, 40):
        x = jnp.full((batch, 4), jnp.nan)
        y = affine(x, layer.values, jnp.zeros(20), layer.structure, layer.shape, relu=True)
        assert np.isnan(y).all()


@pytest.mark.parametrize("group_size", [1, 8])
def test_derivatives_of_second_order(make_layer, group_size):
    layer = make_layer(5, 9, 0.5, group_size)
    x, bias = normal(0, 3, 5), normal(1, 9)

    @jax.jit
    def multiply(x, values):
        return product(x, values, layer.structure, layer.shape)

    @jax.jit
    def shift(x, values, bias):
        return affine(x, values, bias, layer.structure, layer.shape, relu=False)

    check_grads(multiply, (x, layer.values), order=2, modes=["fwd", "rev"], rtol=1e-2, atol=1e-2)
    check_grads(shift, (x, layer.values, bias), order=2, modes=["rev"], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("group_size", [1, 8])
def test_a_gradient_of_a_gradient_is_the_dense_one(make_layer, group_size):
    # As a gradient penalty has it: forward, input gradient, and the weight's gradient of that.
    layer = make_layer(7, 18, 0.5, group_size, whole=True)
    x = whole(0, 4, 7)

    def penalty(apply, weight):
        return (jax.grad(lambda x: (apply(x, weight) ** 2).sum())(x) ** 2).sum()

    def sparse(x, values):
        return product(x, values, layer.structure, layer.shape)

    gradient = jax.jit(jax.grad(partial(penalty, sparse)))(layer.values)
    dense = jax.jit(jax.grad(partial(penalty, jnp.matmul)))(jnp.array(layer.dense))
    np.testing.assert_allclose(gradient, layer.values_of(np.asarray(dense)), rtol=1e-5)
