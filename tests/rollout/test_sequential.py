"""Many looks, one chance of error; and a planted harm is found."""

import numpy as np
import pytest

from kanbatsu.rollout.sequential import FRACTIONS, ConfidenceSequence, Difference

ALPHA, RUNS = 0.05, 1000
POINTS = np.array([0.0])


def first_stops(draw, share, episodes, alpha=ALPHA, seed=0):
    """Follow 1,000 rollouts; return the episode at which each is stopped for harm, or none (inf).

    `draw` gives the outcomes of both arms for an episode: generator, episode -> two of [runs].
    """
    generator = np.random.default_rng(seed)
    difference = Difference(alpha, (RUNS,), POINTS)
    stopped = np.full(RUNS, np.inf)
    for episode in range(episodes):
        candidate = generator.random(RUNS) < share
        theirs, ours = draw(generator, episode)
        difference.add(np.where(candidate, ours, theirs), candidate, share)
        harmed = difference.limits().high <= 0.0
        stopped = np.where(harmed & np.isinf(stopped), episode + 1, stopped)
    return stopped


def alike(spread):
    def draw(generator, episode):
        return tuple(generator.normal(0.6, spread, RUNS).clip(0.0, 1.0) for _ in range(2))

    return draw


def drifting(generator, episode):
    # The world gets worse for both: what is not randomised would take that for harm.
    centre = 0.9 - 0.8 * episode / 500
    return tuple(generator.normal(centre, 0.05, RUNS).clip(0.0, 1.0) for _ in range(2))


def rare(generator, episode):
    return tuple((generator.random(RUNS) > 0.02).astype(float) for _ in range(2))


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize(
    "draw", [alike(0.05), alike(0.4), drifting, rare], ids=["narrow", "wide", "drift", "rare"]
)
def test_an_equal_candidate_is_seldom_stopped_however_often_one_looks(draw, share):
    stopped = first_stops(draw, share, episodes=500)
    # alpha / 2 on each side; three standard errors of 1,000 rollouts above it are 0.040.
    assert np.isfinite(stopped).mean() <= 0.040


def test_a_careless_test_at_every_look_would_stop_most():
    # The same rollouts, judged by a t interval after every episode: the sequence earns its keep.
    generator = np.random.default_rng(0)
    outcome = generator.normal(0.0, 1.0, (RUNS, 500))
    sign = np.where(generator.random((RUNS, 500)) < 0.5, 2.0, -2.0)
    values = outcome * sign
    count = np.arange(1, 501)
    mean = values.cumsum(1) / count
    error = np.sqrt(((values**2).cumsum(1) / count - mean**2) / count)
    assert (mean + 1.96 * error < 0)[:, 20:].any(1).mean() > 0.15


def test_a_planted_harm_is_found_soon_and_nearly_always():
    def harmful(generator, episode):
        theirs, ours = alike(0.1)(generator, episode)
        return theirs, ours - 0.1 * (ours > 0.1)  # one standard deviation less

    stopped = first_stops(harmful, share=0.25, episodes=600)
    assert np.isfinite(stopped).mean() > 0.95
    assert np.median(stopped) < 250


def test_planted_violations_are_found():
    def violating(generator, episode):
        theirs = (generator.random(RUNS) > 0.01).astype(float)
        return theirs, (generator.random(RUNS) > 0.2).astype(float)

    stopped = first_stops(violating, share=0.25, episodes=500)
    assert np.isfinite(stopped).mean() > 0.95


@pytest.mark.parametrize("truth", [-0.1, 0.0, 0.1])
def test_limits_hold_the_truth_at_all_times(truth):
    generator = np.random.default_rng(1)
    difference = Difference(ALPHA, (200,), np.linspace(-1, 1, 21))
    missed = np.zeros(200, bool)
    for _ in range(200):
        candidate = generator.random(200) < 0.5
        outcome = generator.normal(0.5 + truth * candidate, 0.1).clip(0.0, 1.0)
        difference.add(outcome, candidate, 0.5)
        low, high = difference.limits()
        missed |= (truth <= low - 1e-9) | (truth >= high + 1e-9)
    assert missed.mean() <= 0.08
    assert ((high - low) < 0.5).all()


def test_capital_by_hand():
    # Against a mean of at most 0.5 of a value in [0, 1], each bet f turns 1 into 1 + f after a 1.
    sequence = ConfidenceSequence(np.array([0.5]), alpha=0.5)
    for ones in range(1, 30):
        sequence.add(1.0, 0.0, 1.0)
        capital = np.mean([(1.0 + f) ** ones for f in FRACTIONS])
        assert np.isfinite(sequence.limits().low) == (capital >= 4.0)


def test_a_value_outside_its_bounds_is_refused():
    sequence = ConfidenceSequence(np.array([0.5]), alpha=0.05)
    for value in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match="outside the bounds"):
            sequence.add(value, 0.0, 1.0)
