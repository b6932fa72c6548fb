"""Gymnasium: spaces that can be used, spaces that cannot, and how episodes end."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Space

from kanbatsu.envs.gym import GymEnvironment, load
from kanbatsu.envs.spec import TaskError
from kanbatsu.types import Spec

UNIT = Box(-1.0, 1.0, (1,))


class Scripted(gymnasium.Env):
    """Keeps what it is given; terminates after `length` env steps, each worth its number."""

    def __init__(
        self,
        actions: Space = UNIT,
        observations: Space = UNIT,
        length: int = 5,
        infos: tuple[dict[str, Any], ...] = (),
    ) -> None:
        self.action_space, self.observation_space = actions, observations
        self.length, self.infos = length, infos
        self.taken: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.taken = []
        return self.observation_space.sample(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        self.taken.append(action)
        count = len(self.taken)
        info = self.infos[count - 1] if self.infos else {}
        return self.observation_space.sample(), float(count), count == self.length, False, info


def test_pendulum_truncates_at_200_and_never_terminates() -> None:
    environment = GymEnvironment(load("gym/Pendulum-v1"), "gym/Pendulum-v1")
    assert environment.spec == Spec((3,), action_dim=1, episode_length=200)
    environment.reset(0)
    steps = [environment.step(np.zeros(1)) for _ in range(200)]
    assert [step.truncated for step in steps] == [False] * 199 + [True]
    assert not any(step.terminated for step in steps)


def test_an_environment_that_ends_by_itself_terminates() -> None:
    environment = GymEnvironment(Scripted(length=2), "scripted")
    environment.reset(0)
    assert environment.step(np.zeros(1))[1:] == (1.0, False, False, None, {})
    assert environment.step(np.zeros(1))[1:] == (2.0, True, False, None, {})


def test_action_repeat_adds_rewards_up_and_stops_with_the_episode() -> None:
    inner = Scripted(length=5)
    environment = GymEnvironment(inner, "scripted", action_repeat=3)
    environment.reset(0)
    assert environment.step(np.zeros(1)).reward == 1 + 2 + 3
    last = environment.step(np.zeros(1))
    assert (last.reward, last.terminated) == (4 + 5, True)
    assert len(inner.taken) == 5


def test_actions_reach_any_finite_box_in_its_own_shape_and_type() -> None:
    low = np.array([[-2.0, 0.0], [1.0, -0.1]], np.float32)
    high = np.array([[2.0, 10.0], [1.0, 0.3]], np.float32)
    inner = Scripted(actions=Box(low, high))
    environment = GymEnvironment(inner, "scripted")
    assert environment.spec.action_dim == 4
    environment.reset(0)
    for action in (-1.0, 0.0, 1.0):
        environment.step(np.full(4, action))
    assert np.array_equal(inner.taken[0], low)
    np.testing.assert_allclose(inner.taken[1], [[0.0, 5.0], [1.0, 0.1]], rtol=1e-6)
    assert np.array_equal(inner.taken[2], high)
    assert inner.taken[0].dtype == np.float32


def test_observations_of_any_shape_are_flattened() -> None:
    space = Box(0, 255, (2, 3, 4), np.uint8)
    environment = GymEnvironment(Scripted(observations=space), "scripted")
    obs = environment.reset(4)
    space.seed(4)
    assert environment.spec.obs_dim == 24
    assert obs.dtype == np.float32
    assert np.array_equal(obs, space.sample().ravel())


def test_a_flat_dict_is_laid_end_to_end_in_the_spaces_order() -> None:
    space = Dict({"z": Box(5.0, 6.0, (2,)), "a": Box(-6.0, -5.0, (1, 3))})
    environment = GymEnvironment(Scripted(observations=space), "scripted")
    obs = environment.reset(4)
    space.seed(4)
    sample = space.sample()
    assert environment.spec.obs_dim == 5
    assert np.array_equal(obs, np.concatenate([sample[key].ravel() for key in space.spaces]))


def test_episode_length_is_found_wherever_it_is_written() -> None:
    limited = gymnasium.wrappers.ClipReward(gymnasium.wrappers.TimeLimit(Scripted(), 10), 0, 1)
    assert GymEnvironment(limited, "limited", action_repeat=3).spec.episode_length == 4
    assert GymEnvironment(Scripted(), "endless").spec.episode_length is None
    tighter = gymnasium.wrappers.TimeLimit(load("gym/Pendulum-v1"), 50)
    assert GymEnvironment(tighter, "tighter").spec.episode_length == 50


@pytest.mark.parametrize("key", ["is_success", "success"])
def test_success_is_what_the_last_env_step_of_a_interaction_reports(key: str) -> None:
    infos = ({key: True}, {key: np.float64(0.0)}, {}, {key: np.True_})
    environment = GymEnvironment(Scripted(infos=infos, length=4), "scripted", action_repeat=2)
    environment.reset(0)
    assert environment.step(np.zeros(1)).success is False
    assert environment.step(np.zeros(1)).success is True
    silent = GymEnvironment(Scripted(), "scripted")
    silent.reset(0)
    assert silent.step(np.zeros(1)).success is None


def test_discrete_actions_are_refused_with_a_way_out() -> None:
    with pytest.raises(TaskError, match=r"gym/CartPole-v1 has discrete .* stream_q"):
        GymEnvironment(load("gym/CartPole-v1"), "gym/CartPole-v1")
    with pytest.raises(TaskError, match=r"has integer or structured actions .* gym/Pendulum-v1"):
        GymEnvironment(Scripted(actions=Box(0, 3, (1,), np.int64)), "steps")


def test_unbounded_actions_are_refused_with_a_way_out() -> None:
    with pytest.raises(
        TaskError, match=r"half has unbounded actions .* finite bounds, or wrap .*TransformAction"
    ):
        GymEnvironment(Scripted(actions=Box(0.0, np.inf, (1,))), "half")


@pytest.mark.parametrize(
    "space",
    [Discrete(3), Dict({"a": UNIT, "b": Discrete(2)}), Dict({"a": Dict({"b": UNIT})})],
)
def test_structured_observations_are_refused_with_a_way_out(space: Space) -> None:
    with pytest.raises(TaskError, match="FlattenObservation"):
        GymEnvironment(Scripted(observations=space), "structured")


def test_unknown_id_names_its_neighbours() -> None:
    with pytest.raises(TaskError, match=r"Did you mean .*'gym/Pendulum-v1'"):
        load("gym/Pendulm-v1")


@pytest.mark.parametrize(
    "error",
    [ModuleNotFoundError("No module named 'imageio'"), gymnasium.error.DependencyNotInstalled("x")],
)
def test_a_missing_dependency_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def make(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(gymnasium, "make", make)
    with pytest.raises(TaskError, match=r"gym/Ant-v5 cannot be loaded .*pip install"):
        load("gym/Ant-v5")
