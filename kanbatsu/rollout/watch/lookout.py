"""What a service sees and does, gathered for the record and for the watch over drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.rollout.config import RolloutSettings
from kanbatsu.rollout.events import Arm, event
from kanbatsu.rollout.sinks import Background
from kanbatsu.rollout.watch.drift import Watch
from kanbatsu.rollout.watch.moments import DriftError
from kanbatsu.rollout.watch.stored_watch import AGAIN, FILE, StoredWatch

BLOCK = 16
"""Samples that are handed over together: few, so that the thread is soon done with them."""


class Samples:
    """Samples of a control loop, gathered in blocks: a call copies two rows, and no more.

    Args:
        obs_dim: length of an observation.
        action_dim: length of an action.
        give: function of whole blocks: observations `[samples, obs_dim]` and actions.

    Example:
        >>> kept = []
        >>> samples = Samples(1, 1, give=lambda seen, acted: kept.append(len(seen)))
        >>> for _ in range(20):
        ...     samples.add(np.zeros(1), np.zeros(1))
        >>> samples.flush()
        >>> kept
        [16, 4]
    """

    def __init__(
        self, obs_dim: int, action_dim: int, give: Callable[[np.ndarray, np.ndarray], None]
    ) -> None:
        self._shape, self._give = (obs_dim, action_dim), give
        self._begin()

    def add(self, observation: Any, action: np.ndarray) -> None:
        """Take one sample; what is no observation counts as one of NaN.

        Args:
            observation: numbers `[obs_dim]`, or anything else.
            action: the action that was taken, `[action_dim]`.
        """
        try:
            self._seen[self._count] = observation
        except (TypeError, ValueError):
            self._seen[self._count] = np.nan
        self._acted[self._count] = action
        self._count += 1
        if self._count == BLOCK:
            self.flush()

    def flush(self) -> None:
        """Hand over what there is."""
        if self._count:
            seen, acted, count = self._seen, self._acted, self._count
            self._begin()
            self._give(seen[:count], acted[:count])

    def _begin(self) -> None:
        obs_dim, action_dim = self._shape
        self._seen, self._acted = np.empty((BLOCK, obs_dim)), np.empty((BLOCK, action_dim))
        self._count = 0


class Lookout:
    """Records samples, where the settings ask for that, and watches them for drift.

    All that it computes is done by the thread of the service's queue.

    Args:
        folder: of the rollout; `drift.json` in it, where there is one, says what is watched.
        settings: of the rollout.
        events: queue of the service.

    Raises:
        DriftError: What `drift.json` holds does not fit the settings.
        kanbatsu.files.disk.DamagedFile: The file is not what was written.
    """

    def __init__(self, folder: Path, settings: RolloutSettings, events: Background) -> None:
        self._path, self._settings, self._events = folder / FILE, settings, events
        self._watch: Watch | None = None
        self._load()
        self._samples: Samples | None = None
        self.harm = ""
        """Why to roll back; empty where there is no reason."""

    def begin_episode(self, stage: str, arm: Arm) -> None:
        """Begin an episode of one arm; a calibration that was made meanwhile is read."""
        drift, guard = self._settings.drift, self._settings.guard
        wanted = stage in drift.stages and arm == drift.arm
        if wanted and self._watch is None:
            self._load()
        watch = self._watch if wanted else None
        self._samples = None
        if watch is None and not drift.record:
            return

        def give(seen: np.ndarray, acted: np.ndarray) -> None:
            self._events.run(lambda: self._take(watch, seen, acted, stage, arm))

        self._samples = Samples(guard.obs_dim, guard.action_dim, give)

    def add(self, observation: Any, action: np.ndarray) -> None:
        """Take one sample."""
        if self._samples is not None:
            self._samples.add(observation, action)

    def end_episode(self) -> None:
        """Hand over what the episode has left."""
        if self._samples is not None:
            self._samples.flush()

    def _take(
        self, watch: Watch | None, seen: np.ndarray, acted: np.ndarray, stage: str, arm: Arm
    ) -> None:
        if self._settings.drift.record:
            rows = {"observations": seen.tolist(), "actions": acted.tolist()}
            self._events(event("samples", arm=arm, stage=stage, **rows))
        if watch is not None:
            watch.extend(seen, acted)

    def _load(self) -> None:
        stored = StoredWatch.stored(self._path)
        if stored is None:
            return
        drift, guard = self._settings.drift, self._settings.guard
        sizes = stored.windows.moments.mean.size, stored.windows.low.size
        if sizes != (guard.obs_dim, guard.action_dim) or stored.arm != drift.arm:
            raise DriftError(
                f"{self._path} is of {sizes[0]} features, {sizes[1]} actions and the "
                f"{stored.arm}'s samples; rollout.toml has {guard.obs_dim}, {guard.action_dim} and "
                f"the {drift.arm}: {AGAIN}"
            )
        self._watch = stored.watch(self._hear, drift.adwin)

    def _hear(self, record: Mapping[str, Any]) -> None:
        self._events(record)
        alarm = record["kind"] == "alarm" and record["on"]
        calibrated = record.get("statistic") != "adwin"
        if alarm and calibrated and self._settings.drift.roll_back and not self.harm:
            self.harm = (
                f"drift: {record['statistic']} of {record['feature']}, {record['direction']}"
            )
