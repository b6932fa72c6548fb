"""Tasks that go wrong in the ways in which a user's own environment can; workers import them."""

import atexit
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kanbatsu.envs.probe import ProbeEnvironment
from kanbatsu.envs.spec import Timestep


class Task(ProbeEnvironment):
    """Pays 1 - (action - 0.5)^2, after something has happened to the step."""

    def __init__(self, happens: Callable[[Timestep], Timestep]) -> None:
        super().__init__(lambda cue, action: 1.0 - (action - 0.5) ** 2)
        self._happens = happens

    def step(self, action: np.ndarray) -> Timestep:
        return self._happens(super().step(action))


def good() -> Task:
    print("an environment that talks")  # noqa: T201
    return Task(lambda step: step)


def slow() -> Task:
    def wait(step: Timestep) -> Timestep:
        time.sleep(0.05)
        return step

    return Task(wait)


def nan() -> Task:
    return Task(lambda step: step._replace(reward=float("nan")))


def fragile() -> Task:
    def burn(step: Timestep) -> Timestep:
        if not Path("repaired").exists():
            raise RuntimeError("the simulator burnt down")
        return step

    return Task(burn)


def killed() -> Task:
    def kill(step: Timestep) -> Timestep:
        print("last words", flush=True)  # noqa: T201
        os.kill(os.getpid(), signal.SIGKILL)
        return step

    return Task(kill)


def dies_once() -> Task:
    def kill(step: Timestep) -> Timestep:
        if not Path("dead").exists():
            Path("dead").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return step

    return Task(kill)


def dies_at_the_end() -> Task:
    atexit.register(os.kill, os.getpid(), signal.SIGKILL)
    return Task(lambda step: step)


def hangs() -> Task:
    def hang(step: Timestep) -> Timestep:
        while not Path("repaired").exists():
            time.sleep(0.05)
        return step

    return Task(hang)


def fragile_at_30() -> Task:
    steps = 0

    def burn(step: Timestep) -> Timestep:
        nonlocal steps
        steps += 1
        if steps == 30 and not Path("repaired").exists():
            raise RuntimeError("the simulator burnt down")
        return step

    return Task(burn)
