"""The sum and the spread are numpy's, and each is the other's derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from kanbatsu.kernels.sums import spread_batch, sum_batch

# One number, less and more than a tile of samples or features, and several leading axes.
SHAPES = [(1, 1), (3,), (1, 70), (33, 1), (70, 131), (130, 64), (2, 3, 5)]
ROUNDING = 16 * np.finfo(np.float32).eps
"""Error allowed per unit of the sum of the absolute terms."""


def normal(*shape):
    return jnp.array(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("shape", SHAPES)
def test_sums(shape):
    x = normal(*shape)
    wide = np.asarray(x, np.float64)
    flat = wide.reshape(-1, shape[-1])
    excess = abs(sum_batch(x) - flat.sum(axis=0)) - ROUNDING * abs(flat).sum(axis=0)
    assert excess.shape == shape[-1:]
    assert excess.max() <= 0


def test_by_hand():
    x = jnp.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    np.testing.assert_array_equal(sum_batch(x), [11, 22, 33])
    np.testing.assert_array_equal(spread_batch(jnp.array([1.0, 2.0]), (2,)), [[1, 2], [1, 2]])
    assert spread_batch(jnp.ones(2), (3, 4)).shape == (3, 4, 2)
    assert spread_batch(jnp.ones(2), ()).shape == (2,)


def test_an_empty_batch_sums_to_zero():
    np.testing.assert_array_equal(sum_batch(jnp.ones((0, 3))), np.zeros(3))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (sum_batch, (2, 3, 4)),
        (lambda x: spread_batch(x, (2, 3)), (4,)),
    ],
    ids=["sum_batch", "spread_batch"],
)
def test_derivatives(function, shape):
    def squared(x):
        return function(x) ** 2

    check_grads(
        jax.jit(squared), (normal(*shape),), order=2, modes=["fwd", "rev"], atol=1e-2, rtol=1e-2
    )


def test_gradients_by_hand():
    weights = jnp.array([1.0, 10.0])
    by_feature = jax.grad(lambda x: (sum_batch(x) * weights).sum())(jnp.ones((3, 2)))
    np.testing.assert_array_equal(by_feature, [[1, 10]] * 3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_vmap_is_one_by_one(axis):
    x = normal(3, 4, 5)
    members = jnp.moveaxis(x, axis, 0)
    for member, y in zip(members, jax.vmap(sum_batch, in_axes=axis)(x), strict=True):
        np.testing.assert_allclose(y, sum_batch(member), rtol=1e-6)
    together = jax.vmap(lambda x: spread_batch(x, (2,)))(x[0])
    np.testing.assert_array_equal(together, jnp.stack([spread_batch(v, (2,)) for v in x[0]]))
