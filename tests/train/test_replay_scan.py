"""A whole run with a replay as one pure function: it learns, and members are as they are alone."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents.ddpg import DDPG, DDPGConfig
from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.envs.classic import CartPole, Pendulum
from kanbatsu.envs.functional import FunctionalStep
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.train.replay_scan import make_train
from kanbatsu.types import Spec

ACTOR, CRITIC = NetworkConfig(width=8, blocks=1), CriticConfig(width=16, blocks=1, sparsity=0.5)
AGENTS = {"sac": (SAC, SACConfig), "ddpg": (DDPG, DDPGConfig)}
BRIEF = TrainConfig(batch_size=8, warmup_interactions=20, environments=2)


def agent_for(name, spec, critic=CRITIC, **settings):
    kind, config = AGENTS[name]
    return kind(spec, config(actor=ACTOR, critic=critic, **settings))


@dataclass(frozen=True)
class Aim:
    """One decision long; the best action is 0.5, whatever is seen."""

    spec: ClassVar[Spec] = Spec(obs_dim=1, action_dim=1, episode_length=None)
    discrete: ClassVar[bool] = False

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
    train = make_train(agent, Aim(), config, decisions=2_000, points=10)
    key = jax.random.key(0)
    state, curve = jax.jit(train)(key, agent.masks(key))
    assert curve.decisions.tolist() == list(range(200, 2_001, 200))
    assert curve.episodes.tolist() == [200] * 10
    # A random action in [-1, 1] earns -(0.25 + 1/3) on average.
    assert curve.mean_return[0] == pytest.approx(-0.583, abs=0.1)
    assert curve.mean_return[-1] > -0.1
    greedy = agent.act_greedy(state, jnp.linspace(0.0, 1.0, 5)[:, None])
    np.testing.assert_allclose(greedy, 0.5, atol=0.2)


@pytest.mark.parametrize("name", AGENTS)
def test_members_are_the_runs_that_they_would_be_alone(name):
    agent = agent_for(name, Pendulum.spec)
    dense = agent_for(name, Pendulum.spec, critic=replace(CRITIC, sparsity=0.0))
    train = make_train(agent, Pendulum(), BRIEF, decisions=60, points=3)
    keys = jax.random.split(jax.random.key(5), 2)
    masks = [dense.masks(keys[0]), agent.masks(keys[1])]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *masks)
    states, together = jax.jit(jax.vmap(train))(keys, stacked)
    assert together.decisions.tolist() == [[20, 40, 60]] * 2
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
    train = make_train(agent, Pendulum(), BRIEF, decisions=60, points=6)
    state, curve = train(jax.random.key(0))
    learned = np.isfinite(curve.metrics["critic_loss"])
    assert learned.tolist() == [False, True, True, True, True, True]
    # From the turn that completes the warm-up on: (60 - 20) / 2 + 1 turns of 2 x 2 updates.
    assert int(state.critic_moments[0].count) == 21 * 4


def test_without_masks_it_prunes_as_configured():
    agent = agent_for("sac", Pendulum.spec)
    train = make_train(agent, Pendulum(), BRIEF, decisions=4, points=1)
    key = jax.random.key(3)
    state, _ = train(key)
    init_key, _, _ = jax.random.split(key, 3)
    mask = agent.masks(init_key)["critic"][0].encoder.blocks[0].up.weight
    assert (state.critics[0].encoder.blocks[0].up.weight.mask == mask).all()


def test_what_cannot_be_trained_is_refused():
    agent = agent_for("sac", Pendulum.spec)
    with pytest.raises(
        ValueError, match="7 points of 2 simulators each do not divide 60 decisions"
    ):
        make_train(agent, Pendulum(), BRIEF, decisions=60, points=7)
    with pytest.raises(ValueError, match="a replay of 1 cannot hold one decision of 2 simulators"):
        make_train(agent, Pendulum(), replace(BRIEF, replay_capacity=1), decisions=60, points=6)
    with pytest.raises(ValueError, match="agents with a replay have continuous actions"):
        make_train(agent, CartPole(), BRIEF, decisions=60, points=6)
