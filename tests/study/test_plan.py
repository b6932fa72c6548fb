"""Studies: which runs they make, what identifies them, and what is refused before training."""

import dataclasses
import json
from pathlib import Path

import pytest

from kanbatsu.agents.ddpg import DDPGConfig
from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.files.tables import RecordError, to_dict
from kanbatsu.nn.config import CriticConfig
from kanbatsu.run.record import run_from_dict
from kanbatsu.study.file import study_from_dict
from kanbatsu.study.plan import Arm, Study, check_study, study_record

TINY = SACConfig(critic=CriticConfig(width=16, blocks=1))


def arm(config: SACConfig | DDPGConfig = TINY, **train: int) -> Arm:
    return Arm("sac" if isinstance(config, SACConfig) else "ddpg", config, TrainConfig(**train))


def sparse(sparsity: float) -> Arm:
    return arm(SACConfig(critic=CriticConfig(width=16, blocks=1, sparsity=sparsity)))


def study(**changes: object) -> Study:
    values = {
        "question": "Which one?",
        "tasks": ("gym/Pendulum-v1", "package.module:factory"),
        "env_steps": 100,
        "seeds": (0, 3),
        "arms": {"dense": arm(), "other": arm(DDPGConfig())},
    }
    return Study(**(values | changes))


def test_runs_are_arms_times_tasks_times_seeds_seed_by_seed() -> None:
    runs = study().runs()
    assert [(run.seed, run.task, run.arm) for run in runs] == [
        (seed, task, name)
        for seed in (0, 3)
        for task in ("gym/Pendulum-v1", "package.module:factory")
        for name in ("dense", "other")
    ]
    assert [run.run.agent for run in runs[:2]] == ["sac", "ddpg"]
    assert all((run.run.task, run.run.seed) == (run.task, run.seed) for run in runs)


def test_a_run_id_is_readable_and_safe_and_hangs_on_the_whole_record() -> None:
    ids = [run.run_id for run in study().runs()]
    assert [name[:-8] for name in ids[:3]] == [
        "dense_gym-Pendulum-v1_s0-",
        "other_gym-Pendulum-v1_s0-",
        "dense_package.module-factory_s0-",
    ]
    assert all(Path(name).name == name for name in ids)
    assert len(set(ids)) == 8
    assert ids == [run.run_id for run in study(question="?", note="n", control="dense").runs()]
    for changed in (study(env_steps=101), study(arms={"dense": arm(batch_size=3), "other": arm()})):
        assert not set(ids) & {run.run_id for run in changed.runs()}


def test_a_run_comes_back_from_its_record() -> None:
    for planned in study().runs():
        assert run_from_dict(json.loads(json.dumps(to_dict(planned.run)))) == planned.run


def test_the_record_of_a_study_holds_what_reports_read() -> None:
    record = study_record(study(control="dense"), "kanbatsu study x.toml")
    assert json.loads(json.dumps(record)) == record
    assert (record["control"], record["note"], record["command"]) == (
        "dense",
        None,
        "kanbatsu study x.toml",
    )
    other = record["arms"]["other"]
    assert other["agent"] == "ddpg"
    assert other["config"]["actor"]["width"] == 128
    assert other["train"]["batch_size"] == 256
    assert sorted(other["runs"]["gym/Pendulum-v1"]) == ["0", "3"]
    assert other["runs"]["gym/Pendulum-v1"]["3"].startswith("other_gym-Pendulum-v1_s3-")


def test_the_hash_is_of_what_decides_results() -> None:
    def hashed(*changes: str, **values: object) -> str:
        return str(study_record(study(**values), "command" + "".join(changes))["hash"])

    assert hashed() == hashed("er", question="Why?", note="x", control="dense")
    different = [
        hashed(),
        hashed(env_steps=7),
        hashed(seeds=(0,)),
        hashed(tasks=("gym/Pendulum-v1",)),
        hashed(arms={"dense": arm()}),
        hashed(arms={"dense": arm(log_every=7), "other": arm(DDPGConfig())}),
    ]
    assert len(set(different)) == len(different)


def test_checking_counts_what_each_arm_keeps() -> None:
    arms = {"dense": sparse(0.0), "sparse": sparse(0.75)}
    counts = check_study(study(tasks=("gym/Pendulum-v1",), arms=arms))
    # Pendulum: 3 observations and 1 action; 4 x 16 + 16 x 64 + 64 x 16 + 16 x 1.
    assert counts["dense"]["critic"].kept == counts["dense"]["critic"].total == 2128
    assert counts["sparse"]["critic"].kept == 532


def test_a_wrong_task_is_told_once_whatever_the_number_of_arms() -> None:
    with pytest.raises(RecordError) as caught:
        check_study(study(tasks=("gym/Pendulum-v1", "gym/Pendulm-v1")))
    (line,) = str(caught.value).splitlines()
    assert line.startswith("Unknown task 'gym/Pendulm-v1'.")
    assert "Did you mean 'gym/Pendulum-v1'" in line


def test_a_wrong_arm_is_told_by_its_name_and_once_whatever_the_number_of_tasks() -> None:
    arms = {"dense": arm(), "all-gone": sparse(1.0), "too-few": sparse(0.999)}
    tasks = ("gym/Pendulum-v1", "kanbatsu.envs.probe:action_reward")
    with pytest.raises(RecordError) as caught:
        check_study(study(tasks=tasks[:1], arms=arms))
    first, second = str(caught.value).splitlines()
    assert first.startswith("arm all-gone: critic: sparsity must lie in [0, 1): got 1.0")
    assert second.startswith("arm too-few: critic: sparsity 0.999 would keep 2 of 2128 weights")
    assert "the highest sparsity that can be met is 0.998" in second
    with pytest.raises(RecordError) as caught:
        check_study(study(tasks=tasks, arms={name: arms[name] for name in ("dense", "all-gone")}))
    assert len(str(caught.value).splitlines()) == 1


def test_a_factory_that_raises_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_factory.py").write_text("def make():\n    return 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RecordError) as caught:
        check_study(study(tasks=("broken_factory:make",)))
    assert str(caught.value) == (
        "broken_factory:make fails when it is called: ZeroDivisionError: division by zero "
        f"({tmp_path / 'broken_factory.py'}, line 2)"
    )


def test_a_study_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        study().env_steps = 3  # type: ignore[misc]


def test_a_study_prints_as_a_table_of_its_arms():
    table = {"question": "Is <sparse> better?", "tasks": ["gym/Pendulum-v1"], "env_steps": 9_000}
    arms = {"dense": {}, "sparse": {"critic": {"width": 512, "sparsity": 0.9}}}
    study = study_from_dict(table | {"seeds": 3, "arm": arms})
    shown = repr(study).splitlines()
    assert shown[0] == "Is <sparse> better?"
    assert "2 arms, 1 task, 3 seeds: 6 runs of 9,000 env steps" in shown[1]
    assert "512" in shown[-1]
    assert "90% removed" in shown[-1]
    assert [row["arm"] for row in study.table()] == ["dense", "sparse"]
    assert "Is &lt;sparse&gt; better?" in study._repr_html_()
