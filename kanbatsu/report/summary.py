"""A study in numbers: `summary.json` from results only, `timing.json` from clocks and machines.

Two studies with equal results give equal summaries, byte for byte, wherever and whenever they ran.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kanbatsu.report import stats
from kanbatsu.report.decision import verdict
from kanbatsu.report.gather import EXTERNAL
from kanbatsu.report.measures import summary_of
from kanbatsu.report.results import ArmResults, RunResults, StudyResults
from kanbatsu.report.rivals import rivals

SEED = 0
"""Every interval has a fresh generator with this seed, so no arm's interval depends on another."""

MOVED = ("kept_first", "kept_mean")
"""Counts that stand beside `kept`, which is that of the end, where masks moved."""

DMC_SCALE = 1000.0
"""The highest return of a DeepMind Control task: 1,000 steps of reward at most 1."""


def summarise(study: StudyResults) -> dict[str, Any]:
    """Return the results of a study as JSON values: the content of `summary.json`.

    Keys: `arms`, `comparisons` (every other arm against the control), `probes` (per arm, the mean
    over seeds and tasks of each probe's last value in finished runs), `verdict` (None without a
    decision rule), `missing`, `rivals` (only where remedies are compared with a mask), and the
    question with its tasks, seeds and env steps. A final return is the mean return of a finished
    run's last evaluation. What cannot be known is null.
    """
    replaced = rivals(study)
    return {
        "question": study.question,
        "control": study.control,
        "tasks": list(study.tasks),
        "seeds": list(study.seeds),
        "env_steps": study.env_steps,
        "arms": [_arm(arm, study.tasks) for arm in study.arms],
        "comparisons": _comparisons(study),
        "verdict": verdict(study),
        **summary_of(study),
        "probes": {arm.name: _final_probes(arm) for arm in study.arms},
        "missing": [
            {
                "arm": run.arm,
                "task": run.task,
                "seed": run.seed,
                "state": run.state,
                "error": run.error
                or ("the last evaluation has no finite return" if run.finished else None),
            }
            for run in study.runs
            if run.final_return is None
        ],
    } | ({"rivals": replaced} if replaced else {})


def summarise_timing(study: StudyResults) -> dict[str, Any]:
    """Return wall-clock facts, versions and machines: the content of `timing.json`."""
    machines: list[Any] = []
    for run in study.runs:
        if run.machine is not None and run.machine not in machines:
            machines.append(run.machine)
    return {
        "runs": {run.run_id: _run_timing(run) for run in study.runs},
        "arms": {
            arm.name: {
                "update_milliseconds": stats.median(
                    _run_timing(run)["update_milliseconds"] for run in arm.runs
                ),
                "env_steps_per_second": stats.median(
                    _run_timing(run)["env_steps_per_second"] for run in arm.runs
                ),
                # An unfinished run's seconds are not those of a whole run.
                "seconds": stats.median(
                    _run_timing(run)["seconds"] for run in arm.runs if run.finished
                ),
                "act_milliseconds": stats.median(
                    line.get("act_milliseconds") for run in arm.runs for line in run.timing
                ),
                "memory_bytes": stats.median(
                    run.timing[-1].get("peak_resident_bytes") for run in arm.runs if run.timing
                ),
            }
            for arm in study.arms
        },
        "machines": machines,
    }


def shared_unit(tasks: Sequence[str]) -> bool:
    """Whether returns of these tasks may be averaged: several, all of the DeepMind Control suite.

    Example:
        >>> shared_unit(["dmc/walker-walk", "dmc/dog-stand"]), shared_unit(["gym/Ant-v5"] * 2)
        (True, False)
    """
    return len(tasks) > 1 and all(task.startswith("dmc/") for task in tasks)


def generator() -> np.random.Generator:
    """Return the generator that every interval of a report starts from."""
    return np.random.default_rng(SEED)


def _arm(arm: ArmResults, tasks: Sequence[str]) -> dict[str, Any]:
    return {
        "name": arm.name,
        "agent": arm.agent,
        "networks": {
            name: {**arm.config.get(name, {}), **_counts(arm.runs, name)}
            for name in _network_names(arm)
        },
        "flops_per_update": {
            kind: _mean_count(run.flops_per_update.get(kind) for run in arm.runs)
            for kind in ("dense", "sparse")
        },
        "tasks": {task: _task(arm, task) for task in tasks},
        "aggregate": _aggregate(arm, tasks),
    }


def _network_names(arm: ArmResults) -> list[str]:
    """Return the networks that were counted and those that are configured, counted or not."""
    own = {} if arm.agent == EXTERNAL else arm.config  # of others' trainings settings may be tables
    configured = {name for name, value in own.items() if isinstance(value, Mapping)}
    return sorted(configured.union(*(run.networks for run in arm.runs)))


def _counts(runs: Iterable[RunResults], network: str) -> dict[str, int | None]:
    """Return weights and parameters, averaged over runs: tasks differ in their observations."""
    counted = [run.networks[network] for run in runs if network in run.networks]
    moved = [key for key in MOVED if any(key in count for count in counted)]
    over_time = {
        key: _mean_count(count.get(key, count["kept"]) for count in counted) for key in moved
    }
    return over_time | {
        key: _mean_count(count.get(key) for count in counted)
        for key in ("kept", "total", "parameters")
    }


def _task(arm: ArmResults, task: str) -> dict[str, Any]:
    returns = {
        str(run.seed): run.final_return for run in arm.on(task) if run.final_return is not None
    }
    return {
        "returns": returns,
        **_iqm([arm.finals(task)] if returns else []),
        "networks": {name: _counts(arm.on(task), name) for name in _network_names(arm)},
    }


def _aggregate(arm: ArmResults, tasks: Sequence[str]) -> dict[str, Any] | None:
    """Return the IQM over all tasks, only where all have results and share a unit."""
    scores = [arm.finals(task) / DMC_SCALE for task in tasks]
    if not shared_unit(tasks) or any(task.size == 0 for task in scores):
        return None
    return {"unit": "return / 1000", "tasks": list(tasks), **_iqm(scores)}


def _iqm(scores: stats.Scores) -> dict[str, Any]:
    if not scores:
        return {"iqm": None, "interval": None}
    estimate = stats.iqm_interval(scores, generator())
    return {"iqm": estimate.value, "interval": _interval(estimate)}


def _comparisons(study: StudyResults) -> list[dict[str, Any]]:
    control = study.control_arm
    if control is None:
        return []
    return [_comparison(arm, control, study.tasks) for arm in study.arms if arm is not control]


def _comparison(arm: ArmResults, control: ArmResults, tasks: Sequence[str]) -> dict[str, Any]:
    """Compare two arms on the tasks on which both have finished runs."""
    shared = [t for t in tasks if arm.finals(t).size and control.finals(t).size]
    x, y = ([side.finals(task) for task in shared] for side in (arm, control))
    estimate = stats.improvement_interval(x, y, generator()) if shared else None
    return {
        "arm": arm.name,
        "control": control.name,
        "tasks": shared,
        "seeds_per_task": min((scores.size for scores in [*x, *y]), default=0),
        "probability_of_improvement": estimate.value if estimate else None,
        "interval": _interval(estimate) if estimate else None,
    }


def _final_probes(arm: ArmResults) -> dict[str, float]:
    finals: dict[str, dict[str, list[float]]] = {}
    for run in arm.runs:
        if run.finished:
            for probe in run.probes:
                if (last := run.last_probe(probe)) is not None:
                    finals.setdefault(probe, {}).setdefault(run.task, []).append(last)
    return {
        probe: statistics.fmean(statistics.fmean(values) for values in by_task.values())
        for probe, by_task in sorted(finals.items())
    }


def _run_timing(run: RunResults) -> dict[str, Any]:
    last = run.timing[-1] if run.timing else {}
    seconds = last.get("seconds")
    return {
        "arm": run.arm,
        "task": run.task,
        "seed": run.seed,
        **{key: value for key, value in last.items() if key.endswith("seconds")},
        "seconds": seconds,
        "update_milliseconds": stats.median(line.get("update_milliseconds") for line in run.timing),
        "env_steps_per_second": last["env_steps"] / seconds if seconds else None,
    }


def _interval(estimate: stats.Estimate) -> list[float] | None:
    return None if math.isnan(estimate.low) else [estimate.low, estimate.high]


def _mean_count(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return round(statistics.fmean(known)) if known else None
