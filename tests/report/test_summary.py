"""What the numbers of a study must be, for a study whose results are planted."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanbatsu.files.store import StudyFolder
from kanbatsu.report import stats
from kanbatsu.report.page import write_report
from kanbatsu.report.results import read_study
from kanbatsu.report.summary import summarise, summarise_timing

MakeStudy = Callable[..., StudyFolder]


def summary_of(folder: StudyFolder) -> dict[str, Any]:
    return summarise(read_study(folder.path))


def arm_of(summary: dict[str, Any], name: str) -> dict[str, Any]:
    return next(arm for arm in summary["arms"] if arm["name"] == name)


def test_final_returns_and_iqm(tmp_path: Path, make_study: MakeStudy) -> None:
    summary = summary_of(make_study(tmp_path))
    task = arm_of(summary, "dense-256")["tasks"]["dmc/walker-walk"]
    assert task["returns"] == {"0": 110, "1": 111, "2": 112, "3": 113, "4": 114}
    # One of five is dropped at each end: (111 + 112 + 113) / 3.
    assert task["iqm"] == pytest.approx(112)
    expected = stats.iqm_interval([np.arange(110.0, 115)], np.random.default_rng(0))
    assert task["interval"] == [expected.low, expected.high]
    assert 110 <= task["interval"][0] < 112 < task["interval"][1] <= 114


def test_arms_say_what_they_are(tmp_path: Path, make_study: MakeStudy) -> None:
    summary = summary_of(make_study(tmp_path))
    assert [arm["name"] for arm in summary["arms"]] == ["dense-64", "dense-256", "sparse-256"]
    sparse = arm_of(summary, "sparse-256")
    assert sparse["agent"] == "sac"
    critic = sparse["networks"]["critic"]
    assert (critic["width"], critic["blocks"], critic["sparsity"]) == (256, 2, 0.94)
    assert (critic["kept"], critic["total"], critic["parameters"]) == (8_400, 140_000, 9_300)
    assert sparse["networks"]["actor"]["kept"] == 4_000
    assert sparse["flops_per_update"] == {"dense": 215_040_000, "sparse": 12_902_400}


def test_comparisons_with_a_planted_winner(tmp_path: Path, make_study: MakeStudy) -> None:
    [large, sparse] = summary_of(make_study(tmp_path))["comparisons"]
    assert (large["arm"], large["control"]) == ("dense-256", "dense-64")
    assert sparse["arm"] == "sparse-256"
    # Every run of a later arm beats every run of the control.
    assert large["probability_of_improvement"] == 1.0
    assert large["interval"] == [1.0, 1.0]
    assert large["seeds_per_task"] == 5


def test_equal_arms_are_at_one_half(tmp_path: Path, make_study: MakeStudy) -> None:
    folder = make_study(tmp_path, returns=lambda arm, task, seed, share: share * seed)
    comparison = summary_of(folder)["comparisons"][0]
    assert comparison["probability_of_improvement"] == 0.5
    assert comparison["interval"][0] < 0.5 < comparison["interval"][1]


def test_probes_are_last_values_over_seeds(tmp_path: Path, make_study: MakeStudy) -> None:
    probes = summary_of(make_study(tmp_path))["probes"]["dense-64"]
    # srank ends at 40 + seed, the dormant ratio at 0.1 (1 + seed / 10); seeds average 2.
    assert probes["critic/srank"] == pytest.approx(42)
    assert probes["actor/dormant_0.1"] == pytest.approx(0.12)
    assert probes["critic/dormant_0.1/block_0"] == pytest.approx(0.2)


def test_missing_runs_are_named_and_do_not_count(tmp_path: Path, make_study: MakeStudy) -> None:
    task = "dmc/walker-walk"
    place = tmp_path.resolve() / "runs"
    folder = make_study(
        tmp_path,
        stop={
            ("dense-64", task, 0): ("failed", f"OSError: no space left in {place}", 0.4),
            ("dense-256", task, 1): ("running", None, 0.9),
            ("sparse-256", task, 2): ("not started", None, 0),
        },
    )
    summary = summary_of(folder)
    run = {"task": task}
    assert summary["missing"] == [
        {
            **run,
            "arm": "dense-64",
            "seed": 0,
            "state": "failed",
            "error": "OSError: no space left in OUT/runs",
        },
        {**run, "arm": "dense-256", "seed": 1, "state": "running", "error": None},
        {**run, "arm": "sparse-256", "seed": 2, "state": "not started", "error": None},
    ]
    assert set(arm_of(summary, "dense-64")["tasks"][task]["returns"]) == {"1", "2", "3", "4"}
    assert summary["comparisons"][0]["seeds_per_task"] == 4


def test_a_status_without_its_data_is_not_believed(tmp_path: Path, make_study: MakeStudy) -> None:
    stop = {("dense-64", "dmc/walker-walk", 0): ("finished", None, 0.5)}
    [missing] = summary_of(make_study(tmp_path, stop=stop))["missing"]
    assert missing["state"] == "running"


def test_a_last_return_that_is_not_finite_is_missing(tmp_path: Path, make_study: MakeStudy) -> None:
    folder = make_study(
        tmp_path, returns=lambda arm, task, seed, share: math.nan if share == 1 else 5.0
    )
    summary = summary_of(folder)
    assert len(summary["missing"]) == 15
    assert summary["missing"][0]["error"] == "the last evaluation has no finite return"
    assert arm_of(summary, "dense-64")["tasks"]["dmc/walker-walk"]["iqm"] is None
    assert summary["comparisons"][0]["probability_of_improvement"] is None


def test_one_seed_gives_values_without_intervals(tmp_path: Path, make_study: MakeStudy) -> None:
    summary = summary_of(make_study(tmp_path, seeds=(7,)))
    task = arm_of(summary, "dense-64")["tasks"]["dmc/walker-walk"]
    assert (task["iqm"], task["interval"]) == (107.0, None)
    assert summary["comparisons"][0]["interval"] is None


def test_only_suite_tasks_are_averaged(tmp_path: Path, make_study: MakeStudy) -> None:
    suite = summary_of(make_study(tmp_path / "a", tasks=("dmc/a-b", "dmc/c-d")))
    aggregate = arm_of(suite, "dense-64")["aggregate"]
    # 0.100 to 0.104 twice: two of ten are dropped at each end.
    assert aggregate["iqm"] == pytest.approx(0.102)
    assert aggregate["tasks"] == ["dmc/a-b", "dmc/c-d"]
    mixed = summary_of(make_study(tmp_path / "b", tasks=("dmc/a-b", "gym/Ant-v5")))
    assert arm_of(mixed, "dense-64")["aggregate"] is None
    assert mixed["comparisons"][0]["tasks"] == ["dmc/a-b", "gym/Ant-v5"]


def test_an_arm_without_results_on_a_task_has_no_aggregate(
    tmp_path: Path, make_study: MakeStudy
) -> None:
    stop = {("dense-64", "dmc/c-d", seed): ("failed", "x", 0.5) for seed in (0, 1)}
    summary = summary_of(
        make_study(tmp_path, tasks=("dmc/a-b", "dmc/c-d"), seeds=(0, 1), stop=stop)
    )
    assert arm_of(summary, "dense-64")["aggregate"] is None
    assert arm_of(summary, "dense-256")["aggregate"] is not None
    assert summary["comparisons"][0]["tasks"] == ["dmc/a-b"]


def test_equal_results_give_equal_summaries(tmp_path: Path, make_study: MakeStudy) -> None:
    places = [tmp_path / "here", tmp_path / "somewhere" / "else"]
    for place, milliseconds in zip(places, (5.0, 8.0), strict=True):
        write_report(make_study(place, milliseconds=milliseconds).path)
    first, second = ((place / "summary.json").read_bytes() for place in places)
    assert first == second
    assert str(tmp_path).encode() not in first
    assert (places[0] / "timing.json").read_bytes() != (places[1] / "timing.json").read_bytes()
    json.loads(first, parse_constant=pytest.fail)


def test_timing(tmp_path: Path, make_study: MakeStudy) -> None:
    task = "dmc/walker-walk"
    stop = {("dense-64", task, 1): ("failed", "x", 0.5)}
    timing = summarise_timing(read_study(make_study(tmp_path, seeds=(0, 1), stop=stop).path))
    run = timing["runs"]["dense-64-dmc-walker-walk-0"]
    # The median of 5, 7 and 500; the last line is at 1000 env steps after 10,000 seconds.
    assert run["update_milliseconds"] == 7.0
    assert run["seconds"] == 10_000
    assert run["env_steps_per_second"] == 0.1
    assert timing["arms"]["dense-64"]["update_milliseconds"] == 7.0
    assert timing["machines"][0]["versions"]["jax"] == "0.10.2"
    assert len(timing["machines"]) == 1


def test_no_study_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="kanbatsu study"):
        write_report(tmp_path)
