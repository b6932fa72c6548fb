"""Rescaling stays within its bounds, and a mistyped name meets its neighbours."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kanbatsu.envs.spec import rescale, unknown_task

BOUND = st.floats(-1e6, 1e6)


def test_rescale_hits_bounds_and_centre() -> None:
    low, high = np.array([-2.0, 0.0]), np.array([2.0, 10.0])
    assert rescale(np.array([-1.0, -1.0]), low, high).tolist() == [-2.0, 0.0]
    assert rescale(np.array([0.0, 0.0]), low, high).tolist() == [0.0, 5.0]
    assert rescale(np.array([1.0, 1.0]), low, high).tolist() == [2.0, 10.0]


def test_rescale_keeps_actions_that_need_none_bit_for_bit() -> None:
    action = np.random.default_rng(0).uniform(-1, 1, 100).astype(np.float32)
    assert np.array_equal(rescale(action, -np.ones(100), np.ones(100)), action)


@given(st.floats(-1, 1), BOUND, BOUND)
def test_rescale_never_leaves_the_bounds(action: float, one: float, other: float) -> None:
    low, high = np.array([min(one, other)]), np.array([max(one, other)])
    scaled = rescale(np.array([action]), low, high)
    assert low <= scaled <= high


def test_unknown_task_without_neighbours_explains_how_tasks_are_written() -> None:
    message = str(unknown_task("chess", ["dmc/walker-walk"]))
    assert message == (
        "Unknown task 'chess'. "
        "Tasks are written dmc/<domain>-<task>, gym/<id> or package.module:factory."
    )
