"""What a run's record says once it has begun: `auto` is settled by the machine that began it.

A run continues anywhere with the layers that it began with, packed or not; on a machine without
kernels packed layers multiply as dense ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import to_dict
from kanbatsu.remedies.records import needs_whole_matrices
from kanbatsu.run.record import Run
from kanbatsu.sparsity.compute import resolve
from kanbatsu.sparsity.config import Pruning


def resolved(run: Run) -> Run:
    """Return the run with `auto` replaced, in every network, by what it comes to on this machine.

    Example:
        >>> from kanbatsu.agents.ddpg import DDPGConfig
        >>> from kanbatsu.nn.config import NetworkConfig
        >>> run = Run("gym/Pendulum-v1", "ddpg", config=DDPGConfig(NetworkConfig(compute="auto")))
        >>> resolved(run).config.actor.compute in ("masked", "mixed")
        True
    """
    compute = "masked" if needs_whole_matrices(run.remedy) else resolve("auto")
    return _settled(run, lambda name: compute)


def record_of(run: Run, files: RunFolder) -> Run:
    """Return the record that a run goes by: the one in its folder if it has begun, else `resolved`.

    Args:
        run: as it was planned.
        files: its folder. A record there that differs in more than what `auto` came to is another
            run's, and is not read.
    """
    try:
        stored = files.read_config()
    except FileNotFoundError:  # nothing has begun
        return resolved(run)
    begun = _settled(run, lambda name: stored["config"].get(name, {}).get("compute", "auto"))
    return resolved(begun if to_dict(begun) == stored else run)


def _settled(run: Run, compute_of: Callable[[str], Any]) -> Run:
    """Replace `auto` in each network by what is told for the network's name."""
    config: Any = run.config
    networks = {
        item.name: replace(network, compute=compute_of(item.name))
        for item in fields(config)
        if isinstance(network := getattr(config, item.name), Pruning) and network.compute == "auto"
    }
    return replace(run, config=replace(config, **networks))
