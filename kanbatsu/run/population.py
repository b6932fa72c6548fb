"""Several runs with networks of one shape, side by side in one program and one process.

They differ in their seeds and in what is pruned; each leaves the folder that it would leave alone.
That is far cheaper than a process for each where networks are small: most of a small step is
overhead, which all members share.
"""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from kanbatsu.agents import STREAMING
from kanbatsu.envs.functional import HostedEnvironment
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import to_dict
from kanbatsu.machine import machine_facts
from kanbatsu.run.record import Run
from kanbatsu.run.replay_run import ReplayRun
from kanbatsu.run.resolve import record_of
from kanbatsu.run.run_one import run_one
from kanbatsu.run.stream_run import StreamRun
from kanbatsu.sparsity.config import Pruning
from kanbatsu.train.loop import Position
from kanbatsu.train.replay_members import members_replay
from kanbatsu.train.stacking import shape_of
from kanbatsu.train.stream_members import members_compiled, members_host

DENSE: dict[str, Any] = asdict(Pruning(compute="masked")) | {"initial_sparsity": 0.0}
"""What networks of one population may differ in: it decides their first weights and no more."""

Work = StreamRun | ReplayRun
"""What trains and writes one run."""


def fits(runs: Sequence[Run]) -> bool:
    """Whether these runs may be one population: they differ in seed and in pruning alone.

    Example:
        >>> from kanbatsu.agents.stream_q import StreamQConfig
        >>> from kanbatsu.agents.schedule import StreamTrainConfig
        >>> run = Run("jax/cartpole", "stream_q", 0, 10, StreamQConfig(), StreamTrainConfig())
        >>> fits([run, replace(run, seed=1)]), fits([run, replace(run, env_steps=20)])
        (True, False)
    """
    return len({unpruned(run) for run in runs}) == 1


def unpruned(run: Run) -> Run:
    """Return what a run has in common with all that fit beside it."""
    config: Any = run.config
    if getattr(config, "kappa_by_density", False):  # then the density is a number in the program
        return replace(run, seed=0)
    networks = {
        each.name: replace(network, **{k: x for k, x in DENSE.items() if hasattr(network, k)})
        for each in fields(config)
        if isinstance(network := getattr(config, each.name), Pruning)
    }
    return replace(run, seed=0, config=replace(config, **networks))


def run_population(
    runs: Sequence[Run],
    folders: Sequence[Path],
    on_progress: Callable[[int], None] = lambda env_steps: None,
) -> list[Exception | None]:
    """Do what `run_one` does for each run, for all of them at once.

    Runs that are finished are left alone. Those that stand at the same env step, at the start or at
    a checkpoint, go on together. One that fails is stored as failed, and the others go on.

    Args:
        runs: that `fits`. Packed weights go side by side with equally many packed ones only; runs
            that do not match form populations of their own.
        folders: each run's own.
        on_progress: called with the env steps done, after every stretch.

    Returns:
        For each run what went wrong, or None.

    Raises:
        ValueError: The runs differ in more than seed and pruning.
    """
    if not fits(runs):
        raise ValueError("a population is of runs that differ in seed and in pruning alone")
    if len(runs) == 1:
        try:
            run_one(runs[0], folders[0], on_progress)
        except Exception as error:  # stored by `run_one`
            return [error]
        return [None]
    errors: dict[int, Exception] = {}
    files = [RunFolder(folder) for folder in folders]

    def fail(index: int, error: Exception) -> None:
        told = "".join(traceback.format_exception(error))
        files[index].write_status("failed", f"{type(error).__name__}: {error}", told)
        errors[index] = error

    standing: dict[tuple[Position, Hashable], dict[int, Work]] = defaultdict(dict)
    for index, (run, folder) in enumerate(zip(runs, files, strict=True)):
        if folder.finished:
            continue
        run = record_of(run, folder)
        folder.write_config(to_dict(run))
        folder.write_status("running")
        folder.write_machine(machine_facts())
        try:
            work: Work = (StreamRun if run.agent in STREAMING else ReplayRun)(run, folder)
            trained = work.carry if isinstance(work, StreamRun) else work.state
            standing[work.position, shape_of(trained)][index] = work
        except Exception as error:
            fail(index, error)
    for (position, _), group in standing.items():
        _train(group, position, fail, on_progress)
    for index, folder in enumerate(files):
        if index not in errors:
            folder.write_status("finished")
    return [errors.get(index) for index in range(len(runs))]


def _train(
    group: dict[int, Work],
    position: Position,
    fail: Callable[[int, Exception], None],
    on_progress: Callable[[int], None],
) -> None:
    """Train runs that stand at one position until they end, or none of them is left."""
    works = list(group.values())
    for work in works:
        work.watch.share = 1.0 / len(works)
    going = dict(group)
    for turns in _turns(works, position):
        for (index, work), turn in zip(group.items(), turns, strict=True):
            if index not in going:
                continue
            try:
                if isinstance(turn, Exception):
                    raise turn
                work.write(turn)
            except Exception as error:
                fail(index, error)
                del going[index]
        if not going:
            return
        on_progress(next(t.env_steps for t in turns if not isinstance(t, Exception)))


def _turns(works: Sequence[Any], position: Position) -> Iterator[tuple[Any, ...]]:
    """Choose the loop that suits the runs, and begin it."""
    first = works[0]
    told: dict[str, Any] = {
        "env_steps": first.run.env_steps,
        "seeds": [work.run.seed for work in works],
        "position": position,
        "watches": [work.watch for work in works],
    }
    if isinstance(first, ReplayRun):
        return members_replay(
            first.agent,
            [work.environments for work in works],
            [work.replay for work in works],
            first.config,
            states=[work.state for work in works],
            obs=[work.obs for work in works],
            wanted=first.wants,
            **told,
        )
    told |= {"stretch": first.stretch, "carries": [work.carry for work in works]}
    if isinstance(first.arena, HostedEnvironment):
        return members_compiled(first.agent, first.arena.functional, **told)
    hosts = [work.host for work in works]
    return members_host(first.agent, hosts, obs=[work.obs for work in works], **told)
