"""Reaching: poses by hand, and an arm that arrives."""

import math

import numpy as np
import pytest

from kanbatsu.envs.incumbent import load_incumbent
from kanbatsu.envs.make import make
from kanbatsu.envs.reach_control import LINK, TUNED, Gains, control, goal


def finger(joints: np.ndarray) -> np.ndarray:
    both = joints.sum()
    return LINK * np.array(
        [math.cos(joints[0]) + math.cos(both), math.sin(joints[0]) + math.sin(both)]
    )


@pytest.mark.parametrize("joints", [(0.0, 0.1), (2.5, -1.2), (-9.0, 2.0), (0.5, -2.7)])
@pytest.mark.parametrize("target", [(0.1, 0.05), (-0.02, 0.06), (-0.15, -0.1), (0.0, -0.2)])
def test_the_pose_brings_the_finger_to_the_target(joints, target):
    start, aim = np.array(joints), np.array(target)
    pose = goal(aim - finger(start), start)
    np.testing.assert_allclose(finger(pose), aim, atol=1e-12)
    assert abs(pose[0] - start[0]) <= math.pi + 1e-12


def test_a_target_out_of_reach_is_pointed_at():
    start = np.array([0.3, 0.2])
    pose = goal(np.array([0.0, 1.0]) - finger(start), start)
    np.testing.assert_allclose(pose, [math.pi / 2, 0.0], atol=1e-12)


def test_torques_by_hand():
    # Straight, and the target 0.12 up and left of the finger: the wrist must turn by a quarter.
    obs = np.array([0.0, 0.0, -LINK, LINK, 0.5, -0.25])
    torques = control(Gains(0.5, 0.2))(obs)
    np.testing.assert_allclose(torques, [-0.1, 0.5 * math.pi / 2 + 0.05], atol=1e-12)
    assert control(Gains(50.0, 0.0))(obs)[1] == 1.0


def test_the_arm_arrives_and_stays():
    pytest.importorskip("dm_control")
    environment, rule = (
        make("dmc/reacher-hard"),
        load_incumbent("kanbatsu.envs.reach_control:reacher"),
    )
    obs = environment.reset(seed=0)
    np.testing.assert_allclose(rule(obs), control(TUNED)(obs))
    rewards = []
    for _ in range(250):
        step = environment.step(rule(obs))
        obs = step.obs
        rewards.append(step.reward)
    environment.close()
    assert sum(rewards[-100:]) == 200.0  # of two env steps each
