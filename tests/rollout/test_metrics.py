"""Metrics: every event is counted, and a real Prometheus scrapes them and fires an alert."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from kanbatsu.rollout.metrics import ALERTS, Metrics, MetricsError, write_alerts

PROMETHEUS = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None, reason="Prometheus is not installed: apt-get install prometheus"
)

EVENTS = [
    {"kind": "stage", "from": None, "to": "shadow", "reason": "begun", "by": "ann"},
    {"kind": "action", "source": "candidate", "latency_us": 30.0, "guard": None, "steps": 4},
    {"kind": "action", "source": "fallback", "latency_us": None, "guard": "deadline", "steps": 1},
    {"kind": "guard", "trigger": "deadline", "detail": "late", "source": "fallback", "count": 1},
    {
        "kind": "shadow",
        "difference": [0.5, None],
        "candidate_latency_us": 90.0,
        "would_violate": ["action_box"],
        "failure": None,
    },
    {
        "kind": "shadow",
        "difference": None,
        "candidate_latency_us": None,
        "would_violate": [],
        "failure": "hung",
    },
    {"kind": "episode", "arm": "candidate", "return": -3.5, "violations": 2, "steps": 9},
    {"kind": "episode", "arm": "candidate", "return": None, "violations": 0, "steps": 9},
    {"kind": "gate", "stage": "shadow", "numbers": {}, "rule": "", "passed": True, "harm": False},
    {"kind": "drift", "shift": 0.25, "shift_feature": "level", "mahalanobis": None, "samples": 50},
    {"kind": "alarm", "statistic": "shift", "feature": "level", "on": True, "samples": 100},
    {"kind": "journal", "detail": "the queue was full", "dropped": 7},
    {"kind": "something new"},
    {"kind": "stage", "from": "shadow", "to": "canary", "reason": "the gate", "by": "ann"},
]


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics(deadline_seconds=0.01)
    for event in EVENTS:
        made.observe({**event, "time": 0.0})
    return made


def test_every_event_is_counted(metrics):
    lines = set(metrics.text().splitlines())
    for line in (
        'stage{stage="canary"} 1.0',
        'stage{stage="shadow"} 0.0',
        'actions_total{source="candidate"} 4.0',
        'actions_total{source="fallback"} 1.0',
        "action_latency_seconds_count 1.0",
        'action_latency_seconds_bucket{le="2e-05"} 0.0',
        'action_latency_seconds_bucket{le="5e-05"} 1.0',
        'action_latency_quantile_seconds{quantile="0.99"} 3e-05',
        "deadline_seconds 0.01",
        'guard_triggers_total{trigger="deadline"} 1.0',
        'shadow_difference{dimension="0"} 0.5',
        'shadow_difference{dimension="1"} NaN',
        'shadow_would_violate_total{trigger="action_box"} 1.0',
        'shadow_failures_total{failure="hung"} 1.0',
        'episodes_total{arm="candidate"} 2.0',
        'return_sum{arm="candidate"} -3.5',
        'return_latest{arm="candidate"} -3.5',
        'violations_total{arm="candidate"} 2.0',
        'gate_passed{stage="shadow"} 1.0',
        'gate_harm{stage="shadow"} 0.0',
        'drift_ratio{statistic="shift"} 0.25',
        'drift_alarm{feature="level",statistic="shift"} 1.0',
        "journal_dropped_total 7.0",
    ):
        assert f"kanbatsu_rollout_{line}" in lines, line


def test_an_alarm_that_ends_is_off(metrics):
    alarm = {"kind": "alarm", "statistic": "shift", "feature": "level", "on": False, "time": 1.0}
    metrics.observe(alarm)
    assert 'drift_alarm{feature="level",statistic="shift"} 0.0' in metrics.text()
    assert 'drift_alarms_total{feature="level",statistic="shift"} 1.0' in metrics.text()


def test_alerts_ask_for_metrics_that_there_are(metrics, tmp_path):
    rules = write_alerts(tmp_path / "rules" / "alerts.yml").read_text()
    assert rules == ALERTS.read_text()
    exposed = metrics.text()
    asked = set(re.findall(r"kanbatsu_rollout_[a-z_]+", rules))
    assert len(asked) >= 7
    for name in asked:
        assert name in exposed, name


def test_a_taken_port_and_a_missing_package_are_said(metrics, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(MetricsError, match="give another port"):
            metrics.serve(taken.getsockname()[1])
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MetricsError, match=r"pip install 'kanbatsu\[rollout\]'"):
        Metrics()


@needs_prometheus
def test_prometheus_takes_the_rules():
    promtool = shutil.which("promtool")
    assert promtool is not None
    done = subprocess.run([promtool, "check", "rules", ALERTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout


@needs_prometheus
def test_prometheus_scrapes_and_fires(metrics, tmp_path):
    metrics.observe({"kind": "stage", "time": 0.0, "from": "canary", "to": "rolled_back"})
    port = metrics.serve(0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own = free.getsockname()[1]
    write_alerts(tmp_path / "alerts.yml")
    (tmp_path / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        "rule_files: [alerts.yml]\n"
        "scrape_configs:\n- job_name: kanbatsu\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    )
    server = subprocess.Popen(
        [
            str(PROMETHEUS),
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{own}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        firing: set[str] = set()
        until = time.monotonic() + 60
        while not {"KanbatsuRolledBack", "KanbatsuDrift"} <= firing and time.monotonic() < until:
            time.sleep(0.3)
            firing = fired(own)
    finally:
        server.terminate()
        server.wait()
        metrics.close()
    # Counters that did not grow, a latency far from its deadline and a target that is up: silent.
    assert firing == {"KanbatsuRolledBack", "KanbatsuDrift"}


def fired(port: int) -> set[str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/alerts", timeout=2) as answer:
            alerts = json.load(answer)["data"]["alerts"]
    except OSError:
        return set()
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
