"""Solving what arms are matched in: kept weights exactly, operations to within a turn."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kanbatsu.files.tables import RecordError, canonical_hash, from_dict, to_dict
from kanbatsu.run.check import check, task_facts
from kanbatsu.run.operations import operations_of, turns
from kanbatsu.run.record import Run
from kanbatsu.study.match import Solved
from kanbatsu.study.plan import Arm, Study

WIDEST = 1 << 15
"""Largest width that is looked for."""


Seconds = Callable[[Arm, str], Callable[[int], float]]
"""From an arm and a task to how long a run of so many env steps takes here."""


def solve(
    study: Study,
    old: Mapping[str, Any] | None = None,
    measure: Callable[[Study], Seconds] | None = None,
) -> Study:
    """Return the study with every match solved, on every task.

    Args:
        study: As it was read.
        old: What `study.json` holds already. A match that was solved there for the same arms keeps
            its solution, so that a study continues as it began, on whatever machine.
        measure: Times the arms of a study; called once, and only where a match of time is new, with
            all other matches solved and those of time left out.

    Raises:
        RecordError: A match that cannot be met; one line each.

    Example:
        >>> from kanbatsu.study.file import study_from_dict
        >>> match = {"to": "dense", "what": "kept"}
        >>> arms = {"dense": {"critic": {"width": 8}}}
        >>> arms["wide"] = {"critic": {"width": 32}, "match": match}
        >>> table = {"question": "?", "tasks": ["gym/Pendulum-v1"], "env_steps": 100, "seeds": 1}
        >>> solved = solve(study_from_dict(table | {"arm": arms}))
        >>> round(solved.runs()[1].run.config.critic.sparsity, 4)
        0.9357
    """
    arms, problems = dict(study.arms), list[str]()

    @functools.cache
    def seconds() -> Seconds:
        if measure is None:
            raise ValueError("a match of time needs a measurement")
        ready = {
            name: dataclasses.replace(arm, match=None) if _is_of_time(arm) else arm
            for name, arm in arms.items()
        }
        return measure(dataclasses.replace(study, arms=ready))

    for name in sorted(arms, key=lambda name: _is_of_time(arms[name])):
        arm = arms[name]
        if arm.match is None:
            continue
        if problems and _is_of_time(arm):
            break  # nothing is timed in vain
        depends = _hash(study, arm)
        stored = ((old or {}).get("arms", {}).get(name, {})).get("solved") or {}
        solved = {}
        for task in study.tasks:
            try:
                if stored.get(task, {}).get("asked") == depends:
                    solved[task] = _read(arm, stored[task])
                else:
                    solution = _solve(study, arm, task, seconds)
                    solved[task] = dataclasses.replace(solution, asked=depends)
            except RecordError:  # of an arm that could not be timed
                raise
            except ValueError as error:
                problems.append(f"arm.{name}.match: {error}")
        arms[name] = dataclasses.replace(arm, solved=solved)
    if problems:
        raise RecordError("\n".join(dict.fromkeys(problems)))
    return dataclasses.replace(study, arms=arms)


def _is_of_time(arm: Arm) -> bool:
    return arm.match is not None and arm.match.what == "time"


def matches(study: Study) -> Iterator[str]:
    """Say what every match came to, a line each.

    Args:
        study: Solved.
    """
    for name, arm in study.arms.items():
        for task, solved in arm.solved.items():
            where = f" on {task}" if len(study.tasks) > 1 else ""
            assert arm.match is not None
            yield f"{name} is matched to {arm.match.to} in {arm.match.what}{where}: {solved.says}"


def came_out(study: Study, timed: Mapping[str, Any]) -> Iterator[str]:
    """Say how every match of time came out, a line each.

    Args:
        study: Solved, and carried out.
        timed: What `timing.json` has in `arms`: the median `seconds` of each arm's runs.
    """
    for name, arm in study.arms.items():
        if arm.match is None or not _is_of_time(arm):
            continue
        took, other = timed[name]["seconds"], timed[arm.match.to]["seconds"]
        if took and other:
            yield (
                f"{name} was to take as long as {arm.match.to}: {took:.0f} s a run against "
                f"{other:.0f} s, {abs(took / other - 1):.0%} {'more' if took > other else 'less'}"
            )


def total_flops(arm: Arm, task: str, env_steps: int) -> int:
    """Return the operations of a run, as its layers really compute on this machine."""
    spec, repeat = task_facts(task, arm.agent, arm.config, arm.train)
    turn = turns(env_steps, arm.train, repeat)
    each = operations_of(arm.agent, arm.config, arm.train.batch_size, spec)
    return each.total(*arm.train.counts(turn))


def _solve(study: Study, arm: Arm, task: str, seconds: Callable[[], Seconds]) -> Solved:
    assert arm.match is not None
    other = study.arms[arm.match.to]
    if arm.match.what == "kept":
        return _solve_kept(study, arm, other, task)
    if arm.match.what == "flops":
        goal = total_flops(other, task, study.env_steps)
        steps = _env_steps(arm, task, goal, lambda at: total_flops(arm, task, at))
        done = total_flops(arm, task, steps)
        says = f"env_steps = {steps:,}, {done:.4g} operations a run ({goal:.4g})"
        return Solved(arm.config, steps, says)
    if arm.match.what == "time":
        of_other, of_arm = seconds()(other, task), seconds()(arm, task)
        goal_seconds = of_other(study.env_steps)
        steps = _env_steps(arm, task, goal_seconds, of_arm)
        says = f"env_steps = {steps:,}, {of_arm(steps):.0f} s a run ({goal_seconds:.0f} s)"
        return Solved(arm.config, steps, says)
    return Solved(arm.config, study.env_steps, f"env_steps = {study.env_steps:,}")


def _solve_kept(study: Study, arm: Arm, other: Arm, task: str) -> Solved:
    config: Any = arm.config
    goals = _kept(other.config, other, task)
    lines = []
    for network, unknown in arm.unknowns:
        if network not in goals:
            raise ValueError(f"{arm.match.to if arm.match else ''} has no {network} to match")
        goal = goals[network]
        if unknown == "sparsity":
            config = _with(config, network, sparsity=0.0)
            total = _kept(config, arm, task)[network]
            if goal > total:
                raise ValueError(
                    f"{network}: {goal:,} weights are to be kept, but a width of "
                    f"{getattr(config, network).width} has only {total:,}; make it wider"
                )
            config = _with(config, network, sparsity=1.0 - goal / total)
        else:
            config = _with(config, network, width=_width(config, network, arm, task, goal))
        kept = _kept(config, arm, task)[network]
        value = getattr(getattr(config, network), unknown)
        shown = f"{value:.6g}" if unknown == "sparsity" else f"{value:,}"
        lines.append(f"{network}.{unknown} = {shown}, {kept:,} weights kept ({goal:,})")
    return Solved(config, study.env_steps, "; ".join(lines))


def _width(config: Any, network: str, arm: Arm, task: str, goal: int) -> int:
    """Return the width that keeps nearest to `goal` weights; kept weights grow with the width."""

    def kept(width: int) -> int:
        try:
            return _kept(_with(config, network, width=width), arm, task)[network]
        except ValueError:  # too narrow for its sparsity: some layer would be empty
            return 0

    try:
        return nearest(kept, goal, most=WIDEST)
    except ValueError:
        message = f"{network}: no width up to {WIDEST:,} keeps {goal:,} weights"
        raise ValueError(message) from None


def _env_steps(arm: Arm, task: str, goal: int | float, amount: Callable[[int], int | float]) -> int:
    """Return the env steps, in whole interactions, whose amount is nearest to `goal`."""
    _, repeat = task_facts(task, arm.agent, arm.config, arm.train)
    each = repeat * arm.train.environments
    return each * nearest(lambda turn: amount(turn * each), goal)


def nearest(
    amount: Callable[[int], int | float], goal: int | float, most: int = sys.maxsize
) -> int:
    """Return the number from 1 to `most` whose amount, which grows with it, is nearest to `goal`.

    Raises:
        ValueError: No number up to `most` has as much.

    Example:
        >>> nearest(lambda number: 3 * number, goal=10)
        3
    """
    low, high = 0, 1
    while amount(high) < goal:
        low, high = high, 2 * high
        if high > most:
            raise ValueError(f"no number up to {most:,} has {goal:,}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if amount(middle) < goal else (low, middle)
    nearer = low > 0 and amount(low) > 0 and goal - amount(low) < amount(high) - goal
    return low if nearer else high


def _kept(config: Any, arm: Arm, task: str) -> dict[str, int]:
    """Return the kept weights of each network, over all critics."""
    counts = check(Run(task, arm.agent, 0, 1, config, arm.train))
    return {
        name: count.kept * getattr(getattr(config, name), "members", 1)
        for name, count in counts.items()
    }


def _with(config: Any, network: str, **changes: Any) -> Any:
    changed = dataclasses.replace(getattr(config, network), **changes)
    return dataclasses.replace(config, **{network: changed})


def _hash(study: Study, arm: Arm) -> str:
    """Return a hash of all that a solution depends on, apart from the machine."""
    assert arm.match is not None
    other = study.arms[arm.match.to]
    plain = [
        {"agent": each.agent, "config": to_dict(each.config), "train": to_dict(each.train)}
        for each in (arm, other)
    ]
    return canonical_hash([plain, to_dict(arm.match), arm.unknowns, study.env_steps])[:16]


def _read(arm: Arm, table: Mapping[str, Any]) -> Solved:
    config: Any = from_dict(type(arm.config), table["config"], "config")
    return Solved(config, table["env_steps"], table["says"], table["asked"])
