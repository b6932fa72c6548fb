"""Streaming loops: both go on from where they were; a population's members are alone."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents.schedule import StreamTrainConfig
from kanbatsu.agents.stream_ac import StreamAC, StreamACConfig
from kanbatsu.agents.stream_q import StreamQ, StreamQConfig
from kanbatsu.envs.classic import CartPole
from kanbatsu.envs.make import make
from kanbatsu.envs.vector import VectorEnvironment
from kanbatsu.nn.stream import StreamNetworkConfig
from kanbatsu.train import stream_scan
from kanbatsu.train.loop import Position, Stopwatch
from kanbatsu.train.stream import start_host, stream_compiled, stream_host, stretch_of
from kanbatsu.train.stream_scan import make_train, start

POLE = CartPole()
SMALL = StreamNetworkConfig(width=8, blocks=1, initial_sparsity=0.5, sparsity=0.5)


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def kept(turn):
    """A turn whose arrays the next one does not reuse."""
    return turn._replace(carry=jax.tree.map(jnp.copy, turn.carry))


@pytest.fixture(scope="module")
def walker():
    environments = VectorEnvironment([make("gym/Pendulum-v1")], seed=1)
    agent = StreamAC(environments.spec, StreamACConfig(SMALL, SMALL, time=False))
    obs = environments.reset()
    return agent, environments, obs, start_host(agent, obs, seed=2)


def test_the_loop_on_the_host_tells_what_happened_and_continues_exactly(walker):
    agent, environments, obs, carry = walker
    told = {"stretch": 90, "seed": 3}
    watch = Stopwatch()
    whole = stream_host(
        agent, environments, env_steps=250, carry=carry, obs=obs, watch=watch, **told
    )
    turns, snapshot = [], None
    for turn in whole:
        turns.append(kept(turn))
        snapshot = snapshot or environments.snapshot()
    assert [t.env_steps for t in turns] == [90, 180, 250]
    assert [t.position for t in turns] == [Position(n, n) for n in (90, 180, 250)]
    ((env_steps, episode),) = itertools.chain(*(t.episodes for t in turns))
    assert (env_steps, episode.length) == (200, 200)
    rewards = np.concatenate([t.transitions.reward for t in turns])
    assert len(rewards) == 250
    np.testing.assert_allclose(rewards[:200].sum(), episode.return_, rtol=1e-4)
    chained = zip(turns[0].transitions.next_obs[:-1], turns[0].transitions.obs[1:], strict=True)
    assert all(np.array_equal(a, b) for a, b in chained)
    assert len(watch.update_milliseconds) == 3

    again = environments.restore(snapshot)
    rest = stream_host(
        agent,
        environments,
        env_steps=250,
        carry=turns[0].carry,
        obs=again,
        position=turns[0].position,
        **told,
    )
    assert same(list(rest)[-1].carry, turns[-1].carry)


def test_the_compiled_loop_tells_what_happened_and_continues_exactly():
    agent = StreamQ(CartPole.spec, StreamQConfig(SMALL, time=False))
    begin = lambda: start(agent, POLE, jax.random.key(0))  # noqa: E731
    told = {"env_steps": 180, "stretch": 60, "seed": 3}
    turns = [kept(turn) for turn in stream_compiled(agent, POLE, carry=begin(), **told)]
    assert [t.env_steps for t in turns] == [60, 120, 180]
    episodes = list(itertools.chain(*(t.episodes for t in turns)))
    assert episodes
    ends = np.cumsum([episode.length for _, episode in episodes])
    assert [at for at, _ in episodes] == ends.tolist()
    assert all(episode.return_ == episode.length for _, episode in episodes)  # 1 per decision
    ended = np.concatenate([t.transitions.terminated for t in turns])
    assert (np.flatnonzero(ended) + 1).tolist() == ends.tolist()

    middle, position = turns[0].carry, turns[0].position
    rest = stream_compiled(agent, POLE, carry=middle, position=position, **told)
    assert same(list(rest)[-1].carry, turns[-1].carry)


def test_a_run_that_is_no_longer_finite_stops_with_the_reason():
    agent = StreamQ(CartPole.spec, StreamQConfig(SMALL, time=False))
    carry = start(agent, POLE, jax.random.key(0))
    broken = carry._replace(world=carry.world._replace(x=jnp.full_like(carry.world.x, jnp.nan)))
    told = {"env_steps": 180, "stretch": 60, "seed": 3, "carry": broken}
    with pytest.raises(FloatingPointError, match=r"td_error_magnitude.* not finite after 60 decis"):
        list(stream_compiled(agent, POLE, **told))


def test_a_population_of_seeds_and_masks_is_one_program():
    agent = StreamQ(CartPole.spec, StreamQConfig(SMALL, time=False))
    dense = StreamQ(CartPole.spec, StreamQConfig(replace(SMALL, sparsity=0.0), time=False))
    train = make_train(agent, POLE, decisions=30, points=3)
    keys = jax.random.split(jax.random.key(5), 2)
    masks = [dense.masks(keys[0]), agent.masks(keys[1])]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *masks)
    states, together = jax.jit(jax.vmap(train))(keys, stacked)
    assert together.mean_return.shape == (2, 3)
    assert together.decisions[0].tolist() == [10, 20, 30]
    one = jax.jit(train)
    for index in range(2):
        state, alone = one(keys[index], masks[index])
        np.testing.assert_allclose(together.episodes[index], alone.episodes)
        for name, value in alone.metrics.items():
            np.testing.assert_allclose(
                together.metrics[name][index], value, rtol=1e-3, err_msg=name
            )
        for x, y in zip(jax.tree.leaves(states.critic), jax.tree.leaves(state.critic), strict=True):
            np.testing.assert_allclose(x[index], y, rtol=1e-3, atol=1e-5)
    gone = ~np.asarray(masks[1]["critic"].layers[0].weight)
    weights = np.asarray(states.critic.layers[0].weight.value)
    assert (weights[1][gone] == 0).all()
    assert (weights[0][gone] != 0).any()
    with pytest.raises(ValueError, match="7 points do not divide"):
        make_train(agent, POLE, decisions=60, points=7)


def test_simulators_that_are_large_begin_the_same_episodes(monkeypatch):
    agent = StreamQ(CartPole.spec, StreamQConfig(SMALL, time=False))
    assert stream_scan.SMALL_BYTES > 0
    found = []
    for limit in (stream_scan.SMALL_BYTES, 0):
        monkeypatch.setattr(stream_scan, "SMALL_BYTES", limit)
        train = jax.jit(make_train(agent, POLE, decisions=120, points=4))
        _, curve = train(jax.random.key(2), agent.masks(jax.random.key(2)))
        found.append(curve)
    before, inside = found
    assert before.episodes.sum() > 1
    assert before.episodes.tolist() == inside.episodes.tolist()
    for name, value in before.metrics.items():
        np.testing.assert_allclose(value, inside.metrics[name], rtol=1e-4, err_msg=name)


def test_a_stretch_ends_wherever_anything_may_be_due():
    config = StreamTrainConfig(log_every=2_000, probe_every=500, checkpoint_every=0)
    assert stretch_of(config, action_repeat=1) == 500
    assert stretch_of(config, action_repeat=2) == 250
