"""A run on a machine that a scheduler chose: its cores, its variables, its compiled programs."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from kanbatsu.engine.local_place import worker_environment
from kanbatsu.engine.supervise import Order, carry_through
from kanbatsu.files.lock import take
from kanbatsu.files.tables import canonical_hash
from kanbatsu.machine import cpu_name, usable_cores

FORWARDED = ("PYTHONPATH", "JAX_", "XLA_", "MUJOCO_", "KANBATSU_")
"""Beginnings of the names of variables that a worker elsewhere gets from the user's shell."""

COMPILED = ".compiled"
"""Folder, inside of the study's, of programs that runs on one machine need not compile again."""


def carry_elsewhere(order: Order, cpus: int, variables: Mapping[str, str]) -> str | None:
    """Carry one run through on this machine, on `cpus` cores that no other run here has.

    Args:
        order: What to do.
        cpus: Cores that the scheduler granted.
        variables: What `forwarded` returned where the user is.

    Returns:
        Why the run failed; None where it is finished.
    """
    machine = f"{socket.gethostname()}-{canonical_hash(cpu_name())[:8]}"
    compiled = order.folder.parents[1] / COMPILED / machine
    environment = {**worker_environment(compiled), **variables}
    with borrow_cores(cpus) as cores:
        return carry_through(order, cores, environment, _log).error


def _log(warning: str) -> None:
    print(f"kanbatsu: {warning}", flush=True)  # noqa: T201 - for the scheduler's log


def forget_compiled(out: Path) -> None:
    """Remove compiled programs, which must not outlive the library that made them."""
    shutil.rmtree(out / COMPILED, ignore_errors=True)


def forwarded(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that a worker elsewhere needs.

    Example:
        >>> forwarded({"JAX_PLATFORMS": "cpu", "HOME": "/root"})
        {'JAX_PLATFORMS': 'cpu'}
    """
    return {name: value for name, value in environment.items() if name.startswith(FORWARDED)}


@contextlib.contextmanager
def borrow_cores(count: int) -> Iterator[list[int]]:
    """Choose cores for a run: schedulers count cores, but few say which.

    A lock for each core, which ends with the process, keeps the runs of a user on a machine apart.
    Where too few cores are free, some are shared.
    """
    folder = Path(tempfile.gettempdir()) / f"kanbatsu-cores-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    free, others = list[int](), list[int]()
    with contextlib.ExitStack() as stack:
        for core in usable_cores():
            file = stack.enter_context((folder / str(core)).open("a"))
            (free if len(free) < count and take(file) else others).append(core)
        yield free + others[: count - len(free)]
