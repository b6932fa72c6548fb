"""A study as it lies on disk: immutable records that statistics, figures and page share."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from kanbatsu.files.disk import DamagedFile
from kanbatsu.files.shape import NUMBER, Maybe, ends_at, misfit, reaches
from kanbatsu.files.store import RunFolder, StudyFolder
from kanbatsu.report.counted import counted

RULE = {
    "goal": str,
    "measure": str,
    "minimum_effect": (int, float),
    "maximal_regression": Maybe(NUMBER),
    "max_failure_rate": Maybe(NUMBER),
    "saves": str,
    "confidence": (int, float),
    "seeds": int,
    "control": Maybe(str),
    "arms": [str],
    "beats": Maybe(str),
    "requires": Maybe([{"measure": str, "at_least": Maybe(NUMBER), "at_most": Maybe(NUMBER)}]),
}
"""Shape of a decision rule in study.json."""

INCUMBENT = "incumbent"
"""Name of the arm, and of its algorithm, that is the rule in use today: evaluated, not trained."""

Series = Mapping[int, float]
"""Values by env steps, in rising order; NaN where a measurement was not finite."""


@dataclass(frozen=True)
class RunResults:
    """What one run left behind, finished or not."""

    run_id: str
    arm: str
    task: str
    seed: int
    finished: bool
    """Whether the last evaluation is at the end of the run."""
    state: str
    """`finished`, `failed`, `running` (or killed: files cannot tell), or `not started`."""
    error: str | None
    returns: Series
    """Mean return of each evaluation."""
    probes: Mapping[str, Series]
    """Each probe by its full name, `network/probe[/layer]`."""
    networks: Mapping[str, Mapping[str, Any]]
    """Counts of each network: `kept` at the end, `total` and `parameters`; where masks moved,
    `kept_first` and `kept_mean` too."""
    flops_per_update: Mapping[str, int]
    """`dense`, and `sparse` as a mean over the run; empty where not recorded."""
    flops: Series
    """Operations up to each evaluation, as the layers really compute; empty where not counted."""
    timing: tuple[Mapping[str, Any], ...]
    machine: Mapping[str, Any] | None
    measures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Numbers of each measure in the episodes of the last evaluation."""

    @property
    def final_return(self) -> float | None:
        """Mean return of the last evaluation of a finished run; None where there is no number."""
        last = list(self.returns.values())[-1] if self.finished else math.nan
        return None if math.isnan(last) else last

    def last_probe(self, name: str) -> float | None:
        """Return the last value of a probe; None where there is none, or no finite number."""
        last = list(self.probes.get(name, {}).values())[-1:]
        return last[0] if last and not math.isnan(last[0]) else None

    @property
    def total_flops(self) -> float | None:
        """Operations of a finished run; None where they were not counted."""
        return list(self.flops.values())[-1] if self.finished and self.flops else None


@dataclass(frozen=True)
class ArmResults:
    """One configuration and its runs, by task and then by seed."""

    name: str
    agent: str
    config: Mapping[str, Any]
    train: Mapping[str, Any]
    matched: str
    """Budget that the arm shares with another: `env_steps` like all, unless the study says more."""
    runs: tuple[RunResults, ...]
    remedy: tuple[Mapping[str, Any], ...] = ()
    """Remedies of the runs as tables, each with its `kind`."""

    def on(self, task: str) -> tuple[RunResults, ...]:
        """Return the runs on one task, by seed."""
        return tuple(run for run in self.runs if run.task == task)

    def finals(self, task: str) -> Float[np.ndarray, " seeds"]:
        """Return the final returns on one task, by seed, of the runs that have one."""
        returns = (run.final_return for run in self.on(task))
        return np.array([value for value in returns if value is not None], dtype=float)


@dataclass(frozen=True)
class StudyResults:
    """A study's question and the results of its arms; the control arm comes first."""

    question: str
    note: str | None
    control: str | None
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    env_steps: int
    command: str
    decision: Mapping[str, Any] | None
    """The decision rule, as the study file has it; None where nothing is to be decided."""
    arms: tuple[ArmResults, ...]
    measures: tuple[str, ...] = ()
    """Measures of evaluation episodes beside the return."""
    cost: Mapping[str, Any] | None = None
    """Prices, as the study file has them; None where nothing is said of money."""
    text: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Question, note and names of arms by language, as the study file has them."""

    @property
    def control_arm(self) -> ArmResults | None:
        """The arm that the others are compared with; None where the study compares nothing."""
        return next((arm for arm in self.arms if arm.name == self.control), None)

    @property
    def incumbent(self) -> ArmResults | None:
        """The rule in use today; None where there is none in the study."""
        return next((arm for arm in self.arms if arm.agent == INCUMBENT), None)

    @property
    def runs(self) -> tuple[RunResults, ...]:
        """Every run of every arm."""
        return tuple(run for arm in self.arms for run in arm.runs)


def read_study(out: Path) -> StudyResults:
    """Read every file of the study in `out`; unfinished and failed runs count as far as they got.

    Args:
        out: The folder that `kanbatsu study --out` wrote.

    Raises:
        FileNotFoundError: The folder holds no study.
        DamagedFile: Its study.json is not what was written; a damaged file of a run is named as
            the failure of that run.
    """
    folder = StudyFolder(out)
    study = folder.read_study()
    if problem := _problem(study):
        raise DamagedFile(
            f"{out / 'study.json'} is not what was written ({problem}); restore it, or delete it "
            "and give the same command again: it is written anew"
        )
    control = study.get("control")
    names = sorted(study["arms"], key=lambda name: (name != control, _natural(name)))
    return StudyResults(
        question=study["question"],
        note=study.get("note"),
        control=control,
        tasks=tuple(study["tasks"]),
        seeds=tuple(study["seeds"]),
        env_steps=study["env_steps"],
        command=study.get("command") or "",
        decision=study.get("decision"),
        arms=tuple(_read_arm(folder, name, study) for name in names),
        measures=tuple(study.get("measures") or ()),
        cost=study.get("cost"),
        text=study.get("text") or {},
    )


def _problem(study: Mapping[str, Any]) -> str | None:
    """Say what of a study's record does not fit together; None where all does."""
    arms, rule = study["arms"], study.get("decision")
    if not arms:
        return "arms is empty"
    for name, arm in arms.items():
        seeds = [seed for by_seed in arm["runs"].values() for seed in by_seed]
        if odd := [seed for seed in seeds if not seed.isdecimal()]:
            return f"arms.{name}.runs: {odd[0]!r} is no seed"
    if rule is None:
        return None
    control = rule.get("control") or study.get("control")
    if problem := misfit(rule, RULE, "decision"):
        return problem
    return None if control in arms else f"decision.control: no arm is called {control!r}"


def _read_arm(folder: StudyFolder, name: str, study: Mapping[str, Any]) -> ArmResults:
    arm = study["arms"][name]
    runs = [
        _read_run(folder, run_id, name, task, int(seed), ends_at(study, arm, task))
        for task in study["tasks"]
        for seed, run_id in sorted(arm["runs"].get(task, {}).items(), key=lambda item: int(item[0]))
    ]
    matched = (arm.get("match") or {}).get("what", "env_steps")
    return ArmResults(
        name,
        arm["agent"],
        arm["config"],
        arm.get("train") or {},
        matched,
        tuple(runs),
        tuple(arm.get("remedy") or ()),
    )


def _read_run(
    folder: StudyFolder, run_id: str, arm: str, task: str, seed: int, env_steps: int
) -> RunResults:
    run: RunFolder = folder.run_folder(run_id)
    status: Mapping[str, Any]
    try:
        metrics, timing, machine = run.metrics(), tuple(run.timing()), run.machine()
        status = run.read_status() or {"state": "not started", "error": None}
    except DamagedFile as error:  # of this run alone; the others are reported as they are
        metrics, timing, machine = [], (), None
        status = {"state": "failed", "error": f"OUT{str(error).removeprefix(str(folder.path))}"}
    finished = reaches(metrics, env_steps)
    probes: dict[str, dict[int, float]] = {}
    for record in metrics:
        if record["kind"] == "probe":
            for probe, value in record["metrics"].items():
                probes.setdefault(probe, {})[record["env_steps"]] = _number(value)
    counts = counted(metrics)
    # A run that wrote its last evaluation is finished, whatever its last status says; one that
    # says it finished without that evaluation is not.
    state = "running" if status["state"] == "finished" else status["state"]
    return RunResults(
        run_id=run_id,
        arm=arm,
        task=task,
        seed=seed,
        finished=finished,
        state="finished" if finished else state,
        error=_without_place(status.get("error"), folder.path),
        returns={
            record["env_steps"]: _number(record["mean_return"])
            for record in metrics
            if record["kind"] == "evaluation"
        },
        probes=probes,
        networks=counts.networks,
        flops_per_update=counts.flops_per_update,
        flops={
            record["env_steps"]: _number(record["flops"])
            for record in metrics
            if record["kind"] == "evaluation" and "flops" in record
        },
        timing=timing,
        machine=machine,
        measures=_measures(metrics),
    )


def _measures(metrics: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, ...]]:
    """Return the measures of the last evaluation, success among them."""
    evaluations = [x for x in metrics if x["kind"] == "evaluation"]
    last: Mapping[str, Any] = evaluations[-1] if evaluations else {}
    found = {name: tuple(values) for name, values in (last.get("measures") or {}).items()}
    if (rate := last.get("success_rate")) is not None and last.get("returns"):
        episodes = len(last["returns"])
        hits = round(rate * episodes)
        found["success_rate"] = (1.0,) * hits + (0.0,) * (episodes - hits)
    return found


def _number(value: float | int | None) -> float:
    """Undo the store's null for a number that was not finite."""
    return math.nan if value is None else float(value)


def _without_place(error: str | None, out: Path) -> str | None:
    """Take the study's place on this machine out of a message: results do not depend on it."""
    return error.replace(str(out.resolve()), "OUT") if error else error


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort `dense-256` before `dense-1024`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
