"""A Ray cluster as a place for runs: one task per run. Placement and lost nodes are Ray's work."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from kanbatsu.engine.elsewhere import carry_elsewhere, forget_compiled, forwarded
from kanbatsu.engine.place import PlaceConfig
from kanbatsu.engine.supervise import Order, RunEnd
from kanbatsu.files.lock import StudyError
from kanbatsu.files.store import RunFolder, StudyFolder

NODE_LOSSES = 20
"""Times that Ray hands a run over again; a crash of the run itself is not one of them."""

GIB = 2**30


class RayPlace:
    """Runs as tasks of a Ray cluster, each with its declared cores, GPUs and memory.

    Args:
        config: What each run gets, and where the cluster is.
        folder: The study's; all nodes must see it under the same path.

    Raises:
        StudyError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, config: PlaceConfig, folder: StudyFolder) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ModuleNotFoundError as error:
            raise StudyError(
                f"--engine ray needs Ray ({error}): pip install 'kanbatsu[ray]'"
            ) from None
        self._ray: Any = ray
        self._config, self._folder = config, folder
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                ray.init(address=config.address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError) as error:
                raise StudyError(f"no Ray cluster at {config.address}: {error}") from error
        resources: dict[str, Any] = {"num_cpus": config.cpus, "num_gpus": config.gpus}
        if config.memory is not None:
            resources["memory"] = int(config.memory * GIB)
        self._carry = ray.remote(carry_elsewhere).options(**resources, max_retries=NODE_LOSSES)
        self._going: list[_RayJob] = []

    def room(self) -> int:
        """Return how many runs may be handed over: all of them, unless the user sets a limit."""
        if self._config.workers is None:
            return sys.maxsize
        self._going = [job for job in self._going if job.end is None]
        return self._config.workers - len(self._going)

    def start(self, orders: Sequence[Order]) -> list[_RayJob]:
        """Hand runs to the cluster."""
        variables = forwarded()
        jobs = [
            _RayJob(self._ray, self._carry.remote(order, self._config.cpus, variables), order)
            for order in orders
        ]
        self._going += jobs
        return jobs

    def describe(self) -> str:
        """Say what the cluster has."""
        nodes = sum(node["Alive"] for node in self._ray.nodes())
        has = self._ray.cluster_resources()
        return (
            f"on Ray, {nodes} node{'s' * (nodes != 1)} with {has.get('CPU', 0):g} CPUs and "
            f"{has.get('GPU', 0):g} GPUs; each run takes {self._config.cpus} and "
            f"{self._config.gpus:g}"
        )

    def stop(self) -> None:
        """Cancel what goes on, and leave the cluster."""
        for job in self._going:
            if job.end is None:
                self._ray.cancel(job.reference, force=True)
        if self._ours:
            self._ray.shutdown()
        forget_compiled(self._folder.path)


class _RayJob:
    """A run that Ray has."""

    def __init__(self, ray: Any, reference: Any, order: Order) -> None:
        self.warnings: list[str] = []
        self.reference = reference
        self.end: RunEnd | None = None
        self._ray, self._order = ray, order

    def poll(self) -> RunEnd | None:
        if self.end is None:
            ready, _ = self._ray.wait([self.reference], timeout=0)
            self.end = self._end() if ready else None
        return self.end

    def _end(self) -> RunEnd:
        try:
            return RunEnd(self._ray.get(self.reference))
        except self._ray.exceptions.RayError as error:
            reason = f"Ray gave the run up: {str(error).splitlines()[0]}"
            RunFolder(self._order.folder).write_status("failed", reason, str(error))
            return RunEnd(reason)
