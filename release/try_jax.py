"""Tries an installed wheel with JAX and without a compiler: packed layers are right, and train."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import kanbatsu
from kanbatsu.kernels.library import instruction_set

model = eqx.nn.MLP(24, 8, width_size=256, depth=2, key=jax.random.key(0))
x = jax.random.normal(jax.random.key(1), (64, 24))
results = {}
for pattern in ("element", "grouped"):
    for compute in ("masked", "packed"):
        thin = kanbatsu.prune(
            model, 0.9, key=jax.random.key(2), compute=compute, pattern=pattern, exclude="layers/2"
        )
        loss, gradient = eqx.filter_value_and_grad(lambda model: jnp.mean(jax.vmap(model)(x) ** 2))(
            thin
        )
        results[compute] = float(loss), np.asarray(gradient.layers[0].bias)
    for masked, packed in zip(results["masked"], results["packed"], strict=True):
        np.testing.assert_allclose(masked, packed, rtol=1e-4, atol=1e-6)
    print(f"{pattern}: packed layers are equal to masked ones, kernels: {instruction_set()}")
assert instruction_set() is not None
