"""What every agent that learns from images in a replay must do, dense and sparse; and DrQ-v2."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kanbatsu.agents import AGENTS
from kanbatsu.agents.drqv2 import DrQv2, DrQv2Config, actor_loss
from kanbatsu.agents.schedule import ImageTrainConfig
from kanbatsu.nn.heads import explore
from kanbatsu.nn.pixel_config import EncoderConfig, PixelActorConfig, PixelCriticConfig
from kanbatsu.nn.shift import shifted
from kanbatsu.remedies.records import Reset
from kanbatsu.run.check import check
from kanbatsu.run.record import Run
from kanbatsu.sparsity.count import parameters
from kanbatsu.sparsity.weight import Masked
from kanbatsu.train.checkpoint import from_arrays, to_arrays
from kanbatsu.types import Spec, Window

SPEC = Spec((16, 17, 3), action_dim=2, episode_length=100, obs_dtype="uint8")
NAMES = [name for name, entry in AGENTS.items() if entry.schedule is ImageTrainConfig]
KEY = jax.random.key(0)


@functools.cache
def make(name, sparsity=0.5, spec=SPEC, kind="full", **changes):
    settings = {
        "encoder": EncoderConfig(network=kind, channels=3, sparsity=sparsity),
        "actor": PixelActorConfig(4, width=8, sparsity=sparsity),
        "critic": PixelCriticConfig(4, width=8, sparsity=sparsity),
    }
    return AGENTS[name].agent(spec, AGENTS[name].config(**settings | changes))


@functools.cache
def compiled(agent):
    return SimpleNamespace(
        init=functools.cache(lambda seed=0: agent.init(jax.random.key(seed))),
        act=jax.jit(agent.act),
        act_greedy=jax.jit(agent.act_greedy),
        update=jax.jit(agent.update),
        learn=jax.jit(agent.learn),
    )


def images(*batch, spec=SPEC, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.integers(256, size=(*batch, *spec.obs_shape)).astype(np.uint8))


def windows(k=2, n=6, seed=0):
    rng = np.random.default_rng(seed)
    return Window(
        obs=images(k, n, seed=seed),
        action=jnp.asarray(rng.uniform(-1, 1, (k, n, 2)).astype(np.float32)),
        reward=jnp.asarray(rng.normal(size=(k, n)).astype(np.float32)),
        discount=jnp.asarray(rng.choice([0.0, 0.97], (k, n)).astype(np.float32)),
        next_obs=images(k, n, seed=seed + 1),
    )


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def masked(tree):
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Masked))
    return [leaf for leaf in leaves if isinstance(leaf, Masked)]


@pytest.fixture(params=[(name, s) for name in NAMES for s in (0.0, 0.5)], ids=str)
def agent(request):
    return make(*request.param)


def test_structure_is_stable_and_nothing_compiles_twice(agent):
    run = compiled(agent)
    state = before = run.init()
    assert same(state.critic, state.target)
    for seed in range(3):
        state, metrics = run.update(state, windows(seed=seed), KEY)
    assert run.update._cache_size() == 1
    assert jax.tree.structure(state) == jax.tree.structure(before)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, before)
    assert all(x.shape == () and np.isfinite(x) for x in metrics.values())
    for part in ("encoder", "actor", "critic", "target"):
        assert not same(getattr(state, part), getattr(before, part)), part
    assert set(agent.passes) == set(agent.networks(state))


def test_the_key_decides(agent):
    run, obs = compiled(agent), images(4)
    state = run.init()
    (moved, first), (_, again) = run.act(state, obs, KEY), run.act(state, obs, KEY)
    assert same(first, again)
    assert (jnp.abs(first) < 1).all()
    assert not same(first, run.act(state, obs, jax.random.key(1))[1])
    assert int(moved.interactions) == 4
    greedy = run.act_greedy(state, obs)
    assert same(greedy, run.act_greedy(state, obs))
    assert not same(greedy, first)
    updated = [run.update(state, windows(), jax.random.key(i))[0] for i in (0, 0, 1)]
    assert same(updated[0], updated[1])
    assert not same(updated[0], updated[2])


def test_several_updates_in_one_call_are_the_same_as_one_by_one(agent):
    run, data = compiled(agent), windows()
    both, _ = run.update(run.init(), data, KEY)
    state = run.init()
    for index, key in enumerate(jax.random.split(KEY, 2)):
        batch = jax.tree.map(lambda x, i=index: x[i], data)
        noise = agent._draw_noise(key, batch, state.interactions)
        state, _ = run.learn(state, batch, noise)
    for x, y in zip(jax.tree.leaves(both), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def test_masks_given_are_the_masks_drawn(agent):
    key = jax.random.key(1)
    given, drawn = jax.jit(agent.init)(key, agent.masks(key)), compiled(agent).init(1)
    for ours, theirs in zip(*map(dense_leaves, (given, drawn)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def dense_leaves(state):
    """A state with dense arrays in place of masked ones."""
    values = jax.tree.map(
        lambda node: node.value if isinstance(node, Masked) else node,
        state,
        is_leaf=lambda node: isinstance(node, Masked),
    )
    return jax.tree.leaves(values)


def test_save_and_load_give_the_same_action_and_the_same_update(agent):
    run = compiled(agent)
    state, _ = run.update(run.init(), windows(), KEY)
    loaded = from_arrays(run.init(9), to_arrays(state))
    assert same(run.act(loaded, images(4), KEY), run.act(state, images(4), KEY))
    assert same(*(run.update(s, windows(), KEY) for s in (loaded, state)))


@pytest.mark.parametrize("name", NAMES)
def test_zeros_stay_zero_everywhere(name):
    run = compiled(make(name))
    before = state = run.init()
    for seed in range(5):
        state, _ = run.update(state, windows(seed=seed), jax.random.key(seed))
    for network in ("encoder", "actor", "critic"):
        (adam,) = [
            x
            for x in jax.tree.leaves(getattr(state, f"{network}_moments"), is_leaf=_is_adam)
            if _is_adam(x)
        ]
        holders = [getattr(state, network), adam.mu, adam.nu]
        for now in (*holders, state.target) if network == "critic" else holders:
            pairs = list(zip(masked(now), masked(getattr(before, network)), strict=True))
            assert pairs
            for weight, start in pairs:
                gone = ~np.asarray(start.mask)
                assert gone.any()
                assert (np.asarray(weight.value)[gone] == 0).all()


def _is_adam(node):
    return isinstance(node, optax.ScaleByAdamState)


@pytest.mark.parametrize("name", NAMES)
def test_probe_reports_every_network(name):
    agent, batch = make(name), jax.tree.map(lambda x: x[0], windows(k=1, n=8))
    report = jax.jit(agent.probe)(compiled(agent).init(), batch, KEY)
    assert {probe.split("/")[0] for probe in report} == {"encoder", "actor", "critic"}
    assert {"encoder/dormant_0.1/conv3", "critic/dormant_0.1/head1_hidden1"} <= set(report)
    assert all(x.shape == () and np.isfinite(x) for x in report.values())


CHANGES = {
    "encoder": EncoderConfig(channels=5),
    "actor": PixelActorConfig(4, width=12),
    "critic": PixelCriticConfig(4, width=8, members=3),
    "exploration_end": 0.5,
}


def program(agent):
    state = jax.eval_shape(agent.init, KEY)
    update = str(jax.make_jaxpr(agent.update)(state, windows(), KEY))
    act = str(jax.make_jaxpr(agent.act)(state, images(4), KEY))
    return update, act, agent.window, agent.discount


@functools.cache
def usual_program():
    return program(make("drqv2", 0.0))


@pytest.mark.parametrize("setting", [item.name for item in dataclasses.fields(DrQv2Config)])
def test_every_setting_changes_what_the_agent_does(setting):
    value = CHANGES.get(setting) or 0.5 * getattr(DrQv2Config(), setting)
    if setting in ("steps", "shift", "exploration_interactions"):
        value = int(value)
    assert program(make("drqv2", 0.0, **{setting: value})) != usual_program()


def test_parameters_are_as_many_as_published():
    agent = DrQv2(Spec((84, 84, 9), action_dim=6, obs_dtype="uint8"))
    networks = jax.eval_shape(lambda key: agent.networks(agent.init(key)), KEY)
    counts = {name: parameters(network) for name, network in networks.items()}
    assert counts == {"encoder": 30_368, "actor": 3_068_124, "critic": 4_178_136}
    assert networks["actor"].trunk.linear.weight.shape == (39_200, 50)
    inputs = {"small": 7 * 7 * 32, "gap": 32}
    for kind, length in inputs.items():
        other = DrQv2(agent.spec, DrQv2Config(EncoderConfig(network=kind)))
        made = jax.eval_shape(lambda key, other=other: other.networks(other.init(key)), KEY)
        assert made["critic"].trunk.linear.weight.shape == (length, 50)
        assert parameters(made["encoder"]) == 30_368


def test_a_shift_of_four_and_four_changes_nothing_and_others_pad_and_crop():
    obs = images(5)
    still = jnp.full((5, 2), 4)
    assert same(shifted(obs, still, 4), obs)
    padded = np.pad(np.asarray(obs), ((0, 0), (4, 4), (4, 4), (0, 0)), "edge")
    for rows, columns in ((0, 8), (8, 0), (3, 7)):
        by = jnp.tile(jnp.array([[rows, columns]]), (5, 1))
        cropped = padded[:, rows : rows + 16, columns : columns + 17]
        assert same(shifted(obs, by, 4), cropped)


def test_shifts_are_drawn_once_a_stack_and_for_updates_alone():
    agent, batch = make("drqv2"), jax.tree.map(lambda x: x[0], windows(k=1, n=300))
    noise = agent._draw_noise(KEY, batch, jnp.int32(0))
    assert noise.shift.shape == (300, 2)
    assert set(np.unique(noise.shift)) == set(range(9))
    assert not same(noise.shift, noise.next_shift)
    assert float(jnp.abs(noise.actor).max()) == pytest.approx(0.3)
    text = str(jax.make_jaxpr(agent.act_greedy)(compiled(agent).init(), images(2)))
    assert "random" not in text
    assert "gather" not in text


def test_the_critic_alone_trains_the_encoder():
    agent = make("drqv2", 0.0)
    state, obs = compiled(agent).init(), images(4)

    def loss(encoder):
        features = jax.lax.stop_gradient(encoder(obs))
        return actor_loss(state.actor, state.critic, features, jnp.zeros((4, 2)))[0]

    assert all((x == 0).all() for x in jax.tree.leaves(jax.grad(loss)(state.encoder)))
    # With rewards and values that the critic fits already, only the actor is left to learn.
    batch = jax.tree.map(lambda x: x[0], windows(k=1))
    still = jnp.full((6, 2), 4)
    noise = agent._draw_noise(KEY, batch, jnp.int32(0))._replace(shift=still, next_shift=still)
    first = jax.tree.map(lambda x: x, state.critic.heads[0])
    alike = dataclasses.replace(state.critic, heads=(first, first))
    state = dataclasses.replace(state, critic=alike, target=alike)
    values = alike(state.encoder(batch.obs), batch.action)[0]
    fitted = batch._replace(reward=values, discount=jnp.zeros(6))
    after, _ = compiled(agent).learn(state, fitted, noise)
    assert same(after.encoder, state.encoder)
    assert not same(after.actor, state.actor)


def test_noise_falls_with_interactions_and_gradients_pass_where_actions_are_cut():
    agent = make("drqv2", exploration_interactions=1_000)
    at = [float(agent.exploration(jnp.int32(n))) for n in (0, 500, 1_000, 9_000)]
    assert at == pytest.approx([1.0, 0.55, 0.1, 0.1])
    slope = jax.grad(lambda mean: explore(mean, jnp.array([0.5, 0.0])).sum())(jnp.array([0.9, 0.0]))
    assert slope.tolist() == [1.0, 1.0]
    assert float(explore(jnp.array([0.9]), jnp.array([0.5]))[0]) == pytest.approx(1.0, abs=1e-5)


def test_the_target_is_reward_and_discounted_lowest_value():
    agent = make("drqv2", 0.0)
    state, batch = compiled(agent).init(), jax.tree.map(lambda x: x[0], windows(k=1))
    still = jnp.full((6, 2), 4)
    noise = agent._draw_noise(KEY, batch, jnp.int32(0))._replace(shift=still, next_shift=still)
    features = state.encoder(batch.next_obs)
    action = jnp.clip(state.actor(features) + noise.critic, -1 + 1e-6, 1 - 1e-6)
    lowest = jnp.minimum(*state.target(features, action))
    expected = batch.reward + batch.discount * lowest
    np.testing.assert_allclose(agent._target(state, batch, noise), expected, rtol=1e-5)


def test_what_it_cannot_learn_is_refused_by_name():
    with pytest.raises(ValueError, match=r"drqv2 sees images.*vectors of length 5.*or sac"):
        DrQv2(Spec((5,), action_dim=1))
    with pytest.raises(ValueError, match=r"drqv2 has continuous actions.*use pqn"):
        DrQv2(dataclasses.replace(SPEC, discrete=True))
    run = Run("gym/Pendulum-v1", "drqv2", config=DrQv2Config(), train=ImageTrainConfig())
    with pytest.raises(ValueError, match=r"drqv2 sees images.*dmc-pixels/walker-walk"):
        check(run)
    small = make("drqv2", spec=Spec((12, 40, 3), 1, obs_dtype="uint8"))
    with pytest.raises(ValueError, match=r"12 x 40 pixels are too small.*convolution 4 of 4"):
        small.init(KEY)
    remedies = dataclasses.replace(run, task="dmc-pixels/16-plain/cartpole-balance")
    with pytest.raises(ValueError, match="drqv2 also has encoder"):
        check(dataclasses.replace(remedies, remedy=(Reset(every=100),)))
