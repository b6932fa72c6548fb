"""What every agent must do, dense and sparse; adding an agent is adding a row."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents import AGENTS as EVERY_AGENT
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.nn.heads import ValueHead
from kanbatsu.nn.network import make_network
from kanbatsu.sparsity.weight import Masked
from kanbatsu.train.checkpoint import from_arrays, to_arrays
from kanbatsu.types import Spec, Transition

AGENTS = {name: entry for name, entry in EVERY_AGENT.items() if entry.schedule is TrainConfig}
SPEC = Spec((4,), action_dim=2, episode_length=100)
KEY = jax.random.key(0)
OBS = jax.random.normal(KEY, (3, 4))


def make(name, sparsity, **changes):
    config = AGENTS[name].config(
        actor=NetworkConfig(width=8, blocks=1, sparsity=sparsity),
        critic=CriticConfig(width=16, blocks=1, sparsity=sparsity, members=2),
    )
    return AGENTS[name].agent(SPEC, dataclasses.replace(config, **changes))


@functools.cache
def compiled(agent):
    """The agent's functions, compiled once for all tests, and one initial state."""
    return SimpleNamespace(
        init=functools.cache(lambda seed=0: agent.init(jax.random.key(seed))),
        act=jax.jit(agent.act),
        act_greedy=jax.jit(agent.act_greedy),
        update=jax.jit(agent.update),
        probe=jax.jit(agent.probe),
    )


def batches(k=2, n=32):
    keys = jax.random.split(KEY, 4)
    return Transition(
        obs=jax.random.normal(keys[0], (k, n, 4)),
        action=jnp.tanh(jax.random.normal(keys[1], (k, n, 2))),
        reward=jax.random.normal(keys[2], (k, n)),
        terminated=jnp.zeros((k, n), bool).at[:, 0].set(True),
        truncated=jnp.zeros((k, n), bool),
        next_obs=jax.random.normal(keys[3], (k, n, 4)),
    )


@pytest.fixture(params=[(name, s) for name in AGENTS for s in (0.0, 0.7)], ids=str)
def agent(request):
    return make(*request.param)


@pytest.fixture
def run(agent):
    return compiled(agent)


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_targets_start_as_copies(run):
    state = run.init()
    assert same(state.critics, state.targets)
    assert not same(state.critics[0], state.critics[1])  # members differ, in weights and masks


def test_init_is_a_function_of_the_key(agent, run):
    assert same(agent.init(KEY), run.init())
    assert not same(run.init(1), run.init())


def test_masks_given_are_the_masks_drawn(agent, run):
    key = jax.random.key(1)
    given, drawn = jax.jit(agent.init)(key, agent.masks(key)), run.init(1)
    alike, own = jax.tree.map(np.asarray, (dense_leaves(given), dense_leaves(drawn)))
    np.testing.assert_equal(alike, own)


def dense_leaves(state):
    """A state with dense arrays in place of masked ones."""
    return jax.tree.leaves(
        jax.tree.map(
            lambda node: node.value if isinstance(node, Masked) else node,
            state,
            is_leaf=lambda node: isinstance(node, Masked),
        )
    )


def test_structure_is_stable_and_nothing_compiles_twice(agent):
    update, before = jax.jit(agent.update), agent.init(KEY)
    state = before
    for key in jax.random.split(KEY, 3):
        state, metrics = update(state, batches(), key)
    assert update._cache_size() == 1
    assert jax.tree.structure(state) == jax.tree.structure(before)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, before)
    assert all(x.shape == () and np.isfinite(x) for x in metrics.values())
    assert not same(state.actor, before.actor)
    assert not same(state.critics, before.critics)
    assert not same(state.targets, before.targets)
    assert same(state.normaliser, before.normaliser)  # acting moves it, learning does not


def test_the_key_decides(run):
    state = run.init()
    (moved, first), (_, again) = run.act(state, OBS, KEY), run.act(state, OBS, KEY)
    _, other = run.act(state, OBS, jax.random.key(1))
    assert same(first, again)
    assert not same(first, other)
    assert first.shape == (3, 2)
    assert (jnp.abs(first) <= 1).all()
    assert not same(moved.normaliser, state.normaliser)
    assert same(moved.actor, state.actor)
    updated = [run.update(state, batches(), jax.random.key(i))[0] for i in (0, 0, 1)]
    assert same(updated[0], updated[1])
    assert not same(updated[0], updated[2])


def test_greedy_actions_do_not_draw(run):
    state = run.init()
    assert same(run.act_greedy(state, OBS), run.act_greedy(state, OBS))
    one_by_one = [run.act_greedy(state, obs[None])[0] for obs in OBS]
    np.testing.assert_allclose(run.act_greedy(state, OBS), jnp.stack(one_by_one), rtol=1e-4)


def test_several_updates_in_one_call_are_the_same_as_one_by_one(agent, run):
    both, _ = run.update(run.init(), batches(), KEY)
    state, data, learn = run.init(), batches(), jax.jit(agent.learn)
    for index, key in enumerate(jax.random.split(KEY, 2)):
        batch = jax.tree.map(lambda x, i=index: x[i], data)
        state, _ = learn(state, batch, agent._draw_noise(key, batch))
    for x, y in zip(jax.tree.leaves(both), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


def test_save_and_load_give_the_same_action_and_the_same_update(run):
    state, _ = run.update(run.init(), batches(), KEY)
    loaded = from_arrays(run.init(9), to_arrays(state))
    assert same(run.act_greedy(loaded, OBS), run.act_greedy(state, OBS))
    assert same(run.update(loaded, batches(), KEY), run.update(state, batches(), KEY))


def test_a_terminated_transition_is_not_bootstrapped_but_a_truncated_one_is(run):
    def critic_loss(terminated, truncated):
        data = batches()
        data = data._replace(
            terminated=jnp.full((2, 32), terminated),
            truncated=jnp.full((2, 32), truncated),
            next_obs=100 * data.obs,
        )
        return float(run.update(run.init(), data, KEY)[1]["critic_loss"])

    running = critic_loss(terminated=False, truncated=False)
    assert critic_loss(terminated=False, truncated=True) == running
    assert critic_loss(terminated=True, truncated=False) != running


def test_probe_reports_every_network(agent, run):
    batch = jax.tree.map(lambda x: x[0], batches(k=1, n=64))
    report = run.probe(run.init(), batch, KEY)
    assert {name.split("/")[0] for name in report} == set(agent.networks(run.init()))
    assert {"dormant_0.1", "srank", "gradient_norm"} <= {n.split("/")[1] for n in report}
    assert all(x.shape == () and np.isfinite(x) for x in report.values())


@pytest.mark.parametrize("name", AGENTS)
def test_zeros_stay_zero_everywhere(name):
    run = compiled(make(name, 0.7))
    before = state = run.init()
    for key in jax.random.split(KEY, 20):
        state, _ = run.update(state, batches(), key)

    def masked(tree):
        leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Masked))
        return [leaf for leaf in leaves if isinstance(leaf, Masked)]

    for now, then in (
        (state.actor, before.actor),
        (state.critics, before.critics),
        (state.targets, before.critics),
        (state.actor_moments[0].mu, before.actor),
        (state.actor_moments[0].nu, before.actor),
        (state.critic_moments[0].mu, before.critics),
        (state.critic_moments[0].nu, before.critics),
    ):
        pairs = list(zip(masked(now), masked(then), strict=True))
        assert pairs
        for weight, start in pairs:
            gone = ~np.asarray(start.mask)
            assert gone.any()
            assert (np.asarray(weight.value)[gone] == 0).all()


CHANGES = {
    "actor": NetworkConfig(width=12, blocks=1),
    "critic": CriticConfig(width=12, blocks=1),
    "discount": 0.5,
    "actor_learning_rate": 0.5,
    "critic_learning_rate": 0.5,
}


def program_of(agent):
    """All that the agent computes: its two programs, and what it starts from."""
    state = compiled(agent).init()
    start = to_arrays(state)
    return (
        str(jax.make_jaxpr(agent.update)(state, batches(), KEY)),
        str(jax.make_jaxpr(agent.act)(state, OBS, KEY)),
        start["log_temperature"].item() if "log_temperature" in start else None,
    )


@functools.cache
def usual_program(name):
    return program_of(make(name, 0.5))


@pytest.mark.parametrize("name", AGENTS)
def test_equal_settings_are_one_program(name):
    assert program_of(make(name, 0.5)) == usual_program(name)


@pytest.mark.parametrize(
    ("name", "setting"),
    [(name, f.name) for name in AGENTS for f in dataclasses.fields(AGENTS[name].config)],
)
def test_every_setting_changes_what_the_agent_does(name, setting):
    config = make(name, 0.5).config
    value = CHANGES.get(setting) or 2.0 * getattr(config, setting)
    assert program_of(make(name, 0.5, **{setting: value})) != usual_program(name)


@pytest.mark.parametrize(
    "change",
    [
        {"network": "mlp"},
        {"width": 24},
        {"blocks": 2},
        {"sparsity": 0.6},
        {"distribution": "uniform"},
        {"pattern": "grouped"},
        {"pattern": "bernoulli"},
        {"pattern": "grouped", "group_size": 4},
    ],
    ids=str,
)
def test_every_network_setting_changes_the_networks(change):
    config = NetworkConfig(width=16, blocks=1, sparsity=0.5)
    usual = make_network(config, 4, ValueHead, key=KEY)
    changed = make_network(dataclasses.replace(config, **change), 4, ValueHead, key=KEY)
    ours, theirs = jax.tree.leaves(usual), jax.tree.leaves(changed)
    assert [x.shape for x in ours] != [x.shape for x in theirs] or not same(ours, theirs)
