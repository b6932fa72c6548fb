"""Every change of stage has a person, a reason and the gate's numbers, and survives a kill."""

import json
import subprocess
import sys

import pytest

from kanbatsu.files.disk import DamagedFile
from kanbatsu.rollout.config import RolloutError
from kanbatsu.rollout.stages import Rollout, read_settings
from kanbatsu.rollout.tally import Tally

TOML = """
incumbent = "planted_policies:good"
candidate = { policy = "planted_policies:good" }
guard = { obs_dim = 2, low = [-1.0], high = [1.0], safe_action = [-0.5] }
shadow = { answers = 10 }
[canary]
return_low = 0.0
return_high = 100.0
worse_by = 40.0
more_violations = 0.9
share = 0.5
episodes = 2
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rollout.toml").write_text(TOML)
    return tmp_path


def passed_shadow(folder):
    tally = Tally.empty(1)
    for _ in range(10):
        tally.answered([0.1], 5.0, [], late=False)
    tally.store(folder / "shadow.json")


def test_the_whole_way(folder):
    rollout = Rollout.begin(folder, "Aoi", "the verdict was adopt")
    with pytest.raises(RolloutError, match="answers: 0, at least 10 are needed"):
        rollout.advance("Aoi", "impatience")
    passed_shadow(folder)
    rollout.advance("Aoi", "no differences in a week")
    with pytest.raises(RolloutError, match="candidate_episodes: 0"):
        rollout.advance("Ben", "impatience")
    canary = rollout.canary()
    for _ in range(150):
        canary.begin()
        canary.end(50.0, 0, 10)
    rollout.advance("Ben", "no worse in 150 episodes")
    with pytest.raises(RolloutError, match="in full service, and no stage follows"):
        rollout.advance("Ben", "more")
    rollout.roll_back("Chie", "the plant is rebuilt")
    state = Rollout(folder).read()  # another process
    assert state.stage == "rolled_back"
    assert [(c["from"], c["to"], c["by"], c["reason"]) for c in state.changes] == [
        (None, "shadow", "Aoi", "the verdict was adopt"),
        ("shadow", "canary", "Aoi", "no differences in a week"),
        ("canary", "full", "Ben", "no worse in 150 episodes"),
        ("full", "rolled_back", "Chie", "the plant is rebuilt"),
    ]
    assert state.changes[1]["numbers"]["answers"] == 10
    assert state.changes[2]["numbers"]["candidate_episodes"] > 2
    times = [change["time"] for change in state.changes]
    assert times == sorted(times)


def test_what_is_rolled_back_stays_so(folder):
    rollout = Rollout.begin(folder, "Aoi", "try")
    rollout.roll_back("Aoi", "first")
    rollout.roll_back("Ben", "second")
    assert [change["reason"] for change in rollout.read().changes] == ["try", "first"]
    with pytest.raises(RolloutError, match="rolled back, and no stage follows"):
        rollout.advance("Aoi", "again")
    with pytest.raises(RolloutError, match="holds a rollout already"):
        Rollout.begin(folder, "Aoi", "again")


@pytest.mark.parametrize(("by", "reason"), [("", "why"), ("Aoi", " ")])
def test_nobody_changes_a_stage_without_name_and_reason(folder, by, reason):
    with pytest.raises(RolloutError, match="needs a person and a reason"):
        Rollout.begin(folder, by, reason)


def test_two_people_cannot_both_advance(folder, monkeypatch):
    rollout = Rollout.begin(folder, "Aoi", "try")
    passed_shadow(folder)
    gate = rollout.gate()

    def meanwhile():
        Rollout(folder).roll_back("Ben", "smoke")
        return gate

    monkeypatch.setattr(rollout, "gate", meanwhile)
    with pytest.raises(RolloutError, match="went to rolled_back meanwhile"):
        rollout.advance("Aoi", "looks well")


def test_another_policy_in_the_folder_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("kanbatsu.rollout.stages.check_bundle", lambda settings: None)
    policy = tmp_path / "policy"
    policy.mkdir()
    (policy / "policy.json").write_text("{}")
    (folder / "rollout.toml").write_text(TOML.replace("planted_policies:good", str(policy)))
    rollout = Rollout.begin(folder, "Aoi", "try")
    rollout.check_candidate()
    (policy / "policy.json").write_text("{ }")
    with pytest.raises(RolloutError, match="is not the policy that this rollout began with"):
        rollout.advance("Aoi", "looks well")


def test_a_damaged_state_is_refused(folder):
    Rollout.begin(folder, "Aoi", "try")
    path = folder / "state.json"
    path.write_text(path.read_text().replace('"stage": "shadow"', '"stage": "full"'))
    with pytest.raises(DamagedFile, match="checksum"):
        Rollout(folder)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("guard = 3", "guard: must be a table"),
        (TOML.replace("obs_dim", "obs_dimm"), "Did you mean 'obs_dim'"),
        (TOML.replace("[-0.5]", "[-5.0]"), "safe_action"),
        (TOML.replace('good" }', 'good", residual = true }'), "correction"),
        ("guard = ", "not valid TOML"),
    ],
)
def test_wrong_settings_are_named_with_their_file(folder, text, named):
    (folder / "rollout.toml").write_text(text)
    with pytest.raises(RolloutError, match=named) as caught:
        read_settings(folder / "rollout.toml")
    assert str(folder) in str(caught.value)


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
from kanbatsu.rollout.canary import Canary
from kanbatsu.rollout.stages import Rollout

folder = Path(sys.argv[1])
rollout = Rollout.begin(folder, "Aoi", "try")

def live(pipe):
    # Changes of stage and episodes as fast as they go; each is told once it is on the disk.
    canary = rollout.canary()
    while True:
        to = "canary" if rollout.read().stage == "shadow" else "shadow"
        rollout._move(None, to, "Aoi", "why", {})
        os.write(pipe, b"s")
        canary.begin()
        canary.end(50.0, 0, 10)
        os.write(pipe, b"e")

changes, episodes = 1, 0
for kill in range(20):
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        live(theirs)
    os.close(theirs)
    told = os.read(ours, 1)
    time.sleep(random.uniform(0.0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while piece := os.read(ours, 65536):
        told += piece
    os.close(ours)
    state = Rollout(folder).read()
    # What was told is there; at most one more was written and not told when the kill came.
    more = len(state.changes) - changes - told.count(b"s")
    assert more in (0, 1), (kill, more)
    assert state == Rollout(folder).read()
    assert state.stage == state.changes[-1]["to"]
    changes = len(state.changes)
    canary = rollout.canary()
    more = canary.number - episodes - told.count(b"e")
    assert more in (0, 1), (kill, more)
    episodes = canary.number
    assert canary.gate() == rollout.canary().gate()
print(changes, episodes)
"""


def test_twenty_kills_at_any_moment_leave_the_state_that_was_told(folder):
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    changes, episodes = map(int, done.stdout.split())
    assert changes > 20  # every kill came in the midst of work
    assert episodes > 0
    assert json.loads((folder / "state.json").read_text())["format"] == "kanbatsu-rollout"
