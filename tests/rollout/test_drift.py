"""The drift watch: what must be found is found in time, and nothing else at the stated rate."""

import json

import numpy as np
import pytest

from kanbatsu.rollout.watch.autocorrelation import autocorrelation_times
from kanbatsu.rollout.watch.calibrate import LEAST, Calibration, advance, calibrate
from kanbatsu.rollout.watch.drift import Watch
from kanbatsu.rollout.watch.moments import FURTHEST, DriftError, Moments
from kanbatsu.rollout.watch.windows import TIMES, Windows

FEATURES = 4
RHO = 0.9
"""Correlation of a sample with the one before: about 20 samples until it is forgotten."""
WITHIN = 400
"""Samples within which +3 sd in one feature must be found."""


def correlated(seed: int, count: int, rho: float = RHO) -> np.ndarray:
    """Return an autoregressive log of the second half of the features, the rest being noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, FEATURES))
    half = FEATURES // 2
    x[1:, half:] *= np.sqrt(1 - rho**2)
    reach = 1  # after each pass, x holds the sum over twice as many earlier samples
    while rho**reach > 1e-9 and reach < count:
        x[reach:, half:] += rho**reach * x[:-reach, half:].copy()
        reach *= 2
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
    for block in np.array_split(x, len(x) // 16):
        watch.extend(block, acted(block))
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
    Watch(windows, calibration, events.append).extend(x, acted(x))
    assert [event for event in events if event["kind"] == "alarm"] == []
    reports = [event for event in events if event["kind"] == "drift"]
    assert len(reports) == 100_000 // (windows.size * 20)
    assert all(0 <= event["shift"] < 1 and event["shift_feature"] in "abcd" for event in reports)


def test_a_slow_log_gets_longer_windows_and_its_shift_is_found(windows):
    """What is remembered for 99 samples (.98) is averaged over about 200; N is 2,500 here."""
    rho, within = 0.98, 2_500
    held_out = correlated(3, 60_000, rho)
    longer = windows.fitted(held_out, acted(held_out))
    assert 190 < longer.size < 400
    made = calibrate(longer, held_out, acted(held_out), draws=300)
    assert made.slowest in ("shift of c", "shift of d", "mahalanobis of observation")
    assert 90 < made.memory < 200
    x = correlated(50, 20_000, rho)
    x[10_000:, 3] += 3.0
    alarms = [e for e in watched(longer, made, x) if e["kind"] == "alarm"]
    assert all(alarm["samples"] > 10_000 for alarm in alarms)
    assert min(a["samples"] for a in alarms if a["feature"] == "d") <= 10_000 + within


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rho", "length", "within"),
    [(0.0, 10_000, 300), (0.9, 10_000, 400), (0.98, 40_000, 4_000), (0.995, 160_000, 10_000)],
)
def test_false_alarms_are_no_more_than_stated_and_shifts_are_found(windows, rho, length, within):
    """In 100 horizons, five to a calibration, at most 10 alarms at a rate of 5 %.

    P(more than 10 | 100 horizons at 5 %) = 1.1 %. Each calibration is of a log of its own. The
    windows' moments come from another log; one whose memory seems too long for it is passed over,
    as calibrate refuses it. A shift of +3 sd is put into every feature in turn.
    """
    false, slowest, refused = 0, 0, 0
    for seed in range(20):
        held_out = correlated(1000 + seed, length, rho)
        fitted = windows.fitted(held_out, acted(held_out))
        if LEAST * fitted.size > length:
            refused += 1
            continue
        made = calibrate(fitted, held_out, acted(held_out), seed=seed)
        for horizon in range(5):
            x = correlated(10_000 + 5 * seed + horizon, 100_000, rho)
            false += any(e["kind"] == "alarm" for e in watched_whole(fitted, made, x))
        for feature in range(FEATURES):
            x = correlated(20_000 + FEATURES * seed + feature, within + 5_000, rho)
            x[5_000:, feature] += 3.0
            alarms = [e for e in watched_whole(fitted, made, x) if e["kind"] == "alarm"]
            name = windows.moments.names[feature]
            named = [a["samples"] for a in alarms if a["feature"] == name and a["samples"] > 5_000]
            slowest = max(slowest, min(named, default=10**9) - 5_000)
    assert false <= 10, f"{false} false alarms, shifts found within {slowest} samples"
    assert slowest <= within, f"{false} false alarms"
    assert refused <= 2


def watched_whole(windows: Windows, calibration: Calibration, x: np.ndarray) -> list[dict]:
    events: list[dict] = []
    Watch(windows, calibration, events.append).extend(x, acted(x))
    return events


def test_blocks_of_any_length_give_the_events_of_the_whole(windows, calibration):
    x = correlated(21, 2_000) + np.array([0.0, 1.0, 0.0, 0.0])
    whole, by_block = (f(windows, calibration, x) for f in (watched_whole, watched))
    assert len(whole) >= 3
    assert [e | {"time": 0} for e in whole] == [e | {"time": 0} for e in by_block]


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
    watch.extend(log(WITHIN, -1.0), np.zeros((WITHIN, 1)))
    assert [event["statistic"] for event in events if event["kind"] == "alarm"] == ["mahalanobis"]
    assert watch.alarms == [("mahalanobis", "observation")]


def test_actions_at_their_limits_and_nan_are_found(windows, calibration):
    events: list[dict] = []
    watch = Watch(windows, calibration, events.append)
    watch.extend(correlated(40, WITHIN), np.ones((WITHIN, 1)))
    assert ("saturation", "action[0]") in watch.alarms
    broken = np.where([True, False, False, False], np.nan, correlated(41, WITHIN))
    watch.extend(broken, np.zeros((WITHIN, 1)))
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
    with pytest.raises(DriftError, match=rf"it has 4,000 samples, and [\d,]+ are needed, {LEAST} "):
        calibrate(windows, x, acted(x))
    with pytest.raises(DriftError, match="not finite"):
        calibrate(windows, np.full_like(x, np.nan), acted(x))
    with pytest.raises(DriftError, match="raise draws or alpha"):
        calibrate(windows, correlated(2, 20_000), acted(correlated(2, 20_000)), draws=50)
    slow = correlated(2, 100_000, 0.98)
    with pytest.raises(DriftError, match=r"windows of 50 samples depend on each other"):
        calibrate(windows, slow, acted(slow))
    slow = correlated(2, 40_000, 0.995)
    with pytest.raises(DriftError, match=r"too short to state a rate .* autocorrelation time of"):
        calibrate(windows.fitted(slow, acted(slow)), slow, acted(slow))
    other = Windows(windows.moments, windows.low, windows.high, size=10)
    with pytest.raises(DriftError, match="calibrate again"):
        Watch(other, calibration, print)


def test_how_long_a_log_remembers():
    """An autoregressive log forgets over (1 + rho) / (1 - rho) samples; a trend never does."""
    x = correlated(5, 200_000)[:, [0, 2]]
    trend = np.linspace(0.0, 1.0, len(x))
    noise, slow, never, still = autocorrelation_times(
        np.column_stack([x, trend, np.full(len(x), 3.0)])
    )
    assert 1.0 <= noise < 1.05
    assert slow == pytest.approx(19.0, rel=0.15)
    assert never > 0.1 * len(x)
    assert still == 1.0
    assert TIMES * slow < 50  # so that the windows of these tests may be 50 samples long
