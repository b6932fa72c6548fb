"""Packed nnx models are the dense ones with zeros: the same outputs and gradients, only faster."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kanbatsu

nnx = pytest.importorskip("flax.nnx")

from kanbatsu.flax import pack_nnx  # noqa: E402  (after Flax is known to be there)

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (37, 24))


def products_in(model, *arguments):
    """How many products with kept weights a model makes."""
    text = str(jax.make_jaxpr(lambda *a: model(*a))(*arguments))  # afresh
    return text.count("kanbatsu_gathered")


def close(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for ours, theirs in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List(
            [nnx.Linear(24, 40, rngs=rngs), nnx.Linear(40, 16, use_bias=False, rngs=rngs)]
        )
        self.own = nnx.Linear(
            16, 16, rngs=rngs, dot_general=lambda *a, **k: jax.lax.dot_general(*a, **k)
        )

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.own(x)


@pytest.mark.parametrize("pattern", ["element", "grouped 16"])
def test_nnx_models_compute_and_train_as_before(pattern):
    model = Nnx(nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    masks = kanbatsu.make_masks(params, 0.7, key=KEY, pattern=pattern.split()[0])
    nnx.update(model, kanbatsu.apply_masks(params, masks))

    def loss(model, x):
        return (model(x) ** 2).sum()

    before = model(X), nnx.grad(loss)(model, X)
    assert products_in(model, X) == 0
    pack_nnx(model, masks, compute="packed")
    assert products_in(model, X) == 2
    close(model(X), before[0])
    after = nnx.jit(nnx.grad(loss))(model, X)
    for layer in (0, 1):
        kernel = after["layers"][layer]["kernel"][...]
        mask = masks["layers"][layer]["kernel"][...]
        close(kernel, np.where(mask, before[1]["layers"][layer]["kernel"][...], 0.0))
        assert not kernel[~mask].any()
    for twin in (nnx.clone(model), copy.deepcopy(model)):
        assert products_in(twin, X) == 2
        close(twin(X), before[0])
        jax.tree.map(jnp.add, nnx.split(model)[1], nnx.split(twin)[1])
        assert nnx.split(model)[0] == nnx.split(twin)[0]
    others = kanbatsu.make_masks(params, 0.7, key=jax.random.key(5), pattern=pattern.split()[0])
    nnx.update(model, kanbatsu.apply_masks(params, others))
    pack_nnx(model, others, compute="masked")
    assert products_in(model, X) == 0
    dense = model(X)
    pack_nnx(model, masks, compute="packed")
    pack_nnx(model, others, compute="packed")
    assert products_in(model, X) == 2
    close(model(X), dense)
