"""What `kanbatsu poc` is asked for, and what it prints."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape

from kanbatsu.files.store import StudyFolder
from kanbatsu.files.tables import RecordError
from kanbatsu.poc.plan import load_poc
from kanbatsu.poc.stages import run_poc
from kanbatsu.poc.template import template


@dataclass(frozen=True)
class InitArguments:
    """Write a commented plan for a proof of concept on a task."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """dmc/<domain>-<task>, gym/<id>, inventory/<name>, or package.module:factory."""
    file: Path = Path("poc.toml")
    """Where it goes; a file that is there already stays."""


@dataclass(frozen=True)
class RunArguments:
    """Carry out a plan: pilot, search, confirmation, verdict; the same again continues."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.toml")]
    """What kanbatsu poc init wrote, and you changed."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for all stages; out/<name of the file> by default."""
    lang: Literal["en", "ja"] = "en"
    """Of the reports: English or Japanese."""


def init(asked: InitArguments, console: Console) -> None:
    """Write a plan.

    Raises:
        RecordError: The file exists.
    """
    if asked.file.exists():
        raise RecordError(f"{asked.file} exists already; give another --file, or remove it")
    asked.file.write_text(template(asked.task, str(asked.file)), encoding="utf-8")
    command = shlex.join(["kanbatsu", "poc", "run", str(asked.file)])
    console.print(
        f"{escape(str(asked.file))} is written: read it, change it, then: {escape(command)}",
        highlight=False,
        soft_wrap=True,
    )


def run(asked: RunArguments, console: Console) -> dict[str, Any]:
    """Carry out a plan and say how it ended.

    Raises:
        RecordError: The plan is wrong, or does not fit.
        StudyError: The folder holds another plan, or the pilot failed.
    """

    def say(line: str) -> None:
        console.print(escape(line), highlight=False, soft_wrap=True)

    out = asked.out or Path("out") / asked.file.stem
    command = shlex.join(["kanbatsu", "poc", "run", str(asked.file), "--out", str(out)])
    found = run_poc(load_poc(asked.file), out, command, say, asked.lang)
    say(f"\n{describe(found)}")
    if found["stage"] == "confirm":
        say(f"report: {StudyFolder(out / 'confirm').report(asked.lang)}")
    say(f"verdict: {out / 'verdict.json'}")
    return found


def describe(found: dict[str, Any]) -> str:
    """Say a verdict in two lines; the report says it in full.

    Example:
        >>> effect = {"measure": "mean_difference", "value": 3.0, "interval": [-1.0, 7.0]}
        >>> verdict = {"decision": "extend", "arm": "thin", "control": "dense", "effect": effect}
        >>> print(describe({"verdict": verdict | {"further_seeds": 8, "overturned_by": []}}))
        extend: thin beside dense, mean difference 3 (-1 to 7)
        8 further seeds of each would decide with a chance of 80 %
    """
    verdict = found["verdict"]
    effect = verdict["effect"]
    measure = effect["measure"].replace("_", " ")
    numbers = "nothing measured"
    if effect["value"] is not None:
        ends = effect["interval"]
        between = f" ({ends[0]:.3g} to {ends[1]:.3g})" if ends else ""
        numbers = f"{measure} {effect['value']:.3g}{between}"
    line = f"{verdict['decision']}: {verdict['arm']} beside {verdict['control']}, {numbers}"
    return f"{line}\n{_would_decide(verdict)}" if verdict["decision"] == "extend" else line


def _would_decide(verdict: Mapping[str, Any]) -> str:
    """Say what would settle a verdict that is open."""
    reasons = {reason["kind"]: reason for reason in verdict["overturned_by"]}
    # No plan asks for fewer seeds than its rule: where there are too few, runs are missing.
    if reasons.keys() & {"missing_runs", "too_few_seeds"}:
        return (
            "runs have no result, and nothing is decided before they are there: repair what "
            "failed, and the same command tries them again"
        )
    if verdict["further_seeds"] is not None:
        return (
            f"{verdict['further_seeds']} further seeds of each would decide with a chance of 80 %"
        )
    interval = verdict["effect"]["interval"]
    if interval is None:
        return "there is no interval, so it cannot be said how many further seeds would decide"
    if interval[0] <= reasons["interval"]["threshold"] <= interval[1]:
        return "more than 200 seeds would be needed to decide"
    tasks = [each["task"] for each in verdict["overturned_by"] if each["kind"] == "task_regression"]
    return (
        "the effect itself needs no further seeds, but the return may be lower than the rule "
        f"allows on {', '.join(tasks)}"
    )
