"""Agents with remedies: when they act, side by side, after a stop, and in the compiled scan."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kanbatsu
from kanbatsu.agents.ddpg import DDPG, DDPGConfig
from kanbatsu.agents.pqn import PQN, PQNConfig
from kanbatsu.agents.remedied import Pace, remedied
from kanbatsu.agents.schedule import RolloutTrainConfig, StreamTrainConfig, TrainConfig
from kanbatsu.agents.stream_q import StreamQConfig
from kanbatsu.files.store import RunFolder
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.nn.normed import NormedNetworkConfig
from kanbatsu.nn.stream import StreamNetworkConfig
from kanbatsu.remedies.parts import Part, masked_weights
from kanbatsu.remedies.records import SET, Gradual, L2Init, ReDo, Reset, RigL, WeightDecay
from kanbatsu.remedies.treat import Clock, Tools, treat
from kanbatsu.run.carry import run_one, run_side_by_side
from kanbatsu.run.record import Run
from kanbatsu.sparsity.weight import Masked
from kanbatsu.types import Spec, Transition

SPEC = Spec((3,), action_dim=2, episode_length=100)
KEY = jax.random.key(0)


def batches(key, *shape, spec=SPEC):
    obs, action, reward = (
        jax.random.normal(k, (*shape, n))
        for k, n in zip(jax.random.split(key, 3), (spec.obs_dim, spec.action_dim, 1), strict=True)
    )
    no = jnp.zeros(shape, bool)
    return Transition(obs, action, reward[..., 0], no, no, obs + 0.1)


@pytest.mark.parametrize(
    ("schedule", "repeat"),
    [
        (TrainConfig(warmup_interactions=7, environments=2, updates_per_interaction=3), 2),
        (TrainConfig(warmup_interactions=0), 1),
        (RolloutTrainConfig(environments=4, rollout=8), 3),
        (StreamTrainConfig(), 2),
    ],
)
def test_calls_follow_the_env_steps_of_the_schedule(schedule, repeat):
    pace = Pace.of(schedule, repeat, 1_000)
    turns = getattr(schedule, "rollout", 1)
    learned = [t for t in range(60) if schedule.counts(t + 1)[1] > schedule.counts(t)[1]]
    for calls, turn in enumerate(learned, start=1):
        interactions, _ = schedule.counts(turn + 1)
        assert int(pace.env_steps(jnp.int32(calls))) == interactions * repeat
    per_call = schedule.updates_per_interaction * schedule.environments * turns
    assert pace.samples == round(per_call * schedule.batch_size)


def test_a_replay_agent_is_treated_when_its_time_has_come():
    config = DDPGConfig(
        actor=NetworkConfig(width=8, blocks=1),
        critic=CriticConfig(width=8, blocks=1, sparsity=0.5),
    )
    remedies = (RigL(every=3, samples=16, until=1.0), ReDo(every=2, threshold=0.3, samples=12))
    agent = remedied(
        DDPG(SPEC, config), (*remedies, L2Init(), WeightDecay(rate=0.1)), Pace(0, 1, 8, 10)
    )
    state = agent.init(KEY)
    static = kanbatsu.count(state.inner.critics)
    update = jax.jit(agent.update)
    counts = []
    for call in range(10):
        state, metrics = update(state, batches(jax.random.key(call), 2, 4), KEY)
        counts.append([int(metrics[f"remedy/{n}/times"]) for n in ("rigl", "redo")])
    assert counts == [
        [0, 0],
        [0, 0],
        [1, 1],  # masks move with the update that reaches 3; what is due at 2 waits for the next
        [1, 1],
        [1, 2],
        [2, 2],
        [2, 3],
        [2, 3],
        [3, 4],
        [3, 4],  # the end of the run
    ]
    assert float(metrics["remedy/rigl/moved_weights"]) > 0
    assert kanbatsu.count(state.inner.critics) == static
    for online, target in zip(
        masked_weights(state.inner.critics), masked_weights(state.inner.targets), strict=True
    ):
        np.testing.assert_array_equal(online.mask, target.mask)
        assert (np.asarray(online.value)[~np.asarray(online.mask)] == 0).all()
    # Two calls of eight samples are at hand; the last two.
    last = [batches(jax.random.key(call), 2, 4).reward.reshape(-1) for call in (8, 9)]
    np.testing.assert_array_equal(state.recent.reward, np.stack(last))


def test_branches_stay_branches_side_by_side():
    def step(value, calls):
        part = Part({"w": Masked(value, value > 0)}, ())
        clock = Clock(calls, calls + 1, 10)
        remedies = (SET(every=2, share=0.5),)
        parts, _ = treat(remedies, {"critic": part}, Tools(dict), clock, KEY, shocks=False)
        return parts["critic"].network["w"].value

    values, calls = jnp.array([[1.0, 2.0, 0.0], [3.0, 4.0, 0.0]]), jnp.zeros(2, jnp.int32)
    equations = jax.make_jaxpr(jax.vmap(step))(values, calls).eqns
    branches = [equation for equation in equations if equation.primitive.name == "cond"]
    assert len(branches) == 1
    assert "sort" in str(branches)
    assert "sort" not in str([e for e in equations if e.primitive.name != "cond"])
    both = jax.vmap(step)(values, calls + 1)
    for value, alone in zip(both, values, strict=True):
        np.testing.assert_array_equal(value, step(alone, jnp.int32(1)))
    np.testing.assert_array_equal(both, [[0.0, 2.0, 0.0], [0.0, 4.0, 0.0]])


SMALL = StreamNetworkConfig(width=8, blocks=1, initial_sparsity=0.0, sparsity=0.5)
STREAM = StreamTrainConfig(
    evaluate_every=20, evaluation_episodes=1, probe_every=40, log_every=20, checkpoint_every=20
)
RUN = Run(
    *("jax/cartpole", "stream_q", 3, 40),
    StreamQConfig(SMALL, time=False),
    STREAM,
    (SET(every=7), Reset(every=15, part="head")),
)


class Killed(Exception):
    """What the test raises in the middle of a run."""


def kept_and_tallies(folder):
    lines = list(RunFolder(folder).metrics())
    tallies = [
        {k: v for k, v in line["metrics"].items() if k.startswith("remedy/")}
        for line in lines
        if line["kind"] == "update"
    ]
    return [line["networks"] for line in lines if line["kind"] == "networks"], tallies


def test_a_stream_in_the_scan_side_by_side_and_after_a_stop(tmp_path):
    runs = [RUN, replace(RUN, seed=4)]
    assert run_side_by_side(runs, [tmp_path / "3", tmp_path / "4"]) == [None, None]

    def kill(env_steps):
        if env_steps == 20:
            raise Killed

    run_one(RUN, tmp_path / "alone")
    with pytest.raises(Killed):
        run_one(RUN, tmp_path / "killed", kill)
    run_one(RUN, tmp_path / "killed")
    ours, theirs = (tmp_path / n / "metrics.jsonl" for n in ("killed", "alone"))
    assert ours.read_bytes() == theirs.read_bytes()
    kept, tallies = kept_and_tallies(tmp_path / "alone")
    assert (kept, tallies) == kept_and_tallies(tmp_path / "3")
    assert [t["remedy/set/times"] for t in tallies] == [2, 5]
    assert [t["remedy/reset/times"] for t in tallies] == [1, 2]
    assert tallies[-1]["remedy/mean_kept/critic"] == kept[0]["critic"]["kept"]
    assert len(kept) == 1


@pytest.mark.slow
def test_a_rollout_agent_prunes_gradually_to_the_counts_of_a_static_arm():
    spec = Spec((3,), action_dim=2, discrete=True)
    config = PQNConfig(NormedNetworkConfig(width=8), minibatches=2, epochs=1)
    gradual = Gradual(begin=8, end=64, every=16, sparsity=0.8)
    agent = remedied(PQN(spec, config), (gradual, WeightDecay(rate=0.1)), Pace(0, 8, 8, 64))
    state = agent.init(KEY)
    update = jax.jit(agent.update)
    kept = []
    for call in range(8):
        state, metrics = update(state, batches(jax.random.key(call), 4, 2, spec=spec), KEY)
        kept.append(kanbatsu.count(state.inner.critic).kept)
    thin = replace(config, critic=replace(config.critic, sparsity=0.8))
    static = PQN(spec, thin).init(KEY)
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == kanbatsu.count(static.critic).total
    assert kept[-1] == kanbatsu.count(static.critic).kept
    # Each update counts the weights that it had, before its step of pruning.
    had = [kept[0], *kept[:-1]]
    assert float(metrics["remedy/mean_kept/critic"]) == pytest.approx(np.mean(had))
