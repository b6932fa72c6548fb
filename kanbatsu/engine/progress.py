"""What a person sees while a study runs: a live display in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, runtime_checkable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

SHOWN_RUNS = 30
"""Bars in the picture; a cluster may have hundreds of runs at a time."""

LINE_SECONDS = 30.0
"""Seconds between two lines on how far a study is, where there is no terminal to redraw."""

SPEED_SECONDS = 120.0
"""The past that the speed is measured over: long enough to hold a compilation and an evaluation."""


@dataclass(frozen=True)
class RunView:
    """A run that is being trained."""

    run_id: str
    env_steps: int
    latest_return: float | None
    warning: str | None = None
    """A line on what a probe measured."""


@dataclass(frozen=True)
class View:
    """Progress of a study at one moment."""

    runs: int
    """Number of all runs."""
    finished: int
    failed: int
    env_steps: int
    """Env steps at which each run ends."""
    share: float
    """Share of all env steps that is done, in [0, 1]."""
    env_steps_per_second: float | None
    """Speed of all workers together; None until there is something to measure."""
    seconds_left: float | None
    running: tuple[RunView, ...]
    stopped: int = 0
    """Number of runs that were begun, but that nobody works on."""
    waiting: int = 0
    """Number of runs that were not begun."""


@runtime_checkable
class Display(Protocol):
    """Display of progress."""

    def __enter__(self) -> Display:
        """Begin to show."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stop showing; what was said stays."""
        ...

    def show(self, view: View) -> None:
        """Bring the picture up to date; called several times a second."""
        ...

    def say(self, text: str) -> None:
        """Write a line that stays."""
        ...


def make_display(console: Console | None = None) -> Display:
    """Return the display that suits the console: standard output by default."""
    console = console or Console()
    return LiveDisplay(console) if console.is_terminal else LineDisplay(console)


def no_display() -> Display:
    """Return a display that shows nothing."""
    return LineDisplay(Console(quiet=True))


@contextlib.contextmanager
def going_on(console: Console) -> Iterator[None]:
    """Let nothing that goes wrong with a console end what it is told about.

    A terminal may be gone, a pipe closed, a disk full: then nothing more is written.
    """
    try:
        yield
    except (OSError, ValueError, SystemExit):  # rich ends the process where a pipe was closed
        console.quiet = True


def printable(text: str, console: Console) -> str:
    """Return a text with a question mark for every character that the console cannot show.

    Example:
        >>> import io
        >>> printable("3 done · 大きさ", Console(file=io.TextIOWrapper(io.BytesIO(), "latin-1")))
        '3 done · ???'
    """
    return text.encode(console.encoding, "replace").decode(console.encoding)


class LiveDisplay:
    """Bars that are redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console, self._live = console, Live(console=console, refresh_per_second=4)

    def __enter__(self) -> LiveDisplay:
        """Begin to draw."""
        with going_on(self._console):
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture standing."""
        with going_on(self._console):
            self._live.stop()

    def show(self, view: View) -> None:
        """Draw the study and each run of it that is being trained."""
        with going_on(self._console):
            self._live.update(draw(view))

    def say(self, text: str) -> None:
        """Write a line above the bars."""
        with going_on(self._console):
            self._console.print(escape(printable(text, self._console)), highlight=False)


class LineDisplay:
    """A line now and then, for log files."""

    def __init__(self, console: Console, every_seconds: float = LINE_SECONDS) -> None:
        self._console, self._every, self._last = console, every_seconds, time.monotonic()

    def __enter__(self) -> LineDisplay:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to take down."""

    def show(self, view: View) -> None:
        """Write how far the study is, if the last time is long enough ago."""
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            self.say(f"{describe(view)} · {view.share:.0%}")

    def say(self, text: str) -> None:
        """Write a line."""
        with going_on(self._console):
            line = escape(printable(text, self._console))
            self._console.print(line, highlight=False, soft_wrap=True)


def draw(view: View) -> RenderableType:
    """Return the live picture: one bar for the study, one for each running run."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(width=20)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for run in view.running[:SHOWN_RUNS]:
        table.add_row(
            Text(run.run_id, style="cyan"),
            ProgressBar(total=view.env_steps, completed=run.env_steps, width=20),
            f"{min(run.env_steps, view.env_steps):,}",
            "" if run.latest_return is None else f"return {run.latest_return:.1f}",
            Text(run.warning or "", style="yellow"),
        )
    if len(view.running) > SHOWN_RUNS:
        table.add_row(f"and {len(view.running) - SHOWN_RUNS} more")
    bar = ProgressBar(total=1.0, completed=view.share, width=20)
    summary = Table.grid(padding=(0, 2))
    summary.add_row(bar, Text(describe(view), style="bold"))
    return Group(table, summary)


def describe(view: View) -> str:
    """Say in one line how far a study is.

    Example:
        >>> describe(View(9, 3, 1, 1000, 0.4, 812.3, 75.2, ()))
        '3/9 runs done · 1 failed · 812 env steps/s · 0:01:15 left'
    """
    parts = [f"{view.finished}/{view.runs} runs done"]
    parts += [
        f"{count} {state}"
        for state, count in (
            ("failed", view.failed),
            ("stopped", view.stopped),
            ("waiting", view.waiting),
        )
        if count
    ]
    if view.env_steps_per_second is not None:
        parts.append(f"{view.env_steps_per_second:,.0f} env steps/s")
    if view.seconds_left is not None:
        parts.append(f"{timedelta(seconds=round(view.seconds_left))} left")
    return " · ".join(parts)


@dataclass
class Pace:
    """Env steps per second over the recent past."""

    _past: deque[tuple[float, int]] = field(default_factory=deque)

    def measure(self, now: float, env_steps: int) -> float | None:
        """Take in how many env steps are done, and return the speed.

        Args:
            now: Time of a clock, in seconds.
            env_steps: Env steps that were done since any fixed moment.

        Example:
            >>> pace = Pace()
            >>> pace.measure(0.0, 0), pace.measure(10.0, 500)
            (None, 50.0)
        """
        self._past.append((now, env_steps))
        while len(self._past) > 2 and now - self._past[1][0] >= SPEED_SECONDS:
            self._past.popleft()
        then, before = self._past[0]
        # Fewer than before: a run that continues begins again from its checkpoint.
        if now - then < 1.0 or env_steps <= before:
            return None
        return (env_steps - before) / (now - then)
