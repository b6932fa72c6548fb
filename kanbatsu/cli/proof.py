"""`kanbatsu poc init` and `kanbatsu poc run`: their options, and what they print."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from kanbatsu.cli.parsing import parse
from kanbatsu.cli.saying import USAGE, own_code, plan_on_cpu, refusing, say
from kanbatsu.cli.terminal import printable


@dataclass(frozen=True)
class InitArguments:
    """Write a commented plan for a proof of concept on a task."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """Task of the proof of concept: dmc/<domain>-<task>, gym/<id>, inventory/<name>, or
    package.module:factory."""
    file: Path = Path("poc.toml")
    """File to write; an existing one is never overwritten."""


@dataclass(frozen=True)
class RunArguments:
    """Carry out a plan: pilot, search, confirmation, verdict; the same command again continues."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.toml")]
    """The plan: the file that kanbatsu poc init wrote and you have edited."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for all stages; out/<name of the file> by default."""
    lang: Literal["en", "ja"] = "en"
    """Language of the reports."""
    own_code: bool = True
    """Permission to run tasks that import a module by name (package.module:factory). A file from
    somebody else can name any code: --no-own-code refuses such a task."""


def poc(words: list[str]) -> int:
    """Plan or carry out a proof of concept."""
    if words[:1] not in (["init"], ["run"]):
        console = Console(highlight=False)
        console.print(
            "usage: kanbatsu poc init TASK [--file FILE.toml]    write a commented plan\n"
            "       kanbatsu poc run FILE.toml [--out DIR]       carry it out, or continue",
            markup=False,
        )
        raise SystemExit(0 if words[:1] in (["-h"], ["--help"]) else USAGE)
    name, rest = f"kanbatsu poc {words[0]}", words[1:]
    with refusing():
        if words[0] == "init":
            init(parse(InitArguments, rest, name))
        else:
            run(parse(RunArguments, rest, name))
    return 0


def init(given: InitArguments) -> None:
    """Write a plan for a task that can be trained on, and say what comes next."""
    from kanbatsu.envs.make import make
    from kanbatsu.poc.template import write_template

    plan_on_cpu()
    make(given.task).close()
    write_template(given.task, given.file)
    command = shlex.join(["kanbatsu", "poc", "run", str(given.file)])
    say(f"{given.file} is written: read it, change it, then: {command}")


def run(given: RunArguments) -> None:
    """Carry out a plan and say how it ended."""
    from kanbatsu.files.store import StudyFolder
    from kanbatsu.poc.plan import load_poc
    from kanbatsu.poc.stages import run_poc

    plan_on_cpu()
    out = given.out or Path("out") / given.file.stem
    words = ["kanbatsu", "poc", "run", str(given.file), "--out", str(out)]
    command = printable(shlex.join(words))
    with own_code(given.own_code):
        end = run_poc(load_poc(given.file), out, command, say, given.lang)
    say(f"\n{describe(end)}")
    if end["stage"] == "confirm":
        say(f"report: {StudyFolder(out / 'confirm').report(given.lang)}")
    say(f"verdict: {out / 'verdict.json'}")


def describe(end: Mapping[str, Any]) -> str:
    """Say a verdict in two lines; the report says it in full.

    Example:
        >>> effect = {"measure": "mean_difference", "value": 3.0, "interval": [-1.0, 7.0]}
        >>> verdict = {"decision": "extend", "arm": "thin", "control": "dense", "effect": effect}
        >>> print(describe({"verdict": verdict | {"further_seeds": 8, "overturned_by": []}}))
        extend: thin compared with dense, mean difference 3 (-1 to 7)
        8 further seeds of each arm would decide with a chance of 80%
    """
    verdict = end["verdict"]
    effect = verdict["effect"]
    measure = effect["measure"].replace("_", " ")
    numbers = "nothing measured"
    if effect["value"] is not None:
        ends = effect["interval"]
        between = f" ({ends[0]:.3g} to {ends[1]:.3g})" if ends else ""
        numbers = f"{measure} {effect['value']:.3g}{between}"
    line = f"{verdict['decision']}: {verdict['arm']} compared with {verdict['control']}, {numbers}"
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
        more = verdict["further_seeds"]
        return f"{more} further seeds of each arm would decide with a chance of 80%"
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
