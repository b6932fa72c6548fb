"""Random damage to every kind of file: a sentence that names the file, or the same result."""

import dataclasses
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanbatsu.files.disk import DamagedFile
from kanbatsu.files.store import StudyFolder
from kanbatsu.report.results import RunResults, read_study
from kanbatsu.train.checkpoint import Checkpoint, load_latest, save

RUNS = {"0": "a_t_s0-00000000", "1": "a_t_s1-11111111"}
OTHER_JSON = ["[]", "{}", "null", "3", '"x"', "[" * 100_000, '{"a": {}}', "[[{}]]", ""]
FILES = ["study.json", "config.json", "status.json", "machine.json", "metrics.jsonl"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a study of two finished runs, one of them with two checkpoints."""
    study = StudyFolder(tmp_path_factory.mktemp("damage") / "whole")
    arm = {"agent": "sac", "config": {"tau": 0.1}, "train": {}, "runs": {"gym/t": RUNS}}
    record = {"question": "Größe?", "tasks": ["gym/t"], "seeds": [0, 1], "env_steps": 20}
    study.write_study(record | {"control": None, "command": "x", "arms": {"a": arm}})
    for seed, run_id in RUNS.items():
        run = study.run_folder(run_id)
        run.write_config({"task": "gym/t", "seed": int(seed), "env_steps": 20})
        run.write_machine({"cores": 2})
        for step in (0, 10, 20):
            value = step + 0.5 * int(seed)
            run.append({"kind": "evaluation", "env_steps": step, "mean_return": value})
            run.append({"kind": "probe", "env_steps": step, "metrics": {"critic/srank": value}})
            run.append_timing({"env_steps": step, "seconds": 0.5})
        run.write_status("finished")
    for step in (10, 20):
        arrays = {"agent": {"w": np.full(4, step, np.float32)}}
        facts = {"position": [step, 7], "sizes": {"metrics.jsonl": step}}
        save(run.checkpoint, f"{step:012d}", Checkpoint(arrays, facts))
    return study.path


def damage(path: Path, dice: random.Random) -> None:
    """Change a file as an accident might, and never to what it was."""
    content = bytearray(path.read_bytes())
    place = dice.randrange(len(content))
    kind = dice.choice(["bit", "byte", "cut", "drop", "double", "json"])
    if kind == "bit":
        content[place] ^= 1 << dice.randrange(8)
    elif kind == "byte":
        content[place] = (content[place] + dice.randrange(1, 256)) % 256
    elif kind == "cut":
        del content[place:]
    elif kind == "drop":
        del content[place : place + dice.randrange(1, 9)]
    elif kind == "double":
        content[place:place] = content[place : place + dice.randrange(1, 9)]
    else:
        content = bytearray(dice.choice(OTHER_JSON), "utf-8")
    path.write_bytes(content)


def results(out: Path) -> dict[str, RunResults]:
    """Return all that a report is made of, apart from times and machines."""
    runs = read_study(out).runs
    return {run.run_id: dataclasses.replace(run, timing=(), machine=None) for run in runs}


def outcome(read: Callable[[], Any]) -> tuple[Any, str]:
    """Return what was read, or None and what was said."""
    try:
        return read(), ""
    except DamagedFile as error:
        return None, str(error)


def no_more_than_said(out: Path, expected: dict[str, RunResults], name: str) -> None:
    """Read a damaged study: a run is as it was, or failed by a sentence with the file's name."""
    read, said = outcome(lambda: results(out))
    if read is None:
        assert name == "study.json"
        assert name in said
        return
    for run_id, run in read.items():
        if run != expected[run_id]:
            assert run.state == "failed"
            assert name in (run.error or "")
    for run_id in RUNS.values():
        finished, said = outcome(lambda run_id=run_id: StudyFolder(out).run_folder(run_id).finished)
        assert finished or name in said


def try_damages(whole: Path, place: Path, name: str, times: int, check: Callable[..., Any]) -> None:
    dice = random.Random(f"{name}")
    for _ in range(times):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(whole, place)
        (path,) = sorted(place.rglob(name))[-1:]
        damage(path, dice)
        if path.read_bytes() != sorted(whole.rglob(name))[-1].read_bytes():
            check(place)


TIMES = [40, pytest.param(500, marks=pytest.mark.slow)]


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("name", [*FILES, "timing.jsonl"])
def test_a_damaged_file_is_named_or_changes_nothing(
    whole: Path, tmp_path: Path, name: str, times: int
) -> None:
    expected = results(whole)
    try_damages(
        whole, tmp_path / "out", name, times, lambda out: no_more_than_said(out, expected, name)
    )


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("name", ["facts.json", "agent.safetensors"])
def test_a_damaged_checkpoint_is_the_one_that_was_written_or_the_one_before(
    whole: Path, tmp_path: Path, name: str, times: int
) -> None:
    def check(out: Path) -> None:
        (folder,) = out.rglob("checkpoint")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            saved = load_latest(folder)
        assert saved is not None
        step = saved.facts["position"][0]
        assert step in (10, 20)
        assert saved.facts == {"position": [step, 7], "sizes": {"metrics.jsonl": step}}
        np.testing.assert_array_equal(saved.arrays["agent"]["w"], np.full(4, step))

    try_damages(whole, tmp_path / "out", name, times, check)


@pytest.mark.parametrize("times", TIMES)
def test_a_damaged_archive_is_named_or_changes_nothing(
    whole: Path, tmp_path: Path, times: int
) -> None:
    kept = StudyFolder(tmp_path / "kept")
    kept.write_study(StudyFolder(whole).read_study())
    parts = {
        run_id: {
            "config": run.read_config(),
            "status": run.read_status(),
            "machine": run.machine(),
            "timing": run.timing(),
            "metrics": run.metrics(),
        }
        for run_id in RUNS.values()
        for run in [StudyFolder(whole).run_folder(run_id)]
    }
    kept.write_archive(parts)
    expected = results(kept.path)

    def check(out: Path) -> None:
        read, said = outcome(lambda: results(out))
        if read is None:
            assert "runs.jsonl" in said
            return
        # Where whole lines are gone, their runs are told as missing.
        assert all(
            run == expected[run_id] or run.state == "not started" for run_id, run in read.items()
        )

    try_damages(kept.path, tmp_path / "out", "runs.jsonl", times, check)


@pytest.mark.parametrize("name", ["config.json", "status.json", "metrics.jsonl"])
def test_other_json_is_told_with_what_to_do(whole: Path, tmp_path: Path, name: str) -> None:
    for text in OTHER_JSON:
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(whole, out)
        run = StudyFolder(out).run_folder(RUNS["0"])
        if text == "" and name == "metrics.jsonl":
            continue
        (run.path / name).write_text(text + "\n")
        with pytest.raises(DamagedFile, match=rf"{name}.*([Dd]elete)"):
            _ = run.read_config(), run.read_status(), run.metrics()
