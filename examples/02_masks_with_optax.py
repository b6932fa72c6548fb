"""Parameters in a dict, as Flax and Haiku hold them: draw masks, apply them, keep them applied."""

import jax
import jax.numpy as jnp
import optax

import kanbatsu

w1_key, w2_key, mask_key, data_key = jax.random.split(jax.random.key(0), 4)
he = jax.nn.initializers.he_normal()
params = {
    "hidden": {"kernel": he(w1_key, (8, 64)), "bias": jnp.zeros(64)},
    "out": {"kernel": he(w2_key, (64, 1)), "bias": jnp.zeros(1)},
}

masks = kanbatsu.make_masks(params, 0.75, key=mask_key)  # None for every bias
params = kanbatsu.apply_masks(params, masks)
optimizer = kanbatsu.keep_pruned(
    optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2)), masks
)
print(kanbatsu.count(params, masks))

x = jax.random.normal(data_key, (256, 8))
y = jnp.sum(x**2, axis=1, keepdims=True)


def loss_of(params: dict) -> jax.Array:
    """Mean squared error of a network with one hidden layer."""
    hidden = jax.nn.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return jnp.mean((hidden @ params["out"]["kernel"] + params["out"]["bias"] - y) ** 2)


@jax.jit
def step(params: dict, state: optax.OptState) -> tuple:
    """Update once."""
    loss, gradient = jax.value_and_grad(loss_of)(params)
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, loss


before, state = loss_of(params), optimizer.init(params)
for _ in range(300):
    params, state, after = step(params, state)
print(f"loss: {before:.2f} -> {after:.2f}")

pruned = ~masks["hidden"]["kernel"]
moment = optax.tree_utils.tree_get(state, "mu")["hidden"]["kernel"]
print(f"largest pruned weight: {jnp.abs(params['hidden']['kernel'][pruned]).max()}")
print(f"largest Adam moment of a pruned weight: {jnp.abs(moment[pruned]).max()}")
