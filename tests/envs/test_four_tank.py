"""The quadruple-tank process: published numbers, nothing lost or made, an episode by its seed."""

import dataclasses

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy.integrate import solve_ivp

from kanbatsu.deploy.task import contract_of_task
from kanbatsu.envs import pi_control
from kanbatsu.envs.four_tank import (
    HEIGHT,
    STEPS,
    FourTank,
    Tanks,
    advance,
    inflow,
    load,
    outflow,
    steady,
    time_constants,
)
from kanbatsu.envs.make import make
from kanbatsu.envs.spec import TaskError

TANKS = Tanks()
TASK = "plant/four-tank"


def test_the_published_operating_point_is_a_steady_state() -> None:
    # Table II of Johansson 2000 measures h3 = 1.8 cm, and its own constants give 1.6.
    at = steady(TANKS, np.array([3.0, 3.0]))
    np.testing.assert_allclose(at, TANKS.levels, atol=0.2)
    np.testing.assert_allclose(at[[0, 1, 3]], np.array(TANKS.levels)[[0, 1, 3]], rtol=0.015)
    np.testing.assert_allclose(advance(TANKS, at, np.array([3.0, 3.0]), 3600.0, 1440), at)
    np.testing.assert_allclose(time_constants(TANKS), [62, 90, 23, 30], atol=1.0)  # published


def test_the_zeros_are_those_of_the_minimum_phase_setting() -> None:
    # Johansson 2000, equation 5: both zeros lie left where the valves' shares add to more than 1.
    one, two = TANKS.valves
    eta = (1 - one) * (1 - two) / (one * two)
    third, fourth = time_constants(TANKS)[2:]
    zeros = np.roots([third * fourth, third + fourth, 1 - eta])
    np.testing.assert_allclose(sorted(zeros.real), [-0.060, -0.018], atol=0.002)  # published


def test_water_is_neither_made_nor_lost() -> None:
    levels, volts = np.array([5.0, 9.0, 2.0, 1.0]), np.array([2.0, 4.0])
    left = 0.0
    seconds = 0.05
    for _ in range(400):
        before = outflow(TANKS, levels)[:2].sum()
        after = advance(TANKS, levels, volts, seconds, 1)
        left += seconds * (before + outflow(TANKS, after)[:2].sum()) / 2
        levels = after
    stored = np.array(TANKS.areas) @ (levels - [5.0, 9.0, 2.0, 1.0])
    pumped = 20.0 * (volts @ inflow(TANKS)).sum()
    assert pumped == pytest.approx(20.0 * volts @ TANKS.pumps)
    assert stored + left == pytest.approx(pumped, rel=1e-5)


def test_integration_agrees_with_another_solver() -> None:
    volts, begin = np.array([6.0, 1.0]), np.array([3.0, 15.0, 0.5, 4.0])

    def rates(_: float, at: np.ndarray) -> np.ndarray:
        g, (a1, a2, a3, a4), (b1, b2, b3, b4) = TANKS.gravity, TANKS.areas, TANKS.outlets
        o1, o2, o3, o4 = np.array([b1, b2, b3, b4]) * np.sqrt(2 * g * np.maximum(at, 0))
        f1, f2 = 3.33 * volts[0], 3.35 * volts[1]
        return np.array(
            [
                (-o1 + o3 + 0.7 * f1) / a1,
                (-o2 + o4 + 0.6 * f2) / a2,
                (-o3 + 0.4 * f2) / a3,
                (-o4 + 0.3 * f1) / a4,
            ]
        )

    there = solve_ivp(rates, (0.0, 60.0), begin, rtol=1e-9, atol=1e-9).y[:, -1]
    levels = begin
    for _ in range(12):
        levels = advance(TANKS, levels, volts)
    np.testing.assert_allclose(levels, there, atol=1e-4)


def test_what_is_too_much_runs_over_and_is_said() -> None:
    environment = load(TASK)
    environment.reset(seed=0)
    infos = [environment.step(np.array([10.0, 10.0]))[4] for _ in range(30)]
    assert not infos[0]["overflow"]
    assert infos[-1]["overflow"]
    assert environment.unwrapped.levels.max() == HEIGHT


def test_an_episode_is_a_function_of_its_seed_and_its_actions() -> None:
    def play(seed: int) -> list:
        obs, _ = environment.reset(seed=seed)
        seen = [obs.tolist()]
        for step in range(20):
            obs, reward, *_ = environment.step(np.array([2.0 + 0.1 * step, 3.0]))
            seen.append([*obs.tolist(), reward])
        return seen

    environment = FourTank()
    first = play(3)
    assert play(4) != first
    assert play(3) == first


@pytest.mark.filterwarnings("ignore:.*symmetric and normalized space")
def test_gymnasium_takes_it_and_so_does_kanbatsu() -> None:
    check_env(FourTank(), skip_render_check=True)
    environment = make(TASK)
    assert environment.spec.episode_length == STEPS
    assert (environment.spec.low, environment.spec.high) == ((0.0, 0.0), (10.0, 10.0))
    with pytest.raises(TaskError, match="Did you mean 'plant/four-tank'"):
        make("plant/four-tanks")


def test_its_contract_names_what_is_measured() -> None:
    contract = contract_of_task({"task": TASK, "action_repeat": 2})
    assert contract.control_period == 10.0
    assert contract.observation_names[4] == "target_1"
    assert contract.action_units == ("V", "V")


def test_loops_are_paid_alike_alone_and_side_by_side() -> None:
    environment, loops, paid = load(TASK), pi_control.four_tank(), []
    for seed in (5, 6):
        obs, _ = environment.reset(seed=seed)
        loops.reset()
        total, over = 0.0, False
        while not over:
            obs, reward, _, over, _ = environment.step(loops(obs).astype(np.float32))
            total += reward
        paid.append(total)
    np.testing.assert_allclose(paid, pi_control.returns(pi_control.TUNED, range(5, 7)), rtol=1e-9)


def test_tuning_beats_what_was_published_by_a_little_on_other_episodes() -> None:
    tuned, published = (
        pi_control.returns(gains, range(1000, 1064))
        for gains in (pi_control.TUNED, pi_control.PUBLISHED)
    )
    difference = tuned - published
    assert difference.mean() > 2 * difference.std() / 8


def test_loops_hold_a_target_whatever_the_pumps_have_worn_and_do_not_wind_up() -> None:
    worn = dataclasses.replace(TANKS, pumps=(3.0, 3.6))
    loops, levels = pi_control.four_tank(), steady(TANKS, np.array([3.0, 3.0]))
    for aim in ([12.0, 12.0], [19.0, 12.0], [12.0, 12.0]):  # the second is far
        for _ in range(80):
            volts = loops(np.array([*levels, *aim, 3.0, 3.0]))
            levels = advance(worn, levels, volts)
    np.testing.assert_allclose(levels[:2], [12.0, 12.0], atol=0.02)
