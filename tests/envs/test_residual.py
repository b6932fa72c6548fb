"""The action is the incumbent's plus a bounded correction: the same sum in training and service."""

import numpy as np
import pytest

from kanbatsu.envs import base_stock
from kanbatsu.envs.inventory import load
from kanbatsu.envs.make import make
from kanbatsu.envs.residual import ResidualEnvironment
from kanbatsu.envs.spec import TaskError

TASK = "inventory/seasonal"


def play(environment, action, seed=3):
    environment.reset(seed)
    total, over = 0.0, False
    while not over:
        step = environment.step(np.asarray(action, np.float64))
        total, over = total + step.reward, step.terminated or step.truncated
    return total


@pytest.mark.parametrize("task", base_stock.LEVELS)
def test_no_correction_is_the_incumbent_itself(task):
    environment = ResidualEnvironment(load(task), base_stock.policy(task), 0.2)
    expected = base_stock.baseline(task, range(3, 4)).item()
    np.testing.assert_allclose(play(environment, np.zeros(4)), expected, rtol=1e-5)


def test_a_correction_is_in_the_actuators_units_and_bounded():
    taken = []

    class Recorded:
        inner = load(TASK)
        spec, action_repeat = inner.spec, 1

        def reset(self, seed):
            return self.inner.reset(seed)

        def step(self, action):
            taken.append(action)
            return self.inner.step(action)

        def close(self):
            pass

    incumbent = np.array([1.0, 1.0, 0.1, 1.95])
    environment = ResidualEnvironment(Recorded(), lambda obs: incumbent, (0.5, 0.1, 0.2, 0.1))
    environment.reset(0)
    environment.step(np.array([1.0, -0.5, -1.0, 1.0]))
    # 1.5, 0.95, and kept inside 0 to 2: 0 and 2; orders of 0 to 2 are -1 to 1.
    np.testing.assert_allclose(taken[0], [0.5, -0.05, -1.0, 1.0], atol=1e-12)
    assert environment.spec.low == (-0.5, -0.1, -0.2, -0.1)


def test_an_incumbent_that_remembers_begins_each_episode_anew():
    class Integrating:
        def __init__(self):
            self.total = 0.0

        def reset(self):
            self.total = 0.0

        def __call__(self, obs):
            self.total += 0.01
            return np.full(4, self.total)

    environment = ResidualEnvironment(load(TASK), Integrating(), 0.1)
    assert play(environment, np.zeros(4)) == play(environment, np.zeros(4))


@pytest.mark.parametrize("bound", [0.0, -1.0, (0.1, 0.1), (0.1, 0.1, 0.1, 0.0)])
def test_a_bound_that_fits_nothing_is_refused(bound):
    with pytest.raises(TaskError, match="must be positive, one number or 4"):
        ResidualEnvironment(load(TASK), base_stock.policy(TASK), bound)


def test_an_incumbent_of_another_shape_is_refused():
    environment = ResidualEnvironment(load(TASK), lambda obs: np.zeros(1), 0.1)
    environment.reset(0)
    with pytest.raises(TaskError, match=r"shape \[1\], and an action of this task is finite"):
        environment.step(np.zeros(4))


def test_a_study_names_it_as_an_own_task(tmp_path, monkeypatch):
    (tmp_path / "corrected_chain.py").write_text(
        "from kanbatsu.envs.base_stock import policy\n"
        "from kanbatsu.envs.make import make\n"
        "from kanbatsu.envs.residual import ResidualEnvironment\n\n\n"
        "def chain():\n"
        f"    return ResidualEnvironment(make({TASK!r}), policy({TASK!r}), bound=0.2)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    environment = make("corrected_chain:chain")
    assert environment.spec.high == (0.2,) * 4
    assert play(environment, np.zeros(4)) < 0


def test_training_and_service_add_alike():
    from kanbatsu.rollout.policy.ask import Inline
    from kanbatsu.rollout.residual import Add, Once, Residual

    bound, correction = (0.2, 0.2, 0.2, 0.2), np.array([0.1, -0.3, 0.05, 0.2])
    task = load(TASK)
    obs = task.reset(5)
    once = Once(base_stock.policy(TASK))
    once.new_step(obs)
    add = Add(bound, (0.0,) * 4, (2.0,) * 4)
    served = Residual(Inline(lambda obs: correction), once, add).ask(obs, 1.0).action
    trained = load(TASK)
    environment = ResidualEnvironment(trained, base_stock.policy(TASK), bound)
    environment.reset(5)
    environment.step(np.clip(correction / bound, -1.0, 1.0))
    task.step(served - 1.0)
    for mine, theirs in zip(task.stock, trained.stock, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
