"""The page of a rollout: one self-contained HTML file, from what lies in its folder alone."""

from __future__ import annotations

import contextlib
import functools
import tomllib
from collections.abc import Sequence
from pathlib import Path

import jinja2

from kanbatsu.files.disk import replace
from kanbatsu.report.language import Language, Texts, flatten
from kanbatsu.report.shell import environment, visible
from kanbatsu.report.words import DASH
from kanbatsu.rollout.pages import sections
from kanbatsu.rollout.pages.overview import Overview
from kanbatsu.rollout.pages.panels import panels
from kanbatsu.rollout.reading import JOURNAL, Reader

LOOKS = {"full": "adopt", "rolled_back": "reject"}
"""Class of the box for a stage; `extend` for the others."""

GATED = ("shadow", "canary")
"""Stages that a gate leads out of."""


@functools.cache
def texts(language: Language) -> Texts:
    """Read the page's texts of one language."""
    path = Path(__file__).parent / "texts" / f"{language}.toml"
    return Texts(language, dict(flatten(tomllib.loads(path.read_text(encoding="utf-8")))))


def write_page(out: Path, lang: Language = "en", deadline_us: float | None = None) -> Path:
    """Write the page of a rollout; it may be called at any time.

    Args:
        out: folder of the rollout.
        lang: language of the page.
        deadline_us: microseconds within which an answer must be there; from `rollout.toml` in the
            folder by default.

    Returns:
        Where the page is: `report.html`, or `report.<lang>.html` in another language than English.

    Raises:
        FileNotFoundError: The folder holds no journal.

    Example:
        >>> import tempfile
        >>> from kanbatsu.rollout.journal import Journal
        >>> out = Path(tempfile.mkdtemp())
        >>> with Journal(out / JOURNAL) as journal:
        ...     journal.append({"kind": "guard", "time": 0.0, "trigger": "deadline", "detail": ""})
        >>> write_page(out).name
        'report.html'
    """
    reader, overview = open_journal(out)
    overview.add(reader.new())
    page = render(overview, out.resolve().name, lang, deadline_us or deadline_in(out), reader.notes)
    target = out / ("report.html" if lang == "en" else f"report.{lang}.html")
    replace(target, page)
    return target


def open_journal(out: Path) -> tuple[Reader, Overview]:
    """Return a reader of a rollout's journal, and an overview that is still empty.

    Raises:
        FileNotFoundError: The folder holds no journal.
    """
    if not (out / JOURNAL).is_dir():
        raise FileNotFoundError(
            f"{out} holds no journal of a rollout ({JOURNAL}/ is missing): give the folder that "
            "`kanbatsu rollout init` made, after the service has begun"
        )
    return Reader(out / JOURNAL), Overview()


def deadline_in(out: Path) -> float | None:
    """Return the guard's deadline of a rollout, in microseconds; None where no file says it."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        settings = tomllib.loads((out / "rollout.toml").read_text("utf-8"))
        return 1e6 * float(settings["guard"]["deadline_s"])
    return None


def render(
    overview: Overview,
    name: str,
    lang: Language = "en",
    deadline_us: float | None = None,
    notes: Sequence[str] = (),
    refresh: int = 0,
) -> str:
    """Return the page as HTML.

    Args:
        overview: numbers of the rollout.
        name: name of the rollout.
        lang: language of the page.
        deadline_us: microseconds within which an answer must be there, where that is known.
        notes: what could not be read.
        refresh: seconds after which a browser loads the page again; 0 for never.
    """
    t = texts(lang)
    stage = overview.stage
    latest = DASH if overview.last is None else sections.moment(overview.last)
    opening = t("page.empty") if overview.last is None else t("page.as_of", time=latest)
    return visible(
        _environment()
        .get_template("rollout.html.j2")
        .render(
            t=t,
            title=t("page.title", name=name),
            stage=sections.named("stage", stage or "unknown", t),
            look=LOOKS.get(stage or "", "extend"),
            lines=_lines(overview, t),
            as_of=opening,
            refresh=refresh,
            notes=notes,
            gates=[sections.gate(gate, t) for gate in reversed(overview.gates.values())],
            panels=panels(overview, deadline_us, t),
            sections=[
                sections.latency(overview, deadline_us, t),
                sections.guard(overview, t),
                sections.drift(overview, t),
                sections.episodes(overview, t),
                sections.shadow(overview, t),
                sections.history(overview, t),
            ],
            incidents=[sections.incident(incident, t) for incident in reversed(overview.incidents)],
        )
    )


@functools.cache
def _environment() -> jinja2.Environment:
    own = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    shared = environment()
    assert shared.loader is not None
    return shared.overlay(loader=jinja2.ChoiceLoader([own, shared.loader]))


def _lines(overview: Overview, t: Texts) -> list[tuple[str, str]]:
    """Return what stands in the box: since when, the gate, drift, the guard."""
    lines = []
    if overview.stages:
        change = overview.stages[-1]
        since = t(
            "line.since_text",
            time=sections.moment(change["time"]),
            by=change.get("by", DASH),
            reason=change.get("reason", DASH),
        )
        lines.append((t("line.since"), since))
    if overview.stage in GATED:
        gate = overview.gates.get(overview.stage)
        word = t("line.gate_none") if gate is None else sections.gate_word(gate, t)
        lines.append((t("line.gate"), word))
    if overview.alarms:
        features = t.listed([feature for _, feature in overview.alarms])
        drift = t("line.drift_on", features=features)
    else:
        drift = t("line.drift_off" if overview.drift else "line.drift_none")
    lines.append((t("line.drift"), drift))
    count = sum(count for count, _ in overview.guard.values())
    lines.append((t("line.guard"), t.number("line.guard_text", count, count=f"{count:,}")))
    return lines
