"""A study of the bench: arms x learning rates x seeds, read from a file and checked."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from kanbatsu.files.tables import (
    RecordError,
    canonical_hash,
    did_you_mean,
    from_dict,
    merge,
    parse_override,
    to_dict,
    whole,
)
from kanbatsu.plasticity.arm import LabelArm, read_arm
from kanbatsu.plasticity.classifier import plan
from kanbatsu.plasticity.config import LabelConfig, LabelRun, LabelStream
from kanbatsu.ranges import check_ranges
from kanbatsu.run.record import refuse_seed
from kanbatsu.study.file import load
from kanbatsu.study.rule import DecisionRule, rule_problems


class PlannedLabelRun(NamedTuple):
    """One arm at one learning rate with one seed."""

    arm: str
    run: LabelRun
    run_id: str
    """Name of the run's folder: readable, and different for a different `run`."""


@dataclass(frozen=True)
class Bench:
    """A question, and the runs that answer it."""

    question: str
    """The question that the study is to answer."""
    seeds: tuple[int, ...]
    """Seeds: there is one run for each arm, learning rate and seed."""
    learning_rates: tuple[float, ...] = (1e-3,)
    """Learning rates at which each arm is trained; a report treats them as tasks."""
    stream: LabelStream = field(default_factory=LabelStream)
    """The stream of tasks, the same for all arms."""
    control: str | None = None
    """The arm that all others are compared with."""
    note: str | None = None
    """A note to readers of the report."""
    decision: DecisionRule | None = None
    """The rule by which an arm is adopted; None where nothing is to be decided."""
    arms: Mapping[str, LabelArm] = field(default_factory=dict)
    """The classifiers that are compared, by name."""

    def tasks(self) -> tuple[str, ...]:
        """Return the name of each learning rate, as reports show it."""
        return tuple(f"labels/{rate:g}" for rate in self.learning_rates)

    def matches(self) -> Iterator[str]:
        """Say what every match came to, a line each."""
        for name, arm in self.arms.items():
            if arm.match is not None:
                kept = plan(arm.classifier, self.stream)[0].kept
                goal = plan(self.arms[arm.match.to].classifier, self.stream)[0].kept
                yield (
                    f"{name} is matched to {arm.match.to} in kept: width {arm.classifier.width}, "
                    f"sparsity {arm.classifier.sparsity:.6g}, {kept:,} weights kept ({goal:,})"
                )

    def groups(self) -> Iterator[list[PlannedLabelRun]]:
        """Yield the runs that go side by side: all seeds of an arm at a learning rate."""
        for task, rate in zip(self.tasks(), self.learning_rates, strict=True):
            for name, arm in self.arms.items():
                config = LabelConfig(arm.classifier)
                runs = [
                    LabelRun(
                        task, seed, self.stream.length, rate, config, self.stream, remedy=arm.remedy
                    )
                    for seed in self.seeds
                ]
                yield [PlannedLabelRun(name, run, _run_id(name, run)) for run in runs]


def load_bench(path: Path | str, overrides: Sequence[str] = ()) -> Bench:
    """Read a study file of the bench.

    Args:
        path: A TOML file.
        overrides: `KEY=VALUE` each, laid over the file in turn: `stream.tasks=3`,
            `classifier.width=64` (a default for all arms), `arm.NAME.classifier.width=64`.

    Raises:
        RecordError: The file is no TOML, or what it says makes no study; one line per mistake.
        OSError: The file cannot be read.
    """
    return load(path, lambda table: bench_from_dict(functools.reduce(_override, overrides, table)))


def bench_from_dict(table: Mapping[str, Any]) -> Bench:
    """Build a study from the table that its file holds, with every match solved.

    Args:
        table: `question`, `seeds` and `[arm.NAME]` tables must be there; the other fields of
            `Bench` may, and `classifier` with defaults for all arms.

    Raises:
        RecordError: One line per mistake.

    Example:
        >>> arms = {"dense": {}, "sparse": {"classifier": {"sparsity": 0.9}}}
        >>> bench = bench_from_dict({"question": "?", "seeds": 2, "arm": arms})
        >>> [planned.run_id[:-9] for planned in next(bench.groups())]
        ['dense_labels-0.001_s0', 'dense_labels-0.001_s1']
    """
    header = {key: value for key, value in table.items() if key not in ("arm", "classifier")}
    seeds = whole(header.get("seeds"))
    if type(seeds) is int:
        header["seeds"] = list(range(seeds))
    problems: list[str] = [] if "arms" not in header else ["arms: write [arm.NAME] tables"]
    header.pop("arms", None)
    try:
        bench = from_dict(Bench, header)
        problems += _header_problems(bench)
    except RecordError as error:
        raise RecordError("\n".join([*problems, str(error)])) from None
    arms = table.get("arm")
    if not isinstance(arms, Mapping) or not arms:
        problems.append("a study needs at least one arm: add a table such as [arm.dense]")
        raise RecordError("\n".join(problems))
    read: dict[str, LabelArm] = {}
    # What is matched comes after what it is matched to.
    for name in sorted(arms, key=lambda name: "match" in _table(arms[name])):
        try:
            read[name] = read_arm(name, arms[name], table.get("classifier", {}), bench.stream, read)
        except ValueError as error:
            problems += [f"arm.{name}: {line}" for line in str(error).splitlines()]
    if bench.control is not None and bench.control not in arms:
        hint = did_you_mean(bench.control, arms)
        problems.append(f"control: no arm is called {bench.control!r}. {hint}")
    if bench.decision is not None:  # accuracies share a unit, whatever the learning rate
        problems += rule_problems(bench.decision, bench.control, arms, bench.tasks()[:1])
    if problems:
        raise RecordError("\n".join(problems))
    return replace(bench, arms={name: read[name] for name in arms})


def _header_problems(bench: Bench) -> Iterator[str]:
    for name, values in (("seeds", bench.seeds), ("learning_rates", bench.learning_rates)):
        if not values:
            yield f"{name}: must hold at least one"
        if len(set(values)) < len(values):
            yield f"{name}: each may be there once"
    if any(rate <= 0 for rate in bench.learning_rates):
        yield "learning_rates: must be greater than 0"
    checks = [functools.partial(refuse_seed, seed, "seeds: each") for seed in bench.seeds]
    for check in (functools.partial(check_ranges, bench.stream, "stream."), *checks):
        try:
            check()
        except ValueError as error:
            yield str(error)


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _override(table: Mapping[str, Any], override: str) -> dict[str, Any]:
    path, value = parse_override(override)
    for key in reversed(path):
        value = {key: value}
    return merge(table, value)


def _run_id(arm: str, run: LabelRun) -> str:
    readable = f"{arm}_{re.sub(r'[^A-Za-z0-9._-]', '-', run.task)}_s{run.seed}"
    return f"{readable}-{canonical_hash(to_dict(run))[:8]}"
