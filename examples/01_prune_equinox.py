"""Prune an Equinox model with one line, train it as usual, and see that it stays pruned."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import kanbatsu

model_key, prune_key, data_key = jax.random.split(jax.random.key(0), 3)
model = eqx.nn.MLP(in_size=2, out_size=1, width_size=128, depth=3, key=model_key)
model = kanbatsu.prune(model, 0.9, key=prune_key)
print(kanbatsu.count(model))
kept = kanbatsu.to_dense(model.layers[1].weight) != 0

x = jax.random.uniform(data_key, (512, 2), minval=-1.0, maxval=1.0)
y = jnp.sin(3.0 * x[:, :1]) * x[:, 1:]


@eqx.filter_value_and_grad
def loss_and_gradient(model: eqx.Module) -> jax.Array:
    """Mean squared error on the toy regression."""
    return jnp.mean((jax.vmap(model)(x) - y) ** 2)


optimizer = optax.adamw(3e-3, weight_decay=1e-2)
moments = optimizer.init(eqx.filter(model, eqx.is_inexact_array))


@eqx.filter_jit
def step(model: eqx.Module, moments: optax.OptState) -> tuple:
    """Update once; nothing here knows that the model is pruned."""
    loss, gradient = loss_and_gradient(model)
    params = eqx.filter(model, eqx.is_inexact_array)
    updates, moments = optimizer.update(gradient, moments, params)
    return eqx.apply_updates(model, updates), moments, loss


before, _ = loss_and_gradient(model)
for _ in range(300):
    model, moments, after = step(model, moments)
print(f"loss: {before:.4f} -> {after:.4f}")

weight = kanbatsu.to_dense(model.layers[1].weight)
print(f"largest pruned weight: {jnp.abs(jnp.where(kept, 0.0, weight)).max()}")
print(f"non-zero weights: {jnp.count_nonzero(weight)} of {weight.size}")
