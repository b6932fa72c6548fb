"""Process control: a stirred tank reactor of pc-gym, cooled so that a concentration is held.

pip install pcgym==0.1.8
In this folder: kanbatsu study 11_process_control.toml --out ../out/reactor
"""

import gymnasium
import numpy as np
from pcgym import make_env

STEPS = 100
"""Samples in 25 minutes; the last one ends an episode after 99 decisions."""


class EndsByTheClock(gymnasium.Wrapper):
    """Report the end of an episode as truncation: the reactor goes on, only nobody watches.

    pc-gym calls it termination, and agents would learn that time is death.
    """

    def step(self, action: np.ndarray) -> tuple:
        """Take one decision."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward), False, terminated or truncated, info


def reactor() -> gymnasium.Env:
    """Build the reactor: hold the concentration at 0.85, then at 0.9, by the coolant's temperature.

    The observation is concentration, temperature and set point; the action is the coolant between
    295 and 302 K.
    """
    settings = {
        "model": "cstr",
        "integration_method": "casadi",
        "N": STEPS,
        "tsim": 25,
        "SP": {"Ca": [0.85] * (STEPS // 2) + [0.9] * (STEPS // 2)},
        "x0": np.array([0.8, 330.0, 0.8]),
        "o_space": {"low": np.array([0.7, 300.0, 0.8]), "high": np.array([1.0, 350.0, 0.9])},
        "a_space": {"low": np.array([295.0]), "high": np.array([302.0])},
        "r_scale": {"Ca": 1e3},
        "normalise_a": True,
        "normalise_o": True,
        "noise": False,
    }
    return gymnasium.wrappers.TimeLimit(EndsByTheClock(make_env(settings)), STEPS - 1)
