"""What streaming agents see and feel: observations and rewards, scaled by what came before."""

import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents.streaming import Senses


def test_rewards_are_divided_by_the_deviation_of_their_discounted_sum():
    senses, rewards = Senses.new(1, timed=False), [1.0, 1.0, 3.0, 2.0]
    ended = [False, True, False, False]
    total, sums = 0.0, []
    for reward, end in zip(rewards, ended, strict=True):
        total = 0.9 * total + reward
        sums.append(total)
        senses, scaled = senses.feel(jnp.float32(reward), jnp.bool_(end), 0.9)
        deviation = np.std(sums, ddof=1) if len(sums) > 1 else 1.0
        np.testing.assert_allclose(scaled, reward / deviation, rtol=1e-5)
        total *= not end


def test_time_is_seen_as_it_is():
    senses = Senses.new(3, timed=True)
    for index in range(5):
        senses, seen = senses.see(jnp.array([float(index), 7.0, 0.1 * index - 0.5]))
        assert float(seen[-1]) == pytest.approx(0.1 * index - 0.5)
    assert senses.statistics.mean.tolist() == [2.0, 7.0]
