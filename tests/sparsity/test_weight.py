"""The masked weight: multiplies like its dense array, and only kept weights have gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.sparsity.weight import Masked, matmul, to_dense

X = jnp.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])
VALUE = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
MASK = jnp.array([[True, False], [False, True], [True, True]])


def test_forward_by_hand():
    # Column 0 keeps 1 and 5, column 1 keeps 4 and 6.
    product = matmul(X, Masked.of(VALUE, MASK))
    np.testing.assert_array_equal(product, [[16.0, 26.0], [9.0, 14.0]])


def test_gradients_by_hand():
    def loss(weight, x):
        return matmul(x, weight).sum()

    weight = Masked.of(VALUE, MASK)
    weight_gradient = jax.grad(loss, allow_int=True)(weight, X).value
    input_gradient = jax.grad(loss, argnums=1)(weight, X)
    np.testing.assert_array_equal(weight_gradient, [[0.0, 0.0], [0.0, 2.5], [5.0, 5.0]])
    np.testing.assert_array_equal(input_gradient, [[1.0, 4.0, 11.0]] * 2)


def test_dense_and_fully_kept_are_the_same_bits():
    kept = Masked.of(VALUE, jnp.ones_like(MASK))
    np.testing.assert_array_equal(matmul(X, kept), matmul(X, VALUE))
    np.testing.assert_array_equal(to_dense(kept), VALUE)


def test_members_with_different_masks_vmap():
    masks = jnp.stack([MASK, ~MASK])
    members = jax.vmap(Masked.of, in_axes=(None, 0))(VALUE, masks)
    products = jax.vmap(matmul, in_axes=(None, 0))(X, members)
    for product, mask in zip(products, masks, strict=True):
        np.testing.assert_allclose(product, matmul(X, Masked.of(VALUE, mask)), rtol=1e-6)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="must have the weight's shape"):
        Masked.of(VALUE, MASK.T)
