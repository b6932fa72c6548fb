"""What every agent that learns from rollouts must do, dense and sparse; and PQN by hand."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kanbatsu.agents import AGENTS
from kanbatsu.agents.pqn import PQN, PQNConfig, lambda_returns
from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.schedule import RolloutTrainConfig, over_training
from kanbatsu.nn.normed import NormedNetworkConfig
from kanbatsu.run.check import check
from kanbatsu.run.record import Run
from kanbatsu.sparsity.weight import Masked, to_dense
from kanbatsu.train.checkpoint import from_arrays, to_arrays
from kanbatsu.types import Spec, Transition

VECTOR = Spec((5,), action_dim=3, discrete=True)
IMAGE = Spec((4, 5, 2), action_dim=3, obs_dtype="uint8", discrete=True)
ROLLOUTS = [name for name, entry in AGENTS.items() if entry.schedule is RolloutTrainConfig]
KEY = jax.random.key(0)
STEPS, N = 8, 4


@functools.cache
def make(name, spec=VECTOR, sparsity=0.5, **changes):
    network = NormedNetworkConfig(8, 2, 3, sparsity=sparsity, distribution="uniform")
    settings = {"critic": network, "minibatches": 4, "training_interactions": 1_000}
    return AGENTS[name].agent(spec, AGENTS[name].config(**settings | changes))


@functools.cache
def compiled(agent):
    return SimpleNamespace(
        init=functools.cache(lambda seed=0: agent.init(jax.random.key(seed))),
        act=jax.jit(agent.act),
        update=jax.jit(agent.update),
    )


def observations(spec, *batch, seed=0):
    rng = np.random.default_rng(seed)
    if spec.obs_dtype == "uint8":
        return jnp.asarray(rng.integers(256, size=(*batch, *spec.obs_shape)).astype(np.uint8))
    return jnp.asarray(rng.normal(size=(*batch, *spec.obs_shape)).astype(np.float32))


def rollout(spec, seed=0):
    rng = np.random.default_rng(seed)
    return Transition(
        obs=observations(spec, STEPS, N, seed=seed),
        action=jax.nn.one_hot(rng.integers(3, size=(STEPS, N)), 3),
        reward=jnp.asarray(rng.normal(size=(STEPS, N)).astype(np.float32)),
        terminated=jnp.asarray(rng.random((STEPS, N)) < 0.1),
        truncated=jnp.zeros((STEPS, N), bool),
        next_obs=observations(spec, STEPS, N, seed=seed + 1),
    )


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def masked(tree):
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Masked))
    return [leaf for leaf in leaves if isinstance(leaf, Masked)]


@pytest.fixture(params=[(name, spec) for name in ROLLOUTS for spec in (VECTOR, IMAGE)], ids=str)
def agent(request):
    return make(*request.param)


def test_structure_is_stable_and_nothing_compiles_twice(agent):
    run, before = compiled(agent), agent.init(KEY)
    state, metrics = run.update(before, rollout(agent.spec), KEY)
    state, metrics = run.update(state, rollout(agent.spec, seed=2), KEY)
    assert run.update._cache_size() == 1
    assert jax.tree.structure(state) == jax.tree.structure(before)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, before)
    assert all(x.shape == () and np.isfinite(x) for x in metrics.values())
    assert set(metrics) == set(agent.metrics(before))
    assert not same(state.critic, before.critic)
    assert set(agent.passes) == set(agent.networks(state))


def test_the_key_decides(agent):
    run, obs = compiled(agent), observations(agent.spec, N)
    state = run.init()
    (moved, first), (_, again) = run.act(state, obs, KEY), run.act(state, obs, KEY)
    assert same(first, again)
    assert (first.sum(axis=-1) == 1).all()
    assert int(moved.interactions) == N
    several = [run.act(state, obs, jax.random.key(seed))[1] for seed in range(5)]
    assert any(not same(first, other) for other in several)
    updated = [run.update(state, rollout(agent.spec), jax.random.key(i))[0] for i in (0, 0, 1)]
    assert same(updated[0], updated[1])
    assert not same(updated[0], updated[2])


def test_masks_given_are_the_masks_drawn(agent):
    key = jax.random.key(1)
    given, drawn = jax.jit(agent.init)(key, agent.masks(key)), compiled(agent).init(1)
    pairs = list(zip(masked(given.critic), masked(drawn.critic), strict=True))
    assert pairs
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours.mask, theirs.mask)
        np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-6)


def test_save_and_load_give_the_same_action_and_the_same_update(agent):
    run, obs = compiled(agent), observations(agent.spec, N)
    state, _ = run.update(run.init(), rollout(agent.spec), KEY)
    loaded = from_arrays(run.init(9), to_arrays(state))
    assert same(run.act(loaded, obs, KEY), run.act(state, obs, KEY))
    assert same(*(run.update(s, rollout(agent.spec), KEY) for s in (loaded, state)))


def test_zeros_stay_zero_everywhere(agent):
    run = compiled(agent)
    before = state = run.init()
    for seed in range(5):
        state, _ = run.update(state, rollout(agent.spec, seed), jax.random.key(seed))
    (adam,) = [x for x in jax.tree.leaves(state.moments, is_leaf=_is_adam) if _is_adam(x)]
    for now in (state.critic, adam.mu, adam.nu):
        pairs = list(zip(masked(now), masked(before.critic), strict=True))
        assert len(pairs) == 3 + (agent.spec is IMAGE)
        for weight, start in pairs:
            gone = ~np.asarray(start.mask)
            assert gone.any()
            assert (np.asarray(weight.value)[gone] == 0).all()


def _is_adam(node):
    return isinstance(node, optax.ScaleByAdamState)


def test_probe_reports_the_network(agent):
    run = compiled(agent)
    batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollout(agent.spec))
    report = jax.jit(agent.probe)(run.init(), batch, KEY)
    assert {name.split("/")[0] for name in report} == set(agent.networks(run.init()))
    assert {"dormant_0.1", "srank", "gradient_norm"} <= {n.split("/")[1] for n in report}
    assert ("critic/dormant_0.1/conv" in report) is (agent.spec is IMAGE)
    assert all(x.shape == () and np.isfinite(x) for x in report.values())


CHANGES = {"decay_learning_rate": False, "exploration_start": 0.5, "epochs": 1, "minibatches": 2}


@pytest.mark.parametrize("setting", [item.name for item in dataclasses.fields(PQNConfig)])
def test_every_setting_changes_what_the_agent_does(setting):
    def program(agent):
        state = jax.eval_shape(agent.init, KEY)
        obs = observations(VECTOR, N)
        return (
            str(jax.make_jaxpr(agent.update)(state, rollout(VECTOR), KEY)),
            str(jax.make_jaxpr(agent.act)(state, obs, KEY)),
        )

    usual = make("pqn", sparsity=0.0)
    value = CHANGES.get(setting)
    if setting == "critic":
        value = NormedNetworkConfig(width=12)
    elif value is None:
        value = (0.5 if setting in ("discount", "return_decay") else 2) * getattr(
            usual.config, setting
        )
    assert program(make("pqn", sparsity=0.0, **{setting: value})) != program(usual)


def test_returns_mix_rewards_and_values_as_computed_by_hand():
    reward = jnp.array([[1.0], [2.0], [3.0], [4.0]])
    terminated = jnp.array([[False], [True], [False], [False]])
    truncated = jnp.array([[False], [False], [True], [False]])
    value = jnp.array([[10.0], [20.0], [30.0], [40.0]])
    returns = lambda_returns(reward, terminated, truncated, value, discount=0.5, decay=0.25)
    # The end: 4 + 0.5 * 40. Cut off: 3 + 0.5 * 30. Terminated: 2. The first step:
    # 1 + 0.5 (0.75 * 10 + 0.25 * 2).
    assert returns[:, 0].tolist() == [5.0, 2.0, 18.0, 24.0]
    rewards_alone = lambda_returns(reward, terminated, truncated, value, discount=0.5, decay=1.0)
    assert rewards_alone[0, 0] == 2.0
    one_step = lambda_returns(reward, terminated, truncated, value, discount=0.5, decay=0.0)
    assert one_step[:, 0].tolist() == [6.0, 2.0, 18.0, 24.0]


def test_exploration_falls_in_a_line_over_a_share_of_training():
    agent = PQN(VECTOR, over_training(PQNConfig(), 20_000))  # over 2,000
    shares = [float(agent.exploration(jnp.int32(at))) for at in (0, 1_000, 2_000, 19_000)]
    assert shares == pytest.approx([1.0, 0.525, 0.05, 0.05])
    told = PQNConfig(training_interactions=7)
    assert over_training(told, 20_000) == told
    assert over_training(SACConfig(), 20_000) == SACConfig()


def test_random_actions_are_as_many_as_the_schedule_says():
    agent = make("pqn")
    state = dataclasses.replace(compiled(agent).init(), interactions=jnp.int32(10**6))
    obs = jnp.tile(observations(VECTOR, 1), (4_000, 1))
    _, actions = jax.jit(agent.act)(state, obs, KEY)
    best = agent.act_greedy(state, obs[:1])[0]
    # 0.05, of which a third is the best one by chance.
    assert float((actions != best).any(axis=-1).mean()) == pytest.approx(0.05 * 2 / 3, abs=0.01)


def test_one_gradient_step_by_its_equations():
    agent = make(
        "pqn", sparsity=0.5, epochs=1, minibatches=1, gradient_clip=1e-3, learning_rate=1.0
    )
    state, data = agent.init(KEY), rollout(VECTOR)
    after, metrics = compiled(agent).update(state, data, KEY)

    def values(critic, obs):
        for layer, norm in zip(critic.layers, critic.norms, strict=True):
            x = obs @ to_dense(layer.weight) + layer.bias
            x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)
            obs = jnp.maximum(x * norm.scale + norm.shift, 0.0)
        return obs @ to_dense(critic.head.weight) + critic.head.bias

    later = np.asarray(values(state.critic, data.next_obs).max(-1))
    reward, going = np.asarray(data.reward), 1 - np.asarray(data.terminated, np.float32)
    targets, return_ = np.zeros((STEPS, N)), later[-1]
    for t in reversed(range(STEPS)):
        return_ = reward[t] + 0.99 * going[t] * (0.35 * later[t] + 0.65 * return_)
        targets[t] = return_
    chosen = np.asarray((values(state.critic, data.obs) * data.action).sum(-1))
    errors = chosen - targets
    np.testing.assert_allclose(metrics["critic_loss"], 0.5 * (errors**2).mean(), rtol=1e-4)
    # RAdam's first step is the clipped gradient times the step size.
    leaves = [jax.tree.leaves(critic) for critic in (state.critic, after.critic)]
    moves = [np.asarray(b) - a for a, b in zip(*leaves, strict=True) if a.dtype == np.float32]
    norm = np.sqrt(sum((move**2).sum() for move in moves))
    assert metrics["critic_gradient_norm"] > 1e-3
    np.testing.assert_allclose(norm, 1e-3, rtol=1e-3)


def test_what_it_cannot_learn_is_refused_by_name():
    with pytest.raises(ValueError, match=r"pqn chooses among a few actions.*sac or stream_ac"):
        PQN(Spec((3,), action_dim=1))
    for task in ("jax/pendulum", "gym/Pendulum-v1", "inventory/serial"):
        with pytest.raises(ValueError, match=f"{task}.*continuous|{task}.*discrete"):
            check(Run(task, "pqn", config=PQNConfig(), train=RolloutTrainConfig()))
    uneven = Run("jax/cartpole", "pqn", config=PQNConfig(minibatches=5), train=RolloutTrainConfig())
    with pytest.raises(ValueError, match=r"minibatches must divide a rollout of 4096.*got 5"):
        check(uneven)
    agent = make("pqn", minibatches=3)
    state = agent.init(KEY)
    with pytest.raises(ValueError, match="3 minibatches do not divide a rollout of 32"):
        agent.update(state, rollout(VECTOR), KEY)
    flat = make("pqn", Spec((2, 5, 1), 3, obs_dtype="uint8", discrete=True))
    with pytest.raises(ValueError, match="images of 2 x 5 pixels are smaller"):
        flat.init(KEY)


def test_the_configuration_has_the_published_defaults():
    config, train = PQNConfig(), RolloutTrainConfig()
    assert (train.environments, train.rollout) == (128, 32)
    assert (config.epochs, config.minibatches, config.gradient_clip) == (2, 32, 10.0)
    assert (config.learning_rate, config.discount, config.return_decay) == (5e-4, 0.99, 0.65)
    shares = (config.exploration_start, config.exploration_end, config.exploration_share)
    assert shares == (1.0, 0.05, 0.1)
    assert (config.critic.width, config.critic.channels, config.critic.blocks) == (128, 16, 1)
