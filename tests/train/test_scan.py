"""Functional environments and learning in one program: whole runs, and runs side by side."""

import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents.ddpg import DDPG, DDPGConfig
from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.agents.schedule import StreamTrainConfig, TrainConfig, stretch
from kanbatsu.agents.stream_ac import StreamAC, StreamACConfig
from kanbatsu.agents.stream_q import StreamQ, StreamQConfig
from kanbatsu.envs.classic import CartPole, Pendulum
from kanbatsu.envs.functional import FunctionalStep
from kanbatsu.envs.make import make
from kanbatsu.envs.vector import VectorEnvironment
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.nn.stream import StreamNetworkConfig
from kanbatsu.train import scan
from kanbatsu.train.device import DeviceMember, train_on_device
from kanbatsu.train.host import HostMember, train_on_host
from kanbatsu.train.scan import make_train
from kanbatsu.train.turn import Position, Stopwatch
from kanbatsu.types import Spec

POLE = CartPole()
SMALL = StreamNetworkConfig(width=8, blocks=1, initial_sparsity=0.5, sparsity=0.5)
SCHEDULE = StreamTrainConfig(
    evaluate_every=60, probe_every=60, log_every=60, checkpoint_every=60, probe_batch=64
)
ACTOR, CRITIC = NetworkConfig(width=8, blocks=1), CriticConfig(width=16, blocks=1, sparsity=0.5)
AGENTS = {"sac": (SAC, SACConfig), "ddpg": (DDPG, DDPGConfig)}
BRIEF = TrainConfig(batch_size=8, warmup_interactions=20, environments=2)


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def stream_host_member(environments):
    agent = StreamAC(environments.spec, StreamACConfig(SMALL, SMALL, time=False))
    return HostMember(agent, SCHEDULE, environments, 3, Stopwatch())


def test_a_stream_on_the_host_tells_what_happened_and_continues_exactly():
    environments = VectorEnvironment([make("gym/Pendulum-v1")], seed=1)
    member = stream_host_member(environments)
    episodes, saved = [], None
    for turn in train_on_host([member], 250):
        assert turn.position == Position(turn.env_steps, turn.env_steps)
        episodes += turn.episodes[0]
        if turn.env_steps == 100:  # in the middle of a stretch
            turn.settle()
            saved = member.arrays(last=False)
    turn.settle()
    ((env_steps, episode),) = episodes
    assert (env_steps, episode.length) == (200, 200)
    past = member.past.arrays()
    assert past["added"] == 250
    assert len(past["reward"]) == 64
    assert len(member.watch.update_milliseconds) == 250

    again = stream_host_member(VectorEnvironment([make("gym/Pendulum-v1")], seed=1))
    again.load(saved, Position(100, 100))
    *_, last = train_on_host([again], 250)
    last.settle()
    assert same(again.state, member.state)
    assert same(again.past.arrays(), past)


def test_a_stretch_in_one_program_tells_what_happened_and_continues_exactly():
    agent = StreamQ(CartPole.spec, StreamQConfig(SMALL, time=False))
    begin = lambda: DeviceMember(agent, SCHEDULE, POLE, 3, Stopwatch(), 180)  # noqa: E731
    member, turns, saved = begin(), [], None
    for turn in train_on_device([member], 180):
        turns.append(turn)
        saved = saved or member.arrays(last=False)
    assert [t.env_steps for t in turns] == [60, 120, 180]
    episodes = list(itertools.chain(*(t.episodes[0] for t in turns)))
    assert episodes
    ends = np.cumsum([episode.length for _, episode in episodes])
    assert [at for at, _ in episodes] == ends.tolist()
    assert all(episode.return_ == episode.length for _, episode in episodes)  # 1 per interaction

    again = begin()
    again.load(saved, turns[0].position)
    list(train_on_device([again], 180))
    assert same(again.carry, member.carry)


def test_a_run_that_is_no_longer_finite_stops_with_the_reason():
    agent = StreamQ(CartPole.spec, StreamQConfig(SMALL, time=False))
    members = [DeviceMember(agent, SCHEDULE, POLE, seed, Stopwatch(), 180) for seed in (0, 1)]
    world = members[0].carry.world
    members[0].carry = members[0].carry._replace(
        world=world._replace(x=jnp.full_like(world.x, jnp.nan))
    )
    turns = list(train_on_device(members, 180))
    assert [t.faults[1] for t in turns] == [None] * 3
    assert all(isinstance(t.faults[0], FloatingPointError) for t in turns)
    assert "td_error_magnitude" in str(turns[0].faults[0])
    assert "is not finite at env step 60" in str(turns[0].faults[0])


def test_a_population_of_seeds_and_masks_is_one_program():
    agent = StreamQ(CartPole.spec, StreamQConfig(SMALL, time=False))
    dense = StreamQ(CartPole.spec, StreamQConfig(replace(SMALL, sparsity=0.0), time=False))
    train = make_train(agent, POLE, interactions=30, points=3)
    keys = jax.random.split(jax.random.key(5), 2)
    masks = [dense.masks(keys[0]), agent.masks(keys[1])]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *masks)
    states, together = jax.jit(jax.vmap(train))(keys, stacked)
    assert together.mean_return.shape == (2, 3)
    assert together.interactions[0].tolist() == [10, 20, 30]
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
    with pytest.raises(ValueError, match="7 points of 1 simulators each do not divide"):
        make_train(agent, POLE, interactions=60, points=7)


def test_simulators_that_are_large_begin_the_same_episodes(monkeypatch):
    agent = StreamQ(CartPole.spec, StreamQConfig(SMALL, time=False))
    assert scan.SMALL_BYTES > 0
    found = []
    for limit in (scan.SMALL_BYTES, 0):
        monkeypatch.setattr(scan, "SMALL_BYTES", limit)
        train = jax.jit(make_train(agent, POLE, interactions=120, points=4))
        _, curve = train(jax.random.key(2), agent.masks(jax.random.key(2)))
        found.append(curve)
    before, inside = found
    assert before.episodes.sum() > 1
    assert before.episodes.tolist() == inside.episodes.tolist()
    for name, value in before.metrics.items():
        np.testing.assert_allclose(value, inside.metrics[name], rtol=1e-4, err_msg=name)


def agent_for(name, spec, critic=CRITIC, **settings):
    kind, config = AGENTS[name]
    return kind(spec, config(actor=ACTOR, critic=critic, **settings))


@dataclass(frozen=True)
class Aim:
    """One interaction long; the best action is 0.5, whatever is seen."""

    spec: ClassVar[Spec] = Spec((1,), action_dim=1, episode_length=None)

    def reset(self, key):
        return jnp.int32(0), jax.random.uniform(key, (1,))

    def step(self, state, action, key):
        reward = -((action[0] - 0.5) ** 2)
        yes = jnp.bool_(True)
        return state, FunctionalStep(jnp.zeros(1), reward, yes, ~yes)


@pytest.mark.parametrize("name", AGENTS)
def test_it_learns_where_to_aim(name):
    agent = agent_for(name, Aim.spec, learning_rate=3e-3)
    config = TrainConfig(batch_size=32, warmup_interactions=200, updates_per_interaction=1)
    train = make_train(agent, Aim(), interactions=2_000, points=10, schedule=config)
    key = jax.random.key(0)
    state, curve = jax.jit(train)(key, agent.masks(key))
    assert curve.interactions.tolist() == list(range(200, 2_001, 200))
    assert curve.episodes.tolist() == [200] * 10
    # A random action in [-1, 1] earns -(0.25 + 1/3) on average.
    assert curve.mean_return[0] == pytest.approx(-0.583, abs=0.1)
    assert curve.mean_return[-1] > -0.1
    greedy = agent.act_greedy(state, jnp.linspace(0.0, 1.0, 5)[:, None])
    np.testing.assert_allclose(greedy, 0.5, atol=0.2)


@pytest.mark.parametrize("name", ["sac", pytest.param("ddpg", marks=pytest.mark.slow)])
def test_members_are_the_runs_that_they_would_be_alone(name):
    agent = agent_for(name, Pendulum.spec)
    dense = agent_for(name, Pendulum.spec, critic=replace(CRITIC, sparsity=0.0))
    train = make_train(agent, Pendulum(), interactions=60, points=3, schedule=BRIEF)
    keys = jax.random.split(jax.random.key(5), 2)
    masks = [dense.masks(keys[0]), agent.masks(keys[1])]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *masks)
    states, together = jax.jit(jax.vmap(train))(keys, stacked)
    assert together.interactions.tolist() == [[20, 40, 60]] * 2
    one = jax.jit(train)
    for index in range(2):
        state, alone = one(keys[index], masks[index])
        for key, value in alone.metrics.items():
            np.testing.assert_allclose(together.metrics[key][index], value, rtol=1e-3, err_msg=key)
        for x, y in zip(
            jax.tree.leaves(states.critics), jax.tree.leaves(state.critics), strict=True
        ):
            np.testing.assert_allclose(x[index], y, rtol=1e-3, atol=1e-5)
    gone = ~np.asarray(masks[1]["critic"][0].encoder.blocks[0].up.weight)
    for critics in (states.critics, states.targets):
        weights = np.asarray(critics[0].encoder.blocks[0].up.weight.value)
        assert (weights[1][gone] == 0).all()
        assert (weights[0][gone] != 0).any()


def test_it_warms_up_and_then_updates_as_often_as_it_is_told():
    agent = agent_for("ddpg", Pendulum.spec)
    train = make_train(agent, Pendulum(), interactions=60, points=6, schedule=BRIEF)
    state, curve = train(jax.random.key(0))
    learned = np.isfinite(curve.metrics["critic_loss"])
    assert learned.tolist() == [False, True, True, True, True, True]
    # From the turn that completes the warm-up on: (60 - 20) / 2 + 1 turns of 2 x 2 updates.
    assert int(state.critic_moments[0].count) == 21 * 4


def test_without_masks_it_prunes_as_configured():
    agent = agent_for("sac", Pendulum.spec)
    train = make_train(agent, Pendulum(), interactions=4, points=1, schedule=BRIEF)
    key = jax.random.key(3)
    state, _ = train(key)
    init_key, _, _ = jax.random.split(jax.random.split(key)[0], 3)
    mask = agent.masks(init_key)["critic"][0].encoder.blocks[0].up.weight
    assert (state.critics[0].encoder.blocks[0].up.weight.mask == mask).all()


def test_what_cannot_be_trained_is_refused():
    agent = agent_for("sac", Pendulum.spec)
    with pytest.raises(
        ValueError, match="7 points of 2 simulators each do not divide 60 interactions"
    ):
        make_train(agent, Pendulum(), interactions=60, points=7, schedule=BRIEF)
    with pytest.raises(ValueError, match="a replay of 1 cannot hold one interaction of 2"):
        make_train(
            agent,
            Pendulum(),
            interactions=60,
            points=6,
            schedule=replace(BRIEF, replay_capacity=1),
        )
    with pytest.raises(ValueError, match="agents with a replay have continuous actions"):
        make_train(agent, CartPole(), interactions=60, points=6, schedule=BRIEF)


def test_a_stretch_ends_wherever_anything_may_be_due():
    config = StreamTrainConfig(log_every=2_000, probe_every=500, checkpoint_every=0)
    assert stretch(config, env_steps_per_turn=1) == 500
    assert stretch(config, env_steps_per_turn=2) == 250
