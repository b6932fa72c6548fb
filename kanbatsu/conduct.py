"""A study from its plan to its report: solved, checked, run where something is missing, written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

from kanbatsu.engine.place import PlaceConfig
from kanbatsu.engine.populations import Population
from kanbatsu.engine.progress import Display, make_display
from kanbatsu.engine.run_study import refuse, run_study
from kanbatsu.engine.track import TrackerName
from kanbatsu.files.disk import read_json
from kanbatsu.files.store import StudyFolder
from kanbatsu.forecast.forecast import timer
from kanbatsu.forecast.pilot import measure
from kanbatsu.machine import usable_cores
from kanbatsu.report.page import write_report
from kanbatsu.report.reading import Results, read
from kanbatsu.run.check import slowed
from kanbatsu.run.starvation import starved
from kanbatsu.sparsity.table import Count
from kanbatsu.study.budget import Seconds, came_out, matches, solve
from kanbatsu.study.plan import Study, check_study

HERE = PlaceConfig()
"""This machine, with as many workers as cores."""

Kept = Mapping[str, Mapping[str, Count]]
"""Counts of what each network of each arm keeps, on the first task."""


class ReportError(RuntimeError):
    """A report that could not be written after the runs; the message says what is stored."""


@dataclass(frozen=True)
class StudyOutcome:
    """Outcome of a call of `carry_out`; a notebook shows the verdict and a table of the arms."""

    complete: bool
    """True where every run is finished; otherwise the same call tries the rest again."""
    study: Study
    """The study with every match solved."""
    kept: Kept
    """Counts of what each network of each arm keeps, on the first task."""
    page: Path
    """The report."""
    matches: tuple[str, ...]
    """A line on what each match came to."""
    timed: tuple[str, ...]
    """A line on how each match of time came out."""

    @property
    def results(self) -> Results:
        """The results, read from the study's folder: the verdict, tables and figures."""
        return read(self.page.parent, "ja" if self.page.name.endswith(".ja.html") else "en")

    def __repr__(self) -> str:
        if not self.page.exists():
            return f"{self.study!r}\nno report at {self.page}"
        return f"{self.results!r}\nreport: {self.page}"

    def _repr_html_(self) -> str:
        if not self.page.exists():
            return self.study._repr_html_()
        return f"{self.results._repr_html_()}<p><code>{escape(str(self.page))}</code></p>"


def carry_out(
    study: Study,
    out: Path | str,
    *,
    place: PlaceConfig = HERE,
    population: Population | None = None,
    tracker: TrackerName | None = None,
    command: str = "",
    lang: Literal["en", "ja"] = "en",
    display: Display | None = None,
    on_checked: Callable[[Kept], None] = lambda kept: None,
) -> StudyOutcome:
    """Carry out what is missing of a study, and write its report.

    A match is solved as the folder has it, where it holds the study already; arms are timed where a
    match of time is new. A run that fails is stored, and the others go on.

    Args:
        study: As `kanbatsu.load_study` returns it, or built in Python.
        out: The study's folder; made where there is none.
        place: Where the runs go; processes on this machine by default.
        population: Which runs are trained side by side on this machine first; none by default.
        tracker: Where results are sent to as they grow, beside the study's own files.
        command: What a user types to get the study again; stored with it.
        lang: Language of the report.
        display: Where progress goes; standard output by default.
        on_checked: Called with what each network keeps, before anything is trained.

    Returns:
        Whether every run is finished, and where the report is.

    Raises:
        RecordError: A match cannot be met, or a run cannot work; nothing was trained.
        StudyError: The place cannot be had, the folder holds a different study, or another engine
            works in it.
        ReportError: The report could not be written; the runs are stored.
        KeyboardInterrupt: After the runs were stopped; the same call continues.

    Example:
        >>> from kanbatsu.study.file import study_from_dict
        >>> table = {"question": "?", "tasks": ["gym/Pendulum-v1"], "env_steps": 9, "seeds": 1}
        >>> study = study_from_dict(table | {"arm": {"dense": {}}})
        >>> carry_out(study, "out", place=PlaceConfig(workers=0))
        Traceback (most recent call last):
        ...
        kanbatsu.files.lock.StudyError: workers must be at least 1, not 0
    """
    out, shown = Path(out), display or make_display()
    refuse(place, tracker)
    study = _solved(study, out, place.workers or len(usable_cores()), shown.say)
    kept = check_study(study)
    on_checked(kept)
    for planned in study.runs()[: len(study.arms)]:
        for warning in (*slowed(planned.run), *starved(planned.run)):
            shown.say(f"warning: arm {planned.arm}: {warning}")
    complete = run_study(study, out, place, command, shown, tracker, population)
    try:
        page = write_report(out, lang)
    except OSError as error:
        done = "every run is finished and" if complete else "what was trained is"
        raise ReportError(
            f"{done} stored in {out}, but the report could not be written ({error}): make room "
            f"there, and call `kanbatsu report {out}`"
        ) from error
    timed = tuple(came_out(study, read_json(out / "timing.json")["arms"]))
    return StudyOutcome(complete, study, kept, page, tuple(matches(study)), timed)


def _solved(study: Study, out: Path, workers: int, say: Callable[[str], None]) -> Study:
    """Solve what arms are to have as much of as others, and say what it came to."""
    if all(
        arm.match is None or arm.solved.keys() >= set(study.tasks) for arm in study.arms.values()
    ):
        return study
    folder = StudyFolder(out)

    def time_arms(ready: Study) -> Seconds:
        say("timing a few seconds of every arm, for a match of time ...")
        check_study(ready)
        return timer(measure(ready, workers), study)

    solved = solve(study, folder.read_study() if folder.holds_study else None, time_arms)
    for line in matches(solved):
        say(line)
    return solved
