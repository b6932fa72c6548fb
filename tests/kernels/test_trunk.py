"""A trunk is its layers, one after the other, and its gradients are theirs."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kanbatsu.kernels import trunk as module
from kanbatsu.kernels.library import library, set_threads
from kanbatsu.kernels.trunk import FORWARD, trunk
from kanbatsu.kernels.trunk_parts import Affine, Block, Norm, TrunkSizes

EPSILON = 1e-3
needs_kernels = pytest.mark.skipif(library() is None, reason="kanbatsu has no kernels here")


def make(make_layer, width, units, count, share, size, seed=0):
    """Blocks as the trunk takes them, and the dense weights that they stand for."""
    draw = np.random.default_rng(seed)

    def vector(length):
        return jnp.array(draw.standard_normal(length).astype(np.float32))

    blocks, dense = [], []
    for index in range(count):
        up = make_layer(width, units, share, size, seed=2 * index + seed)
        down = make_layer(units, width, share, size, seed=2 * index + 1 + seed)
        norm, biases = Norm(vector(width), vector(width)), (vector(units), vector(width))
        blocks.append(
            Block(
                norm,
                Affine(up.values, biases[0], up.structure),
                Affine(down.values, biases[1], down.structure),
            )
        )
        dense.append((norm, (up.dense, biases[0]), (down.dense, biases[1])))
    sizes = TrunkSizes(up.shape, down.shape, EPSILON)
    return tuple(blocks), Norm(vector(width), vector(width)), sizes, dense


def plain(x, dense, last):
    """The same function, of dense weights, in whatever precision the arrays have."""

    def normalise(x, norm):
        centred = x - x.mean(-1, keepdims=True)
        deviation = jnp.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
        return centred / deviation * norm[0] + norm[1]

    for norm, (up, up_bias), (down, down_bias) in dense:
        hidden = jnp.maximum(normalise(x, norm) @ up + up_bias, 0)
        x = x + hidden @ down + down_bias
    return normalise(x, last)


def doubles(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), tree)


def close(actual, expected, tolerance=1e-4):
    # Of few features a norm leaves a small difference of large terms, so the floor is not small.
    expected = np.asarray(expected)
    scale = max(np.abs(expected).max(), 0.1) if expected.size else 1.0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def batch_of(width, samples, seed=9):
    x = np.random.default_rng(seed).standard_normal((2, samples, width))
    return jnp.array(x[0].astype(np.float32)), jnp.array(x[1].astype(np.float32))


def both_ways(function, x, weights, dy):
    """The value of a function, and what it passes back to `x` and to each of the weights."""

    @jax.jit
    def run(x, weights, dy):
        y, back = jax.vjp(function, x, weights)
        dx, dweights = back(dy)
        # Integers have gradients that `jit` does not return.
        keep = lambda leaf: None if leaf.dtype == jax.dtypes.float0 else leaf  # noqa: E731
        return y, dx, jax.tree.map(keep, dweights)

    y, dx, dweights = run(x, weights, dy)
    return y, (dx, *dweights)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    width=st.integers(1, 40),
    units=st.integers(1, 70),
    count=st.integers(1, 3),
    share=st.floats(0.05, 1.0),
    samples=st.integers(1, 70),
    size=st.sampled_from([1, 8, 16, 32]),
    threads=st.integers(1, 3),
)
def test_it_is_the_dense_trunk_in_double_precision(
    make_layer, width, units, count, share, samples, size, threads
):
    blocks, norm, sizes, dense = make(make_layer, width, units, count, share, size)
    x, dy = batch_of(width, samples)
    set_threads(threads)
    try:
        y, (dx, dblocks, dnorm) = both_ways(
            lambda x, weights: trunk(x, *weights, sizes)[0], x, (blocks, norm), dy
        )
    finally:
        set_threads(0)
    with jax.enable_x64(True):
        exact, (of_x, of_dense, of_norm) = both_ways(
            lambda x, weights: plain(x, *weights), *doubles((x, (dense, tuple(norm)), dy))
        )
    close(y, exact)
    close(dx, of_x)
    jax.tree.map(close, tuple(dnorm), of_norm)
    for index, (block, expected) in enumerate(zip(dblocks, of_dense, strict=True)):
        jax.tree.map(close, tuple(block.norm), tuple(expected[0]))
        for side, (gradient, (of_weight, of_bias)) in enumerate(
            zip(block[1:], expected[1:], strict=True)
        ):
            close(gradient.bias, of_bias)
            shape = (width, units)[:: 1 - 2 * side]
            layer = make_layer(*shape, share, size, seed=2 * index + side)
            close(gradient.values, layer.values_of(np.asarray(of_weight)))


@pytest.fixture(params=[1, 8], ids=["packed", "grouped"])
def small(request, make_layer):
    return make(make_layer, 12, 24, 2, 0.5, request.param)


def test_hidden_units_are_what_the_relu_gave_and_carry_no_gradient(small):
    blocks, norm, sizes, dense = small
    x, _ = batch_of(12, 20)
    _, hidden = trunk(x, blocks, norm, sizes)
    first, (up, bias), _ = dense[0]
    centred = x - x.mean(-1, keepdims=True)
    normed = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * first[0]
    close(hidden[0], jnp.maximum((normed + first[1]) @ up + bias, 0))
    assert [units.shape for units in hidden] == [(20, 24)] * 2
    gradient = jax.grad(lambda x: trunk(x, blocks, norm, sizes)[1][1].sum())(x)
    np.testing.assert_array_equal(gradient, jnp.zeros_like(x))


def test_leading_axes_are_all_batch(small):
    blocks, norm, sizes, _ = small
    x, _ = batch_of(12, 18)
    y, hidden = trunk(x, blocks, norm, sizes)
    folded, units = trunk(x.reshape(3, 6, 12), blocks, norm, sizes)
    np.testing.assert_array_equal(folded.reshape(18, 12), y)
    np.testing.assert_array_equal(units[0].reshape(18, 24), hidden[0])


def test_a_batch_of_none_is_none(small):
    blocks, norm, sizes, _ = small
    y, hidden = trunk(jnp.zeros((0, 12)), blocks, norm, sizes)
    assert y.shape == (0, 12)
    assert hidden[1].shape == (0, 24)


def test_a_sample_is_the_same_alone_in_any_batch(small):
    blocks, norm, sizes, _ = small
    x, _ = batch_of(12, 70)
    y, _ = trunk(x, blocks, norm, sizes)
    alone, _ = trunk(x[40:41], blocks, norm, sizes)
    np.testing.assert_array_equal(alone[0], y[40])


def test_members_of_a_vmap_are_each_alone(small):
    blocks, norm, sizes, _ = small
    x, dy = batch_of(12, 3 * 17)
    x, dy = x.reshape(3, 17, 12), dy.reshape(3, 17, 12)

    def gradient(x, dy, scale):
        def value(x, scale):
            return (trunk(x, blocks, norm._replace(scale=scale), sizes)[0] * dy).sum()

        return jax.value_and_grad(value, argnums=(0, 1))(x, scale)

    scales = jnp.stack([norm.scale, 2 * norm.scale, -norm.scale])
    together = jax.jit(jax.vmap(gradient))(x, dy, scales)
    for member in range(3):
        alone = gradient(x[member], dy[member], scales[member])
        jax.tree.map(
            lambda many, one, member=member: close(many[member], one, 1e-6), together, alone
        )


def test_a_second_derivative_is_that_of_the_dense_trunk(small):
    blocks, norm, sizes, dense = small
    x, dy = batch_of(12, 17)

    def steep(function):
        def squared(x, scale):
            return (jax.grad(lambda x: (function(x, scale) * dy).sum())(x) ** 2).sum()

        return jax.jit(jax.grad(squared, argnums=(0, 1)))

    ours = steep(lambda x, scale: trunk(x, blocks, norm._replace(scale=scale), sizes)[0])
    theirs = steep(lambda x, scale: plain(x, dense, (scale, norm.shift)))
    jax.tree.map(
        functools.partial(close, tolerance=1e-4), ours(x, norm.scale), theirs(x, norm.scale)
    )


@needs_kernels
def test_the_kernels_and_their_meaning_agree(small, monkeypatch):
    blocks, norm, sizes, _ = small
    x, dy = batch_of(12, 40)

    def all_of_it():
        return both_ways(lambda x, weights: trunk(x, *weights, sizes)[0], x, (blocks, norm), dy)

    kernels = all_of_it()
    monkeypatch.setattr(module, "library", lambda: None)
    jax.tree.map(close, kernels, all_of_it())


@needs_kernels
@pytest.mark.parametrize(
    ("wanted", "calls"),
    [
        (lambda run, x, scale: run(x, scale)[0], {"trunk"}),
        (lambda run, x, scale: run(x, scale)[1], {"trunk_traces"}),
        (
            lambda run, x, scale: jax.grad(lambda x: run(x, scale)[0].sum())(x),
            {"trunk_traces", "trunk_input_gradient"},
        ),
        (
            lambda run, x, scale: jax.grad(lambda scale: run(x, scale)[0].sum())(scale),
            {"trunk_traces", "trunk_gradients"},
        ),
    ],
    ids=["the features", "the hidden units", "a gradient of x", "a gradient of weights"],
)
def test_only_what_is_wanted_is_computed(small, wanted, calls):
    blocks, norm, sizes, _ = small
    x, _ = batch_of(12, 20)

    def run(x, scale):
        return trunk(x, blocks, norm._replace(scale=scale), sizes)

    compiled = jax.jit(lambda x, scale: wanted(run, x, scale)).lower(x, norm.scale).compile()
    found = re.findall(r'custom_call_target="kanbatsu_[a-z]+_(\w+)"', compiled.as_text())
    assert sorted(found) == sorted(calls)


@needs_kernels
def test_an_input_gradient_is_the_same_whether_the_weights_learn_or_not(small):
    blocks, norm, sizes, _ = small
    x, dy = batch_of(12, 40)

    def value(x, weights):
        return (trunk(x, *weights, sizes)[0] * dy).sum()

    alone = jax.grad(value)(x, (blocks, norm))
    beside, _ = jax.grad(value, argnums=(0, 1), allow_int=True)(x, (blocks, norm))
    np.testing.assert_array_equal(alone, beside)


@needs_kernels
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda up: up._replace(bias=jnp.ones(23)), "not fit"),
        (lambda up: up._replace(structure=(up.structure[0] + 12, *up.structure[1:])), "names|fit"),
        (lambda up: up._replace(values=up.values[:-1]), "do not fit"),
    ],
    ids=["a short bias", "a place that does not exist", "too few values"],
)
def test_buffers_that_do_not_fit_are_refused(small, change, message):
    blocks, norm, sizes, _ = small
    x, _ = batch_of(12, 20)
    broken = (blocks[0]._replace(up=change(blocks[0].up)), *blocks[1:])
    with pytest.raises((ValueError, jax.errors.JaxRuntimeError), match=message):
        jax.block_until_ready(jax.jit(lambda x: FORWARD(x, (broken, norm), sizes))(x))
