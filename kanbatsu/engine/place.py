"""Where the runs of a study go: what the engine asks of this machine, of Ray, and of Slurm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:  # the command line wants this file, and quickly
    from kanbatsu.engine.supervise import Order, RunEnd


@dataclass(frozen=True)
class PlaceConfig:
    """Place where runs go, and resources that each of them gets there."""

    engine: Literal["local", "ray", "slurm"] = "local"
    """Engine that carries the runs out: this machine, a Ray cluster, or Slurm. Another one may
    finish what one has begun."""
    workers: int | None = None
    """Runs at the same time. On this machine the cores are divided among them, and there are as
    many as cores by default; elsewhere the scheduler decides by default."""
    run_timeout: float | None = None
    """Seconds without progress after which a run is ended and stored as failed. Steps, updates,
    evaluations and probes count; imports and compilation do not. Longer than the longest
    evaluation; never by default."""
    retries: int = 2
    """Times that a worker is started again after it died, by a crash or for want of memory."""
    cpus: int = 1
    """Cores of each run, with --engine ray or slurm."""
    gpus: float = 0.0
    """GPUs of each run, with --engine ray or slurm; Ray lets runs share one (0.25)."""
    memory: float | None = None
    """Memory of each run in GiB, with --engine ray or slurm; not declared by default."""
    address: str | None = None
    """Address of a Ray cluster that runs already; a new one on this machine by default."""
    slurm: tuple[str, ...] = ()
    """Options of sbatch, KEY=VALUE each: partition=gpu time=1440 account=me."""


@runtime_checkable
class Job(Protocol):
    """A run that has been handed over."""

    warnings: list[str]
    """Warnings that nobody was shown yet."""

    def poll(self) -> RunEnd | None:
        """Return how the run ended, or None while it goes on or waits."""
        ...


@runtime_checkable
class Place(Protocol):
    """Somewhere that carries runs through."""

    def room(self) -> int:
        """Return how many more runs may be handed over now."""
        ...

    def start(self, orders: Sequence[Order]) -> Sequence[Job]:
        """Hand over runs: not more than there is room for."""
        ...

    def describe(self) -> str:
        """Say how many runs go on at a time, and on what."""
        ...

    def stop(self) -> None:
        """End what goes on; the runs continue from their last checkpoints another time."""
        ...
