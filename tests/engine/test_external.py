"""The engine with trainings by a function of the user's: failures, and a forecast from a pilot."""

import sys
from pathlib import Path

import pytest

from kanbatsu.engine.place import PlaceConfig
from kanbatsu.engine.progress import no_display
from kanbatsu.engine.run_study import run_study
from kanbatsu.forecast.estimate import estimate
from kanbatsu.forecast.pilot import measure
from kanbatsu.forecast.speed import external_speed
from kanbatsu.report.page import write_report
from kanbatsu.report.results import read_study
from kanbatsu.study.file import study_from_dict

MODULE = """
import time

def train(seed, env_steps, gain=0.0):
    if gain and seed:
        raise RuntimeError("no gain without pain")
    for part in range(1, 5):
        time.sleep(2e-4 * env_steps / 4)
        yield part * env_steps // 4, part * gain
"""
TABLE = {
    "question": "?",
    "train": "engine_training:train",
    "tasks": ["plant"],
    "env_steps": 1000,
    "seeds": 2,
    "control": "dense",
    "decision": {"seeds": 3},
    "arm": {"dense": {}, "gain": {"gain": 2.0}},
}


def test_a_speed_is_read_off_a_short_training():
    lines = [
        {"env_steps": at, "seconds": 3.0 + at / 100, "peak_resident_bytes": 5} for at in (10, 50)
    ]
    each = external_speed(lines)
    assert (each.start, each.interaction, each.memory) == pytest.approx((3.0, 0.01, 5))
    study = study_from_dict(TABLE)
    hours = estimate(study, {(arm, "plant"): each for arm in study.arms}, workers=1).hours
    assert hours.expected == pytest.approx(4 * 13 / 3600 * (1 / 1.5 + 1.5) / 2, rel=0.2)
    assert hours.low < 4 * 13 / 3600 < hours.high


@pytest.mark.slow
def test_failures_are_stored_and_a_pilot_times_what_it_can(tmp_path, monkeypatch):
    (tmp_path / "engine_training.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    study = study_from_dict(TABLE)
    out = Path("out")
    assert not run_study(study, out, PlaceConfig(workers=2), "", no_display())
    write_report(out)
    runs = {(run.arm, run.seed): run for arm in read_study(out).arms for run in arm.runs}
    assert runs["dense", 1].final_return == 0.0
    assert runs["gain", 0].final_return == 8.0
    assert runs["gain", 1].state == "failed"
    assert runs["gain", 1].error == "RuntimeError: no gain without pain"
    speeds = measure(study_from_dict({**TABLE, "seeds": 1}), workers=2)
    assert speeds["dense", "plant"].interaction == pytest.approx(2e-4, rel=0.5)
    sys.modules.pop("engine_training", None)
