"""A calibrated watch as a file: what is watched, its thresholds, and what they were found on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.files.disk import read_json, sealed, write_json
from kanbatsu.files.shape import NUMBER, Each, Maybe
from kanbatsu.rollout.config import RolloutSettings
from kanbatsu.rollout.events import Sink
from kanbatsu.rollout.watch.adwin import AdwinWatch
from kanbatsu.rollout.watch.calibrate import Calibration, calibrate
from kanbatsu.rollout.watch.drift import Watch
from kanbatsu.rollout.watch.moments import DriftError, Moments
from kanbatsu.rollout.watch.windows import Windows

FILE = "drift.json"
"""Name of the file in the folder of a rollout."""

AGAIN = "make it again with `kanbatsu rollout calibrate`"

FAR = 3.0
"""Standard deviations from the training mean at which people should know of it."""

LISTS = {"mean": [NUMBER], "sd": [NUMBER], "low": [NUMBER], "high": [NUMBER]}
SHAPE = {
    **LISTS,
    "names": [str],
    "count": NUMBER,
    "covariance": Maybe([[NUMBER]]),
    "arm": str,
    "logs": [str],
    "time": NUMBER,
    "calibration": {
        "center": [NUMBER],
        "unit": [NUMBER],
        "thresholds": Each(NUMBER),
        **dict.fromkeys(("window", "horizon", "samples"), int),
        **dict.fromkeys(("alpha", "memory"), NUMBER),
        "slowest": str,
    },
}


@dataclass(frozen=True)
class StoredWatch:
    """Everything that a watch begins from, as `drift.json` holds it."""

    windows: Windows
    """Windows that samples become rows by, with the moments of the training data."""
    calibration: Calibration
    """Thresholds, and the rate of false alarms that they were made for."""
    arm: str
    """Arm whose samples it was calibrated on."""
    logs: tuple[str, ...]
    """Where these samples came from."""
    time: float
    """Moment of the calibration, in seconds since 1970."""

    @classmethod
    def made(
        cls,
        settings: RolloutSettings,
        moments: Moments,
        observations: np.ndarray,
        actions: np.ndarray,
        logs: Sequence[str],
    ) -> StoredWatch:
        """Calibrate a watch on held-out logs, as the settings of a rollout say.

        Args:
            settings: settings of the rollout; the section `drift` names rate and horizon.
            moments: of the training data.
            observations: numbers `[samples, features]`, in their order in time.
            actions: numbers `[samples, actions]`.
            logs: where the samples come from, for the record.

        Raises:
            DriftError: The logs are too short for the rate, or do not fit.
        """
        guard, drift = settings.guard, settings.drift
        if moments.mean.size != guard.obs_dim:
            raise DriftError(
                f"the training data have {moments.mean.size} features, and guard.obs_dim is "
                f"{guard.obs_dim}: name the policy that this rollout is about"
            )
        windows = Windows(moments, np.array(guard.low), np.array(guard.high), drift.window)
        windows = windows.fitted(observations, actions)
        calibration = calibrate(
            windows, observations, actions, alpha=drift.alpha, horizon=drift.horizon
        )
        return cls(windows, calibration, drift.arm, tuple(logs), time.time())

    def far(self) -> list[str]:
        """Return sentences about features that the logs show far from the training data."""
        center = self.calibration.center[: self.windows.moments.mean.size]
        return [
            f"{name} lies {value:+.1f} standard deviations from its mean in training"
            for name, value in zip(self.windows.moments.names, center, strict=True)
            if abs(value) >= FAR
        ]

    def claim(self) -> str:
        """Return what the watch promises, as a sentence."""
        made = self.calibration
        return (
            f"any false alarm within {made.horizon:,} samples has a chance of at most "
            f"{made.alpha:.3g}: windows of {made.window:,} samples, calibrated on {made.samples:,} "
            f"samples of the {self.arm}, whose slowest column, {made.slowest}, has an "
            f"autocorrelation time of {made.memory:,.0f} samples"
        )

    def watch(self, sink: Sink, adwin: bool = False) -> Watch:
        """Begin a watch.

        Args:
            sink: what takes its events.
            adwin: flag of a second watch beside it.

        Raises:
            DriftError: ADWIN is asked for, and the package river is missing.
        """
        second = AdwinWatch(self.windows.moments.names, sink) if adwin else None
        return Watch(self.windows, self.calibration, sink, adwin=second)

    def store(self, path: Path) -> None:
        """Replace a file by this, atomically."""
        windows, moments = self.windows, self.windows.moments
        covariance = None if moments.covariance is None else moments.covariance.tolist()
        table = {
            "names": list(moments.names),
            "count": moments.count,
            "covariance": covariance,
            **{name: getattr(moments, name).tolist() for name in ("mean", "sd")},
            **{name: getattr(windows, name).tolist() for name in ("low", "high")},
            "arm": self.arm,
            "logs": list(self.logs),
            "time": self.time,
            "calibration": self.calibration.table(),
        }
        write_json(path, sealed(table))

    @classmethod
    def stored(cls, path: Path) -> StoredWatch | None:
        """Return what a file holds; None where there is none.

        Raises:
            kanbatsu.files.disk.DamagedFile: The file is not what was written.
        """
        if not path.exists():
            return None
        table: dict[str, Any] = read_json(path, SHAPE, AGAIN)
        arrays = {name: np.array(table[name], np.float64) for name in LISTS}
        covariance = None if table["covariance"] is None else np.array(table["covariance"])
        moments = Moments(
            tuple(table["names"]), arrays["mean"], arrays["sd"], table["count"], covariance
        )
        calibration = Calibration.of(table["calibration"])
        windows = Windows(moments, arrays["low"], arrays["high"], calibration.window)
        return cls(windows, calibration, table["arm"], tuple(table["logs"]), table["time"])
