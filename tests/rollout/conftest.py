"""Policies that other processes can import: good ones, and every bad one there is."""

import sys

import pytest

from kanbatsu.rollout.config import CandidateSettings, GuardSettings

POLICIES = """
import ctypes, os, time
import numpy as np

def good():
    return lambda obs: 0.1 * obs[:1]

def nan():
    return lambda obs: np.array([np.nan])

def raising():
    return lambda obs: obs[99]

def wrong_shape():
    return lambda obs: np.zeros((2, 2))

def slow():
    return lambda obs: time.sleep(0.2) or np.zeros(1)

def spinning():
    def policy(obs):
        while True:
            pass
    return policy

def holding_the_lock():  # compiled code that keeps Python's lock: no other thread runs
    return lambda obs: ctypes.PyDLL(None).sleep(60)

def crashing():
    return lambda obs: os._exit(3)

def unloadable():
    raise OSError("the weights are gone")

def integrating():
    def policy(obs, total=[0.0]):
        total[0] += 1.0
        return np.array([0.01 * total[0]])
    return policy
"""


@pytest.fixture(scope="session")
def _planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policies")
    (folder / "planted_policies.py").write_text(POLICIES)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.fixture
def candidate(_planted):
    """Return the settings of a planted policy."""

    def settings(name, **others):
        return CandidateSettings(f"planted_policies:{name}", **{"hang_s": 0.3} | others)

    return settings


@pytest.fixture
def limits():
    """Return the guard's settings of a task with two observations and one action."""

    def settings(**others):
        most = {"obs_dim": 2, "low": (-1.0,), "high": (1.0,), "safe_action": (-0.5,)}
        return GuardSettings(**most | others)

    return settings
