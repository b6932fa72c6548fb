"""Runs side by side in one program leave the folders that they would leave alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kanbatsu.engine.populations import run_populations
from kanbatsu.engine.supervise import RunEnd
from kanbatsu.envs.vector import EnvironmentFault, VectorEnvironment
from kanbatsu.files.store import RunFolder, StudyFolder
from kanbatsu.run import carry
from kanbatsu.run.carry import run_one, run_side_by_side
from kanbatsu.study.file import study_from_dict
from kanbatsu.train import threads


def numbers(record):
    """A record's numbers, laid end to end, and everything else of it."""
    flat = json.loads(json.dumps(record), object_hook=lambda table: list(table.items()))
    found, rest = [], []

    def walk(x):
        if isinstance(x, list | tuple):
            for each in x:
                walk(each)
        elif isinstance(x, float):
            found.append(x)
        else:
            rest.append(x)

    walk(flat)
    return found, rest


def test_threads_change_nothing(runs, tmp_path, monkeypatch):
    pair = runs["replay"][:2]
    monkeypatch.setattr(threads, "usable_cores", lambda: [0, 1])
    for name, seconds in (("turns", float("inf")), ("threads", -1.0)):
        monkeypatch.setattr(threads, "HANDOVER_SECONDS", seconds)
        assert run_side_by_side(pair, [tmp_path / name / str(i) for i in range(2)]) == [None, None]
    for i in range(2):
        one, other = (RunFolder(tmp_path / name / str(i)) for name in ("turns", "threads"))
        assert one.metrics() == other.metrics()


@pytest.mark.parametrize(
    "kind",
    ["compiled", "replay", *(pytest.param(x, marks=pytest.mark.slow) for x in ("host", "device"))],
)
def test_a_member_leaves_the_run_that_it_would_be_alone_and_continues_exactly(
    kind, runs, kill, tmp_path
):
    three, places = runs[kind], range(3)
    together = [tmp_path / "together" / str(place) for place in places]
    assert run_side_by_side(three, together) == [None, None, None]
    for run, folder in zip(three, together, strict=True):
        alone = RunFolder(tmp_path / "alone" / folder.name)
        run_one(run, alone.path)
        ours, theirs = RunFolder(folder).metrics(), alone.metrics()
        assert RunFolder(folder).read_config() == alone.read_config()
        assert RunFolder(folder).finished
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            (a, facts), (b, other_facts) = numbers(mine), numbers(other)
            assert facts == other_facts
            # Not to the bit: a product of two members rounds otherwise than that of one.
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    records = [RunFolder(folder).metrics() for folder in together]
    assert records[0] != records[1]  # seeds differ
    assert records[0] != records[2]  # masks do

    again = [tmp_path / "killed" / str(place) for place in places]
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(three, again, kill)
    run_side_by_side(three, again)
    for a, b in zip(together, again, strict=True):
        assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()


def test_packed_weights_are_trained_beside_their_like(runs, tmp_path, monkeypatch):
    five = [replace(run, env_steps=50) for run in runs["compiled"]]
    packed = replace(five[0].config, critic=replace(five[0].config.critic, compute="packed"))
    five += [replace(run, config=packed) for run in five[:2]]
    seen = []
    train = carry._train
    monkeypatch.setattr(
        carry, "_train", lambda group, *rest: seen.append(list(group)) or train(group, *rest)
    )
    folders = [tmp_path / str(place) for place in range(5)]
    assert run_side_by_side(five, folders) == [None] * 5
    assert seen == [[0, 1, 2], [3, 4]]
    for folder, like in ((folders[3], folders[0]), (folders[4], folders[1])):
        (mine, _), (other, _) = (numbers(RunFolder(f).metrics()) for f in (folder, like))
        np.testing.assert_allclose(mine, other, rtol=2e-3, atol=2e-4)


def test_one_that_fails_is_stored_and_the_others_go_on(runs, tmp_path, monkeypatch):
    step = VectorEnvironment.step

    def crash(self, actions):
        if self._seed == 4 and self._interactions == 120:
            raise EnvironmentFault("the simulator broke")
        return step(self, actions)

    monkeypatch.setattr(VectorEnvironment, "step", crash)
    folders = [tmp_path / "3", tmp_path / "4"]
    told = []
    errors = run_side_by_side(runs["host"][:2], folders, told.append)
    assert errors[0] is None
    assert str(errors[1]) == "the simulator broke"
    assert told == list(range(1, 301))
    assert [RunFolder(f).finished for f in folders] == [True, False]
    status = RunFolder(folders[1]).read_status()
    assert status["state"] == "failed"
    assert "the simulator broke" in status["error"]
    assert "Traceback" in status["traceback"]


@pytest.fixture
def carried_out(tmp_path, monkeypatch):
    """Populations that a study's runs are put into, without training them."""

    def carry_out(table, population):
        study, seen, said = study_from_dict(table), [], []
        names = {planned.run_id: (planned.arm, planned.run.seed) for planned in study.runs()}

        def pretend(order, *rest):
            seen.append([names[Path(folder).name] for folder in order.runs])
            for folder, run in list(order.runs.items())[:-1]:
                files = RunFolder(Path(folder))
                files.write_config(run)
                files.append(
                    {"kind": "evaluation", "env_steps": run["env_steps"], "mean_return": 0.0}
                )
            return RunEnd("no")

        monkeypatch.setattr("kanbatsu.engine.populations.carry_through", pretend)
        run_populations(study, StudyFolder(tmp_path), said.append, population)
        return seen, said

    return carry_out


TABLE = {
    "question": "?",
    "tasks": ["jax/cartpole"],
    "env_steps": 100,
    "seeds": 2,
    "arm": {
        "q": {"agent": "stream_q"},
        "thin": {"agent": "stream_q", "critic": {"sparsity": 0.5}},
        "wide": {"agent": "stream_q", "critic": {"width": 64}},
        "sac": {"agent": "sac", "train": {"warmup_interactions": 10}},
    },
}


def test_runs_of_one_shape_go_side_by_side(carried_out):
    seen, said = carried_out(TABLE, "auto")
    assert [sorted(group) for group in seen] == [
        [("q", 0), ("q", 1), ("thin", 0), ("thin", 1)],
        [("wide", 0), ("wide", 1)],
        [("sac", 0), ("sac", 1)],
    ]
    assert said[:2] == [
        "4 runs of q, thin on jax/cartpole, side by side ...",
        "3 finished, 1 failed: no",
    ]


def test_a_step_that_knows_the_density_needs_a_program_of_its_own(carried_out):
    by_density = {"agent": "stream_q", "kappa_by_density": True}
    arms = {"q": by_density, "thin": by_density | {"critic": {"sparsity": 0.5}}}
    seen, _ = carried_out(TABLE | {"arm": arms}, "auto")
    assert seen == [[("q", 0), ("q", 1)], [("thin", 0), ("thin", 1)]]


def test_seeds_of_one_arm_go_side_by_side(carried_out):
    seen, _ = carried_out(TABLE, "arm")
    assert seen == [[(arm, 0), (arm, 1)] for arm in TABLE["arm"]]


def test_what_is_no_population_is_refused(runs, tmp_path):
    unlike = [runs["compiled"][0], runs["host"][0]]
    with pytest.raises(ValueError, match="runs that differ in seed and in pruning alone"):
        run_side_by_side(unlike, [tmp_path / "a", tmp_path / "b"])
