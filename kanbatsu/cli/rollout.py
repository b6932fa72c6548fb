"""`kanbatsu rollout init`, `status`, `report` and so on: a policy into service, by stages."""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kanbatsu.cli.logs import CalibrateArguments, EvaluateArguments, calibrate, evaluate
from kanbatsu.cli.parsing import parse
from kanbatsu.cli.saying import USAGE, refusing, say, say_error

if TYPE_CHECKING:
    from kanbatsu.rollout.config import RolloutSettings
    from kanbatsu.rollout.gate import Gate
    from kanbatsu.rollout.stages import State

Folder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]


@dataclass(frozen=True)
class InitArguments:
    """Write the settings of a rollout; once they are complete, the same command begins it."""

    folder: Folder
    """Folder of the rollout."""
    candidate: str = ""
    """Policy that is to come into service: a folder that kanbatsu.deploy.export wrote, or
    package.module:factory. Required the first time."""
    incumbent: str = ""
    """Policy in use now, given in the same way. Leave it out if your service passes a function."""
    by: str = ""
    """Name of the person who begins. Required once the settings are complete."""
    reason: str = "the rollout begins"
    """Sentence that says why, for the record."""


@dataclass(frozen=True)
class StatusArguments:
    """Show the stage, the gate's numbers against its rule, and every change so far."""

    folder: Folder
    """Folder of the rollout."""


@dataclass(frozen=True)
class ReportArguments:
    """Write the page of a rollout from its journal, or show it live on this machine."""

    folder: Folder
    """Folder of the rollout; the service's journal is in its subfolder `journal`."""
    lang: Literal["en", "ja"] = "en"
    """Language of the page."""
    serve: bool = False
    """Flag that serves the page, always up to date, to this machine alone."""
    port: int = 0
    """Port to serve the page on; 0 takes a free one."""


@dataclass(frozen=True)
class ChangeArguments:
    """Move a rollout to its next stage, or back to the incumbent, in a person's name."""

    folder: Folder
    """Folder of the rollout."""
    by: str
    """Name of the person who decides."""
    reason: str
    """Sentence that says why, for the record."""


def rollout(words: list[str]) -> int:
    """Begin a rollout, look at it, advance it or roll it back."""
    if not words or words[0] not in COMMANDS:
        if words and words[0] not in ("-h", "--help"):
            from kanbatsu.files.tables import did_you_mean

            say_error(f"unknown command {words[0]!r}. {did_you_mean(words[0], COMMANDS)}")
        Console(highlight=False).print(
            "usage: kanbatsu rollout init DIR --candidate POLICY   write settings; then begin\n"
            "       kanbatsu rollout status DIR                    stage, numbers, changes\n"
            "       kanbatsu rollout report DIR                    the page; --serve: live\n"
            "       kanbatsu rollout calibrate DIR [--logs FILE]   thresholds for drift\n"
            "       kanbatsu rollout evaluate LOG --candidate POLICY   from another policy's log\n"
            "       kanbatsu rollout advance DIR --by NAME --reason WHY\n"
            "       kanbatsu rollout rollback DIR --by NAME --reason WHY",
            markup=False,
        )
        raise SystemExit(0 if words[:1] in (["-h"], ["--help"]) else USAGE)
    arguments, command = COMMANDS[words[0]]
    given = parse(arguments, words[1:], f"kanbatsu rollout {words[0]}")
    with refusing():
        command(given)
    return 0


def init(given: InitArguments) -> None:
    """Write the settings, or begin by those that are there."""
    from kanbatsu.rollout.config import RolloutError
    from kanbatsu.rollout.stages import Rollout
    from kanbatsu.rollout.template import write_template

    path = given.folder / "rollout.toml"
    command = shlex.join(["kanbatsu", "rollout", "init", str(given.folder), "--by", "NAME"])
    if not path.exists():
        if not given.candidate:
            raise RolloutError(
                f"{path} does not exist yet: name the policy that is to come into service, "
                "--candidate FOLDER"
            )
        write_template(path, given.candidate, given.incumbent)
        say(f"{path} is written: complete it, then: {command}")
        return
    if given.candidate or given.incumbent:
        raise RolloutError(f"{path} names the policies already: change it there, then: {command}")
    Rollout.begin(given.folder, given.by, given.reason)
    say(f"{given.folder} is in shadow: start the service (docs/rollout.md)")


def status(given: StatusArguments) -> None:
    """Print where a rollout is."""
    from kanbatsu.rollout.stages import Rollout

    made = Rollout(given.folder)
    state, gate = made.read(), made.gate()
    last = state.changes[-1]
    say(f"{given.folder}: {state.stage} since {_when(last['time'])}, by {last['by']}")
    say(watched(given.folder, made.settings))
    console = Console()
    if gate is not None:
        say(f"rule: {gate.rule}")
        console.print(numbers_table(gate), highlight=False)
        for sentence in gate.missing:
            say(f"missing: {sentence}")
        if gate.harm:
            say(f"harm: {gate.harm}")
        if gate.passed:
            say(f"the gate is passed: {_advance(given.folder)}")
    console.print(changes_table(state), highlight=False)


def advance(given: ChangeArguments) -> None:
    """Go to the next stage, if the gate is passed."""
    from kanbatsu.rollout.stages import Rollout

    made = Rollout(given.folder)
    change = made.advance(given.by, given.reason)
    say(f"{given.folder}: {change['from']} -> {change['to']}, by {given.by}")
    say(watched(given.folder, made.settings))


def rollback(given: ChangeArguments) -> None:
    """Give everything back to the incumbent."""
    from kanbatsu.rollout.stages import Rollout

    change = Rollout(given.folder).roll_back(given.by, given.reason)
    say(f"{given.folder}: {change['from']} -> {change['to']}, by {change['by']}")
    say("a service that runs hears of it within a second")


def report(given: ReportArguments) -> None:
    """Write the page, or serve it until Ctrl-C."""
    from kanbatsu.rollout.pages.page import write_page
    from kanbatsu.rollout.pages.serve import Live

    if not given.serve:
        say(f"report: {write_page(given.folder, given.lang)}")
        return
    with Live(given.folder, given.port, given.lang) as live:
        say(f"the page is at {live.address} until you press Ctrl-C")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


COMMANDS: dict[str, tuple[Any, Any]] = {
    "init": (InitArguments, init),
    "status": (StatusArguments, status),
    "report": (ReportArguments, report),
    "calibrate": (CalibrateArguments, calibrate),
    "evaluate": (EvaluateArguments, evaluate),
    "advance": (ChangeArguments, advance),
    "rollback": (ChangeArguments, rollback),
}


def watched(folder: Path, settings: RolloutSettings) -> str:
    """Return a sentence on whether there is a watch over drift, and what it promises."""
    from kanbatsu.rollout.watch.stored_watch import FILE, StoredWatch

    stored = StoredWatch.stored(folder / FILE)
    stages = ", ".join(settings.drift.stages)
    if not stages:
        return "drift is not watched: [drift] of rollout.toml names no stages"
    if stored is None:
        command = shlex.join(["kanbatsu", "rollout", "calibrate", str(folder)])
        return f"drift is not watched yet ({stages}): {command}"
    return f"drift is watched ({stages}): {stored.claim()}"


def numbers_table(gate: Gate) -> Table:
    """Lay out a gate's numbers."""
    table = Table.grid(padding=(0, 2))
    for name, value in gate.numbers.items():
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
        table.add_row(f"  {escape(name)}", shown)
    return table


def changes_table(state: State) -> Table:
    """Lay out every change of stage."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("when", "from", "to", "by", "reason"):
        table.add_column(heading, overflow="fold")
    for change in state.changes:
        words = (change["from"] or "", change["to"], change["by"], change["reason"])
        table.add_row(_when(change["time"]), *map(escape, words))
    return table


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _advance(folder: Path) -> str:
    words = ["kanbatsu", "rollout", "advance", str(folder), "--by", "NAME", "--reason", "WHY"]
    return shlex.join(words)
