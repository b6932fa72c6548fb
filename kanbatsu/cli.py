"""The command line: one word, one job. What is slow to import waits until it is used."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kanbatsu.study.place import PlaceConfig

if TYPE_CHECKING:
    from kanbatsu.sparsity.count import Count
    from kanbatsu.study.plan import Study

USAGE, FAILED, INTERRUPTED = 2, 1, 130
"""Exit codes: the user must change something; a run failed; Ctrl-C."""

Config = TypeVar("Config")
Schedule = TypeVar("Schedule")


@dataclass(frozen=True)
class TrainArguments(Generic[Config, Schedule]):
    """Train one agent on one task. The same command again continues where it was stopped."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """dmc/<domain>-<task>, gym/<id>, jax/, gymnax/, brax/, playground/ or inventory/<name>, or
    package.module:factory."""
    config: Annotated[Config, tyro.conf.arg(name="")]
    """The algorithm's own configuration."""
    train: Schedule
    """The schedule."""
    agent: str = "sac"
    """sac, ddpg, stream_ac or stream_q. The options below are those of the one chosen."""
    seed: int = 0
    """Of everything random in the run."""
    env_steps: int = 200_000
    """Simulator steps, before action repeat, at which the run ends."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for everything that the run writes; out/<run> by default."""


@dataclass(frozen=True)
class StudyArguments:
    """Train all runs of a study file and report; the same again finishes what is missing."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.toml")]
    """A TOML file; see studies/ for examples."""
    overrides: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[KEY=VALUE ...]")
    ] = ()
    """KEY=VALUE over the file: env_steps=2000; critic.width=64 (default of all arms);
    NAME.critic.width=64 (one arm); arm.critic.width=64 (every arm)."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for everything that the study writes; out/<name of the file> by default."""
    place: Annotated[PlaceConfig, tyro.conf.arg(name="")] = field(default_factory=PlaceConfig)
    """Where the runs go."""
    tracker: Literal["tensorboard", "wandb"] | None = None
    """Send the results to it as they grow, those of a population when it has ended; both work
    offline."""
    population: Literal["auto", "arm"] | None = None
    """Train runs side by side in one program: all runs on a task whose networks have the same shape
    (auto), or the seeds of one arm after the other (arm)."""
    lang: Literal["en", "ja"] = "en"
    """Language of the report."""


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
        _say_error(f"unknown command {words[0]!r}: choose from {', '.join(COMMANDS)}")
        return USAGE
    # Schedulers stop a job with SIGTERM: workers are then ended as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return COMMANDS[words[0]].run(words[1:])
    except KeyboardInterrupt:
        _say_error("stopped; the same command continues")
        return INTERRUPTED


def train(words: list[str]) -> int:
    """Train one agent: a study of one arm, one task and one seed."""
    from kanbatsu.agents import EVERY
    from kanbatsu.study.plan import Arm, Study
    from kanbatsu.study.record import did_you_mean
    from kanbatsu.train.config import schedule_of

    agent = _value_of("--agent", words) or TrainArguments.agent
    if agent not in EVERY:
        _say_error(f"unknown agent {agent!r}. {did_you_mean(agent, EVERY)}")
        return USAGE
    form: Any = TrainArguments
    # Which options there are depends on the agent.
    form = form[EVERY[agent].config, schedule_of(agent)]
    asked = tyro.cli(form, args=words, prog="kanbatsu train")
    study = Study(
        question=f"How well does {agent} learn {asked.task}?",
        tasks=(asked.task,),
        env_steps=asked.env_steps,
        seeds=(asked.seed,),
        arms={agent: Arm(agent, asked.config, asked.train)},
        agent=agent,
    )
    (planned,) = study.runs()
    out = asked.out or Path("out") / planned.run_id
    where = [] if asked.out else ["--out", str(out)]
    code = _carry_out(
        study, out, PlaceConfig(workers=1), shlex.join(["kanbatsu", "train", *words, *where])
    )
    if code == 0:
        _print_result(out, planned.run_id)
    return code


def study(words: list[str]) -> int:
    """Carry out a study file."""
    asked = tyro.cli(StudyArguments, args=words, prog="kanbatsu study")
    from kanbatsu.study.file import load_study

    out = asked.out or Path("out") / asked.file.stem
    command = ["kanbatsu", "study", str(asked.file), "--out", str(out), *asked.overrides]
    if asked.population is not None:  # changes results by rounding
        command += ["--population", asked.population]
    with _refusing():
        planned = load_study(asked.file, asked.overrides)
    return _carry_out(
        planned,
        out,
        asked.place,
        shlex.join(command),
        asked.lang,
        asked.population,
        asked.tracker,
    )


def report(words: list[str]) -> int:
    """Write a study's report again."""
    asked = tyro.cli(ReportArguments, args=words, prog="kanbatsu report")
    with _refusing():
        _write_report(asked.out, asked.lang)
    return 0


def archive(words: list[str]) -> int:
    """Keep what is finished of a study."""
    asked = tyro.cli(ArchiveArguments, args=words, prog="kanbatsu archive")
    from kanbatsu.report.archive import archive as copy

    with _refusing():
        copied = copy(asked.out, asked.target)
    Console(soft_wrap=True).print(f"{copied} runs are in {escape(str(asked.target))}")
    return 0


def estimate(words: list[str]) -> int:
    """Say what a study would take."""
    from kanbatsu.study.forecast import EstimateArguments, forecast

    asked = tyro.cli(EstimateArguments, args=words, prog="kanbatsu estimate")
    _plan_on_cpu()
    with _refusing():
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
        with _refusing():
            command.init(planned, Console())
        return 0
    asked = tyro.cli(command.RunArguments, args=rest, prog=name)
    _plan_on_cpu()
    with _refusing():
        command.run(asked, Console())
    return 0


def watch(words: list[str]) -> int:
    """Show how far a study is."""
    from kanbatsu.study.watch import WatchArguments
    from kanbatsu.study.watch import watch as look

    asked = tyro.cli(WatchArguments, args=words, prog="kanbatsu watch")
    with _refusing():
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
        _say_error(str(error))
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


def _carry_out(
    study: Study,
    out: Path,
    place: PlaceConfig,
    command: str,
    lang: Literal["en", "ja"] = "en",
    population: Literal["auto", "arm"] | None = None,
    tracker: Literal["tensorboard", "wandb"] | None = None,
) -> int:
    """Check a study, run what is missing of it, and write its report."""
    from kanbatsu.machine import usable_cores
    from kanbatsu.study.budget import came_out
    from kanbatsu.study.engine import refuse, run_study
    from kanbatsu.study.plan import check_study
    from kanbatsu.study.store import read_json

    if population is None:
        _plan_on_cpu()
    else:  # it trains here, and leaves room on the accelerator for workers of the other runs
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    console = Console()
    with _refusing():
        refuse(place, tracker)
        study = _matched(study, out, place.workers or len(usable_cores()), console)
        counts = check_study(study)
        console.print(_kept_table(counts))
        if population is not None:
            from kanbatsu.study.population import run_populations

            by: Literal["shape", "arm"] = "shape" if population == "auto" else "arm"
            run_populations(study, out, command, console.print, by)
        complete = run_study(study, out, place, command, tracker=tracker)
    with _refusing():
        _write_report(out, lang)
    for line in came_out(study, read_json(out / "timing.json")["arms"]):
        console.print(escape(line), highlight=False, soft_wrap=True)
    if not complete:
        _say_error("some runs failed; the report names them, and the same command tries them again")
    return 0 if complete else FAILED


def _plan_on_cpu() -> None:
    """Keep accelerators for the workers: this process only plans."""
    import jax

    jax.config.update("jax_platforms", "cpu")


def _matched(study: Study, out: Path, workers: int, console: Console) -> Study:
    """Solve what arms are to have as much of as others, and say what it came to."""
    if all(arm.match is None for arm in study.arms.values()):
        return study
    from kanbatsu.study.budget import NeedsMeasurement, matches, solve
    from kanbatsu.study.forecast import PILOT_SECONDS, measured
    from kanbatsu.study.store import StudyFolder

    folder = StudyFolder(out)
    old = folder.read_study() if folder.holds_study else None
    try:
        study = solve(study, old)
    except NeedsMeasurement:
        console.print("timing a few seconds of every arm, for a match of time ...")
        study, _ = measured(study, workers, PILOT_SECONDS, old)
    for line in matches(study):
        console.print(escape(line), highlight=False, soft_wrap=True)
    return study


def _kept_table(counts: Mapping[str, Mapping[str, Count]]) -> Table:
    """Show what pruning leaves of each network of each arm."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("weights kept")
    for name in next(iter(counts.values())):
        table.add_column(name, justify="right")
    for arm, networks in counts.items():
        cells = [f"{network.kept:,} of {network.total:,}" for network in networks.values()]
        table.add_row(escape(arm), *cells)
    return table


def _print_result(out: Path, run_id: str) -> None:
    """Say how a single run ended, and where to look further."""
    from kanbatsu.study.store import METRICS, StudyFolder

    run = StudyFolder(out).run_folder(run_id)
    last = [record for record in run.metrics() if record["kind"] == "evaluation"][-1]
    mean, episodes = last["mean_return"], len(last["returns"])
    layers = f"head -n 1 {shlex.quote(str(run.path / METRICS))} | python -m json.tool"
    Console(soft_wrap=True).print(
        f"final return {mean:.1f} at {last['env_steps']:,} env steps ({episodes} greedy episodes)\n"
        f"kept weights per layer: {escape(layers)}",
        highlight=False,
    )


def _write_report(out: Path, lang: Literal["en", "ja"]) -> None:
    from kanbatsu.report.page import write_report

    page = write_report(out, lang)
    Console(soft_wrap=True).print(f"report: {escape(str(page))}", highlight=False)


def _value_of(flag: str, words: Sequence[str]) -> str | None:
    """Return what follows a flag, before the words are parsed: it decides which flags there are.

    Example:
        >>> _value_of("--agent", ["gym/Pendulum-v1", "--agent=ddpg"])
        'ddpg'
    """
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == flag:
            return value if equals else "".join(words[at + 1 : at + 2])
    return None


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Turn a mistake of the user's into one message and exit code 2; a bug stays a traceback."""
    from kanbatsu.envs.spec import TaskError
    from kanbatsu.report.archive import ArchiveError
    from kanbatsu.study.claim import StudyError
    from kanbatsu.study.record import RecordError
    from kanbatsu.study.store import DamagedFile

    try:
        yield
    except (ArchiveError, DamagedFile, RecordError, StudyError, TaskError) as error:
        _say_error(str(error))
    except OSError as error:
        named = error.filename is not None and error.strerror is not None
        _say_error(f"{error.filename}: {error.strerror}" if named else str(error))
    else:
        return
    raise SystemExit(USAGE)


def _say_error(message: str) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"[bold red]kanbatsu:[/] {escape(message)}")


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


if __name__ == "__main__":
    sys.exit(main())
