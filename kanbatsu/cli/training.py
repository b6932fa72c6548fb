"""The words that train: `kanbatsu train` and `kanbatsu study`, their options and their lines."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kanbatsu.cli.parsing import parse
from kanbatsu.cli.saying import (
    FAILED,
    USAGE,
    own_code,
    plan_on_cpu,
    refuse_plan,
    refuse_settings,
    refusing,
    say,
    say_error,
)
from kanbatsu.cli.terminal import printable
from kanbatsu.engine.place import PlaceConfig

if TYPE_CHECKING:
    from kanbatsu.sparsity.table import Count
    from kanbatsu.study.plan import Study

Config = TypeVar("Config")
Schedule = TypeVar("Schedule")


@dataclass(frozen=True)
class TrainArguments(Generic[Config, Schedule]):
    """Train one agent on one task. The same command again continues where it was stopped."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """Task to learn: dmc/<domain>-<task>, gym/<id>, jax/<name>, or one of gymnax/, brax/,
    playground/, inventory/ and plant/, or package.module:factory."""
    config: Annotated[Config, tyro.conf.arg(name="")]
    """Settings of the algorithm."""
    train: Schedule
    """Settings of the training loop."""
    residual: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FACTORY")] = None
    """Rule that is in use today, which the agent corrects instead of replacing it; none by
    default."""
    residual_share: float = 0.2
    """Largest correction of the rule's action, as a share of each actuator's range."""
    agent: str = "sac"
    """Algorithm: sac, ddpg, pqn, stream_ac or stream_q. The options below are those of this one."""
    seed: int = 0
    """Seed of every random draw in the run."""
    env_steps: int = 200_000
    """Simulator steps, before action repeat, at which the run ends."""
    remedy: Annotated[tuple[str, ...], tyro.conf.arg(metavar='["KIND KEY=VALUE ..." ...]')] = ()
    """Remedies beside or in place of a mask, each in quotes: "reset every=200_000", "redo
    every=10_000 threshold=0.1". Kinds: reset, shrink_perturb, redo, l2_init, weight_decay,
    spectral_norm, set, rigl, gradual and revive; docs/remedies.md has their settings."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for everything that the run writes; out/<run> by default."""


@dataclass(frozen=True)
class StudyArguments:
    """Train all runs of a study file and report; the same command again does what is missing."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.toml")]
    """The study file, in TOML; see studies/ for examples."""
    overrides: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[KEY=VALUE ...]")
    ] = ()
    """Settings laid over the file: env_steps=2000; critic.width=64 (default of all arms);
    NAME.critic.width=64 (one arm); arm.critic.width=64 (every arm)."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for everything that the study writes; out/<name of the file> by default."""
    place: Annotated[PlaceConfig, tyro.conf.arg(name="")] = field(default_factory=PlaceConfig)
    """Place where the runs go."""
    tracker: Literal["tensorboard", "wandb"] | None = None
    """Tracker that results are sent to as they grow (of runs that train side by side, when these
    have ended). Both work offline."""
    population: Literal["auto", "arm"] | None = None
    """Runs that one program trains side by side: all of a task whose networks have the same shape
    (auto), or the seeds of each arm (arm). Each run has a process of its own by default."""
    lang: Literal["en", "ja"] = "en"
    """Language of the report."""
    own_code: bool = True
    """Permission to run tasks that import a module by name (package.module:factory). A file from
    somebody else can name any code: --no-own-code refuses such a task."""


def train(words: list[str]) -> int:
    """Train one agent: a study of one arm, one task and one seed."""
    from kanbatsu.agents import AGENTS
    from kanbatsu.envs.residual import ResidualConfig
    from kanbatsu.files.tables import did_you_mean
    from kanbatsu.remedies.reading import read_remedies, remedy_in_words
    from kanbatsu.study.plan import Arm, Study

    agent = _value_of("--agent", words) or TrainArguments.agent
    if agent not in AGENTS:
        say_error(f"unknown agent {agent!r}. {did_you_mean(agent, AGENTS)}")
        return USAGE
    form: Any = TrainArguments
    # Which options there are depends on the agent.
    form = form[AGENTS[agent].config, AGENTS[agent].schedule]
    given = parse(form, words, "kanbatsu train")
    share = given.residual_share
    corrects = None if given.residual is None else ResidualConfig(given.residual, share)
    with refusing():
        remedies = read_remedies([remedy_in_words(each) for each in given.remedy], "--remedy")
    study = Study(
        question=f"How well does {agent} learn {given.task}?",
        tasks=(given.task,),
        env_steps=given.env_steps,
        seeds=(given.seed,),
        arms={agent: Arm(agent, given.config, given.train, remedy=remedies, residual=corrects)},
        agent=agent,
    )
    (planned,) = study.runs()
    out = given.out or Path("out") / planned.run_id
    where = [] if given.out else ["--out", str(out)]
    command = ["kanbatsu", "train", *words, *where]
    code = _carry_out(study, out, command, place=PlaceConfig(workers=1))
    if code == 0:
        _print_result(out, planned.run_id)
    return code


def study(words: list[str]) -> int:
    """Carry out a study file."""
    refuse_settings(words, "kanbatsu study")
    given = parse(StudyArguments, words, "kanbatsu study")
    from kanbatsu.study.file import load_study

    out = given.out or Path("out") / given.file.stem
    command = ["kanbatsu", "study", str(given.file), "--out", str(out), *given.overrides]
    if given.population is not None:  # changes results by rounding
        command += ["--population", given.population]
    with refusing():
        refuse_plan(given.file)
        planned = load_study(given.file, given.overrides)
    how = {name: getattr(given, name) for name in ("place", "population", "tracker", "lang")}
    with own_code(given.own_code):
        return _carry_out(planned, out, command, **how)


def _carry_out(study: Study, out: Path, command: Sequence[str], **how: Any) -> int:
    """Carry out a study; print what it keeps, where its report is and how its times came out."""
    from kanbatsu.conduct import ReportError, carry_out
    from kanbatsu.engine.progress import make_display

    plan_on_cpu()
    console = Console()
    try:
        with refusing():
            outcome = carry_out(
                study,
                out,
                command=printable(shlex.join(command)),
                display=make_display(console),
                on_checked=lambda kept: _print_kept(console, kept),
                **how,
            )
    except ReportError as error:
        say_error(str(error))
        return FAILED
    for line in (f"report: {outcome.page}", *outcome.timed):
        say(line)
    if not outcome.complete:
        say_error("some runs failed; the report names them, and the same command tries them again")
    return 0 if outcome.complete else FAILED


def _print_kept(console: Console, kept: Mapping[str, Mapping[str, Count]]) -> None:
    """Show what each network keeps, where that is known."""
    if any(kept.values()):
        console.print(_kept_table(kept))


def _kept_table(counts: Mapping[str, Mapping[str, Count]]) -> Table:
    """Show what pruning leaves of each network of each arm."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("weights kept")
    for name in max(counts.values(), key=len):
        table.add_column(name, justify="right")
    for arm, networks in counts.items():
        cells = [f"{network.kept:,} of {network.total:,}" for network in networks.values()]
        table.add_row(escape(arm), *cells)
    return table


def _print_result(out: Path, run_id: str) -> None:
    """Say how a single run ended, and where to look further."""
    from kanbatsu.files.store import METRICS, StudyFolder

    run = StudyFolder(out).run_folder(run_id)
    last = [record for record in run.metrics() if record["kind"] == "evaluation"][-1]
    mean, episodes = last["mean_return"], len(last["returns"])
    say(
        f"final return {mean:.1f} at {last['env_steps']:,} env steps ({episodes} greedy episodes)\n"
        f"kept weights of every layer: the first line of {run.path / METRICS}"
    )
    ending = "_probe_seconds"
    costs = {k: x for k, x in run.timing()[-1].items() if k.endswith(ending)}
    if costs:
        each = (f"{name.removesuffix(ending)} {cost:.1f} s" for name, cost in costs.items())
        say(f"probes of mechanism took: {', '.join(each)}")


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
