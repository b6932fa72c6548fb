"""From recorded samples to a calibration, to a watch in service that rolls back."""

import json
import time

import numpy as np
import pytest

from kanbatsu.cli import main
from kanbatsu.files.disk import DamagedFile
from kanbatsu.rollout.config import RolloutError
from kanbatsu.rollout.journal import Journal
from kanbatsu.rollout.metrics import Metrics
from kanbatsu.rollout.pages.page import write_page
from kanbatsu.rollout.reading import read
from kanbatsu.rollout.service import Service
from kanbatsu.rollout.stages import Rollout
from kanbatsu.rollout.watch.held_out import calibrate_rollout
from kanbatsu.rollout.watch.lookout import BLOCK, Samples
from kanbatsu.rollout.watch.moments import DriftError
from kanbatsu.rollout.watch.stored_watch import FILE, StoredWatch

LONG = 2_800
"""Samples of a log that is long enough."""

REASONS = ("drift: shift of observation[1], up", "drift: mahalanobis of observation, up")

TOML = """
guard = {{ obs_dim = 2, low = [-1.0], high = [1.0], safe_action = [-0.5], deadline_s = 0.5 }}
canary = {{ return_low = 0.0, return_high = 100.0, worse_by = 40.0, share = 0.5 }}
candidate = {{ policy = "planted_policies:good", isolation = "inline" }}
[drift]
horizon = 2_000
window = 10
{drift}
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Return the path of a log of the good policy, as numpy.savez writes it."""
    path = tmp_path_factory.mktemp("logs") / "held_out.npz"
    x = np.random.default_rng(0).normal(size=(LONG, 2))
    np.savez(path, observations=x, actions=np.clip(0.1 * x[:, :1], -1, 1))
    return path


@pytest.fixture
def full(tmp_path, _planted):
    """Return a function that begins a rollout in full service."""

    def begin(drift=""):
        (tmp_path / "rollout.toml").write_text(TOML.format(drift=drift))
        made = Rollout.begin(tmp_path, "Aoi", "try")
        made._move(None, "full", "Aoi", "test", {})
        return made

    return begin


def drive(service, observations):
    service.begin_episode()
    for observation in observations:
        service.act(observation)
    service.end_episode(0.0)


def test_a_shift_in_service_is_in_journal_metrics_and_page_and_rolls_back(full, log):
    made = full("roll_back = true")
    calibrate_rollout(made.folder, [log])
    metrics, rng = Metrics(), np.random.default_rng(1)
    journal = Journal(made.folder / "journal", listeners=[metrics.observe])
    with journal, Service(made.folder, lambda obs: np.zeros(1), journal) as service:
        drive(service, rng.normal(size=(400, 2)))
        drive(service, rng.normal(size=(400, 2)) + np.array([0.0, 3.0]))
        end = time.monotonic() + 20.0
        while service.stage == "full" and time.monotonic() < end:
            drive(service, rng.normal(size=(1, 2)))
            time.sleep(0.01)
    assert made.read().changes[-1]["reason"] in REASONS
    alarms = list(read(made.folder / "journal", kinds={"alarm"}))
    assert {alarm["statistic"] for alarm in alarms} <= {"shift", "mahalanobis"}
    assert 400 < alarms[0]["samples"] <= 800
    assert not list(read(made.folder / "journal", kinds={"samples"}))
    name = 'drift_alarm{feature="observation[1]",statistic="shift"} 1.0'
    assert name in metrics.text()
    assert "observation[1]" in write_page(made.folder).read_text()


def test_what_the_service_records_calibrates_its_watch(full):
    made = full("record = true")
    rng = np.random.default_rng(2)
    journal = Journal(made.folder / "journal")
    with journal, Service(made.folder, lambda obs: np.zeros(1), journal) as service:
        for _ in range(14):
            drive(service, rng.normal(size=(LONG // 14, 2)))
        drive(service, [np.array([np.nan, 0.0]), np.zeros(3)])
    stored, notes = calibrate_rollout(made.folder)
    assert notes[0] == "2 samples that hold NaN or infinity are left out"
    assert "the first 700 samples stand for them" in notes[1]
    assert stored.calibration.samples == LONG - 700
    again = StoredWatch.stored(made.folder / FILE)
    assert again.claim() == stored.claim()
    assert again.calibration == stored.calibration
    np.testing.assert_array_equal(again.windows.moments.mean, stored.windows.moments.mean)


def test_only_the_wanted_arm_and_stages_are_watched(full, log):
    made = full('stages = ["canary"]')
    calibrate_rollout(made.folder, [log])
    events = []
    with Service(made.folder, lambda obs: np.zeros(1), events.append) as service:
        drive(service, np.full((400, 2), 5.0))
    assert not [event for event in events if event["kind"] in ("alarm", "drift")]


def test_a_calibration_that_does_not_fit_is_refused(full, log):
    made = full()
    calibrate_rollout(made.folder, [log])
    (made.folder / "rollout.toml").write_text(TOML.format(drift='arm = "incumbent"'))
    with pytest.raises(DriftError, match=r"the candidate's samples; rollout.toml has .* incumbent"):
        Service(made.folder, lambda obs: np.zeros(1))
    table = json.loads((made.folder / FILE).read_text())
    table["arm"] = "incumbent"
    (made.folder / FILE).write_text(json.dumps(table))
    with pytest.raises(DamagedFile, match=r"drift\.json is not what was written"):
        Service(made.folder, lambda obs: np.zeros(1))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"observations": np.zeros((9, 2))}, "holds no array 'actions"),
        ({"observations": np.zeros((9, 3)), "actions": np.zeros((9, 1))}, r"\[samples, 2\]"),
        ({"observations": np.zeros((9, 2)), "actions": np.zeros((8, 1))}, "one action for each"),
        ({"observations": np.zeros((9, 2)), "actions": np.zeros((9, 1))}, "too short to state"),
        ({"observations": np.zeros((0, 2)), "actions": np.zeros((0, 1))}, "is empty"),
    ],
)
def test_logs_that_cannot_be_used_are_refused(full, tmp_path, arrays, said):
    full()
    np.savez(tmp_path / "log.npz", **arrays)
    with pytest.raises(RolloutError, match=said):
        calibrate_rollout(tmp_path, [tmp_path / "log.npz"])
    assert not (tmp_path / FILE).exists()


def test_the_command_says_what_it_promises_and_what_is_missing(full, log, capsys):
    folder = full().folder
    assert main(["rollout", "status", str(folder)]) == 0
    assert "drift is not watched yet (full): kanbatsu rollout calibrate" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["rollout", "calibrate", str(folder)])
    assert "record = true" in capsys.readouterr().err
    assert main(["rollout", "calibrate", str(folder), "--logs", str(log)]) == 0
    assert "within 2,000 samples has a chance of at most 0.05" in capsys.readouterr().out
    assert main(["rollout", "status", str(folder)]) == 0
    assert "drift is watched (full): any false alarm" in capsys.readouterr().out


def test_samples_are_handed_over_in_blocks_that_nobody_writes_into():
    kept = []
    samples = Samples(2, 1, lambda *block: kept.append(block))
    observation = np.zeros(2)
    for number in range(BLOCK + 1):
        observation[:] = number
        samples.add(observation, np.array([number]))
    samples.add("no observation", np.zeros(1))
    samples.flush()
    samples.flush()
    (seen, acted), (rest, _) = kept
    np.testing.assert_array_equal(seen[:, 1], np.arange(BLOCK))
    np.testing.assert_array_equal(acted[:, 0], np.arange(BLOCK))
    np.testing.assert_array_equal(rest, [[BLOCK, BLOCK], [np.nan, np.nan]])


@pytest.mark.parametrize("drift", ["alpha = 0.0", 'roll_back = true\narm = "incumbent"'])
def test_settings_that_contradict_each_other_are_refused(full, drift):
    with pytest.raises(RolloutError, match=r"drift\."):
        full(drift)
