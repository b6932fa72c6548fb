"""Inverse kinematics and PD: what a robot's own controller does to bring its finger to a target."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

LINK = 0.12
"""Length of each of the two links of dmc/reacher, in metres (dm_control's reacher.xml)."""
FARTHEST = math.radians(160.0)
"""Largest angle of the wrist, in radians (the same file)."""


class Gains(NamedTuple):
    """Settings of the PD loops of both joints, in shares of the largest torque."""

    angle: float
    """For each radian from the goal."""
    speed: float
    """Against each radian per second."""


TUNED = Gains(8.0, 0.25)
"""Settings that a search on the episodes of seeds 0 to 7 finds (benchmarks/reach.py)."""


def goal(
    finger_to_target: Float[np.ndarray, " 2"], joints: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, " 2"]:
    """Return the joints' angles at which the finger is at the target, in radians.

    Args:
        finger_to_target: vector from the finger to the target, in metres.
        joints: angles of shoulder and wrist, in radians.

    Returns:
        The nearer of the two poses, with the shoulder's angle less than half a turn away; where the
        target is out of reach, the pose that points at it.

    Example:
        >>> straight = np.zeros(2)  # the finger is at (0.24, 0)
        >>> goal(np.array([-0.24, 0.24]), straight).round(3).tolist()  # a quarter of a turn
        [1.571, 0.0]
    """
    shoulder, wrist = joints
    both = shoulder + wrist
    x = LINK * (math.cos(shoulder) + math.cos(both)) + finger_to_target[0]
    y = LINK * (math.sin(shoulder) + math.sin(both)) + finger_to_target[1]
    bend = 2.0 * math.acos(min(math.hypot(x, y) / (2.0 * LINK), 1.0))
    poses = []
    for bent in (min(bend, FARTHEST), -min(bend, FARTHEST)):
        turn = math.remainder(math.atan2(y, x) - bent / 2.0 - shoulder, 2.0 * math.pi)
        poses.append((abs(turn) + abs(bent - wrist), shoulder + turn, bent))
    return np.array(min(poses)[1:])


def control(gains: Gains) -> Callable[[Float[np.ndarray, " 6"]], Float[np.ndarray, " 2"]]:
    """Return the controller as a function of an observation of dmc/reacher to torques.

    Args:
        gains: of both loops.

    Returns:
        A function of angles, vector to the target and speeds, `[6]`; torques are in [-1, 1].

    Example:
        >>> there = np.array([0.3, 0.5, 0.0, 0.0, 0.0, 0.0])
        >>> bool(np.allclose(control(TUNED)(there), 0.0))
        True

    Source: Siciliano et al. 2009, "Robotics: Modelling, Planning and Control", sections 2.12
    (inverse kinematics of two links) and 8.5 (PD control of joints).
    """

    def torques(obs: Float[np.ndarray, " 6"]) -> Float[np.ndarray, " 2"]:
        numbers = np.asarray(obs, np.float64)
        joints, error, speeds = numbers[:2], numbers[2:4], numbers[4:6]
        wanted = gains.angle * (goal(error, joints) - joints) - gains.speed * speeds
        return np.clip(wanted, -1.0, 1.0)

    return torques


def reacher() -> Callable[[Float[np.ndarray, " 6"]], Float[np.ndarray, " 2"]]:
    """Return the tuned controller of dmc/reacher-easy and dmc/reacher-hard: an incumbent by name.

    Example:
        >>> reacher()(np.array([0.0, 0.1, 0.0, 0.2, 0.0, 0.0])).shape
        (2,)
    """
    return control(TUNED)
