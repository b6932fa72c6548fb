"""Environments of Brax and of MuJoCo Playground behind the interface of all functional ones."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.envs.brax import BRAX_LIMIT, _brax, _playground
from kanbatsu.envs.functional import FunctionalEnvironment, HostedEnvironment
from kanbatsu.envs.library import load
from kanbatsu.envs.make import make
from kanbatsu.envs.spec import TaskError
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.train.scan import make_train
from kanbatsu.types import Spec

# Both libraries use what is no longer maintained, and say so.
pytestmark = [
    pytest.mark.filterwarnings("ignore:JAXopt is no longer maintained:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Brax System, piplines:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing `ncon` directly:DeprecationWarning"),
]

PENDULUM = "brax/spring/inverted_pendulum"
TASKS = [PENDULUM, "playground/CartpoleBalance"]


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    """Each task whose library is here."""
    module = {"brax": "brax", "playground": "mujoco_playground"}[request.param.partition("/")[0]]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    return request.param


def test_interactions_are_the_librarys_own(task):
    library, _, name = task.partition("/")
    with jax.numpy_dtype_promotion("standard"):
        simulator, limit = {"brax": _brax, "playground": _playground}[library](task, name)
    ours = load(task)
    spec = ours.spec
    assert isinstance(ours, FunctionalEnvironment)
    assert (limit, spec.episode_length) == (BRAX_LIMIT, BRAX_LIMIT)
    key, step, their_step = jax.random.key(3), jax.jit(ours.step), jax.jit(simulator.step)
    state, obs = jax.jit(ours.reset)(key)
    with jax.numpy_dtype_promotion("standard"):
        theirs = jax.jit(simulator.reset)(key)
    assert obs.shape == (spec.obs_dim,)
    assert np.array_equal(obs, theirs.obs)
    for push in (0.0, 1.0, -1.0, 0.5):
        action = jnp.full(spec.action_dim, push)
        state, told = step(state, action, key)
        with jax.numpy_dtype_promotion("standard"):
            theirs = their_step(theirs, action)
        assert np.array_equal(told.obs, theirs.obs)
        assert float(told.reward) == float(theirs.reward)
    assert int(state.interactions) == 4
    beyond, most = (step(state, jnp.full(spec.action_dim, a), key)[1].obs for a in (7.0, 1.0))
    assert np.array_equal(beyond, most)


def test_the_time_limit_truncates_and_does_not_terminate(task):
    ours = load(task)
    state, _ = jax.jit(ours.reset)(jax.random.key(0))
    step = jax.jit(ours.step)
    late = state._replace(interactions=jnp.int32(BRAX_LIMIT - 2))
    action = jnp.zeros(ours.spec.action_dim)
    late, before = step(late, action, jax.random.key(1))
    _, last = step(late, action, jax.random.key(1))
    assert [bool(x.truncated) for x in (before, last)] == [False, True]
    assert not last.terminated


def test_a_pole_that_falls_ends_the_episode():
    pytest.importorskip("brax")
    ours = load(PENDULUM)
    assert ours.spec == Spec((4,), action_dim=1, episode_length=BRAX_LIMIT)
    state, _ = jax.jit(ours.reset)(jax.random.key(0))
    step, ended = jax.jit(ours.step), []
    for _ in range(40):
        state, told = step(state, jnp.ones(1), jax.random.key(0))
        ended.append(bool(told.terminated))
    assert not ended[0]
    assert any(ended)


def test_sac_trains_on_it_in_one_program(task):
    small = SACConfig(NetworkConfig(width=8, blocks=1), CriticConfig(width=8, blocks=1))
    ours = load(task)
    config = TrainConfig(batch_size=4, warmup_interactions=4, updates_per_interaction=1)
    train = make_train(SAC(ours.spec, small), ours, interactions=8, points=2, schedule=config)
    state, curve = jax.jit(train)(jax.random.key(0))
    assert np.isfinite(curve.metrics["critic_loss"][-1])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state) if x.dtype == jnp.float32)


def test_tasks_are_made_like_any_other(task):
    made = make(task)
    assert isinstance(made, HostedEnvironment)
    assert made.functional == load(task)
    with pytest.raises(TaskError, match="continuous actions"):
        make(task, discrete=True)
    with pytest.raises(TaskError, match=re.escape(f"Did you mean '{task.partition('/')[0]}/")):
        make({"brax": "brax/humanoidd"}.get(task.partition("/")[0], "playground/WalkerWak"))


def test_a_backend_that_does_not_exist_is_refused():
    pytest.importorskip("brax")
    with pytest.raises(TaskError, match="brax/sprung/ant cannot be built"):
        load("brax/sprung/ant")


@pytest.mark.parametrize(("task", "module"), [("brax/ant", "brax"), ("playground/X", "mujoco")])
def test_a_missing_library_is_named(task, module, monkeypatch):
    import builtins

    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.partition(".")[0] in ("brax", "mujoco_playground"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(TaskError, match=r"pip install 'kanbatsu\[" + task.partition("/")[0]):
        load(task)
