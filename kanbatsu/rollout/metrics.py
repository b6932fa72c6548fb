"""What Prometheus scrapes: every event of a rollout, counted."""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.rollout.events import STAGES

BUCKETS = tuple(float(f"{digit}e{power}") for power in range(-6, 0) for digit in (1, 2, 5))
"""Bounds of the histogram of latencies, in seconds: 1 µs to 0.5 s."""

QUANTILES = (0.5, 0.99, 1.0)
"""Quantiles of the latency that are given beside its histogram."""

RECENT = 4096
"""Latest latencies that the quantiles are taken over."""

ALERTS = Path(__file__).with_name("alerts.yml")
"""Alert rules for Prometheus, as they come with the package."""


class MetricsError(ValueError):
    """Metrics that cannot be served; the message says why and what to do."""


def write_alerts(target: Path) -> Path:
    """Write the alert rules for Prometheus; name the file under `rule_files` in its configuration.

    Args:
        target: file to write; an existing one is replaced.

    Returns:
        The file.

    Example:
        >>> import tempfile
        >>> path = write_alerts(Path(tempfile.mkdtemp()) / "kanbatsu.yml")
        >>> "KanbatsuRolledBack" in path.read_text()
        True
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(ALERTS.read_bytes())
    return target


class Metrics:
    """Counters, gauges and histograms of one rollout, in a registry of their own.

    Give `observe` to a journal as a listener: it then runs on the journal's thread, and the control
    loop does not pay for it. Counters begin at zero with the process; Prometheus knows that.

    Example:
        >>> metrics = Metrics(deadline_seconds=0.01)
        >>> metrics.observe({"kind": "stage", "time": 0.0, "from": None, "to": "shadow"})
        >>> 'kanbatsu_rollout_stage{stage="shadow"} 1.0' in metrics.text()
        True
    """

    def __init__(self, deadline_seconds: float | None = None) -> None:
        """Make every metric.

        Args:
            deadline_seconds: time within which an action must be there.

        Raises:
            MetricsError: The package prometheus-client is missing.
        """
        self._client = client = _client()
        self.registry = client.CollectorRegistry()
        """Registry of prometheus-client that holds the metrics."""
        self._server: Callable[[], None] | None = None
        self._recent: deque[float] = deque(maxlen=RECENT)

        def make(kind: str, name: str, text: str, *labels: str, **options: Any) -> Any:
            made = getattr(client, kind)
            return made(f"kanbatsu_rollout_{name}", text, labels, registry=self.registry, **options)

        self._episodes = make("Counter", "episodes", "Episodes that ended.", "arm")
        self._returns = make("Summary", "return", "Returns of episodes.", "arm")
        self._latest = make("Gauge", "return_latest", "Return of the latest episode.", "arm")
        self._violations = make("Counter", "violations", "Violations in episodes.", "arm")
        self._actions = make("Counter", "actions", "Actions taken.", "source")
        self._guard = make("Counter", "guard_triggers", "Triggers of the guard.", "trigger")
        self._latency = make(
            "Histogram", "action_latency_seconds", "Time that the policy took.", buckets=BUCKETS
        )
        quantiles = make(
            "Gauge", "action_latency_quantile_seconds", f"Over the latest {RECENT}.", "quantile"
        )
        for quantile in QUANTILES:
            quantiles.labels(f"{quantile:g}").set_function(self._quantile(quantile))
        deadline = make("Gauge", "deadline_seconds", "Time within which an action must be there.")
        deadline.set(float("nan") if deadline_seconds is None else deadline_seconds)
        self._shadow = make(
            "Histogram", "shadow_latency_seconds", "Time that the candidate took.", buckets=BUCKETS
        )
        self._differences = make(
            "Gauge", "shadow_difference", "Candidate less incumbent, latest.", "dimension"
        )
        self._would = make(
            "Counter", "shadow_would_violate", "Answers that the guard would stop.", "trigger"
        )
        self._failures = make("Counter", "shadow_failures", "Answers that failed.", "failure")
        self._drift = make(
            "Gauge", "drift_ratio", "Drift as a share of its threshold.", "statistic"
        )
        self._alarms = make("Counter", "drift_alarms", "Alarms of drift.", "statistic", "feature")
        self._alarm = make("Gauge", "drift_alarm", "1 while it is on.", "statistic", "feature")
        self._stage = make("Gauge", "stage", "1 for the stage that the rollout is in.", "stage")
        self._gate = make("Gauge", "gate_passed", "1 where a person may advance.", "stage")
        self._harm = make("Gauge", "gate_harm", "1 where the rule says to roll back.", "stage")
        self._dropped = make("Counter", "journal_dropped", "Events that the journal dropped.")

    def observe(self, event: Mapping[str, Any]) -> None:
        """Count one event; kinds that are not known are passed over.

        Args:
            event: event of `kanbatsu.rollout.events`, or of kind "drift", "alarm" or "journal".
        """
        handle = getattr(self, f"_on_{event['kind']}", None)
        if handle is not None:
            handle(event)

    def text(self) -> str:
        """Return all metrics as Prometheus reads them."""
        exposed: bytes = self._client.generate_latest(self.registry)
        return exposed.decode()

    def serve(self, port: int, address: str = "127.0.0.1") -> int:
        """Serve the metrics at /metrics from a thread of its own, until `close`.

        Args:
            port: port; 0 takes a free one.
            address: address to listen on; by default this machine alone can reach it.

        Returns:
            The port.

        Raises:
            MetricsError: The port is taken, or not allowed.
        """
        try:
            server, thread = self._client.start_http_server(port, address, self.registry)
        except OSError as error:
            raise MetricsError(
                f"metrics cannot be served on {address}:{port} ({error}): give another port"
            ) from error

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self._server = stop
        return int(server.server_port)

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server()
            self._server = None

    def _quantile(self, quantile: float) -> Callable[[], float]:
        def of_recent() -> float:
            recent = list(self._recent)
            return float(np.quantile(recent, quantile)) if recent else float("nan")

        return of_recent

    def _on_action(self, event: Mapping[str, Any]) -> None:
        self._actions.labels(event["source"]).inc(event.get("steps", 1))
        if event["latency_us"] is not None:
            seconds = event["latency_us"] / 1e6
            self._latency.observe(seconds)
            self._recent.append(seconds)

    def _on_guard(self, event: Mapping[str, Any]) -> None:
        self._guard.labels(event["trigger"]).inc()

    def _on_shadow(self, event: Mapping[str, Any]) -> None:
        if event["failure"] is not None:
            self._failures.labels(event["failure"]).inc()
        for trigger in event["would_violate"] or ():
            self._would.labels(trigger).inc()
        if event["candidate_latency_us"] is not None:
            self._shadow.observe(event["candidate_latency_us"] / 1e6)
        for dimension, difference in enumerate(event["difference"] or ()):
            self._differences.labels(str(dimension)).set(_number(difference))

    def _on_episode(self, event: Mapping[str, Any]) -> None:
        arm = event["arm"]
        self._episodes.labels(arm).inc()
        self._violations.labels(arm).inc(event["violations"])
        if event["return"] is not None:
            self._returns.labels(arm).observe(event["return"])
            self._latest.labels(arm).set(event["return"])

    def _on_gate(self, event: Mapping[str, Any]) -> None:
        self._gate.labels(event["stage"]).set(event["passed"])
        self._harm.labels(event["stage"]).set(bool(event.get("harm")))

    def _on_stage(self, event: Mapping[str, Any]) -> None:
        for stage in STAGES:
            self._stage.labels(stage).set(stage == event["to"])

    def _on_drift(self, event: Mapping[str, Any]) -> None:
        for statistic in ("shift", "mahalanobis", "saturation"):
            if statistic in event:
                self._drift.labels(statistic).set(_number(event[statistic]))

    def _on_alarm(self, event: Mapping[str, Any]) -> None:
        if event["on"]:
            self._alarms.labels(event["statistic"], event["feature"]).inc()
        self._alarm.labels(event["statistic"], event["feature"]).set(event["on"])

    def _on_journal(self, event: Mapping[str, Any]) -> None:
        self._dropped.inc(event.get("dropped", 0))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _client() -> Any:
    try:
        return importlib.import_module("prometheus_client")
    except ImportError as error:
        raise MetricsError(
            f"metrics need the package prometheus-client, which cannot be imported ({error}): "
            "pip install 'kanbatsu[rollout]'"
        ) from error
