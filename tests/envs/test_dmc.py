"""DeepMind Control: sizes, action repeat, ends of episodes, and episodes that repeat exactly."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from kanbatsu.envs.dmc import DMCEnvironment, tasks
from kanbatsu.envs.spec import Environment, TaskError
from kanbatsu.types import Spec


def play(environment: Environment, seed: int, interactions: int) -> tuple[np.ndarray, list[float]]:
    """Observations and rewards of an episode under actions that depend on nothing."""
    rng = np.random.default_rng(0)
    observations, rewards = [environment.reset(seed)], []
    for _ in range(interactions):
        timestep = environment.step(rng.uniform(-1, 1, environment.spec.action_dim))
        observations.append(timestep.obs)
        rewards.append(timestep.reward)
    return np.stack(observations), rewards


@pytest.mark.parametrize(
    ("task", "obs_dim", "action_dim"),
    [
        ("dmc/cartpole-balance", 5, 1),
        ("dmc/walker-walk", 24, 6),
        ("dmc/ball_in_cup-catch", 8, 2),
        ("dmc/humanoid-run", 67, 21),
        ("dmc/dog-stand", 223, 38),
    ],
)
def test_sizes(task: str, obs_dim: int, action_dim: int) -> None:
    environment = DMCEnvironment(task)
    assert environment.spec == Spec((obs_dim,), action_dim, episode_length=500)
    obs = environment.reset(seed=0)
    assert obs.shape == (obs_dim,)
    assert obs.dtype == np.float32


@pytest.mark.parametrize("task", ["dmc/walker-walk", "dmc/quadruped-escape", "dmc/reacher-easy"])
def test_an_episode_depends_on_its_seed_and_actions_alone(task: str) -> None:
    fresh, used = DMCEnvironment(task), DMCEnvironment(task)
    play(used, seed=3, interactions=12)
    expected, rewards = play(fresh, seed=7, interactions=20)
    observations, same_rewards = play(used, seed=7, interactions=20)
    assert np.array_equal(observations, expected)
    assert same_rewards == rewards
    assert not np.array_equal(play(used, seed=8, interactions=0)[0], expected[:1])


def test_observation_is_the_tasks_own_in_its_order() -> None:
    environment = DMCEnvironment("dmc/walker-walk")
    obs = environment.reset(seed=0)
    task = environment._environment.task
    entries = task.get_observation(environment._environment.physics)
    assert list(entries) == ["orientations", "height", "velocity"]
    assert obs[14] == np.float32(entries["height"])
    assert np.array_equal(obs[15:], entries["velocity"].astype(np.float32))


def test_action_repeat_adds_rewards_up() -> None:
    once = DMCEnvironment("dmc/cartpole-balance", action_repeat=1)
    thrice = DMCEnvironment("dmc/cartpole-balance", action_repeat=3)
    assert np.array_equal(once.reset(5), thrice.reset(5))
    steps = [once.step(np.array([0.4])) for _ in range(3)]
    repeated = thrice.step(np.array([0.4]))
    assert repeated.reward == sum(step.reward for step in steps)
    assert np.array_equal(repeated.obs, steps[-1].obs)


def test_the_time_limit_truncates_and_a_last_interaction_may_be_short() -> None:
    environment = DMCEnvironment("dmc/cartpole-balance", action_repeat=300)
    assert environment.spec.episode_length == 4  # 300 + 300 + 300 + 100 env steps
    environment.reset(0)
    steps = [environment.step(np.zeros(1)) for _ in range(4)]
    assert [step.truncated for step in steps] == [False, False, False, True]
    assert not any(step.terminated for step in steps)
    assert steps[0].reward > 200
    assert steps[-1].reward <= 100


def test_a_discount_of_zero_terminates(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = DMCEnvironment("dmc/cartpole-balance")
    environment.reset(0)
    monkeypatch.setattr(environment._environment.task, "get_termination", lambda physics: 0.0)
    timestep = environment.step(np.zeros(1))
    assert timestep.terminated
    assert not timestep.truncated


def test_actions_are_rescaled_to_the_actuators_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = DMCEnvironment("dmc/quadruped-walk")
    seen: list[np.ndarray] = []
    before_step = environment._environment.task.before_step

    def record(action: np.ndarray, physics: Any) -> None:
        seen.append(action)
        before_step(action, physics)

    monkeypatch.setattr(environment._environment.task, "before_step", record)
    environment.reset(0)
    environment.step(np.ones(12))
    environment.step(-np.ones(12))
    bounds = environment._environment.action_spec()
    assert bounds.maximum[1] == 1.1
    assert np.array_equal(seen[0], bounds.maximum)
    assert np.array_equal(seen[2], bounds.minimum)


def test_unknown_task_names_its_neighbours() -> None:
    with pytest.raises(TaskError, match="Did you mean 'dmc/walker-walk'"):
        DMCEnvironment("dmc/walker-wakl")


def test_unbounded_actions_are_refused() -> None:
    with pytest.raises(TaskError, match="dmc/lqr-lqr_2_1 has unbounded actions"):
        DMCEnvironment("dmc/lqr-lqr_2_1")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dm_control", None)
    with pytest.raises(TaskError, match=r"pip install 'kanbatsu\[dmc\]'"):
        tasks()


def test_loading_opens_no_display_and_leaves_the_environment_variable_alone() -> None:
    program = (
        "import os, sys\n"
        "from kanbatsu.envs.make import make\n"
        "make('dmc/cartpole-balance').reset(0)\n"
        "print('MUJOCO_GL' in os.environ, 'glfw' in sys.modules, 'OpenGL' in sys.modules)\n"
    )
    variables = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=variables | {"DISPLAY": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "False False False\n", done.stderr
