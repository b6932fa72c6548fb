"""A candidate in shadow can do what it likes: the incumbent's loop does not notice."""

import time

import numpy as np
import pytest

from kanbatsu.rollout.shadow import Shadow

OBS = np.array([2.0, 0.0], np.float32)
TAKEN = np.array([0.5])


def watch(shadow, steps=5, seconds=3.0, until=lambda tally: False):
    """Show observations at 100 Hz; return the longest that showing one took, in seconds."""
    shadow.remote.wait_until_ready()
    longest, end = 0.0, time.perf_counter() + seconds
    for _ in range(steps):
        began = time.perf_counter()
        shadow.show(OBS, TAKEN)
        longest = max(longest, time.perf_counter() - began)
        time.sleep(0.01)
    while not until(shadow.tally) and time.perf_counter() < end:
        shadow.read()
        time.sleep(0.01)
    return longest


def test_differences_and_latency_are_counted(candidate, limits):
    events = []
    shadow = Shadow(candidate("good"), limits(deadline_s=0.5), events.append, every=2)
    watch(shadow, steps=5, until=lambda tally: tally.answers == 5)
    shadow.close()
    tally = shadow.tally
    assert (tally.shown, tally.answers, tally.dropped) == (5, 5, 0)
    np.testing.assert_allclose(tally.total, [5 * (0.2 - 0.5)], rtol=1e-6)
    np.testing.assert_allclose(tally.numbers()["largest_difference"], 0.3, rtol=1e-6)
    assert 0.0 < tally.longest_us < 5e5
    assert [event["answers"] for event in events] == [2, 4]
    np.testing.assert_allclose(events[0]["difference"], [-0.3], rtol=1e-6)


def test_what_the_guard_would_have_stopped_is_counted(candidate, limits):
    tight = limits(low=(-0.1,), high=(0.1,), safe_action=(0.0,), deadline_s=1e-9)
    shadow = Shadow(candidate("good"), tight)
    watch(shadow, steps=3, until=lambda tally: tally.answers == 3)
    shadow.close()
    assert shadow.tally.would_violate == {"action_box": 3, "deadline": 3}
    assert shadow.tally.numbers()["violation_share"] == 1.0


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("nan", "not_finite"),
        ("raising", "raised"),
        ("wrong_shape", "shape"),
        ("crashing", "died"),
        ("spinning", "hung"),
        ("holding_the_lock", "hung"),
        ("unloadable", "not_started"),
    ],
)
def test_a_candidate_that_fails_changes_nothing_for_the_incumbent(candidate, limits, name, failure):
    events = []
    shadow = Shadow(candidate(name, restarts=0), limits(), events.append)
    longest = watch(shadow, until=lambda tally: tally.failures[failure] > 0)
    shadow.show(OBS, TAKEN)  # also after the failure
    shadow.close()
    assert longest < 0.2
    assert shadow.tally.failures[failure] > 0
    assert shadow.tally.answers == 0
    assert {event["failure"] for event in events} == {failure}
    assert all(event["difference"] is None and event["detail"] for event in events)


def test_a_slow_candidate_is_shown_less_and_what_it_misses_is_counted(candidate, limits):
    shadow = Shadow(candidate("slow", queue=2, hang_s=5.0), limits())
    shadow.remote.wait_until_ready()
    began = time.perf_counter()
    for _ in range(1000):
        shadow.show(OBS, TAKEN)
    assert time.perf_counter() - began < 2.0  # 1,000 answers take 200 s
    tally = shadow.tally
    shadow.close()
    assert tally.shown + tally.dropped == 1000
    assert tally.shown < 20


def test_a_candidate_that_ended_is_started_again_between_episodes(candidate, limits):
    shadow = Shadow(candidate("crashing", restarts=1), limits())
    for failures in (1, 2):
        watch(shadow, steps=1, until=lambda tally, n=failures: tally.failures["died"] == n)
        shadow.begin_episode()
    assert shadow.remote.failure is not None  # no restart is left
    shadow.close()
    assert shadow.tally.failures["died"] == 2


def test_a_correction_is_bounded_and_added(candidate, limits):
    settings = candidate("good", residual=True, correction=(0.05,))
    shadow = Shadow(settings, limits(deadline_s=0.5))
    watch(shadow, steps=1, until=lambda tally: tally.answers == 1)
    shadow.close()
    np.testing.assert_allclose(shadow.tally.total, [0.05])
