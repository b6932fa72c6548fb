"""A study: arms x tasks x seeds become runs, each checked before anything trains."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

from kanbatsu.envs.residual import ResidualConfig
from kanbatsu.files.tables import RecordError, canonical_hash, to_dict
from kanbatsu.remedies.records import Remedy
from kanbatsu.report.gather import EXTERNAL
from kanbatsu.report.language import texts
from kanbatsu.report.measures import SUCCESS
from kanbatsu.report.records import Records
from kanbatsu.report.shell import visible
from kanbatsu.report.words import agent_name, describe
from kanbatsu.run.check import check
from kanbatsu.run.external import RunConfig, RunSchedule
from kanbatsu.run.record import Run
from kanbatsu.sparsity.table import Count
from kanbatsu.study.cost import Cost
from kanbatsu.study.match import Match, Solved, Unknowns
from kanbatsu.study.rule import DecisionRule
from kanbatsu.study.wording import Wording


@dataclass(frozen=True)
class Arm:
    """One configuration."""

    agent: str
    """Name of the algorithm."""
    config: RunConfig
    """The algorithm's own configuration."""
    train: RunSchedule
    """The schedule."""
    match: Match | None = None
    """The match to another arm, if there is one."""
    unknowns: Unknowns = ()
    """The numbers that a match of kept weights solves for."""
    solved: Mapping[str, Solved] = field(default_factory=dict)
    """The match's solution on each task; filled in by `kanbatsu.study.budget.solve`."""
    remedy: tuple[Remedy, ...] = ()
    """Remedies of the arm's runs."""
    residual: ResidualConfig | None = None
    """Rule that the agent corrects; none where its action is its own."""


class PlannedRun(NamedTuple):
    """One arm on one task with one seed."""

    arm: str
    task: str
    seed: int
    run: Run
    run_id: str
    """Name of the run's folder: readable, and different for a different `run`."""


@dataclass(frozen=True)
class Study:
    """A question, and the runs that answer it; prints as a table of its arms."""

    question: str
    """The question that the study is to answer."""
    tasks: tuple[str, ...]
    """Tasks: `dmc/<domain>-<task>`, `gym/<id>`, or `package.module:factory`."""
    env_steps: int
    """Simulator steps, before action repeat, at which each run ends."""
    seeds: tuple[int, ...]
    """Seeds: there is one run for each arm, task and seed."""
    arms: Mapping[str, Arm] = field(default_factory=dict)
    """The configurations that are compared, by name."""
    agent: str = "sac"
    """The algorithm of arms that do not name their own."""
    control: str | None = None
    """The arm that all others are compared with."""
    note: str | None = None
    """A note to readers of the report."""
    decision: DecisionRule | None = None
    """The rule by which an arm is adopted; None where nothing is to be decided."""
    measures: tuple[str, ...] = ()
    """Measures of evaluation episodes beside the return: scalars of info, such as service_level or
    any:violation."""
    incumbent: str | None = None
    """The rule in use today, as package.module:factory or the folder of an exported policy; it is
    evaluated on the same episodes, as the arm `incumbent`."""
    cost: Cost | None = None
    """Prices, where the study is to speak of money."""
    text: Mapping[str, Wording] = field(default_factory=dict)
    """Question, note and names of arms for readers of reports, by language."""

    def table(self) -> Records:
        """Return a row per arm: its agent and its networks, before matches are solved."""
        t = texts("en")
        networks = {name: _networks(arm) for name, arm in self.arms.items()}
        columns = dict.fromkeys(column for row in networks.values() for column in row)
        return Records(
            {
                "arm": name,
                "agent": agent_name(arm.agent),
                **{
                    column: describe(networks[name][column], t) if column in networks[name] else ""
                    for column in columns
                },
            }
            for name, arm in self.arms.items()
        )

    def __repr__(self) -> str:
        return f"{self.question}\n{self._size()}\n{self.table()!r}"

    def _repr_html_(self) -> str:
        size = f"<br><small>{escape(self._size())}</small>"
        head = f"<p><strong>{escape(self.question)}</strong>{size}</p>"
        return visible(head) + self.table()._repr_html_()

    def _size(self) -> str:
        """Say what the study consists of."""
        counts = {"arms": len(self.arms), "tasks": len(self.tasks), "seeds": len(self.seeds)}
        named = ", ".join(
            f"{count} {noun[:-1] if count == 1 else noun}" for noun, count in counts.items()
        )
        steps = f"{self.env_steps:,} env steps each on {', '.join(self.tasks)}"
        return f"{named}: {math.prod(counts.values())} runs of {steps}"

    def runs(self) -> list[PlannedRun]:
        """Return all runs, seed by seed, so that a study that is stopped early compares evenly."""
        return [
            self._plan(name, task, seed)
            for seed in self.seeds
            for task in self.tasks
            for name in self.arms
        ]

    def _measures(self, arm: Arm) -> tuple[str, ...]:
        """Return the measures that an arm's runs take; success is recorded by all."""
        names = (name for name in self.measures if name != SUCCESS)
        return () if arm.agent == EXTERNAL else tuple(names)

    def _plan(self, name: str, task: str, seed: int) -> PlannedRun:
        arm = self.arms[name]
        config, env_steps = arm.config, self.env_steps
        if arm.match is not None:
            if task not in arm.solved:
                raise ValueError(f"arm {name} is matched to another: call budget.solve first")
            config, env_steps = arm.solved[task].config, arm.solved[task].env_steps
        run = Run(
            task,
            arm.agent,
            seed,
            env_steps,
            config,
            arm.train,
            arm.remedy,
            arm.residual,
            self._measures(arm),
        )
        readable = f"{name}_{re.sub(r'[^A-Za-z0-9._-]', '-', task)}_s{seed}"
        run_id = f"{readable}-{canonical_hash(to_dict(run))[:8]}"
        return PlannedRun(name, task, seed, run, run_id)


def check_study(study: Study) -> dict[str, dict[str, Count]]:
    """Refuse a study with a run that cannot work: every task is built once, every arm sized.

    Returns:
        What each network of each arm will keep, on the first task.

    Raises:
        RecordError: One line per arm and task that cannot work, saying what to do.
    """
    counts: dict[str, dict[str, Count]] = {}
    problems: dict[str, set[str]] = {}
    for planned in study.runs()[: len(study.arms) * len(study.tasks)]:
        try:
            counts.setdefault(planned.arm, check(planned.run))
        except ValueError as error:
            problems.setdefault(str(error), set()).add(planned.arm)
        except Exception as error:  # the user's own factory may raise anything
            frame = traceback.extract_tb(error.__traceback__)[-1]
            problem = (
                f"{planned.task} cannot be built: {type(error).__name__}: {error} "
                f"({frame.filename}, line {frame.lineno})"
            )
            problems.setdefault(problem, set()).add(planned.arm)
    if problems:
        raise RecordError("\n".join(_say(*problem, study) for problem in problems.items()))
    return counts


def _networks(arm: Arm) -> dict[str, Mapping[str, Any]]:
    """Return the networks of an arm as tables; those of somebody's own training are not known."""
    config = {} if arm.agent == EXTERNAL else to_dict(arm.config)
    return {
        name: value
        for name, value in config.items()
        if isinstance(value, Mapping) and "width" in value
    }


def _say(problem: str, arms: set[str], study: Study) -> str:
    """Name the arms that a problem stops, unless it stops all: then it is not of the arms."""
    return problem if len(arms) == len(study.arms) else f"arm {', '.join(sorted(arms))}: {problem}"


def study_record(study: Study, command: str) -> dict[str, Any]:
    """Return what `study.json` holds.

    Args:
        study: The study.
        command: What a user types to get it again.
    """
    runs: dict[str, dict[str, dict[str, str]]] = {}
    for planned in study.runs():
        by_task = runs.setdefault(planned.arm, {})
        by_task.setdefault(planned.task, {})[str(planned.seed)] = planned.run_id
    arms = {name: _arm_record(arm, study.tasks) for name, arm in study.arms.items()}
    decides = {
        "tasks": list(study.tasks),
        "seeds": list(study.seeds),
        "env_steps": study.env_steps,
        "arms": arms,
    }
    words = {language: wording.table() for language, wording in study.text.items()}
    given: dict[str, Any] = {"text": words} if words else {}
    if study.measures:
        given["measures"] = list(study.measures)
    if study.cost is not None:
        given["cost"] = to_dict(study.cost)
    return (
        decides
        | given
        | {
            "question": study.question,
            "note": study.note,
            "agent": study.agent,
            "control": study.control,
            "decision": None if study.decision is None else to_dict(study.decision),
            "command": command,
            "hash": canonical_hash(decides)[:16],
            "arms": {name: arm | {"runs": runs[name]} for name, arm in arms.items()},
        }
    )


def _arm_record(arm: Arm, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Return an arm as `study.json` holds it; a matched one as it is on the first task."""
    config = arm.config if arm.match is None else arm.solved[tasks[0]].config
    record: dict[str, Any] = {
        "agent": arm.agent,
        "config": to_dict(config),
        "train": to_dict(arm.train),
    }
    if arm.remedy:
        record["remedy"] = [to_dict(remedy) for remedy in arm.remedy]
    if arm.residual is not None:
        record["residual"] = to_dict(arm.residual)
    if arm.match is None:
        return record
    solved = {task: to_dict(found) for task, found in arm.solved.items()}
    return record | {"match": to_dict(arm.match), "solved": solved}
