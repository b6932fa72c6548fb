"""Watches what a policy sees and does in full service, and raises calibrated alarms."""

from __future__ import annotations

import numpy as np

from kanbatsu.rollout.events import Sink, event
from kanbatsu.rollout.watch.adwin import AdwinWatch
from kanbatsu.rollout.watch.calibrate import LARGEST, Calibration, advance
from kanbatsu.rollout.watch.moments import DriftError
from kanbatsu.rollout.watch.windows import STATISTICS, Windows


class Watch:
    """A watch over drift: samples in, events of kind "drift" and "alarm" out.

    An event of kind "drift" holds, for each statistic, its highest sum as a share of the threshold
    (1 is an alarm), the feature that has it, and `samples`, the number of samples so far. An event
    of kind "alarm" comes once when a sum crosses its threshold (`on` true) and once when it has
    fallen below half of it (`on` false), with `statistic`, `feature`, `direction`, `value`,
    `threshold` and `samples`.

    Example:
        >>> from kanbatsu.rollout.watch.calibrate import calibrate
        >>> from kanbatsu.rollout.watch.moments import Moments
        >>> rng = np.random.default_rng(0)
        >>> draw = lambda count, off: (rng.normal(off, 1, (count, 1)), np.zeros((count, 1)))
        >>> moments = Moments.of(draw(10_000, 0)[0], names=["level"])
        >>> windows = Windows(moments, low=np.array([-1.0]), high=np.array([1.0]))
        >>> calibration = calibrate(windows, *draw(20_000, 0), draws=400)
        >>> events = []
        >>> watch = Watch(windows, calibration, events.append)
        >>> watch.extend(*draw(400, 3.0))
        >>> ("shift", "level") in watch.alarms, events[0]["kind"], events[0]["on"]
        (True, 'alarm', True)
    """

    def __init__(
        self,
        windows: Windows,
        calibration: Calibration,
        sink: Sink,
        every: int = 20,
        adwin: AdwinWatch | None = None,
    ) -> None:
        """Begin with nothing seen.

        Args:
            windows: how samples become rows; as in the calibration.
            calibration: thresholds, from `calibrate`.
            sink: what takes the events.
            every: windows from one event of kind "drift" to the next.
            adwin: second watch, which is given the features of each row.

        Raises:
            DriftError: The calibration was made for other windows.
        """
        self._columns = windows.columns
        if calibration.window != windows.size or len(calibration.center) != len(self._columns):
            raise DriftError(
                f"the calibration is of windows of {calibration.window} samples with "
                f"{len(calibration.center)} columns, and these have {windows.size} samples and "
                f"{len(self._columns)} columns: calibrate again"
            )
        self._windows, self._sink, self._every, self._adwin = windows, sink, every, adwin
        self._center = np.array(calibration.center)
        self._unit = np.array(calibration.unit)
        self._groups = [statistic for statistic, _ in self._columns]
        self._thresholds = np.array([calibration.thresholds[group] for group in self._groups])
        self._sums = np.zeros((2, len(self._columns)))
        self._on = np.zeros((2, len(self._columns)), bool)
        self._begun = np.zeros((0, len(self._columns)))
        self.samples = 0
        """Samples seen so far, in whole windows."""

    @property
    def alarms(self) -> list[tuple[str, str]]:
        """Statistic and feature of every alarm that is on."""
        return [self._columns[i] for i in np.flatnonzero(self._on.any(axis=0))]

    def extend(self, observations: np.ndarray, actions: np.ndarray) -> None:
        """Take samples; give events at the end of each window.

        Args:
            observations: numbers `[samples, features]`, as the policy saw them, in their order.
            actions: numbers `[samples, actions]`, as they were acted on.
        """
        samples = np.concatenate([self._begun, self._windows.samples(observations, actions)])
        for row in self._windows.means(samples):
            self.samples += self._windows.size
            self._take(row)
        self._begun = samples[len(samples) // self._windows.size * self._windows.size :]

    def _take(self, row: np.ndarray) -> None:
        self._sums = advance(self._sums, (row - self._center) / self._unit, self._groups)
        # A sum that has no end would take as long to come down as the drift had lasted.
        np.minimum(self._sums, self._thresholds + LARGEST, out=self._sums)
        share = self._sums / self._thresholds
        on = np.where(self._on, share > 0.5, share > 1.0)
        for side, column in np.argwhere(on != self._on):
            self._alarm(int(side), int(column), bool(on[side, column]))
        self._on = on
        if self._adwin is not None:
            self._adwin.add(row[: self._groups.count("shift")])
        if self.samples // self._windows.size % self._every == 0:
            self._report(share.max(axis=0))

    def _alarm(self, side: int, column: int, on: bool) -> None:
        statistic, feature = self._columns[column]
        self._sink(
            event(
                "alarm",
                statistic=statistic,
                feature=feature,
                direction=("up", "down")[side],
                on=on,
                value=float(self._sums[side, column]),
                threshold=float(self._thresholds[column]),
                samples=self.samples,
            )
        )

    def _report(self, share: np.ndarray) -> None:
        shares: dict[str, float | str] = {}
        for statistic in STATISTICS:
            columns = [i for i, group in enumerate(self._groups) if group == statistic]
            if columns:
                highest = max(columns, key=lambda i: share[i])
                shares[statistic] = float(share[highest])
                shares[f"{statistic}_feature"] = self._columns[highest][1]
        self._sink(event("drift", **shares, samples=self.samples))
