"""The words for a study that is there: `kanbatsu watch`, `report` and `archive`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from kanbatsu.cli.parsing import parse
from kanbatsu.cli.saying import refusing, say

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

    out: Out
    """Folder of a study, the --out of kanbatsu study or train; of a proof of concept, all its
    reports are written."""
    lang: Literal["en", "ja"] = "en"
    """Language of the page: report.html in English, report.ja.html in Japanese."""


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

    with refusing():
        for folder in studies_in(given.out):
            say(f"report: {write_report(folder, given.lang)}")
    return 0


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
