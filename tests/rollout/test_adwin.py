"""The second watch: what it says of what river's ADWIN finds, and without river."""

import sys
import types

import numpy as np
import pytest

from kanbatsu.rollout.watch.adwin import LASTING, AdwinWatch
from kanbatsu.rollout.watch.moments import DriftError


class Detector:
    """A detector that finds a change wherever a value moves by more than 0.2."""

    def __init__(self, **settings):
        self.estimation, self.drift_detected = 0.5, False

    def update(self, value):
        self.drift_detected = abs(value - self.estimation) > 0.2
        self.estimation = value


@pytest.fixture
def events(monkeypatch):
    river = types.ModuleType("river.drift")
    river.ADWIN = Detector
    monkeypatch.setitem(sys.modules, "river", types.ModuleType("river"))
    monkeypatch.setitem(sys.modules, "river.drift", river)
    return []


def test_an_alarm_begins_with_a_change_and_ends_when_it_has_become_usual(events):
    watch = AdwinWatch(["a", "b"], events.append)
    watch.add(np.zeros(2))
    watch.add(np.array([0.0, 3.0]))
    assert [(e["feature"], e["direction"], e["on"], e["value"]) for e in events] == [
        ("b", "up", True, 3.0)
    ]
    for _ in range(LASTING - 1):
        watch.add(np.array([0.0, 3.0]))
    assert len(events) == 1
    watch.add(np.array([0.0, 3.0]))
    assert [(e["on"], e["samples"]) for e in events[1:]] == [(False, 2 + LASTING)]
    watch.add(np.array([np.nan, -9.0]))  # NaN is as far away as can be
    assert [(e["feature"], e["direction"], e["value"]) for e in events[2:]] == [
        ("a", "up", 4.0),
        ("b", "down", -4.0),
    ]


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
    assert events[0]["samples"] <= 1000 + 50


def test_without_river_adwin_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "river", None)
    monkeypatch.setitem(sys.modules, "river.drift", None)
    with pytest.raises(DriftError, match=r"pip install 'kanbatsu\[rollout\]'"):
        AdwinWatch(["a"], print)
