"""Brax's networks prune themselves: PPO's and SAC's, in Brax's own training and checkpoints."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from brax.training.agents.ppo import networks as ppo_networks
from brax.training.agents.sac import networks as sac_networks

from kanbatsu.flax import masks
from kanbatsu.integrations.brax import count, prune_networks

PPO = functools.partial(
    ppo_networks.make_ppo_networks,
    policy_hidden_layer_sizes=(32, 32),
    value_hidden_layer_sizes=(64, 64),
)
SAC = functools.partial(sac_networks.make_sac_networks, hidden_layer_sizes=(32, 32))
FACTORIES = {"ppo": (PPO, "value_network"), "sac": (SAC, "q_network")}
OBS = jnp.asarray(np.random.default_rng(0).normal(size=(16, 8)), jnp.float32)


def zeros(params):
    """What lies where nothing is kept, of one network's parameters."""
    kept = jax.tree.leaves(masks(params), is_leaf=lambda x: x is None)
    pairs = zip(jax.tree.leaves(params["params"]), kept, strict=True)
    return np.concatenate([np.asarray(x)[~np.asarray(m)] for x, m in pairs if m is not None])


@pytest.mark.parametrize("name", FACTORIES)
@jax.numpy_dtype_promotion("standard")
def test_networks_are_pruned_apart_and_stay_so_in_braxs_own_optimizer(name):
    factory, critic = FACTORIES[name]
    networks = prune_networks(factory, actor=0.5, critic=0.8)(8, 2)
    policy = networks.policy_network.init(jax.random.key(0))
    value = getattr(networks, critic).init(jax.random.key(0))
    assert count(policy).kept == round(0.5 * count(policy).total)
    assert count(value).kept == round(0.2 * count(value).total)
    plain = factory(8, 2).policy_network
    ours = networks.policy_network.apply(None, policy, OBS)
    np.testing.assert_allclose(ours, plain.apply(None, {"params": policy["params"]}, OBS))

    optimizer = optax.adam(1e-2)  # what Brax builds, over all that init returned
    state = optimizer.init(policy)

    def loss(params):
        return ((networks.policy_network.apply(None, params, OBS) - 1.0) ** 2).mean()

    trained = policy
    for _ in range(3):
        updates, state = optimizer.update(jax.grad(loss)(trained), state)
        trained = optax.apply_updates(trained, updates)
    assert loss(trained) < loss(policy)
    assert zeros(trained).size
    assert not zeros(trained).any()
    assert not zeros(state[0].mu | {"masks": policy["masks"]}).any()


def test_a_network_may_stay_dense_and_a_strange_factory_is_refused():
    networks = prune_networks(PPO, actor=0.0, critic=0.5)(8, 2)
    dense = networks.policy_network.init(jax.random.key(0))
    assert set(dense) == {"params"}
    assert count(dense).kept == count(dense).total
    with pytest.raises(ValueError, match=r"SimpleNamespace has none of policy_network"):
        prune_networks(types.SimpleNamespace)()
    with pytest.raises(ValueError, match="unknown pattern 'rows'"):
        prune_networks(PPO, pattern="rows")


def checked(parameters):
    """Of one network, after training: nothing lies where nothing is kept."""
    assert zeros(parameters).size
    assert not zeros(parameters).any()


@pytest.fixture
def replicated(monkeypatch):
    """Brax 0.14.2 calls what JAX 0.10 has no more; this is what JAX's guide puts in its place."""

    def put(tree, devices):
        return jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree)

    monkeypatch.setattr(jax, "device_put_replicated", put, raising=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of what Brax's environments import
@pytest.mark.usefixtures("replicated")
@jax.numpy_dtype_promotion("standard")
def test_ppo_trains_acts_and_writes_a_checkpoint(tmp_path):
    from brax import envs
    from brax.training.agents.ppo import train as ppo

    factory = prune_networks(PPO, actor=0.5, critic=0.9)
    make_policy, params, _ = ppo.train(
        envs.get_environment("fast"),
        num_timesteps=256,
        episode_length=32,
        num_envs=4,
        batch_size=4,
        num_minibatches=2,
        unroll_length=8,
        num_updates_per_batch=1,
        num_evals=2,
        network_factory=factory,
        save_checkpoint_path=str(tmp_path),
    )
    checked(params[1])
    checked(params[2])
    assert count(params[1]).sparsity == pytest.approx(0.5, abs=1e-3)
    action, _ = make_policy(params, deterministic=True)(jnp.ones(2), jax.random.key(0))
    assert np.isfinite(action).all()
    assert any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of what Brax's environments import
@pytest.mark.usefixtures("replicated")
@jax.numpy_dtype_promotion("standard")
def test_sac_trains():
    from brax import envs
    from brax.training.agents.sac import train as sac

    factory = prune_networks(SAC, actor=0.5, critic=0.9)
    _, params, _ = sac.train(
        envs.get_environment("fast"),
        num_timesteps=128,
        episode_length=32,
        num_envs=4,
        num_eval_envs=4,
        batch_size=8,
        min_replay_size=16,
        max_replay_size=256,
        num_evals=2,
        network_factory=factory,
    )
    checked(params[1])
    assert count(params[1]).sparsity == pytest.approx(0.5, abs=1e-3)
