"""ADWIN from river, as a second opinion on each feature: has it changed since service began?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kanbatsu.rollout.events import Sink, event
from kanbatsu.rollout.watch.moments import DriftError

LASTING = 50
"""Rows without a further change after which an alarm ends: what is new has become what is usual."""


class AdwinWatch:
    """A watch that knows no training data: one ADWIN for each feature.

    ADWIN (Bifet and Gavalda, "Learning from time-changing data with adaptive windowing", SIAM
    2007) compares what is recent with what came before, so it finds a change during service, and
    not a shift that was there from the start. Its bound holds for independent samples and is not
    calibrated on logs: give it rows that hardly depend on one another, such as the means of
    `kanbatsu.rollout.watch.windows`, and rely on `Watch` for a stated rate. An event of kind
    "alarm" has statistic "adwin"; it comes when a feature has changed, with `on` true, and with
    `on` false once `LASTING` rows have shown no further change.
    """

    def __init__(
        self, names: Sequence[str], sink: Sink, alpha: float = 0.05, horizon: int = 2000
    ) -> None:
        """Begin with nothing seen.

        Args:
            names: names of the features.
            sink: what takes the events.
            alpha: probability of any false alarm within the horizon that ADWIN's bound gives.
            horizon: number of rows that `alpha` is stated for.

        Raises:
            DriftError: The package river is missing.
        """
        try:
            from river.drift import ADWIN
        except ImportError as error:
            raise DriftError(
                f"ADWIN comes from the package river, which cannot be imported ({error}): "
                "pip install 'kanbatsu[rollout]'"
            ) from error
        self._names, self._sink = tuple(names), sink
        self._detectors: list[Any] = [
            ADWIN(delta=alpha / (len(self._names) * horizon), clock=1, grace_period=5)
            for _ in self._names
        ]
        self._changed: dict[str, int] = {}
        self.rows = 0
        """Rows seen so far."""

    def add(self, row: np.ndarray) -> None:
        """Take one row of features, standardised; give an event for each that has changed.

        Args:
            row: numbers `[features]`; ADWIN's bound is for a bounded range, so they are clipped at
                4 and brought to [0, 1].
        """
        self.rows += 1
        scaled = np.clip(np.nan_to_num(row, nan=4.0), -4.0, 4.0) / 8.0 + 0.5
        for name, detector, value in zip(self._names, self._detectors, scaled, strict=True):
            before = detector.estimation
            detector.update(float(value))
            after = detector.estimation
            if detector.drift_detected:
                if name not in self._changed:
                    self._tell(name, "up" if after > before else "down", True, after)
                self._changed[name] = self.rows
            elif name in self._changed and self.rows - self._changed[name] >= LASTING:
                del self._changed[name]
                self._tell(name, "up" if after > 0.5 else "down", False, after)

    def _tell(self, name: str, direction: str, on: bool, estimation: float) -> None:
        self._sink(
            event(
                "alarm",
                statistic="adwin",
                feature=name,
                direction=direction,
                on=on,
                value=float(8.0 * estimation - 4.0),
                threshold=None,
                samples=self.rows,
            )
        )
