"""What a study will take: speeds by hand, and plans that cannot fit."""

import dataclasses
import json
import shutil

import pytest

from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.files.tables import RecordError, to_dict
from kanbatsu.forecast import pilot as pilot_module
from kanbatsu.forecast.estimate import Limits, estimate, makespan, obstacles
from kanbatsu.forecast.forecast import forecast, same_time
from kanbatsu.forecast.pilot import by_cost, measure, pilot
from kanbatsu.forecast.speed import Speed, speed
from kanbatsu.study.file import study_from_dict
from kanbatsu.types import Spec

TASK = "kanbatsu.envs.probe:action_reward"
SPEED = Speed(
    start=10.0,
    interaction=0.001,
    update=0.01,
    decision=0.002,
    probe=0.5,
    spread=0.2,
    memory=1 << 30,
    checkpoint=1 << 20,
    line=1.0,
    obs_dim=3,
    action_dim=1,
    action_repeat=2,
    short_episode=50.0,
    long_episode=150.0,
)
TRAIN = TrainConfig(
    warmup_interactions=101, evaluate_every=1_000, evaluation_episodes=5, probe_every=500
)


def planned(**more):
    train = {"warmup_interactions": 10, "batch_size": 4, "evaluate_every": 100_000}
    header = {"question": "?", "tasks": [TASK], "env_steps": 10_000, "seeds": 4}
    arms = {"a": {"critic": {"width": 8}}, "b": {"critic": {"width": 8}}}
    return study_from_dict(header | {"train": train, "arm": arms} | more)


def test_the_time_of_a_run_adds_up():
    # 1,000 decisions, 900 with two updates; 5 probes; 4 evaluations of 5 episodes.
    learning = 10.0 + 1.0 + 18.0 + 0.5 * 5
    short, long = (0.002 * 4 * 5 * decisions for decisions in (50, 150))
    low, expected, high = SPEED.seconds("sac", TRAIN, 2_000)
    assert low == pytest.approx((learning + short) / 1.2)
    assert expected == pytest.approx(learning + (short + long) / 2)
    assert high == pytest.approx(1.2 * (learning + long))
    assert SPEED.replay_bytes(TRAIN, 2_000) == 1_000 * (4 * (2 * 3 + 1 + 1) + 2)
    small = dataclasses.replace(TRAIN, replay_capacity=10)
    assert SPEED.replay_bytes(small, 2_000) == 10 * 34


def test_a_speed_is_read_off_the_stretches_after_compilation():
    def line(env_steps, seconds, update, evaluation, probe):
        times = {"update_seconds": update, "evaluation_seconds": evaluation, "probe_seconds": probe}
        return {"env_steps": env_steps, "updates": env_steps, "seconds": seconds} | times

    # After env step 10: 0.3 s a decision, 0.2 of it for one update.
    lines = [
        line(0, 5.0, 0.0, 1.0, 0.0),
        line(10, 30.0, 20.0, 1.0, 0.0),
        line(20, 33.0, 22.0, 1.0, 0.0),
        line(30, 38.0, 24.0, 2.0, 1.0),
    ]
    results = [
        {"kind": "evaluation", "lengths": [10]},
        {"kind": "evaluation", "lengths": [20]},
    ]
    spec = Spec((3,), action_dim=1, episode_length=100)
    found = speed(lines, results, TrainConfig(), spec, 1, checkpoint=7)
    assert found.update == pytest.approx(0.2)
    assert found.interaction == pytest.approx(0.1)
    assert found.decision == pytest.approx(1 / 20)
    assert found.probe == 1.0
    assert (found.short_episode, found.long_episode) == (15.0, 100.0)
    # 38 s, of which 9 were decisions and updates, 1.5 evaluations and 1 a probe.
    assert found.start == pytest.approx(38 - 9 - 1.5 - 1)
    with pytest.raises(ValueError, match="too short to time"):
        speed(lines[:3], results, TrainConfig(), spec, 1, checkpoint=7)


def test_workers_take_the_next_run_when_they_are_free():
    assert makespan([5.0, 1.0, 1.0, 1.0, 1.0], workers=2) == 5.0
    study = planned()
    speeds = {(arm, TASK): dataclasses.replace(SPEED, action_repeat=1) for arm in "ab"}
    one, four = (estimate(study, speeds, workers) for workers in (1, 4))
    assert one.runs == 8
    assert one.env_steps == 80_000
    assert one.hours.expected == pytest.approx(4 * four.hours.expected)
    assert one.core_hours == four.core_hours
    assert one.hours.low < one.hours.expected < one.hours.high
    assert 4.0 < four.memory.low < four.memory.high


def test_a_plan_that_cannot_fit_is_told_what_would():
    study = planned()
    speeds = {(arm, TASK): dataclasses.replace(SPEED, action_repeat=1) for arm in "ab"}
    need = estimate(study, speeds, 2).hours.expected
    assert obstacles(study, speeds, 2, Limits(hours=1.01 * need, memory=8.0, disk=8.0)) == []
    (said,) = obstacles(study, speeds, 2, Limits(hours=0.5 * need))
    assert f"it needs about {need:.3g} hours" in said
    assert "seeds = 2" in said
    assert "or 4 workers on as many cores more" in said
    steps = int(said.partition("env_steps = ")[2].partition(",")[0].partition(" ")[0])
    shorter = dataclasses.replace(study, env_steps=steps)
    assert 0.3 * need < estimate(shorter, speeds, 2).hours.expected <= 0.5 * need
    (said,) = obstacles(study, speeds, 4, Limits(memory=3.0))
    assert "--workers 2 would fit" in said
    (said,) = obstacles(study, speeds, 2, Limits(disk=1e-6))
    assert "GiB of disk" in said
    (said,) = obstacles(study, speeds, 2, Limits(hours=1e-6))
    assert "No fewer seeds, shorter runs or further workers" in said


def test_a_pilot_is_short_and_as_crowded_as_the_study():
    short = pilot(planned(), seconds=1.0, workers=3)
    assert len(short.runs()) == 4
    assert short.env_steps < 10_000
    assert short.arms["a"].train.warmup_interactions < short.env_steps / 3
    wide = pilot(planned(arm={"a": {"critic": {"width": 2048}}}), seconds=0.1, workers=1)
    assert wide.env_steps < short.env_steps


def test_a_pilot_learns_at_the_late_rate_and_is_not_primed_as_long_as_the_study():
    late = {"late_updates_per_interaction": 64, "late_from_interaction": 4_000}
    train = {"warmup_interactions": 10, "batch_size": 4, "first_updates": 9_000}
    plain = pilot(planned(train=train), seconds=0.1, workers=1)
    often = pilot(planned(train=train | late), seconds=0.1, workers=1)
    assert often.env_steps < plain.env_steps
    for short in (plain, often):
        own = short.arms["a"].train
        assert 0 < own.first_updates < short.env_steps
    assert (own.late_updates_per_interaction, own.late_from_interaction) == (64, 0)


def test_cheap_arms_are_not_timed_as_briefly_as_dear_ones():
    arms = {name: {"critic": {"width": width}} for name, width in (("a", 8), ("b", 512), ("c", 9))}
    dear, cheap = by_cost(planned(arm=arms))
    assert list(dear.arms) == ["b"]
    assert sorted(cheap.arms) == ["a", "c"]
    seconds = 0.1
    assert pilot(cheap, seconds, 1).env_steps > pilot(dear, seconds, 1).env_steps


def test_a_pilot_does_not_last_as_long_as_that_of_an_arm_with_many_environments():
    arms = {"one": {}, "many": {"train": {"environments": 64}}}
    many, one = (pilot(part, 0.1, 1) for part in by_cost(planned(arm=arms)))
    assert (list(many.arms), list(one.arms)) == (["many"], ["one"])
    for short in (many, one):
        (arm,) = short.arms.values()
        assert 3 * arm.train.evaluate_every <= short.env_steps < 4 * arm.train.evaluate_every


@pytest.mark.slow
def test_pilots_that_are_kept_are_not_run_again(tmp_path, monkeypatch):
    study = planned()
    first = measure(study, 1, 0.05, place=tmp_path)
    ended = {path: path.stat().st_mtime_ns for path in tmp_path.glob("00/runs/*/metrics.jsonl")}
    assert len(ended) == 2
    lost, kept = sorted(ended)
    shutil.rmtree(lost.parent)
    measure(study, 1, 0.05, place=tmp_path)
    assert lost.exists()
    assert kept.stat().st_mtime_ns == ended[kept]

    def refuse(*told):
        raise AssertionError("there is nothing to run")

    monkeypatch.setattr(pilot_module, "run_study", refuse)
    again = measure(study, 1, 0.05, place=tmp_path)
    assert again.keys() == first.keys()
    key = ("a", TASK) if "a_" in kept.parent.name else ("b", TASK)
    assert again[key].update == first[key].update


def test_a_stored_speed_serves_tasks_alike(tmp_path):
    timed, like = "dmc/cartpole-balance", "dmc/cartpole-swingup"
    arms = {"a": {}, "b": {}}
    study = planned(tasks=[timed, like], seeds=2, arm=arms)
    stored = tmp_path / "speeds.json"
    rows = [{"arm": arm, "task": timed, **to_dict(SPEED)} for arm in "ab"]
    stored.write_text(json.dumps({"speeds": rows}))
    with pytest.raises(RecordError, match=f"no speed of arm a on {like}"):
        forecast(study, workers=2, stored=stored)
    both = forecast(study, workers=2, stored=stored, alike=(f"{timed},{like}",)).estimate
    assert both.runs == 8
    one = planned(tasks=[timed], seeds=2, arm=arms)
    alone = forecast(one, workers=2, stored=stored).estimate
    assert both.core_hours.expected == pytest.approx(8 / alone.runs * alone.core_hours.expected)


def test_tasks_alike_are_timed_once_and_must_be_alike():
    names = [f"dmc/cartpole-{name}" for name in ("balance", "swingup", "swingup_sparse")]
    study = planned(tasks=[*names, TASK])
    assert same_time(study, [",".join(names)]) == {names[1]: names[0], names[2]: names[0]}
    assert same_time(study, []) == {}
    for wrong, said in (
        ("dmc/cartpole-balance,dmc/walker-run", "no task dmc/walker-run"),
        (f"{names[0]},{names[0]}", "is named twice"),
        (f"{names[0]},{TASK}", "has other sizes than dmc/cartpole-balance"),
    ):
        with pytest.raises(RecordError, match=said):
            same_time(study, [wrong])
