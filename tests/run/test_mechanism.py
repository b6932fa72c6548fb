"""Probes of mechanism in whole runs: what they add, what they leave as it was, what is refused."""

from dataclasses import replace

import pytest

from kanbatsu.agents.ddpg import DDPGConfig
from kanbatsu.agents.pqn import PQNConfig
from kanbatsu.agents.schedule import RolloutTrainConfig
from kanbatsu.envs.classic import Pendulum
from kanbatsu.envs.functional import HostedEnvironment
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import RecordError, to_dict
from kanbatsu.nn.normed import NormedNetworkConfig
from kanbatsu.probes.mechanism import MECHANISMS
from kanbatsu.run import mechanism
from kanbatsu.run.carry import run_side_by_side
from kanbatsu.run.check import check
from kanbatsu.run.record import Run
from kanbatsu.study.file import study_from_dict

ROLLOUTS = RolloutTrainConfig(
    environments=4, rollout=8, evaluate_every=64, evaluation_episodes=1, probe_every=64,
    probe_batch=32, log_every=64, checkpoint_every=0,
)  # fmt: skip
PQN = PQNConfig(NormedNetworkConfig(width=8, channels=4, sparsity=0.5), minibatches=4)
OF_A_NETWORK = {
    *("erank", "stable_rank", "plasticity", "plasticity_fit", "plasticity_lifted"),
    *("interference", "interference_magnitude", "interference_negative"),
}
OF_THE_START = {"simplicity", "simplicity_score"}
OF_A_CRITIC = {"overestimation", "value", "return_followed", "overestimation_tail"}


def runs_of(kind, runs):
    if kind == "rollouts":
        return [Run("gymnax/Breakout-MinAtar", "pqn", 3, 128, PQN, ROLLOUTS)]
    if kind == "ddpg":
        sac = runs["device"][0]
        config = DDPGConfig(sac.config.actor, sac.config.critic)
        return [replace(sac, agent="ddpg", config=config)]
    return runs[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "compiled",
        *(
            pytest.param(x, marks=pytest.mark.slow)
            for x in ("rollouts", "host", "replay", "device", "ddpg")
        ),
    ],
)
def test_probes_add_their_numbers_and_leave_all_others_as_they_were(
    kind, runs, tmp_path, monkeypatch
):
    monkeypatch.setattr(mechanism, "INTERACTIONS", 40)
    group = runs_of(kind, runs)
    names = [x for x in MECHANISMS if x != "overestimation" or group[0].agent != "stream_ac"]
    asking = [replace(run, train=replace(run.train, probes=tuple(names))) for run in group]
    ours, theirs = ([tmp_path / name / str(i) for i in range(len(group))] for name in "ab")
    assert run_side_by_side(asking, ours) == [None] * len(group)
    assert run_side_by_side(group, theirs) == [None] * len(group)
    for run, mine, other in zip(group, ours, theirs, strict=True):
        before, *records = RunFolder(other).metrics()
        networks, *added = RunFolder(mine).metrics()
        start = next(record for record in added if record["kind"] == "probe")
        assert start["env_steps"] == 0
        assert {name.partition("/")[2] for name in start["metrics"]} == OF_THE_START
        added.remove(start)
        assert networks == before
        new = set()
        for one, two in zip(added, records, strict=True):
            if one["kind"] == "probe":
                extra = one["metrics"].keys() - two["metrics"].keys()
                new |= {name.partition("/")[2] for name in extra}
                one["metrics"] = {k: x for k, x in one["metrics"].items() if k not in extra}
            assert one == two
        promised = OF_A_NETWORK | (OF_A_CRITIC if "overestimation" in names else set())
        assert new == promised if run is group[0] else new | {"plasticity_lifted"} == promised
        costs = {name for name in RunFolder(mine).timing()[-1] if "_probe_seconds" in name}
        assert costs == {f"{name}_probe_seconds" for name in names}


def test_a_run_that_asks_for_none_has_the_record_that_it_always_had(runs):
    run = runs["replay"][0]
    assert "probes" not in to_dict(run)["train"]
    asking = replace(run, train=replace(run.train, probes=("ranks",)))
    assert to_dict(asking)["train"]["probes"] == ["ranks"]


@pytest.mark.parametrize(
    ("agent", "probes", "says"),
    [
        ("sac", ["ranks", "ranks"], "'ranks' is there more than once"),
        ("stream_ac", ["overestimation"], "stream_ac learns no such value"),
    ],
)
def test_what_cannot_be_is_refused_by_name(agent, probes, says, runs):
    run = runs["host" if agent == "stream_ac" else "replay"][0]
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        check(replace(run, train=replace(run.train, probes=tuple(probes))))


def test_a_study_names_the_probes_that_there_are():
    table = {"question": "?", "tasks": ["jax/pendulum"], "env_steps": 10, "seeds": 1}
    with pytest.raises(RecordError, match="'plasticity', 'interference'"):
        study_from_dict(table | {"train": {"probes": ["plastic"]}, "arm": {"dense": {}}})
    study = study_from_dict(table | {"train": {"probes": ["plasticity"]}, "arm": {"dense": {}}})
    assert study.arms["dense"].train.probes == ("plasticity",)


def test_play_goes_on_into_the_next_episode():
    arena = HostedEnvironment(Pendulum())
    game = mechanism.play(lambda obs: obs[:, :1] * 0.0, arena, seed=0, interactions=202)
    assert game.truncated.nonzero()[0].tolist() == [199]
    assert game.obs.shape == (202, 3)
    assert (game.next_obs[198] == game.obs[199]).all()
    assert (game.next_obs[199] != game.obs[200]).any()
