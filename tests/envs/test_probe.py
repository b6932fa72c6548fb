"""The probe environments pay what their documentation says."""

from collections.abc import Callable

import numpy as np
import pytest

from kanbatsu.envs import probe
from kanbatsu.envs.make import make
from kanbatsu.envs.probe import ProbeEnvironment

ALL = (
    probe.constant_reward,
    probe.observed_reward,
    probe.delayed_reward,
    probe.action_reward,
    probe.observed_action_reward,
)


def rewards(environment: ProbeEnvironment, seed: int, action: float) -> tuple[float, list[float]]:
    """The cue of an episode, and its rewards under one action."""
    cue = float(environment.reset(seed)[0])
    length = environment.spec.episode_length
    assert length is not None
    steps = [environment.step(np.array([action])) for _ in range(length)]
    assert [step.terminated for step in steps] == [False] * (length - 1) + [True]
    assert [step.obs.tolist() for step in steps] == [[cue, count + 1] for count in range(length)]
    return cue, [step.reward for step in steps]


@pytest.mark.parametrize("factory", ALL)
def test_every_probe_is_a_task(factory: Callable[[], ProbeEnvironment]) -> None:
    environment = make(f"kanbatsu.envs.probe:{factory.__name__}")
    assert environment.spec == factory().spec


def test_values() -> None:
    assert rewards(probe.constant_reward(), 0, 0.7) == (0.0, [1.0])
    assert rewards(probe.delayed_reward(), 0, -0.2) == (0.0, [0.0, 1.0])
    assert rewards(probe.action_reward(), 0, -0.5) == (0.0, [0.0])
    assert rewards(probe.action_reward(), 0, 0.5) == (0.0, [1.0])


def test_values_that_depend_on_the_cue() -> None:
    seen = {rewards(probe.observed_reward(), seed, 0.0)[0] for seed in range(20)}
    assert seen == {-1.0, 1.0}
    for seed in range(20):
        cue, (reward,) = rewards(probe.observed_reward(), seed, 0.3)
        assert reward == cue
        cue, (reward,) = rewards(probe.observed_action_reward(), seed, 0.5)
        assert reward == {1.0: 1.0, -1.0: 0.0}[cue]
