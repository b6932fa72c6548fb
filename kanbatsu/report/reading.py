"""Results of a study for whoever works in Python: the verdict, tables of records, and figures."""

from __future__ import annotations

import difflib
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from kanbatsu.files.disk import finite
from kanbatsu.files.store import StudyFolder
from kanbatsu.report import agree, curves, plots, words
from kanbatsu.report.first import FirstPage, first_page
from kanbatsu.report.language import Language, texts
from kanbatsu.report.records import Records
from kanbatsu.report.results import RunResults, Series, StudyResults, read_study
from kanbatsu.report.shell import visible
from kanbatsu.report.stages import PLAN, stages_in
from kanbatsu.report.summary import summarise, summarise_timing
from kanbatsu.report.wording import titles, worded

COLOURS = {"adopt": "#1f7a4d", "extend": "#9a6700", "reject": "#5b6470"}
"""Colours of the report's verdicts."""


def read(out: Path | str, lang: Language = "en") -> Results:
    """Read the results of a study from its folder, at any time: finished, running or archived.

    Args:
        out: The folder that `kanbatsu study --out`, `kanbatsu archive` or `kanbatsu.carry_out`
            wrote; of a proof of concept, the latest stage that was begun.
        lang: Language of the verdict and of figures.

    Returns:
        The results; in a notebook they show the verdict and a table of the arms.

    Raises:
        FileNotFoundError: The folder holds no study.

    Example:
        >>> results = read("evidence/kept-weights-early")
        >>> results.arms()
        arm          task           seeds  mean   iqm   low  high     kept
        dense-128    dmc/dog-stand      5  71.9  70.5  64.6  81.2  465,024
        grouped-512  dmc/dog-stand      5  91.8  87.7  73.6   114  464,768
    """
    out = Path(out)
    if (out / PLAN).exists() and not StudyFolder(out).holds_study and (stages := stages_in(out)):
        out = stages[-1]
    return Results(read_study(out), lang)


@dataclass(frozen=True)
class Results:
    """Results of a study, as far as it has come."""

    study: StudyResults = field(repr=False)
    """The question, the arms and every run, as they were read."""
    lang: Language = "en"
    """Language of the verdict and of figures."""

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Everything that was computed, as `summary.json` has it."""
        return finite(summarise(self.study))

    @cached_property
    def verdict(self) -> FirstPage | None:
        """The decision with its words, as the report's first page has them; None without a rule."""
        if (found := self.summary["verdict"]) is None:
            return None
        timing, names = finite(summarise_timing(self.study)), titles(self.study, self.lang)
        return first_page(found, self.summary, timing, texts(self.lang), names, self.study.cost)

    def arms(self) -> Records:
        """Return a row per task and arm: seeds that ended, final returns, and kept weights."""
        return Records(
            {
                "arm": arm["name"],
                "task": task,
                "seeds": len(on["returns"]),
                "mean": statistics.fmean(on["returns"].values()) if on["returns"] else None,
                "iqm": on["iqm"],
                "low": (on["interval"] or (None, None))[0],
                "high": (on["interval"] or (None, None))[1],
                "kept": curves.kept_weights(on["networks"]),
            }
            for arm in self.summary["arms"]
            for task, on in arm["tasks"].items()
        )

    def runs(self) -> Records:
        """Return a row per run: how far it came, and its final return."""
        return Records(
            {
                "arm": run.arm,
                "task": run.task,
                "seed": run.seed,
                "state": run.state,
                "final_return": run.final_return,
                "kept": curves.kept_weights(run.networks),
                "seconds": run.timing[-1].get("seconds") if run.timing else None,
            }
            for run in self.study.runs
        )

    def returns(self) -> Records:
        """Return a row per evaluation: the mean return of a run after so many env steps."""
        return self._series("return", lambda run: run.returns)

    def probe(self, name: str) -> Records:
        """Return a row per measurement of a probe.

        Args:
            name: The probe with its network, such as `critic/dormant_0.1`.

        Raises:
            KeyError: No run recorded such a probe; near names are in the message.
        """
        self._check(name, self.probes)
        return self._series(name, lambda run: run.probes.get(name, {}))

    @property
    def probes(self) -> tuple[str, ...]:
        """Names of the probes that runs recorded."""
        return tuple(sorted({name for run in self.study.runs for name in run.probes}))

    def figure(self, what: str = "returns") -> plots.Drawing:
        """Draw the study.

        Args:
            what: Name of the figure: `returns` for learning curves, `finals` for final returns, or
                a probe such as `critic/dormant_0.1`.

        Returns:
            A `matplotlib.figure.Figure` with one panel per task.

        Raises:
            KeyError: There is no such figure; near names are in the message.

        Example:
            >>> figure = read("evidence/kept-weights-early").figure("critic/dormant_0.1")
            >>> [axes.get_title() for axes in figure.axes]
            ['dmc/dog-stand']
        """
        t = texts(self.lang)
        if what == "finals":
            return plots.final_returns(self.study, self.summary, t)
        if what == "returns":
            return plots.over_env_steps(self.study, lambda run: run.returns, t("page.return"), t)
        self._check(what, ("returns", "finals", *self.probes))
        return plots.over_env_steps(self.study, lambda run: run.probes.get(what, {}), what, t)

    def sentences(self) -> list[str]:
        """Return what is known in words: how far the study is, and its verdict or comparisons."""
        ended = len(self.study.runs) - len(self.summary["missing"])
        t = texts(self.lang)
        said = [t("notebook.finished", ended=f"{ended:,}", runs=f"{len(self.study.runs):,}")]
        if self.verdict is not None:
            return [*said, f"{self.verdict.title}. {self.verdict.answer}"]
        compared = agree.comparisons(self.study, self.summary)
        return [*said, *(words.compared(each, t).sentence for each in compared)]

    def __repr__(self) -> str:
        question = worded(self.study, self.lang).question
        return visible("\n".join([question, *self.sentences(), repr(self.arms())]))

    def _repr_html_(self) -> str:
        ended, *said = (escape(sentence) for sentence in self.sentences())
        question = escape(worded(self.study, self.lang).question)
        parts = [f"<p><strong>{question}</strong><br><small>{ended}</small></p>"]
        if (verdict := self.verdict) is not None:
            lines = "".join(
                f"<p><small>{escape(name)}</small><br>{escape(text)}</p>"
                for name, text in verdict.lines
            )
            parts.append(
                f'<div style="border-left: 4px solid {COLOURS[verdict.decision]}; '
                f'padding-left: 1em"><p><strong>{escape(verdict.title)}</strong></p>'
                f"<p>{escape(verdict.answer)}</p>{lines}</div>"
            )
        else:
            parts += [f"<p>{sentence}</p>" for sentence in said]
        return visible("".join(parts)) + self.arms()._repr_html_()

    def _series(self, name: str, series_of: Callable[[RunResults], Series]) -> Records:
        return Records(
            {
                "arm": run.arm,
                "task": run.task,
                "seed": run.seed,
                "env_steps": env_steps,
                name: finite(value),
            }
            for run in self.study.runs
            for env_steps, value in series_of(run).items()
        )

    def _check(self, name: str, known: tuple[str, ...]) -> None:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or known
            raise KeyError(f"nothing is called {name!r} here; there is {', '.join(near)}")
