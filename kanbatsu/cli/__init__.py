"""The command line: one word, one job. What is slow to import waits until it is used."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from kanbatsu.cli.estimating import estimate
from kanbatsu.cli.machine import bench, doctor
from kanbatsu.cli.plasticity import plasticity
from kanbatsu.cli.playing import play
from kanbatsu.cli.policies import card, deploy, export
from kanbatsu.cli.proof import poc
from kanbatsu.cli.results import archive, report, watch
from kanbatsu.cli.rollout import rollout
from kanbatsu.cli.saying import INTERRUPTED, USAGE, say_error
from kanbatsu.cli.terminal import make_lenient
from kanbatsu.cli.training import study, train
from kanbatsu.extras import MissingLibrary, needed_by
from kanbatsu.machine import commit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: words after `kanbatsu`; those of the process by default.

    Returns:
        The exit code: 0; 1 if a run failed; 2 if the user must change something first.
    """
    make_lenient()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        _print_help()
        return 0 if words else USAGE
    if words[0] == "--version":
        print(f"kanbatsu {version('kanbatsu')} ({commit() or 'commit unknown'})")  # noqa: T201
        return 0
    if words[0] not in COMMANDS:
        from kanbatsu.files.tables import did_you_mean

        say_error(f"unknown command {words[0]!r}. {did_you_mean(words[0], COMMANDS)}")
        return USAGE
    # Schedulers stop a job with SIGTERM: workers are then ended as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with needed_by(f"kanbatsu {words[0]}"):
            return COMMANDS[words[0]].run(words[1:])
    except MissingLibrary as error:
        say_error(str(error))
        return USAGE
    except KeyboardInterrupt:
        say_error("stopped; the same command continues")
        return INTERRUPTED


class Command(NamedTuple):
    """A word after `kanbatsu`."""

    run: Callable[[list[str]], int]
    help: str


COMMANDS = {
    "train": Command(train, "train one agent on one task"),
    "study": Command(study, "train arms x tasks x seeds from a study file, and report"),
    "estimate": Command(estimate, "time a few seconds of a study, and say what it would take"),
    "plasticity": Command(
        plasticity, "train classifiers on tasks whose labels are drawn anew, and report"
    ),
    "poc": Command(poc, "a proof of concept, from a plan to a verdict: poc init, poc run"),
    "rollout": Command(rollout, "bring a policy into service by stages: rollout init, status, ..."),
    "watch": Command(watch, "show the progress of a study, from its files"),
    "report": Command(report, "write the report of a study again"),
    "play": Command(play, "play episodes with trained agents, and film them with --video"),
    "archive": Command(archive, "copy a finished study without checkpoints, small enough to keep"),
    "export": Command(export, "write a trained policy as files that run without JAX"),
    "deploy": Command(deploy, "compare two exported policies: deploy diff A B"),
    "card": Command(card, "write the model card of a run, as the Hugging Face Hub reads it"),
    "bench": Command(bench, "measure dense against sparse on this machine"),
    "doctor": Command(doctor, "say what works on this machine"),
}


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
