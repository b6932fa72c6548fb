"""The drift watch: what must be found is found in time, and nothing else at the stated rate."""

import json
import sys

import numpy as np
import pytest

from kanbatsu.rollout.adwin import AdwinWatch
from kanbatsu.rollout.calibrate import Calibration, Windows, advance, calibrate
from kanbatsu.rollout.drift import Watch
from kanbatsu.rollout.moments import FURTHEST, DriftError, Moments

FEATURES = 4
RHO = 0.9
"""Correlation of a sample with the one before: about 20 samples until it is forgotten."""
WITHIN = 400
"""Samples within which +3 sd in one feature must be found."""


def correlated(seed: int, count: int) -> np.ndarray:
    """Return an autoregressive log of the second half of the features, the rest being noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, FEATURES))
    half = FEATURES // 2
    for now in range(1, count):
        x[now, half:] = RHO * x[now - 1, half:] + np.sqrt(1 - RHO**2) * x[now, half:]
    return x


def acted(x: np.ndarray) -> np.ndarray:
    """Return the actions of a policy that is at a limit in one sample in twenty."""
    return np.clip(0.6 * x[:, :1], -1, 1)


@pytest.fixture(scope="module")
def windows() -> Windows:
    moments = Moments.of(correlated(0, 20_000), names=["a", "b", "c", "d"])
    return Windows(moments, low=np.array([-1.0]), high=np.array([1.0]))


@pytest.fixture(scope="module")
def calibration(windows: Windows) -> Calibration:
    x = correlated(1, 40_000)
    return calibrate(windows, x, acted(x), alpha=0.05, horizon=100_000, draws=300)


def watched(windows: Windows, calibration: Calibration, x: np.ndarray) -> list[dict]:
    events: list[dict] = []
    watch = Watch(windows, calibration, events.append)
    for sample in zip(x, acted(x), strict=True):
        watch.add(*sample)
    return events


@pytest.mark.parametrize("shift", [3.0, -3.0])
@pytest.mark.parametrize("feature", range(FEATURES))
def test_three_sd_in_one_feature_are_found_in_time(windows, calibration, feature, shift):
    x = correlated(10 + feature, 1_000 + WITHIN)
    x[1_000:, feature] += shift
    alarms = [e for e in watched(windows, calibration, x) if e["kind"] == "alarm"]
    named = [alarm for alarm in alarms if alarm["feature"] == windows.moments.names[feature]]
    assert named[0]["direction"] == ("up" if shift > 0 else "down")
    assert 1_000 < named[0]["samples"] <= 1_000 + WITHIN
    assert all(alarm["samples"] > 1_000 for alarm in alarms)


def test_no_alarm_on_a_hundred_thousand_unshifted_samples(windows, calibration):
    events: list[dict] = []
    x = correlated(20, 100_000)
    Watch(windows, calibration, events.append).replay(x, acted(x))
    assert [event for event in events if event["kind"] == "alarm"] == []
    reports = [event for event in events if event["kind"] == "drift"]
    assert len(reports) == 100_000 // (windows.size * 20)
    assert all(0 <= event["shift"] < 1 and event["shift_feature"] in "abcd" for event in reports)


@pytest.mark.slow
def test_false_alarms_are_no_more_than_stated(windows):
    """In 100 horizons, each with a calibration of its own, at most 10 alarms at a rate of 5 %."""
    false = 0
    groups = [statistic for statistic, _ in windows.columns]
    for seed in range(100):
        held_out, x = correlated(1000 + seed, 40_000), correlated(2000 + seed, 100_000)
        made = calibrate(windows, held_out, acted(held_out), seed=seed)
        thresholds = np.array([made.thresholds[group] for group in groups])
        sums = np.zeros((2, len(groups)))
        alarm = False
        for row in windows.rows(x, acted(x)):
            sums = advance(sums, (row - np.array(made.center)) / np.array(made.unit), groups)
            alarm |= bool((sums > thresholds).any())
        false += alarm
    # P(more than 10 | 100 horizons at 5 %) = 1.1 %.
    assert false <= 10


def test_a_replayed_log_gives_the_events_of_its_samples(windows, calibration):
    x = correlated(21, 2_000) + np.array([0.0, 1.0, 0.0, 0.0])
    replayed: list[dict] = []
    watch = Watch(windows, calibration, replayed.append)
    watch.replay(x, acted(x))
    by_sample = watched(windows, calibration, x)
    assert len(replayed) >= 3
    assert [e | {"time": 0} for e in replayed] == [e | {"time": 0} for e in by_sample]
    watch.add(x[0], acted(x)[0])
    with pytest.raises(DriftError, match="begun with add"):
        watch.replay(x, acted(x))


def test_an_alarm_ends_when_the_drift_does(windows, calibration):
    x = correlated(30, 8_000)
    x[1_000:4_000, 0] += 3.0
    events = watched(windows, calibration, x)
    alarms = [e for e in events if e["kind"] == "alarm" and e["feature"] == "a"]
    assert [alarm["on"] for alarm in alarms] == [True, False]
    assert 4_000 < alarms[1]["samples"] < 5_500


def test_what_no_feature_shows_the_distance_shows():
    """Two features that always agreed, and now disagree, each as large as ever."""
    rng = np.random.default_rng(0)

    def log(count: int, sign: float) -> np.ndarray:
        level = rng.normal(size=count)
        return np.stack([level, sign * level + 0.1 * rng.normal(size=count)], axis=1)

    windows = Windows(Moments.of(log(10_000, 1.0)), np.array([-5.0]), np.array([5.0]))
    held_out = log(20_000, 1.0)
    made = calibrate(windows, held_out, 0 * held_out[:, :1], draws=300)
    events: list[dict] = []
    watch = Watch(windows, made, events.append)
    for row in log(WITHIN, -1.0):
        watch.add(row, np.zeros(1))
    assert [event["statistic"] for event in events if event["kind"] == "alarm"] == ["mahalanobis"]
    assert watch.alarms == [("mahalanobis", "observation")]


def test_actions_at_their_limits_and_nan_are_found(windows, calibration):
    events: list[dict] = []
    watch = Watch(windows, calibration, events.append)
    for row in correlated(40, WITHIN):
        watch.add(row, np.ones(1))
    assert ("saturation", "action[0]") in watch.alarms
    for row in correlated(41, WITHIN):
        watch.add(np.where([True, False, False, False], np.nan, row), np.zeros(1))
    assert ("shift", "a") in watch.alarms


def test_rows_by_hand():
    moments = Moments(("x",), np.array([1.0]), np.array([2.0]), 10.0)
    windows = Windows(moments, np.array([0.0]), np.array([10.0]), size=2)
    x, a = (
        np.array([[3.0], [5.0], [1.0], [np.inf], [9.0]]),
        np.array([[0.05], [5], [9.95], [5], [5]]),
    )
    # z is 1, 2 | 0, furthest: means, mean squares, and one of two actions within 1 % of an end.
    expected = [[1.5, 2.5, 0.5], [FURTHEST / 2, FURTHEST**2 / 2, 0.5]]
    np.testing.assert_allclose(windows.rows(x, a), expected)
    one = np.zeros((2, 3))
    sums = advance(
        advance(one, np.array([2.0, 9.0, -9.0]), ["shift"] * 3), np.zeros(3), ["shift"] * 3
    )
    np.testing.assert_allclose(sums, [[1.0, 3.0, 0.0], [0.0, 0.0, 3.0]])


def test_a_calibration_survives_json(calibration):
    table = json.loads(json.dumps(calibration.table()))
    assert Calibration.of(table) == calibration


def test_the_contract_of_a_bundle_gives_the_moments():
    contract = {
        "observation": {"names": ["level", "flow"], "size": 2},
        "training_data": {"source": "replay", "count": 9.0, "mean": [1.0, 2.0], "sd": [0.5, 1.0]},
    }
    moments = Moments.from_contract(contract)
    assert (moments.names, moments.count) == (("level", "flow"), 9.0)
    with pytest.raises(DriftError, match=r"no moments of the training data \(nobody gave any\)"):
        Moments.from_contract({"training_data": {"absent": "nobody gave any"}})
    contract["observation"]["names"] = ["level"]
    with pytest.raises(DriftError, match="1 names, mean"):
        Moments.from_contract(contract)


def test_what_cannot_be_calibrated_is_refused_with_what_is_missing(windows, calibration):
    x = correlated(2, 4_000)
    with pytest.raises(DriftError, match=r"has 4,000 samples, and 20 blocks of 20 .* take 20,000"):
        calibrate(windows, x, acted(x))
    with pytest.raises(DriftError, match="not finite"):
        calibrate(windows, np.full_like(x, np.nan), acted(x))
    with pytest.raises(DriftError, match="raise draws or alpha"):
        calibrate(windows, x, acted(x), block=1, draws=50)
    other = Windows(windows.moments, windows.low, windows.high, size=10)
    with pytest.raises(DriftError, match="calibrate again"):
        Watch(other, calibration, print)


def test_adwin_finds_a_change_during_service():
    pytest.importorskip("river", reason="river is not installed: pip install 'kanbatsu[rollout]'")
    rng = np.random.default_rng(0)
    events: list[dict] = []
    watch = AdwinWatch(["a", "b"], events.append)
    for _ in range(1000):
        watch.add(rng.normal(size=2))
    assert events == []
    for _ in range(60):
        watch.add(rng.normal(size=2) + np.array([0.0, 3.0]))
    assert {event["feature"] for event in events} == {"b"}
    assert events[0]["direction"] == "up"
    assert events[0]["samples"] <= 1000 + 40


def test_without_river_adwin_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "river", None)
    monkeypatch.setitem(sys.modules, "river.drift", None)
    with pytest.raises(DriftError, match=r"pip install 'kanbatsu\[rollout\]'"):
        AdwinWatch(["a"], print)
