"""Measures of evaluation episodes beside the return: scalars that an environment reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num

from kanbatsu.envs.spec import Environment, TaskError, Timestep
from kanbatsu.files.tables import did_you_mean

KINDS = ("mean", "sum", "last", "any")
"""Ways in which the reports of an episode become one number."""


class Measure(NamedTuple):
    """A scalar of `info`, and how an episode's reports of it become one number."""

    kind: str
    name: str


def read_measure(text: str) -> Measure:
    """Read a measure as a study file writes it.

    Args:
        text: Name of a scalar of `info`, of which an episode's mean is taken, or `sum:`, `last:` or
            `any:` (whether it was ever above 0) and the name.

    Raises:
        ValueError: It is none.

    Example:
        >>> read_measure("service_level"), read_measure("any:violation").kind
        (Measure(kind='mean', name='service_level'), 'any')
    """
    kind, colon, name = text.rpartition(":")
    if not name or (colon and kind not in KINDS):
        raise ValueError(
            f"{text!r} is no measure: write the name of a scalar of info, such as service_level, "
            f"or one of {', '.join(f'{kind}:' for kind in KINDS)} before it"
        )
    return Measure(kind or "mean", name)


class MeasuredEnvironment:
    """An environment that remembers what it reported in each episode.

    Args:
        environment: The environment.
        measures: Measures as a study file writes them.
    """

    def __init__(self, environment: Environment, measures: Sequence[str]) -> None:
        self._environment = environment
        self._measures = {text: read_measure(text) for text in measures}
        self.spec, self.action_repeat = environment.spec, environment.action_repeat
        self.close = environment.close
        self._episodes: list[dict[str, list[float]]] = []
        self._reported: set[str] = set()

    def reset(self, seed: int) -> Num[np.ndarray, "*obs"]:
        """Start an episode."""
        self._episodes.append({measure.name: [] for measure in self._measures.values()})
        return self._environment.reset(seed)

    def step(self, action: Float[np.ndarray, " action_dim"]) -> Timestep:
        """Act once, and remember what is reported."""
        timestep = self._environment.step(action)
        for name, values in self._episodes[-1].items():
            value = _scalar(timestep.info.get(name))
            if value is not None:
                values.append(value)
        self._reported.update(map(str, timestep.info))
        return timestep

    def take(self, episodes: int) -> dict[str, list[float]]:
        """Return the number of each measure in each of the first episodes, and forget them.

        Args:
            episodes: Number of episodes that have ended.

        Raises:
            TaskError: An episode reported nothing of a measure.
        """
        played, self._episodes = self._episodes[:episodes], []
        taken = {}
        for text, measure in self._measures.items():
            if any(not episode[measure.name] for episode in played):
                known = sorted(self._reported)
                raise TaskError(
                    f"measures: the environment does not report {measure.name!r} in info in every "
                    f"evaluation episode. {did_you_mean(measure.name, known) if known else ''}"
                )
            taken[text] = [_number(measure.kind, episode[measure.name]) for episode in played]
        return taken


def _scalar(value: Any) -> float | None:
    """Return a report as a number; None where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _number(kind: str, values: Iterable[float]) -> float:
    """Return one number for the reports of an episode."""
    reports = list(values)
    if kind == "any":
        return float(max(reports) > 0)
    if kind == "last":
        return reports[-1]
    total = math.fsum(reports)
    return total if kind == "sum" else total / len(reports)
