"""Logs that other trainers leave: SB3's Monitor and EvalCallback, CleanRL, rl-zoo, TensorBoard."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kanbatsu.files.tables import RecordError

PARTS = 20
"""Stretches of training whose episodes are averaged, where a log has training episodes alone."""


class Point(NamedTuple):
    """Episodes that stand for one moment of training."""

    env_steps: int
    returns: tuple[float, ...]


class Log(NamedTuple):
    """Course of one training."""

    points: tuple[Point, ...]
    """At least one, in rising order of env steps."""
    training: bool
    """True where the points are episodes of training, False where they are evaluations."""
    seconds: float | None = None
    """Seconds of the training, where the log has a clock."""

    @property
    def env_steps(self) -> int:
        """Env steps at the end of the log."""
        return self.points[-1].env_steps

    def until(self, env_steps: int) -> tuple[Point, ...]:
        """Return points that all trainings of so many env steps have in common.

        Evaluations are as they are. Of training episodes, those that ended in one twentieth of the
        training are one point, at the end of that twentieth.

        Args:
            env_steps: Env steps of a whole training; what comes after them belongs to their end.

        Example:
            >>> Log((Point(10, (1.0,)), Point(39, (2.0,)), Point(41, (4.0,))), True).until(40)
            (Point(env_steps=10, returns=(1.0,)), Point(env_steps=40, returns=(2.0, 4.0)))
        """
        if not self.training:
            return self.points
        parts: dict[int, tuple[float, ...]] = {}
        for point in self.points:
            part = min(max(math.ceil(PARTS * point.env_steps / env_steps), 1), PARTS)
            at = env_steps * part // PARTS
            parts[at] = parts.get(at, ()) + point.returns
        return tuple(Point(at, values) for at, values in sorted(parts.items()))


def read_monitors(paths: Sequence[Path]) -> Log | None:
    """Read the files that SB3's Monitor left of one training, one for each parallel environment.

    Args:
        paths: Files named `monitor.csv` or `*.monitor.csv`.

    Returns:
        None where no episode has ended.

    Raises:
        RecordError: A file is none of Monitor's.
    """
    episodes = sorted(episode for path in paths for episode in _monitored(path))
    if not episodes:
        return None
    ends = np.cumsum([length for _, length, _ in episodes])
    began = min(float(monitor_header(path).get("t_start", 0.0)) for path in paths)
    returns = [value for *_, value in episodes]
    points = (Point(int(at), (value,)) for at, value in zip(ends, returns, strict=True))
    return Log(tuple(points), True, episodes[-1][0] - began)


def monitor_header(path: Path) -> Mapping[str, Any]:
    """Return what Monitor's first line says, such as `env_id`; nothing where it says nothing."""
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    try:
        header = json.loads(first.removeprefix("#")) if first.startswith("#") else {}
    except ValueError:
        header = {}
    return header if isinstance(header, dict) else {}


def _monitored(path: Path) -> Iterator[tuple[float, int, float]]:
    """Yield when each episode ended, in seconds since 1970, its length and its return."""
    began = float(monitor_header(path).get("t_start", 0.0))
    complete, _, _ = path.read_text(encoding="utf-8").rpartition("\n")  # a kill cuts off a line
    lines = [line for line in complete.splitlines() if line and not line.startswith("#")]
    columns = lines[0].split(",") if lines else ["r", "l", "t"]
    if not {"r", "l", "t"} <= set(columns):
        raise RecordError(
            f"{path} was not written by Monitor of Stable-Baselines3: it has no columns r, l and t"
        )
    for row in csv.DictReader(lines):
        if row["r"] == "r":  # a training that went on wrote its head again
            continue
        try:
            yield began + float(row["t"]), int(float(row["l"])), float(row["r"])
        except (TypeError, ValueError):
            raise RecordError(f"{path} has a row that is no episode: {dict(row)}") from None


def read_evaluations(path: Path) -> Log | None:
    """Read what SB3's EvalCallback left: greedy episodes of every evaluation.

    Args:
        path: A file `evaluations.npz`.

    Returns:
        None where nothing was evaluated.

    Raises:
        RecordError: The file is none of EvalCallback's.
    """
    try:
        with np.load(path) as stored:
            steps, results = np.asarray(stored["timesteps"]), np.asarray(stored["results"])
    except (KeyError, ValueError, OSError) as error:
        raise RecordError(
            f"{path} was not written by EvalCallback of Stable-Baselines3: {error}"
        ) from None
    if results.shape[:1] != steps.shape:
        raise RecordError(f"{path} has {len(steps)} moments, but results of {len(results)}")
    points = (
        Point(int(at), tuple(map(float, np.ravel(row))))
        for at, row in zip(steps, results, strict=True)
    )
    return Log(tuple(sorted(points)), False) if len(steps) else None


def read_events(paths: Sequence[Path]) -> Mapping[str, Log]:
    """Read the TensorBoard event files of one training.

    Args:
        paths: Files named `events.out.tfevents.*`.

    Returns:
        The logs that there are, by the name of their scalar: one of `SCALARS`.

    Raises:
        RecordError: The `tensorboard` package is not installed, or a file cannot be read.
    """
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        raise RecordError(
            f"{paths[0]} is an event file of TensorBoard, which takes the tensorboard package to "
            "read: pip install tensorboard"
        ) from None
    found: dict[str, list[tuple[int, float]]] = {}
    times: dict[str, list[float]] = {}
    for path in paths:
        try:
            for event in EventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    if value.tag in SCALARS:
                        number = float(make_ndarray(value.tensor))
                        found.setdefault(value.tag, []).append((int(event.step), number))
                        times.setdefault(value.tag, []).append(float(event.wall_time))
        except Exception as error:  # of whatever kind the package's own reader raises
            raise RecordError(f"{path} cannot be read as an event file: {error}") from error
    return {
        tag: Log(
            tuple(Point(at, (value,)) for at, value in sorted(values)),
            tag != EVALUATED,
            max(times[tag]) - min(times[tag]),
        )
        for tag, values in found.items()
    }


EVALUATED = "eval/mean_reward"
"""Scalar of SB3 with the mean return of an evaluation."""

SCALARS = (EVALUATED, "charts/episodic_return", "rollout/ep_rew_mean")
"""Scalars of TensorBoard that are returns, best first: of greedy evaluations; of single training
episodes, in CleanRL; of the last hundred training episodes, in SB3."""

EVENTS = "events.out.tfevents."
"""Beginning of the name of TensorBoard's event files."""


class LogFiles(NamedTuple):
    """Files of one training."""

    name: str
    """Name of the folder or file that the training's seed is read from."""
    evaluations: tuple[Path, ...]
    monitors: tuple[Path, ...]
    events: tuple[Path, ...]
    folder: Path

    @property
    def kinds(self) -> Mapping[str, Callable[[], Log | None]]:
        """Readers of the logs that there are, by their kind: the best first."""
        kinds: dict[str, Callable[[], Log | None]] = {}
        if self.evaluations:
            kinds["evaluations.npz"] = lambda: read_evaluations(self.evaluations[-1])
        if self.monitors:
            kinds["monitor.csv"] = lambda: read_monitors(self.monitors)
        if self.events:
            for tag in SCALARS:
                kinds[tag] = lambda tag=tag: read_events(self.events).get(tag)  # type: ignore[misc]
        return kinds


def log_files(folder: Path, files: Sequence[Path] | None = None) -> LogFiles:
    """Return the log files of one training.

    Args:
        folder: Where they lie, at whatever depth.
        files: The files themselves, where they are known; the newest of several evaluations
            counts.
    """
    there = sorted(path for path in folder.rglob("*") if path.is_file()) if files is None else files
    return LogFiles(
        folder.name,
        tuple(path for path in there if is_evaluations(path)),
        tuple(path for path in there if is_monitor(path)),
        tuple(path for path in there if path.name.startswith(EVENTS)),
        folder,
    )


def is_evaluations(path: Path) -> bool:
    """Return whether a file is one of EvalCallback's by its name."""
    return path.suffix == ".npz"


def is_monitor(path: Path) -> bool:
    """Return whether a file is one of Monitor's by its name."""
    return path.name == "monitor.csv" or path.name.endswith(".monitor.csv")
