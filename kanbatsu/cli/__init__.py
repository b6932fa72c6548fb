"""The command line: one word, one job. What is slow to import waits until it is used."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kanbatsu.cli.saying import FAILED, INTERRUPTED, USAGE, refusing, say_error
from kanbatsu.cli.training import plan_on_cpu, study, train, write_report


@dataclass(frozen=True)
class ReportArguments:
    """Write the report, summary.json and timing.json again, from the files of a study alone."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """What kanbatsu study or kanbatsu train had as --out."""
    lang: Literal["en", "ja"] = "en"
    """Language of the page: report.html in English, report.ja.html in Japanese."""


@dataclass(frozen=True)
class ArchiveArguments:
    """Copy the finished runs of a study without checkpoints, losses and training episodes."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """What kanbatsu study or kanbatsu train had as --out."""
    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TARGET")]
    """Folder of the copy; runs that are there already stay."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words after `kanbatsu`; those of the process by default.

    Returns:
        The exit code: 0; 1 if a run failed; 2 if the user must change something first.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        _print_help()
        return 0 if words else USAGE
    if words[0] == "--version":
        print(f"kanbatsu {version('kanbatsu')}")  # noqa: T201
        return 0
    if words[0] not in COMMANDS:
        say_error(f"unknown command {words[0]!r}: choose from {', '.join(COMMANDS)}")
        return USAGE
    # Schedulers stop a job with SIGTERM: workers are then ended as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return COMMANDS[words[0]].run(words[1:])
    except KeyboardInterrupt:
        say_error("stopped; the same command continues")
        return INTERRUPTED


def report(words: list[str]) -> int:
    """Write a study's report again."""
    asked = tyro.cli(ReportArguments, args=words, prog="kanbatsu report")
    with refusing():
        write_report(asked.out, asked.lang)
    return 0


def archive(words: list[str]) -> int:
    """Keep what is finished of a study."""
    asked = tyro.cli(ArchiveArguments, args=words, prog="kanbatsu archive")
    from kanbatsu.report.archive import archive as copy

    with refusing():
        copied = copy(asked.out, asked.target)
    Console(soft_wrap=True).print(f"{copied} runs are in {escape(str(asked.target))}")
    return 0


def estimate(words: list[str]) -> int:
    """Say what a study would take."""
    from kanbatsu.forecast.command import EstimateArguments, forecast

    asked = tyro.cli(EstimateArguments, args=words, prog="kanbatsu estimate")
    plan_on_cpu()
    with refusing():
        forecast(asked, Console())
    return 0


def poc(words: list[str]) -> int:
    """Plan or carry out a proof of concept."""
    from kanbatsu.poc import command

    if words[:1] not in (["init"], ["run"]):
        console = Console(highlight=False)
        console.print(
            "usage: kanbatsu poc init TASK [--file FILE.toml]    write a commented plan\n"
            "       kanbatsu poc run FILE.toml [--out DIR]       carry it out, or continue",
            markup=False,
        )
        raise SystemExit(0 if words[:1] in (["-h"], ["--help"]) else USAGE)
    name, rest = f"kanbatsu poc {words[0]}", words[1:]
    if words[0] == "init":
        planned = tyro.cli(command.InitArguments, args=rest, prog=name)
        with refusing():
            command.init(planned, Console())
        return 0
    asked = tyro.cli(command.RunArguments, args=rest, prog=name)
    plan_on_cpu()
    with refusing():
        command.run(asked, Console())
    return 0


def watch(words: list[str]) -> int:
    """Show how far a study is."""
    from kanbatsu.engine.watch import WatchArguments
    from kanbatsu.engine.watch import watch as look

    asked = tyro.cli(WatchArguments, args=words, prog="kanbatsu watch")
    with refusing():
        look(asked)
    return 0


def bench(words: list[str]) -> int:
    """Measure what sparsity gains on this machine."""
    from kanbatsu.bench.command import BenchArguments, BenchError
    from kanbatsu.bench.command import bench as measure

    asked = tyro.cli(BenchArguments, args=words, prog="kanbatsu bench")
    try:
        measure(asked, Console())
    except BenchError as error:
        say_error(str(error))
        return USAGE
    return 0


def doctor(words: list[str]) -> int:
    """Say what works on this machine."""
    from kanbatsu.doctor import examine, healthy

    facts = tyro.cli(examine, args=words, prog="kanbatsu doctor")
    console = Console(soft_wrap=True)
    section = ""
    for fact in facts:
        if fact.section != section:
            section = fact.section
            console.print(f"\n[bold]{section}[/bold]")
        mark, style = MARKS[fact.state]
        line = f"  [{style}]{mark:8}[/] {fact.name:22} {escape(fact.value)}"
        console.print(line, highlight=False)
        if fact.advice:
            console.print(f"  {'':8} {'':22} -> {escape(fact.advice)}", highlight=False)
    console.print(f"\n{'Nothing is broken.' if healthy(facts) else 'Something is broken.'}")
    return 0 if healthy(facts) else FAILED


class Command(NamedTuple):
    """A word after `kanbatsu`."""

    run: Callable[[list[str]], int]
    help: str


COMMANDS = {
    "train": Command(train, "train one agent on one task"),
    "study": Command(study, "train arms x tasks x seeds from a study file, and report"),
    "estimate": Command(estimate, "time a few seconds of a study, and say what it would take"),
    "poc": Command(poc, "a proof of concept from a plan to a verdict: poc init, poc run"),
    "watch": Command(watch, "show how far a study is, from its files"),
    "report": Command(report, "write the report of a study again"),
    "archive": Command(archive, "copy a study without checkpoints, small enough to keep"),
    "bench": Command(bench, "measure dense against sparse on this machine"),
    "doctor": Command(doctor, "say what works on this machine"),
}

MARKS = {"good": ("ok", "green"), "absent": ("absent", "yellow"), "broken": ("BROKEN", "bold red")}


def _print_help() -> None:
    table = Table.grid(padding=(0, 2))
    for name, command in COMMANDS.items():
        table.add_row(f"  [cyan]{name}[/cyan]", command.help)
    console = Console(highlight=False)
    console.print("usage: kanbatsu COMMAND [-h] ...", markup=False)
    console.print(
        "\nPrune once, at random, before training; train as usual; see whether it helps.\n"
    )
    console.print(table)
    console.print("\nkanbatsu COMMAND --help says more. kanbatsu --version says which this is.")
