"""What a rollout's page shows, gathered event by event, in bounded memory."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LATEST = 20_000
"""Latencies, returns and drift reports that are kept, the latest of each."""

INCIDENTS = 200
"""Incidents that are kept, the latest ones."""

TOGETHER_SECONDS = 60.0
"""Incidents of one kind that follow each other within this are shown as one, with their number."""


@dataclass
class Incident:
    """Something that people should know of, once or several times in a row."""

    kind: str
    """Kind of the event that it comes from."""
    name: str
    """Trigger, failure or stage; or a statistic, a feature and a direction of drift."""
    first: float
    """Time of the first, in seconds since 1970."""
    last: float
    """Time of the last, in seconds since 1970."""
    detail: str
    """What the last event said."""
    count: int = 1
    """Number of events."""


def _series() -> deque[tuple[float, ...]]:
    return deque(maxlen=LATEST)


@dataclass
class Overview:
    """Numbers of a rollout so far.

    Example:
        >>> overview = Overview()
        >>> overview.add([{"kind": "stage", "time": 1.0, "to": "shadow", "reason": "", "by": "a"}])
        >>> overview.stage
        'shadow'
    """

    stages: list[Mapping[str, Any]] = field(default_factory=list)
    """Every change of stage, in order."""
    gates: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Latest event of kind "gate", by stage."""
    actions: Counter[str] = field(default_factory=Counter)
    """Actions taken, by source."""
    latencies: deque[tuple[float, ...]] = field(default_factory=_series)
    """Time and microseconds of actions."""
    shadow_latencies: deque[tuple[float, ...]] = field(default_factory=_series)
    """Time and microseconds of the candidate's answers in shadow."""
    differences: deque[tuple[float, ...]] = field(default_factory=_series)
    """Differences between candidate and incumbent, by dimension."""
    answers: int = 0
    """Answers of the candidate in shadow."""
    dropped: int = 0
    """Observations that the candidate in shadow was not shown."""
    failures: Counter[str] = field(default_factory=Counter)
    """Failures of the candidate in shadow."""
    would_violate: Counter[str] = field(default_factory=Counter)
    """Triggers that the candidate in shadow would have fired, among the answers recorded."""
    guard: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Number of triggers and time of the last, by trigger."""
    episodes: Counter[str] = field(default_factory=Counter)
    """Episodes that ended, by arm."""
    violations: Counter[str] = field(default_factory=Counter)
    """Violations in episodes, by arm."""
    returns: dict[str, deque[tuple[float, ...]]] = field(default_factory=dict)
    """Time and return of episodes, by arm."""
    drift: dict[str, deque[tuple[float, ...]]] = field(default_factory=dict)
    """Time and share of the threshold, by statistic."""
    alarms: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """Latest alarm that is on, by statistic and feature."""
    incidents: deque[Incident] = field(default_factory=lambda: deque(maxlen=INCIDENTS))
    """Incidents, oldest first."""
    first: float | None = None
    """Time of the first event, in seconds since 1970."""
    last: float | None = None
    """Time of the latest event, in seconds since 1970."""

    @property
    def stage(self) -> str | None:
        """Stage that the rollout is in; None where no event says so."""
        return self.stages[-1]["to"] if self.stages else None

    def add(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take events in; kinds that are not known, and events that lack a key, change nothing."""
        for event in events:
            handle = getattr(self, f"_on_{event['kind']}", None)
            if handle is not None:
                try:
                    handle(event)
                except (KeyError, TypeError, ValueError):
                    self._incident(event, "journal", "unknown", f"{event!r:.200}")
            at = event["time"]
            self.first = at if self.first is None else min(self.first, at)
            self.last = at if self.last is None else max(self.last, at)

    def _incident(self, event: Mapping[str, Any], kind: str, name: str, detail: str) -> None:
        at = event["time"]
        for incident in reversed(self.incidents):
            if at - incident.last > TOGETHER_SECONDS:
                break
            if (incident.kind, incident.name) == (kind, name):
                incident.last, incident.detail = at, detail
                incident.count += 1
                return
        self.incidents.append(Incident(kind, name, at, at, detail))

    def _on_action(self, event: Mapping[str, Any]) -> None:
        self.actions[event["source"]] += event.get("steps", 1)
        if event["latency_us"] is not None:
            self.latencies.append((event["time"], event["latency_us"]))

    def _on_guard(self, event: Mapping[str, Any]) -> None:
        count, _ = self.guard.get(event["trigger"], (0, 0.0))
        self.guard[event["trigger"]] = (count + 1, event["time"])
        self._incident(event, "guard", event["trigger"], event["detail"])

    def _on_shadow(self, event: Mapping[str, Any]) -> None:
        self.answers = max(self.answers, event.get("answers") or 0)
        self.dropped = max(self.dropped, event.get("dropped") or 0)
        self.would_violate.update(event["would_violate"] or ())
        if event["failure"] is not None:
            self.failures[event["failure"]] += 1
            self._incident(event, "shadow", event["failure"], "")
            return
        if event["candidate_latency_us"] is not None:
            self.shadow_latencies.append((event["time"], event["candidate_latency_us"]))
        if event["difference"] is not None:
            self.differences.append(
                tuple(float("nan") if each is None else each for each in event["difference"])
            )

    def _on_episode(self, event: Mapping[str, Any]) -> None:
        arm = event["arm"]
        self.episodes[arm] += 1
        self.violations[arm] += event["violations"]
        if event["return"] is not None:
            self.returns.setdefault(arm, _series()).append((event["time"], event["return"]))

    def _on_gate(self, event: Mapping[str, Any]) -> None:
        before = self.gates.get(event["stage"], {})
        self.gates[event["stage"]] = event
        if event.get("harm") and not before.get("harm"):
            self._incident(event, "gate", event["stage"], event["rule"])

    def _on_stage(self, event: Mapping[str, Any]) -> None:
        self.stages.append(event)
        self._incident(event, "stage", event["to"], event["reason"])

    def _on_drift(self, event: Mapping[str, Any]) -> None:
        for statistic in ("shift", "mahalanobis", "saturation"):
            if event.get(statistic) is not None:
                series = self.drift.setdefault(statistic, _series())
                series.append((event["time"], event[statistic]))

    def _on_alarm(self, event: Mapping[str, Any]) -> None:
        which = (event["statistic"], event["feature"])
        if event["on"]:
            self.alarms[which] = event
            self._incident(event, "alarm", " ".join((*which, event["direction"])), "")
        else:
            self.alarms.pop(which, None)

    def _on_journal(self, event: Mapping[str, Any]) -> None:
        self._incident(event, "journal", event["detail"], str(event.get("dropped", "")))


def quantiles(series: Iterable[tuple[float, ...]]) -> tuple[float, float, float] | None:
    """Return median, 99 % quantile and largest value of a series of times and values.

    Example:
        >>> quantiles([(0.0, 3.0), (1.0, 5.0)])[0], quantiles([])
        (4.0, None)
    """
    values = [value for _, value in series]
    if not values:
        return None
    median, high, most = np.quantile(values, [0.5, 0.99, 1.0])
    return float(median), float(high), float(most)


def binned(
    series: Iterable[tuple[float, ...]], since: float, count: int = 60
) -> dict[str, np.ndarray]:
    """Return what a series was like over time, in bins of equal width that hold something.

    Args:
        series: times and values.
        since: time that the result counts from.
        count: number of bins.

    Returns:
        Seconds since `since` at the middle of each bin, and mean, lowest, median, 99 % quantile
        and highest value of each.

    Example:
        >>> binned([(0.0, 1.0), (0.1, 3.0), (9.0, 5.0)], since=0.0, count=2)["mean"].tolist()
        [2.0, 5.0]
    """
    table = np.array(list(series), dtype=float).reshape(-1, 2)
    names = ("seconds", "mean", "low", "median", "p99", "high")
    if not len(table):
        return dict.fromkeys(names, np.zeros(0))
    at, values = table[:, 0] - since, table[:, 1]
    edges = np.linspace(at.min(), at.max() or 1.0, count + 1)
    where = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, count - 1)
    rows = []
    for bin_number in np.unique(where):
        inside = values[where == bin_number]
        median, p99 = np.quantile(inside, [0.5, 0.99])
        middle = at[where == bin_number].mean()
        rows.append([middle, inside.mean(), inside.min(), median, p99, inside.max()])
    return dict(zip(names, np.array(rows).T, strict=True))
