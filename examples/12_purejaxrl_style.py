"""A script in PureJaxRL's style, with one line more: many seeds in one program, each pruned.

The network is called by `init` and `apply` alone, and the optimizer is an ordinary one.
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

import kanbatsu
from kanbatsu.flax import masks, pruned

STEPS, ENVS, UPDATES, SEEDS = 16, 8, 30, 2


class ActorCritic(nn.Module):
    """An actor and a critic in one module, as PureJaxRL has it."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Map observations `[batch, 2]` to logits `[batch, 2]` and values `[batch]`."""
        actor = nn.tanh(nn.Dense(64)(nn.tanh(nn.Dense(64)(x))))
        critic = nn.tanh(nn.Dense(64)(nn.tanh(nn.Dense(64)(x))))
        return nn.Dense(2)(actor), nn.Dense(1)(critic)[..., 0]


def step(position: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Move left or right on a line; the reward is to be near its middle."""
    velocity = jnp.where(action == 1, 0.1, -0.1)
    position = jnp.stack([jnp.clip(position[..., 0] + velocity, -1.0, 1.0), velocity], -1)
    return position, 1.0 - jnp.abs(position[..., 0])


def train(key: jax.Array) -> tuple[TrainState, jax.Array]:
    """Train one agent from a seed: a whole run, inside `jit` and `vmap`."""
    key, init_key, start_key = jax.random.split(key, 3)
    network = ActorCritic()
    network = pruned(network, 0.8)
    params = network.init(init_key, jnp.zeros((1, 2)))
    tx = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(3e-3, eps=1e-5))
    state = TrainState.create(apply_fn=network.apply, params=params, tx=tx)
    start = jax.random.uniform(start_key, (ENVS, 2), minval=-1.0, maxval=1.0)

    def act(carry: tuple, _: None) -> tuple:
        state, obs, key = carry
        key, action_key = jax.random.split(key)
        logits, value = state.apply_fn(state.params, obs)
        action = jax.random.categorical(action_key, logits)
        after, reward = step(obs, action)
        return (state, after, key), (obs, action, reward, value)

    def loss(params: dict, batch: tuple) -> jax.Array:
        obs, action, returns = batch
        logits, value = state.apply_fn(params, obs)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], -1)[..., 0]
        advantage = jax.lax.stop_gradient(returns - value)
        return jnp.mean(0.5 * (returns - value) ** 2 - chosen * advantage)

    def update(carry: tuple, _: None) -> tuple:
        (state, obs, key), (looks, actions, rewards, _) = jax.lax.scan(act, carry, None, STEPS)
        _, last = state.apply_fn(state.params, obs)
        _, returns = jax.lax.scan(
            lambda after, reward: (reward + 0.9 * after,) * 2, last, rewards, reverse=True
        )
        gradient = jax.grad(loss)(state.params, (looks, actions, returns))
        return (state.apply_gradients(grads=gradient), obs, key), rewards.mean()

    (state, _, _), rewards = jax.lax.scan(update, (state, start, key), None, UPDATES)
    return state, rewards


states, rewards = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), SEEDS))
for seed in range(SEEDS):
    variables = jax.tree.map(lambda x, seed=seed: x[seed], states.params)
    kept = kanbatsu.count(variables["params"], masks(variables))
    zeroed = kanbatsu.apply_masks(variables["params"], masks(variables))
    moved = jax.tree.map(lambda x, y: jnp.abs(x - y).max(), variables["params"], zeroed)
    print(f"seed {seed}: {kept.kept} of {kept.total} weights kept,", end=" ")
    print(f"reward {rewards[seed, 0]:.3f} -> {rewards[seed, -1]:.3f},", end=" ")
    print(f"largest pruned weight: {max(jax.tree.leaves(moved)):.1f}")
