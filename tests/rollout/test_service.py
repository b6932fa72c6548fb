"""The control loop's object: whose action is taken, by stage, and what makes it give up."""

import time

import numpy as np
import pytest

from kanbatsu.rollout.service import Service
from kanbatsu.rollout.stages import Rollout

OBS = np.array([2.0, 0.0])
TOML = """
guard = {{ obs_dim = 2, low = [-1.0], high = [1.0], safe_action = [-0.5], deadline_s = 0.5 }}
canary = {{ return_low = 0.0, return_high = 100.0, worse_by = 40.0, share = 0.5 }}
shadow = {{ answers = 3 }}
[candidate]
policy = "planted_policies:{policy}"
isolation = "{isolation}"
hang_s = 0.3
{more}
"""


@pytest.fixture
def rollout(tmp_path, _planted):
    """Return a function that begins a rollout at a stage."""

    def begin(stage, policy="good", isolation="inline", more=""):
        text = TOML.format(policy=policy, isolation=isolation, more=more)
        (tmp_path / "rollout.toml").write_text(text)
        made = Rollout.begin(tmp_path, "Aoi", "try")
        for to in ("canary", "full", "rolled_back"):
            if made.read().stage != stage:
                made._move(None, to, "Aoi", "test", {})
        return made

    return begin


def incumbent(obs):
    return np.array([0.25])


def episode(service, total=50.0, steps=3):
    """Run an episode; return whose it was, and its actions."""
    arm = service.begin_episode()
    actions = [service.act(OBS).item() for _ in range(steps)]
    service.end_episode(total)
    return arm, actions


def test_in_shadow_the_incumbent_acts_and_the_gate_is_told(rollout):
    made, events = rollout("shadow"), []
    with Service(made.folder, incumbent, events.append) as service:
        assert episode(service) == ("incumbent", [0.25] * 3)
        end = time.monotonic() + 5.0
        while service._shadow.tally.answers < 3 and time.monotonic() < end:
            time.sleep(0.01)
            service._shadow.read()
        assert episode(service)[1] == [0.25] * 3
    kinds = [event["kind"] for event in events]
    assert kinds.count("episode") == kinds.count("gate") == 2
    assert events[kinds.index("gate")]["rule"].startswith("at least 3 answers")
    assert made.gate().numbers["answers"] >= 3  # on the disk, for whoever advances
    np.testing.assert_allclose(made.gate().numbers["largest_difference"], 0.05, rtol=1e-6)
    with Service(made.folder, incumbent) as service:  # counted on after a restart
        assert service._shadow.tally.answers >= 3


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
def test_in_full_service_the_candidate_acts(rollout, isolation):
    with Service(rollout("full", isolation=isolation).folder, incumbent) as service:
        arm, actions = episode(service)
    assert arm == "candidate"
    np.testing.assert_allclose(actions, [0.2] * 3, rtol=1e-6)


def test_in_canary_chance_decides_and_harm_rolls_back(rollout):
    made, events, arms = rollout("canary"), [], []
    with Service(made.folder, incumbent, events.append) as service:
        for _ in range(100):
            arm = service.begin_episode()
            expected = 0.2 if arm == "candidate" else 0.25
            np.testing.assert_allclose(service.act(OBS), [expected], rtol=1e-6)
            service.end_episode(20.0 if arm == "candidate" else 60.0)
            arms.append(arm)
            if service.stage == "rolled_back":
                break
        assert episode(service) == ("incumbent", [0.25] * 3)
    assert {"candidate", "incumbent"} == set(arms)
    last = made.read().changes[-1]
    assert (last["to"], last["by"]) == ("rolled_back", "kanbatsu")
    assert "returns less than the incumbent" in last["reason"]
    assert last["numbers"]["return_difference_high"] <= 0.0
    assert [e["to"] for e in events if e["kind"] == "stage"] == ["rolled_back"]


def test_a_person_who_rolls_back_is_heard_within_an_episode(rollout, monkeypatch):
    monkeypatch.setattr("kanbatsu.rollout.service.LOOK_SECONDS", 0.0)
    made = rollout("full")
    with Service(made.folder, incumbent) as service:
        service.begin_episode()
        np.testing.assert_allclose(service.act(OBS), [0.2], rtol=1e-6)
        made.roll_back("Ben", "smoke")
        assert service.act(OBS).tolist() == [0.25]
        service.end_episode(1.0)


def test_faults_in_a_row_end_full_service(rollout):
    made, events = rollout("full", policy="nan"), []
    with Service(made.folder, incumbent, events.append) as service:
        for _ in range(3):
            arm, actions = episode(service)
            assert (arm, actions) == ("candidate", [0.25] * 3)
        assert service.stage == "rolled_back"
    assert made.read().changes[-1]["reason"] == "faults in 3 episodes in a row"
    assert [e["violations"] for e in events if e["kind"] == "episode"] == [3, 3, 3]


def test_a_roll_back_that_cannot_be_written_holds_and_is_written_later(rollout, monkeypatch):
    made = rollout("full")
    with Service(made.folder, incumbent) as service:
        write = service._rollout.roll_back

        def full_disk(*arguments):
            raise OSError("No space left on device")

        monkeypatch.setattr(service._rollout, "roll_back", full_disk)
        service.roll_back("drift")
        assert episode(service)[0] == "incumbent"
        assert made.read().stage == "full"
        monkeypatch.setattr(service._rollout, "roll_back", write)
        assert episode(service)[0] == "incumbent"
        assert made.read().changes[-1]["reason"] == "drift"


def test_a_residual_candidate_corrects_by_no_more_than_it_may(rollout):
    made = rollout("full", more="residual = true\ncorrection = [0.05]")
    with Service(made.folder, incumbent) as service:
        np.testing.assert_allclose(episode(service)[1], [0.3] * 3)


@pytest.mark.parametrize("more", ["", "residual = true\ncorrection = [0.05]"])
def test_an_incumbent_is_asked_once_per_step_whoever_acts(rollout, more):
    calls = []

    def counting(obs):
        calls.append(obs)
        return np.array([0.25])

    for policy in ("good", "nan"):
        made = rollout("full", policy=policy, more=more)
        with Service(made.folder, counting) as service:
            episode(service, steps=4)
        assert len(calls) == 4
        calls.clear()
        for path in made.folder.glob("state.json"):
            path.unlink()


def test_an_incumbent_that_fails_beside_a_good_candidate_is_counted(rollout):
    with Service(rollout("full").folder, lambda obs: 1 / 0) as service:
        episode(service, steps=2)
        assert service.guard.counts["incumbent_failed"] == 2
        assert service.stage == "full"


def test_an_episode_has_one_beginning_and_one_end(rollout):
    with Service(rollout("full").folder, incumbent) as service:
        with pytest.raises(ValueError, match="no episode is under way"):
            service.end_episode(1.0)
        service.begin_episode()
        with pytest.raises(ValueError, match="an episode is under way"):
            service.begin_episode()
