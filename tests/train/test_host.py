"""The loop: what it calls in which order, when it learns, and that it learns known values."""

import dataclasses
import re
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents import AGENTS
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.envs.make import make
from kanbatsu.envs.spec import Timestep
from kanbatsu.envs.vector import VectorEnvironment
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.train.host import HostMember, train_on_host
from kanbatsu.train.turn import Position, Stopwatch
from kanbatsu.types import Spec

SPEC = Spec((1,), action_dim=1, episode_length=None)


class Counter:
    """An environment that shows how many interactions it has seen."""

    spec, action_repeat = SPEC, 2

    def reset(self, seed):
        self.interactions = 0
        return np.zeros(1, np.float32)

    def step(self, action):
        self.interactions += 1
        obs = np.full(1, self.interactions, np.float32)
        return Timestep(obs, float(self.interactions), terminated=False, truncated=False)

    def close(self):
        pass


class Tape:
    """An agent that acts zero and writes down what is asked of it and of its replay."""

    spec, passes = SPEC, MappingProxyType({})

    def __init__(self):
        self.calls = []
        self.environments = VectorEnvironment([Counter(), Counter()], seed=0)
        self.record(self.environments, "step", lambda action: (bool((action == 0).all()),))

    def record(self, owner, name, show):
        original = getattr(owner, name)

        def recorded(*args):
            self.calls.append((name, *show(*args)))
            return original(*args)

        setattr(owner, name, recorded)

    def masks(self, key):
        return None

    def init(self, key, masks=None):
        return jnp.float32(0.0)

    def act(self, state, obs, key):
        jax.debug.callback(lambda x: self.calls.append(("act", float(x[0, 0]))), obs, ordered=True)
        return state, jnp.zeros((2, 1))

    def act_greedy(self, state, obs):
        return jnp.zeros((2, 1))

    def update(self, state, batches, key):
        jax.debug.callback(
            lambda r: self.calls.append(("update", r.shape)), batches.reward, ordered=True
        )
        return state + 1.0, {"loss": state}

    def probe(self, state, batch, key):
        return {}

    def networks(self, state):
        return {}


def play(tape, env_steps, position=Position()):  # noqa: B008
    config = TrainConfig(
        batch_size=3,
        updates_per_interaction=2,
        warmup_interactions=4,
        replay_capacity=100,
        environments=2,
    )
    if position == Position():
        tape.member = HostMember(tape, config, tape.environments, 0, Stopwatch())
        past = tape.member.past
        tape.record(past, "add", lambda t: (float(t.obs[0, 0]), float(t.next_obs[0, 0])))
        tape.record(past, "sample", lambda rng, batches, size: (batches, size))
    tape.member.position = position
    turns = []
    for turn in train_on_host([tape.member], env_steps):
        turn.settle()
        turns.append((turn, tape.member.metrics))
    return turns


def test_call_order_warm_up_and_counts():
    tape = Tape()
    turns = play(tape, env_steps=12)
    jax.effects_barrier()
    assert tape.calls == [
        *[("act", 0.0), ("step", False), ("add", 0.0, 1.0)],  # random: warm-up
        *[("act", 1.0), ("step", False), ("add", 1.0, 2.0)],  # random, and the warm-up is over
        *[("sample", 4, 3), ("update", (4, 3))],
        *[("act", 2.0), ("step", True), ("add", 2.0, 3.0)],
        *[("sample", 4, 3), ("update", (4, 3))],
    ]
    # Two environments, action repeat 2: four env steps a turn; two updates per interaction.
    assert [turn.env_steps for turn, _ in turns] == [4, 8, 12]
    assert [turn.position for turn, _ in turns] == [
        Position(2, 0),
        Position(4, 4),
        Position(6, 8),
    ]
    assert [metrics is None for _, metrics in turns] == [True, False, False]


def test_starting_in_the_middle_draws_what_would_have_been_drawn():
    whole, halved = Tape(), Tape()
    play(whole, env_steps=24)
    turns = play(halved, env_steps=12)
    rest = play(halved, env_steps=24, position=turns[-1][0].position)
    assert rest[-1][0].position == Position(12, 20)
    for name, array in whole.member.past.arrays().items():
        np.testing.assert_array_equal(halved.member.past.arrays()[name], array)


class Diverging(Tape):
    """An agent whose action, or loss, is not finite from some update on."""

    def __init__(self, what):
        super().__init__()
        self._what = what

    def act(self, state, obs, key):
        bad = (state > 0) & (self._what == "action")
        return state, jnp.where(bad, jnp.nan, jnp.zeros((2, 1)))

    def update(self, state, batches, key):
        bad = (state > 0) & (self._what == "loss")
        return state + 1.0, {"loss": jnp.where(bad, jnp.inf, state)}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("action", "the action is not finite at env step 12: .* smaller learning_rate"),
        ("loss", "loss is not finite at env step 12"),
    ],
)
def test_what_is_not_finite_stops_the_member_with_the_step(what, message):
    turns = play(Diverging(what), env_steps=40)
    fault = turns[-1][0].faults[0]
    assert len(turns) == 3
    assert isinstance(fault, FloatingPointError)
    assert re.match(message, str(fault))


class Painter(Counter):
    """An environment that shows images: each pixel is the number of interactions."""

    spec = Spec((2, 3, 1), action_dim=1, obs_dtype="uint8")

    def reset(self, seed):
        return np.zeros((2, 3, 1), np.uint8) + super().reset(seed).astype(np.uint8)

    def step(self, action):
        step = super().step(action)
        return step._replace(obs=np.full((2, 3, 1), self.interactions, np.uint8))


def test_images_stay_bytes_from_the_simulator_to_the_batch():
    tape = Tape()
    tape.spec = Painter.spec
    tape.environments = VectorEnvironment([Painter(), Painter()], seed=0)
    seen = []
    tape.act = lambda state, obs, key: (state, jnp.zeros((2, 1)) + 0 * obs.sum(dtype=jnp.float32))
    tape.update = lambda state, batches, key: (state + 1.0, {"loss": state, **_note(seen, batches)})
    config = TrainConfig(batch_size=3, warmup_interactions=4, replay_capacity=10, environments=2)
    member = HostMember(tape, config, tape.environments, 0, Stopwatch())
    for turn in train_on_host([member], 20):
        assert turn.faults == (None,)
    assert seen == [((4, 3, 2, 3, 1), "uint8")]  # traced once
    stored = member.past.arrays()
    assert stored["obs"].dtype == np.uint8
    assert stored["next_obs"][:, 0, 0, 0].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def _note(seen, batches):
    seen.append((batches.obs.shape, batches.obs.dtype.name))
    return {}


def test_the_stopwatch_adds_up():
    watch = Stopwatch()
    assert watch.add("a", watch.started) >= 0
    watch.add("a", watch.started)
    assert watch.seconds["a"] > 0
    assert watch.total() >= watch.seconds["a"] / 2


def learned(agent_name, sparsity, task, turns=500, width=32):
    """Train on a probe environment; return the agent, its state, and value and action functions."""
    config = AGENTS[agent_name].config(
        actor=NetworkConfig("mlp", width=width, blocks=1, sparsity=sparsity),
        critic=CriticConfig("mlp", width=width, blocks=1, sparsity=sparsity),
        learning_rate=5e-3,
        tau=0.1,
        discount=0.5,
    )
    if agent_name == "sac":  # hardly any entropy bonus, so that values are the rewards'
        config = dataclasses.replace(config, temperature=1e-4)
    environments = VectorEnvironment([make(f"kanbatsu.envs.probe:{task}")], seed=0)
    agent = AGENTS[agent_name].agent(environments.spec, config)
    schedule = TrainConfig(
        batch_size=64, updates_per_interaction=1, warmup_interactions=100, replay_capacity=1000
    )
    member = HostMember(agent, schedule, environments, 0, Stopwatch())
    *_, last = train_on_host([member], turns)
    last.settle()
    state = member.state

    def value(cue, interactions=0, action=None):
        obs = jnp.array([[cue, interactions]], jnp.float32)
        action = agent.act_greedy(state, obs) if action is None else jnp.array([[action]])
        return float(state.critics[0](state.normaliser.normalise(obs), action)[0])

    def act(cue):
        return float(agent.act_greedy(state, jnp.array([[cue, 0.0]], jnp.float32))[0, 0])

    return value, act


@pytest.mark.parametrize(
    ("agent", "sparsity"),
    [
        ("sac", 0.5),
        ("ddpg", 0.0),
        pytest.param("sac", 0.0, marks=pytest.mark.slow),
        pytest.param("ddpg", 0.5, marks=pytest.mark.slow),
    ],
)
class TestKnownValues:
    """Each failure says what is broken; see kanbatsu/envs/probe.py."""

    def test_fits_a_constant(self, agent, sparsity):
        value, _ = learned(agent, sparsity, "constant_reward", turns=300)
        assert value(0.0) == pytest.approx(1.0, abs=0.1)

    def test_sees(self, agent, sparsity):
        value, _ = learned(agent, sparsity, "observed_reward", turns=300)
        assert (value(-1.0), value(1.0)) == pytest.approx((-1.0, 1.0), abs=0.2)

    def test_looks_ahead(self, agent, sparsity):
        value, _ = learned(agent, sparsity, "delayed_reward")
        assert (value(0.0, 0), value(0.0, 1)) == pytest.approx((0.5, 1.0), abs=0.15)

    def test_improves_its_action(self, agent, sparsity):
        value, act = learned(agent, sparsity, "action_reward", turns=1_000)
        assert act(0.0) == pytest.approx(0.5, abs=0.2)
        assert value(0.0, action=-0.5) == pytest.approx(0.0, abs=0.3)

    def test_suits_its_action_to_what_it_sees(self, agent, sparsity):
        # Half of 32 units' weights are too few for it: SAC then acts 0.75 where 0.5 is best.
        _, act = learned(agent, sparsity, "observed_action_reward", turns=1_500, width=128)
        assert (act(-1.0), act(1.0)) == pytest.approx((-0.5, 0.5), abs=0.1)
