"""Results for TensorBoard or Weights & Biases, read from the files of a study as they grow.

A tracker listens to the files, not to the loop: it works with any engine, during a study or after
it. A run that was continued is sent once, for the lines that it writes again are the same.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from kanbatsu.files.lock import StudyError
from kanbatsu.files.store import StudyFolder
from kanbatsu.files.tail import Tail

TrackerName = Literal["tensorboard", "wandb"]


class Sink(Protocol):
    """Receiver of the numbers of one run."""

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Take numbers of one moment."""
        ...

    def flush(self) -> None:
        """Make what was written visible."""
        ...

    def close(self) -> None:
        """End."""
        ...


class Tracker:
    """Sends what is new of each run to its sink; without a name, nothing goes anywhere.

    Args:
        name: Name of the tracker, or None.
        folder: The study's.
        runs: Run ids.

    Raises:
        StudyError: Its library is not installed.
    """

    def __init__(self, name: TrackerName | None, folder: StudyFolder, runs: Iterable[str]) -> None:
        require(name)
        self._name, self._folder = name, folder
        self._tails = {
            run_id: Tail(folder.run_folder(run_id).path) for run_id in (runs if name else ())
        }
        self._sinks: dict[str, Sink] = {}
        self._sent: dict[str, int] = {}
        self._updated_at = time.monotonic()

    def __enter__(self) -> Tracker:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Send what is left, and close every sink."""
        try:
            self.update()
        finally:  # of sinks that this update opened, too
            with contextlib.ExitStack() as stack:
                for sink in self._sinks.values():
                    stack.callback(sink.close)

    def update(self, every_seconds: float = 0.0) -> None:
        """Send what is new, unless that was done less than `every_seconds` ago."""
        if time.monotonic() - self._updated_at < every_seconds:
            return
        self._updated_at = time.monotonic()
        for run_id, tail in self._tails.items():
            lines = tail.read()
            # A line is known by its place: a continued run writes the same ones again.
            begin = tail.lines - len(lines)
            fresh = lines[max(0, self._sent.get(run_id, 0) - begin) :]
            if not fresh:
                continue
            if run_id not in self._sinks:
                assert self._name is not None
                self._sinks[run_id] = _SINKS[self._name](self._folder, run_id)
            sink = self._sinks[run_id]
            for line in fresh:
                sink.write(line["env_steps"], dict(numbers(line)))
            sink.flush()
            self._sent[run_id] = tail.lines


def require(name: TrackerName | None) -> None:
    """Refuse a tracker whose library is not installed.

    Raises:
        StudyError: The message says how to install it.
    """
    if name is not None:
        try:
            __import__(name)
        except ModuleNotFoundError:
            raise StudyError(
                f"--tracker {name} needs {name}: pip install 'kanbatsu[{name}]'"
            ) from None


def numbers(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the finite numbers of one line of `metrics.jsonl`, named by what they are of.

    Example:
        >>> dict(numbers({"kind": "probe", "env_steps": 5, "metrics": {"critic/srank": 3.0}}))
        {'probe/critic/srank': 3.0}
        >>> dict(numbers({"kind": "episode", "env_steps": 5, "return": 7.0, "success": None}))
        {'episode/return': 7.0}
    """
    metrics = line.get("metrics", line)
    for name, value in metrics.items():
        if name != "env_steps" and isinstance(value, int | float):
            yield f"{line['kind']}/{name}", float(value)


class _TensorBoard:
    """Event files in OUT/tensorboard/<run id>."""

    def __init__(self, folder: StudyFolder, run_id: str) -> None:
        from tensorboard.summary import Writer

        self._writer = Writer(str(folder.path / "tensorboard" / run_id))

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, env_steps)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WandB:
    """A run of wandb for each run; WANDB_MODE=offline keeps them in OUT/wandb."""

    def __init__(self, folder: StudyFolder, run_id: str) -> None:
        import wandb

        self._run = wandb.init(
            project=f"kanbatsu-{Path(folder.path).resolve().name}",
            id=run_id[-120:].replace("/", "-"),
            name=run_id,
            dir=str(folder.path),
            config=folder.run_folder(run_id).read_config(),
            resume="allow",
            reinit="create_new",
        )

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        self._run.log({"env_steps": env_steps, **values})

    def flush(self) -> None:
        """Nothing to do: wandb sends by itself."""

    def close(self) -> None:
        self._run.finish()


_SINKS: Mapping[str, Any] = {"tensorboard": _TensorBoard, "wandb": _WandB}
