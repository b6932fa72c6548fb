"""Learning from rollouts, on the host and in one program: whole, continued, and side by side."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents.pqn import PQN, PQNConfig
from kanbatsu.agents.schedule import RolloutTrainConfig, stretch
from kanbatsu.envs.classic import CartPole
from kanbatsu.envs.functional import FunctionalStep
from kanbatsu.envs.make import make
from kanbatsu.envs.vector import VectorEnvironment
from kanbatsu.nn.normed import NormedNetworkConfig
from kanbatsu.train.device import DeviceMember, train_on_device
from kanbatsu.train.host import HostMember, train_on_host
from kanbatsu.train.scan import make_train
from kanbatsu.train.turn import Position, Stopwatch
from kanbatsu.types import Spec

SCHEDULE = RolloutTrainConfig(
    environments=2,
    rollout=8,
    evaluate_every=60,
    probe_every=60,
    log_every=40,
    checkpoint_every=40,
    probe_batch=64,
)
THIN = NormedNetworkConfig(width=8, channels=2, sparsity=0.5)
CONFIG = PQNConfig(THIN, minibatches=2, training_interactions=160, learning_rate=3e-3)


@dataclass(frozen=True)
class Signal:
    """An image of which one half is bright; the action that names it is worth 1. Never ends."""

    spec: ClassVar[Spec] = Spec((3, 4, 1), 2, 5, obs_dtype="uint8", discrete=True)

    def reset(self, key):
        side = jax.random.bernoulli(key).astype(jnp.int32)
        return side, self.show(side)

    def show(self, side):
        bright = (jnp.arange(4) >= 2) == (side == 1)
        return jnp.broadcast_to(255 * bright[:, None].astype(jnp.uint8), self.spec.obs_shape)

    def step(self, state, action, key):
        reward = (action.argmax() == state).astype(jnp.float32)
        side, obs = self.reset(key)
        no = jnp.bool_(False)
        return side, FunctionalStep(obs, reward, no, no)


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def test_a_stretch_is_of_whole_rollouts():
    assert stretch(SCHEDULE, env_steps_per_turn=2) == 16
    assert stretch(replace(SCHEDULE, rollout=50), env_steps_per_turn=2) == 50


def test_in_one_program_it_continues_exactly_and_what_is_left_is_only_acted():
    agent = PQN(CartPole.spec, CONFIG)
    begin = lambda: DeviceMember(agent, SCHEDULE, CartPole(), 3, Stopwatch(), 100)  # noqa: E731
    member, turns, saved = begin(), [], None
    for turn in train_on_device([member], 100):
        turns.append(turn)
        saved = saved or member.arrays(last=False)
    assert [turn.env_steps for turn in turns] == [32, 64, 96, 100]
    assert [turn.position.updates for turn in turns] == [2, 4, 6, 6]
    assert int(member.state.interactions) == 102  # the actions for what comes next included
    assert int(member.past.size) == 16
    assert np.isfinite(member.metrics["critic_loss"])

    again = begin()
    again.load(saved, turns[0].position)
    list(train_on_device([again], 100))
    assert same(again.carry, member.carry)


def test_on_the_host_it_continues_exactly_in_the_middle_of_a_rollout():
    def begin():
        worlds = [make("gym/CartPole-v1", discrete=True) for _ in range(2)]
        environments = VectorEnvironment(worlds, seed=1)
        agent = PQN(environments.spec, CONFIG)
        return HostMember(agent, SCHEDULE, environments, 3, Stopwatch())

    member, saved, updates = begin(), None, []
    for turn in train_on_host([member], 100):
        updates.append(turn.position.updates)
        if turn.env_steps == 40:  # after two rollouts and a half
            turn.settle()
            saved, position = jax.tree.map(np.copy, member.arrays(last=False)), turn.position
    turn.settle()
    assert updates == [turns // 8 for turns in range(1, 51)]
    again = begin()
    again.load(saved, position)
    *_, last = train_on_host([again], 100)
    last.settle()
    assert position == Position(40, 2)
    assert same(again.state, member.state)
    assert same(again.past.arrays(), member.past.arrays())
    assert again.metrics["critic_loss"] == member.metrics["critic_loss"]


def test_members_on_the_host_are_the_runs_that_they_would_be_alone():
    def begin(seed, critic):
        worlds = [make("gym/CartPole-v1", discrete=True) for _ in range(2)]
        environments = VectorEnvironment(worlds, seed=seed)
        agent = PQN(environments.spec, replace(CONFIG, critic=critic))
        return HostMember(agent, SCHEDULE, environments, seed, Stopwatch())

    several = [(3, THIN), (4, replace(THIN, sparsity=0.0))]
    together = [begin(*each) for each in several]
    *_, last = train_on_host(together, 64)
    last.settle()
    for member, each in zip(together, several, strict=True):
        alone = begin(*each)
        *_, last = train_on_host([alone], 64)
        last.settle()
        for x, y in zip(jax.tree.leaves(member.state), jax.tree.leaves(alone.state), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("world", [CartPole(), Signal()], ids=["vector", "image"])
def test_a_member_of_a_population_is_the_run_that_it_would_be_alone(world):
    agent = PQN(world.spec, CONFIG)
    dense = PQN(world.spec, replace(CONFIG, critic=replace(THIN, sparsity=0.0)))
    train = make_train(agent, world, interactions=96, points=3, schedule=SCHEDULE)
    keys = jax.random.split(jax.random.key(5), 2)
    masks = [dense.masks(keys[0]), agent.masks(keys[1])]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *masks)
    states, together = jax.jit(jax.vmap(train))(keys, stacked)
    one = jax.jit(train)
    for index in range(2):
        state, alone = one(keys[index], masks[index])
        np.testing.assert_array_equal(together.episodes[index], alone.episodes)
        np.testing.assert_allclose(together.mean_return[index], alone.mean_return, rtol=1e-6)
        for x, y in zip(jax.tree.leaves(states), jax.tree.leaves(state), strict=True):
            np.testing.assert_allclose(x[index], y, rtol=1e-3, atol=1e-5)
    gone = ~np.asarray(masks[1]["critic"].layers[0].weight)
    weights = np.asarray(states.critic.layers[0].weight.value)
    assert (weights[1][gone] == 0).all()
    assert (weights[0][gone] != 0).any()


def test_it_learns_to_name_what_an_image_shows():
    schedule = replace(SCHEDULE, environments=16, rollout=8)
    critic = NormedNetworkConfig(width=16, channels=8, sparsity=0.5)
    config = PQNConfig(
        critic, discount=0.0, minibatches=4, epochs=4, learning_rate=1e-2, exploration_share=0.5
    )
    agent = PQN(Signal.spec, replace(config, training_interactions=4_096))
    train = make_train(agent, Signal(), interactions=4_096, points=4, schedule=schedule)
    key = jax.random.key(0)
    state, curve = jax.jit(train)(key, agent.masks(key))
    assert curve.metrics["reward_mean"][-1] > 0.9
    images = jnp.stack([Signal().show(jnp.int32(side)) for side in (0, 1)])
    assert agent.act_greedy(state, images).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_what_does_not_come_out_in_whole_rollouts_is_refused():
    agent = PQN(CartPole.spec, CONFIG)
    with pytest.raises(ValueError, match=r"2 points of 2 simulators each do not divide 40 .* of 8"):
        make_train(agent, CartPole(), interactions=40, points=2, schedule=SCHEDULE)
