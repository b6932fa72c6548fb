"""A Flax linen network and an Optax optimizer: three lines prune it, and one looks inside."""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import kanbatsu
from kanbatsu.flax import packed, probe


class Value(nn.Module):
    """A value network as anybody would write it."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map observations `[batch, 8]` to values `[batch, 1]`."""
        for _ in range(2):
            x = nn.relu(nn.LayerNorm()(nn.Dense(64)(x)))
        return nn.Dense(1)(x)


init_key, mask_key, data_key = jax.random.split(jax.random.key(0), 3)
x = jax.random.normal(data_key, (256, 8))
y = jnp.sum(x**2, axis=1, keepdims=True)
network = Value()
params = jax.jit(network.init)(init_key, x)

masks = kanbatsu.make_masks(params, 0.8, key=mask_key)
params = kanbatsu.apply_masks(params, masks)
optimizer = kanbatsu.keep_pruned(optax.adamw(3e-3), masks)
apply = packed(network, masks)  # faster on CPUs, where layers are large (these are not)
print(kanbatsu.count(params, masks))


@jax.jit
def step(params: dict, state: optax.OptState) -> tuple:
    """Update once; nothing here knows that the network is pruned."""
    loss, gradient = jax.value_and_grad(lambda p: jnp.mean((apply(p, x) - y) ** 2))(params)
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, loss


state = optimizer.init(params)
_, _, before = step(params, state)
for _ in range(300):
    params, state, after = step(params, state)
print(f"loss: {before:.2f} -> {after:.2f}")

pruned = ~masks["params"]["Dense_1"]["kernel"]
moment = optax.tree_utils.tree_get(state, "mu")["params"]["Dense_1"]["kernel"]
print(f"largest pruned weight: {jnp.abs(params['params']['Dense_1']['kernel'][pruned]).max()}")
print(f"largest Adam moment of a pruned weight: {jnp.abs(moment[pruned]).max()}")

health = jax.jit(lambda params: probe(network, params, x))(params)
print(f"dormant: {health['dormant_0.1']:.3f}, srank: {health['srank']:.0f}")
