"""From names to environments, and from wrong names to help."""

import sys
from pathlib import Path

import pytest

from kanbatsu.envs.make import make
from kanbatsu.envs.spec import TaskError

FACTORIES = """
import gymnasium
from kanbatsu.envs.probe import constant_reward

pendulum = lambda: gymnasium.make("Pendulum-v1")
probe = constant_reward
number = lambda: 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of the user's own, in the current folder."""
    name = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_action_repeat_defaults_to_the_tasks_own() -> None:
    assert make("dmc/cartpole-balance").action_repeat == 2
    assert make("gym/Pendulum-v1").action_repeat == 1
    assert make("dmc/cartpole-balance", 4).spec.episode_length == 250
    assert make("gym/Pendulum-v1", 3).spec.episode_length == 67


def test_action_repeat_must_be_positive() -> None:
    with pytest.raises(ValueError, match="action_repeat must be at least 1, not 0"):
        make("gym/Pendulum-v1", 0)


def test_a_factory_may_return_a_gymnasium_environment(module: str) -> None:
    environment = make(f"{module}:pendulum", 2)
    assert environment.spec.episode_length == 100
    assert environment.reset(0).shape == (3,)


def test_a_factory_may_return_an_environment_of_ours(module: str) -> None:
    assert make(f"{module}:probe").spec.obs_dim == 2
    with pytest.raises(TaskError, match="leave action_repeat unset instead of 2"):
        make(f"{module}:probe", 2)


def test_a_factory_that_returns_something_else_is_told_what_to_return(module: str) -> None:
    with pytest.raises(TaskError, match=r"returned int\. The factory must return a Gymnasium"):
        make(f"{module}:number")


def test_a_mistyped_factory_meets_its_neighbours(module: str) -> None:
    with pytest.raises(TaskError, match=r"no factory 'pendulm'\. Did you mean 'pendulum'"):
        make(f"{module}:pendulm")


def test_a_missing_module_says_where_it_is_looked_for() -> None:
    with pytest.raises(TaskError, match="Run kanbatsu from the folder that holds nowhere"):
        make("nowhere.envs:make")


@pytest.mark.parametrize(
    ("task", "meant"),
    [
        ("walker-walk", "'dmc/walker-walk'"),
        ("Pendulum-v1:", "'gym/Pendulum-v1'"),
    ],
)
def test_a_forgotten_prefix_is_suggested(task: str, meant: str) -> None:
    with pytest.raises(TaskError, match=f"Did you mean .*{meant}"):
        make(task)


def test_a_wrong_name_is_said_even_where_dm_control_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "dm_control", None)
    with pytest.raises(TaskError, match="Unknown task 'walker-walk'"):
        make("walker-walk")
