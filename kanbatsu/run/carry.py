"""Runs from empty folders to finished ones: one alone, or several of one shape side by side.

A run is a function of its record alone. Everything that it did is in its folder, and a run that
was killed continues from its last checkpoint with the numbers that it would have had. Runs side by
side differ in their seeds and in what is pruned; each leaves the folder that it would leave alone.
That is far cheaper than a process for each where networks are small: most of a small step is
overhead, which all members share.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from kanbatsu.envs.spec import TaskError
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import to_dict
from kanbatsu.machine import machine_facts
from kanbatsu.run.carry_external import carry_external
from kanbatsu.run.external import ExternalConfig
from kanbatsu.run.in_progress import RunInProgress
from kanbatsu.run.incumbent import IncumbentConfig, carry_incumbent
from kanbatsu.run.record import Run
from kanbatsu.run.resolve import record_of
from kanbatsu.sparsity.config import Pruning
from kanbatsu.train.device import DeviceMember, train_on_device
from kanbatsu.train.host import train_on_host

DENSE: dict[str, Any] = asdict(Pruning(compute="masked")) | {
    "initial_sparsity": 0.0,
    "trunk_sparsity": None,
}
"""Setting in which networks of one population may differ: it decides their first weights and no
more."""

OnProgress = Callable[[int], None]
"""Called with the env steps done, after every turn of the loop."""


def run_one(run: Run, folder: Path, on_progress: OnProgress = lambda env_steps: None) -> None:
    """Train, evaluate and probe; continue from a checkpoint; return at once if finished.

    Args:
        run: record of the run; `kanbatsu.run.check.check` refuses what cannot work.
        folder: folder for everything that the run writes.
        on_progress: called with the env steps done, after every turn of the loop.

    Raises:
        Exception: whatever went wrong, after it was stored in the folder with its traceback.
    """
    (error,) = run_side_by_side([run], [folder], on_progress)
    if error is not None:
        raise error


def unpruned(run: Run) -> Run:
    """Return what a run has in common with all that may go beside it.

    Example:
        >>> from kanbatsu.agents.stream_q import StreamQConfig
        >>> from kanbatsu.agents.schedule import StreamTrainConfig
        >>> run = Run("jax/cartpole", "stream_q", 0, 10, StreamQConfig(), StreamTrainConfig())
        >>> unpruned(run) == unpruned(replace(run, seed=1))
        True
        >>> unpruned(run) == unpruned(replace(run, env_steps=20))
        False
    """
    config: Any = run.config
    if getattr(config, "kappa_by_density", False):  # then the density is a number in the program
        return replace(run, seed=0)
    networks = {
        each.name: replace(network, **{k: x for k, x in DENSE.items() if hasattr(network, k)})
        for each in fields(config)
        if isinstance(network := getattr(config, each.name), Pruning)
    }
    return replace(run, seed=0, config=replace(config, **networks))


def run_side_by_side(
    runs: Sequence[Run], folders: Sequence[Path], on_progress: OnProgress = lambda env_steps: None
) -> list[Exception | None]:
    """Do what `run_one` does for each run, for all of them at once.

    Runs that are finished are left alone. Those that stand at the same env step, at the start or at
    a checkpoint, go on together. One that fails is stored as failed, and the others go on.

    Args:
        runs: runs whose `unpruned` is the same. Packed weights go side by side with equally many
            packed ones only; runs that do not match form groups of their own.
        folders: folder of each run.
        on_progress: called with the env steps done, after every turn.

    Returns:
        For each run what went wrong, or None.

    Raises:
        ValueError: The runs differ in more than seed and pruning.
    """
    if len({unpruned(run) for run in runs}) != 1:
        raise ValueError("a population is of runs that differ in seed and in pruning alone")
    errors: dict[int, Exception] = {}
    files = [RunFolder(folder) for folder in folders]

    def fail(index: int, error: Exception | SystemExit) -> None:
        trace = "".join(traceback.format_exception(error))
        if isinstance(error, SystemExit):
            error = TaskError(f"{runs[index].task} called sys.exit({error.code!r})")
        with contextlib.suppress(OSError):  # a full disk must not stop the others
            files[index].write_status("failed", f"{type(error).__name__}: {error}", trace)
        errors[index] = error

    groups: dict[Hashable, dict[int, RunInProgress]] = defaultdict(dict)
    for index, (run, folder) in enumerate(zip(runs, files, strict=True)):
        try:
            if folder.finished:
                continue
            if isinstance(run.config, ExternalConfig):
                _write_down(run, folder)
                carry_external(run, folder, on_progress)
            elif isinstance(run.config, IncumbentConfig):
                _write_down(run, folder)
                carry_incumbent(run, folder, on_progress)
            else:
                work = _begin(run, folder)
                groups[work.member.position, work.member.shape()][index] = work
        except (Exception, SystemExit) as error:
            fail(index, error)
    for group in groups.values():
        _train(group, fail, on_progress)
    for index, folder in enumerate(files):
        if index not in errors:
            folder.write_status("finished")
    return [errors.get(index) for index in range(len(runs))]


def _begin(run: Run, folder: RunFolder) -> RunInProgress:
    """Write down what a run is, and bring it to where it goes on from."""
    record = record_of(run, folder)
    _write_down(record, folder)
    return RunInProgress(record, folder)


def _write_down(run: Run, folder: RunFolder) -> None:
    """Write down what a run is, and where it goes on."""
    folder.write_config(to_dict(run))
    folder.write_status("running")
    folder.write_machine(machine_facts())


def _train(
    group: dict[int, RunInProgress],
    fail: Callable[[int, Exception | SystemExit], None],
    on_progress: OnProgress,
) -> None:
    """Train runs that stand at one position until they end, or none of them is left."""
    works = list(group.values())
    for work in works:
        work.watch.share = 1.0 / len(works)
    members = [work.member for work in works]
    on_device = isinstance(members[0], DeviceMember)
    turns = (train_on_device if on_device else train_on_host)(members, works[0].run.env_steps)
    going = list(enumerate(group))
    while True:
        try:
            turn = next(turns, None)
        except (Exception, SystemExit) as error:  # of the program that all of them share
            for _, index in going:
                fail(index, error)
            return
        if turn is None:
            return
        for place, index in tuple(going):
            try:
                works[place].write(turn, place)
            except (Exception, SystemExit) as error:
                fail(index, error)
                going.remove((place, index))
        if not going:
            return
        on_progress(turn.env_steps)
