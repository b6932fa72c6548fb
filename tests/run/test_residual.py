"""A run whose agent corrects a rule: recorded, refused where it cannot be, carried into service."""

import dataclasses
import json

import numpy as np
import pytest

from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.deploy import export, load
from kanbatsu.envs.base_stock import baseline
from kanbatsu.envs.residual import ResidualConfig
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import RecordError, canonical_hash, to_dict
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.rollout.config import RolloutError
from kanbatsu.rollout.stages import Rollout, read_settings
from kanbatsu.rollout.template import write_template
from kanbatsu.run.carry import run_one
from kanbatsu.run.check import check, environment_of, slowed
from kanbatsu.run.record import Run, run_from_dict
from kanbatsu.study.file import study_from_dict
from kanbatsu.study.plan import check_study, study_record

POLICY = "kanbatsu.envs.base_stock:seasonal"
RUN = Run(
    "inventory/seasonal",
    env_steps=120,
    config=SACConfig(NetworkConfig(width=8, blocks=1), CriticConfig(width=8, blocks=1)),
    train=TrainConfig(
        batch_size=8, warmup_interactions=100, evaluation_episodes=2, checkpoint_every=120
    ),
    residual=ResidualConfig(POLICY, share=0.1),
)
TABLE = {"question": "?", "tasks": [RUN.task], "env_steps": 100, "seeds": 1}


def study(residual, **arms):
    return study_from_dict(TABLE | {"residual": residual, "arm": arms or {"dense": {}}})


def test_records_without_a_rule_are_what_they_were():
    plain = dataclasses.replace(RUN, residual=None)
    assert "residual" not in to_dict(plain)
    assert run_from_dict(to_dict(plain)) == plain
    # Of the first release that had runs of SAC on this task.
    assert canonical_hash(to_dict(Run("inventory/serial")))[:8] == "d8c23139"
    assert to_dict(RUN)["residual"] == {"policy": POLICY, "share": 0.1}
    assert run_from_dict(json.loads(json.dumps(to_dict(RUN)))) == RUN


def test_a_study_names_it_for_all_arms_or_for_one():
    arms = {
        "all": {},
        "less": {"residual": {"policy": POLICY, "share": 0.05}},
        "alone": {"residual": False},
    }
    planned = study({"policy": POLICY, "share": 0.1}, **arms)
    assert {name: arm.residual for name, arm in planned.arms.items()} == {
        "all": ResidualConfig(POLICY, 0.1),
        "less": ResidualConfig(POLICY, 0.05),
        "alone": None,
    }
    assert [each.run.residual for each in planned.runs()] == [
        arm.residual for arm in planned.arms.values()
    ]
    record = study_record(planned, "")
    assert record["arms"]["all"]["residual"] == {"policy": POLICY, "share": 0.1}
    assert "residual" not in record["arms"]["alone"]
    assert len({each.run_id[-8:] for each in planned.runs()}) == 3


@pytest.mark.parametrize(
    ("residual", "problem"),
    [
        ({"share": 0.1}, "residual.policy: must be given"),
        ({"policy": POLICY, "bound": 0.1}, "residual.bound: unknown setting"),
        ({"policy": POLICY, "share": 0.0}, "residual.share must be greater than 0: got 0.0"),
        ({"policy": POLICY, "share": 1.5}, r"residual.share must lie in \[0.0, 1.0\]: got 1.5"),
        ({"policy": "pid"}, "'pid' is no policy: write package.module:factory"),
        ({"policy": "no_such_plant:pid"}, "no_such_plant:pid cannot be loaded"),
        ({"policy": POLICY[:-1]}, "no factory 'seasona'. Did you mean 'seasonal'"),
        ({"policy": "kanbatsu.envs.inventory:Chain"}, "returned Chain: the factory must return"),
    ],
)
def test_what_cannot_be_a_rule_is_refused(residual, problem):
    with pytest.raises(RecordError, match=problem):
        check_study(study(residual))


def test_a_rule_is_refused_where_actions_are_a_choice():
    table = TABLE | {"tasks": ["gym/CartPole-v1"], "agent": "stream_q", "arm": {"dense": {}}}
    problem = "gym/CartPole-v1 chooses among a few actions, and residual corrects actions between"
    with pytest.raises(RecordError, match=problem):
        check_study(study_from_dict(table | {"residual": {"policy": POLICY}}))


def test_a_rule_for_another_task_is_refused():
    run = dataclasses.replace(RUN, task="gym/Pendulum-v1")
    with pytest.raises(ValueError, match=f"{POLICY} fails: ValueError"):
        check(run)


def test_own_code_of_a_rule_can_be_forbidden(monkeypatch):
    monkeypatch.setenv("KANBATSU_NO_OWN_CODE", "1")
    with pytest.raises(ValueError, match=f"{POLICY} imports .* which --no-own-code forbids"):
        check(dataclasses.replace(RUN, env_steps=101))


def test_a_rule_that_ends_the_process_is_found_before_it_ends_this_one(tmp_path, monkeypatch):
    (tmp_path / "bad_rule.py").write_text("import os\n\ndef rule():\n    os._exit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"bad_rule:rule ends the process .* code 3"):
        check(dataclasses.replace(RUN, residual=ResidualConfig("bad_rule:rule")))


def test_a_task_that_compiles_is_stepped_from_the_host_and_that_is_said(tmp_path, monkeypatch):
    (tmp_path / "damping.py").write_text(
        "import numpy as np\n\ndef rule():\n    return lambda obs: -0.5 * np.asarray(obs)[2:3]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run = Run("jax/pendulum", residual=ResidualConfig("damping:rule", share=0.25))
    (warning,) = slowed(run)
    assert "jax/pendulum is stepped from the host" in warning
    assert not list(slowed(RUN))
    environment = environment_of(run)
    assert environment.spec.high == (1.0,)  # a quarter of -2 to 2
    plain = environment_of(dataclasses.replace(run, residual=None))
    for obs in (environment.reset(0), plain.reset(0)):
        base = -0.5 * float(obs[2])
    step = environment.step(np.array([0.5]))
    same = plain.step(np.array([(base + 0.5) / 2.0]))
    np.testing.assert_allclose(step.obs, same.obs, rtol=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run that corrected the base-stock rule for a moment."""
    folder = tmp_path_factory.mktemp("run") / "r"
    run_one(RUN, folder)
    return folder


def test_from_training_to_service_the_sum_is_the_same(trained, tmp_path):
    from kanbatsu.rollout.policy.load import load_policy
    from kanbatsu.rollout.service import Service

    export(trained, tmp_path / "policy")
    policy = load(tmp_path / "policy")
    assert policy.environment["residual"] == {
        "policy": POLICY,
        "share": 0.1,
        "correction": [0.2] * 4,
        "low": [0.0] * 4,
        "high": [2.0] * 4,
    }
    assert policy.high.tolist() == pytest.approx([0.2] * 4)
    toml = tmp_path / "rollout.toml"
    write_template(toml, str(tmp_path / "policy"), "")
    rest = "return_low = -200.0\nreturn_high = 0.0\nworse_by = 5.0\nshare = 0.1\n"
    text = toml.read_text().replace("# ! safe_action = [0.0]", "safe_action = [1.0, 1.0, 1.0, 1.0]")
    text = text.replace("share = 0.1\n", rest).replace('"process"', '"inline"')
    text = text.replace("deadline_s = 0.01", "deadline_s = 10.0")  # not what is tested here
    toml.write_text(text)
    settings = read_settings(toml)
    assert (settings.incumbent, settings.guard.high) == (POLICY, (2.0,) * 4)
    assert settings.candidate.residual
    assert settings.candidate.correction == (0.2,) * 4
    rollout = Rollout.begin(tmp_path, "Aoi", "a test")
    rollout._move("shadow", "full", "Aoi", "a test", {})
    environment = environment_of(RUN)
    plain = environment_of(dataclasses.replace(RUN, residual=None))
    obs, seen = environment.reset(3), plain.reset(3)
    with Service(tmp_path, load_policy(POLICY)) as service:
        service.begin_episode()
        for _ in range(100):
            served = service.act(seen)
            step = environment.step(np.asarray(policy(obs)) / 0.2)
            same = plain.step(served - 1.0)
            obs, seen = step.obs, same.obs
            np.testing.assert_allclose(obs, seen, atol=1e-4)
        service.end_episode(0.0)
        assert not any(service.guard.counts.values())
    assert step.truncated
    assert same.truncated


def test_a_correction_does_not_act_by_itself(trained, tmp_path):
    export(trained, tmp_path / "policy")
    guard = "guard = { obs_dim = 19, low = [0.0, 0.0, 0.0, 0.0], high = [2.0, 2.0, 2.0, 2.0], "
    (tmp_path / "rollout.toml").write_text(
        f"candidate = {{ policy = '{tmp_path / 'policy'}' }}\n{guard}"
        "safe_action = [1.0, 1.0, 1.0, 1.0] }\n"
        "canary = { return_low = -9.0, return_high = 0.0, worse_by = 1.0 }\n"
    )
    with pytest.raises(RolloutError, match=rf"trained to correct {POLICY}.*residual = true"):
        Rollout.begin(tmp_path, "Aoi", "a test")


def test_a_run_that_corrects_nothing_yet_returns_what_the_rule_does(trained):
    first = next(r for r in RunFolder(trained).metrics() if r["kind"] == "evaluation")
    # An untrained agent's corrections are small beside the bound of a tenth of the range.
    assert first["mean_return"] == pytest.approx(baseline(RUN.task, range(64)).mean(), abs=25.0)


def test_the_command_line_names_the_rule(monkeypatch):
    from kanbatsu import cli, conduct

    planned = []

    def carry_out(study, out, **how):
        planned.append(study)
        raise RecordError("that is enough")

    monkeypatch.setattr(conduct, "carry_out", carry_out)
    words = ["train", RUN.task, "--residual", POLICY, "--residual-share", "0.1"]
    with pytest.raises(SystemExit):
        cli.main(words)
    (study,) = planned
    assert study.arms["sac"].residual == RUN.residual
