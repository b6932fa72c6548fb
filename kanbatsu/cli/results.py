"""The words for a study that is there: `kanbatsu watch`, `report` and `archive`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from kanbatsu.cli.parsing import parse
from kanbatsu.cli.saying import USAGE, refusing, say, say_error
from kanbatsu.cli.terminal import printable

Out = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]


@dataclass(frozen=True)
class WatchArguments:
    """Show how far a study is: runs by state, speed, time left, returns, warnings of probes."""

    out: Out
    """Folder of a study, the --out of kanbatsu study or train; of a proof of concept, its newest
    stage is shown."""
    every: float = 2.0
    """Seconds between two updates of what is shown."""
    once: bool = False
    """Flag that shows the state once, and ends."""
    tracker: Literal["tensorboard", "wandb"] | None = None
    """Tracker that results are sent to as they grow; both work offline."""


@dataclass(frozen=True)
class ReportArguments:
    """Write the report, summary.json and timing.json again, from the files of a study alone."""

    out: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="DIR")] = None
    """Folder of a study, the --out of kanbatsu study or train; of a proof of concept, all its
    reports are written. With --monitor the folder that is written, out/monitor by default."""
    lang: Literal["en", "ja"] = "en"
    """Language of the page: report.html in English, report.ja.html in Japanese."""
    monitor: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR...")] = ()
    """Folders of trainings of other libraries, one for each arm, or one that holds those: with
    monitor.csv or evaluations.npz of SB3 and rl-zoo, or event files of TensorBoard (CleanRL)."""
    control: str | None = None
    """Arm of --monitor that the others are compared with; the first by default."""
    question: str | None = None
    """Question that the report on --monitor answers."""
    task: str | None = None
    """Task of --monitor, where the logs do not name it."""
    decision: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[KEY=VALUE ...]")] = None
    """Decision rule for --monitor, such as goal=no_worse maximal_regression=20; without a rule
    nothing is decided, with an empty one it is asked whether an arm is better."""


@dataclass(frozen=True)
class ArchiveArguments:
    """Copy the finished runs of a study without checkpoints, losses and training episodes."""

    out: Out
    """Folder of a study, the --out of kanbatsu study or train."""
    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TARGET")]
    """Folder of the copy; runs that it holds already stay."""


def watch(words: list[str]) -> int:
    """Show how far a study is."""
    given = parse(WatchArguments, words, "kanbatsu watch")
    from kanbatsu.engine.watch import watch as look

    with refusing():
        *_, latest = studies_in(given.out)
        look(latest, given.every, given.once, given.tracker)
    return 0


def report(words: list[str]) -> int:
    """Write a study's report again, and say where it is."""
    given = parse(ReportArguments, words, "kanbatsu report")
    from kanbatsu.report.page import write_report
    from kanbatsu.report.stages import PLAN

    foreign = ("control", "question", "task", "decision")
    with refusing():
        if given.monitor:
            out = given.out or Path("out") / "monitor"
            _gather(given, out, ["kanbatsu", "report", *words])
        elif given.out is None:
            say_error("name the folder of a study, or folders of trainings after --monitor")
            return USAGE
        elif unfit := [name for name in foreign if getattr(given, name) is not None]:
            say_error(f"--{unfit[0]} goes with --monitor; a study has its own in its file")
            return USAGE
        else:
            out = given.out
        # The page over a proof of concept comes with those of its stages.
        for folder in [out] if (out / PLAN).exists() else studies_in(out):
            say(f"report: {write_report(folder, given.lang)}")
    return 0


def _gather(given: ReportArguments, out: Path, command: Sequence[str]) -> None:
    """Write the study of the trainings that --monitor names.

    Raises:
        RecordError: They cannot be compared, or the rule is none.
    """
    from kanbatsu.files.tables import RecordError, from_dict, merge, parse_override, to_dict
    from kanbatsu.report.gather import Asked, gather
    from kanbatsu.study.rule import DecisionRule, rule_problems

    rule = None
    if given.decision is not None:
        pairs = map(parse_override, given.decision)
        table = {".".join(path): value for path, value in pairs}
        rule = from_dict(DecisionRule, merge({"arms": []}, table), "decision")
    asked = Asked(
        given.question,
        given.control,
        given.task,
        None if rule is None else to_dict(rule),
        printable(shlex.join(command)),
    )
    study = gather(given.monitor, out, asked)
    if rule is not None and (
        problems := rule_problems(rule, study["control"], study["arms"], study["tasks"])
    ):
        raise RecordError("\n".join(problems))


def studies_in(out: Path) -> list[Path]:
    """Return the study in a folder, or those of a proof of concept, the one begun last at the end.

    Example:
        >>> studies_in(Path("nowhere"))
        [PosixPath('nowhere')]
    """
    if (out / "study.json").exists():
        return [out]
    stages = sorted(out.glob("*/study.json"), key=lambda path: path.stat().st_mtime)
    return [path.parent for path in stages] or [out]


def archive(words: list[str]) -> int:
    """Keep what is finished of a study."""
    given = parse(ArchiveArguments, words, "kanbatsu archive")
    from kanbatsu.report.archive import archive as copy

    with refusing():
        copied = copy(given.out, given.target)
    say(f"{copied} runs are in {given.target}")
    return 0
