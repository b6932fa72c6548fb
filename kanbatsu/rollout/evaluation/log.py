"""A log of whole episodes, with the probability of every action under the policy that took it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.rollout.config import RolloutError

NAMES = ("observations", "actions", "rewards", "episodes", "probabilities")
"""Arrays of a log; in JSON lines the key is the singular."""

SINGULAR = {
    "observations": "observation",
    "actions": "action",
    "rewards": "reward",
    "episodes": "episode",
    "probabilities": "probability",
}


class LogError(RolloutError):
    """A log that cannot be evaluated from; the message says why and what to do."""


@dataclass(frozen=True)
class Log:
    """Steps of whole episodes, one after another.

    Raises:
        LogError: Lengths that disagree, or numbers that are not finite.

    Example:
        >>> one = np.ones(3)
        >>> Log(np.zeros((3, 1)), one.astype(int), one, one / 2, lengths=np.array([2, 1])).episodes
        2
    """

    observations: np.ndarray
    """Observations `[steps, features]`."""
    actions: np.ndarray
    """Actions: whole numbers `[steps]` of choices, or numbers `[steps, entries]`."""
    rewards: np.ndarray
    """Rewards `[steps]`."""
    probabilities: np.ndarray
    """Probability `[steps]` of each action, given its observation, under the policy that took it; a
    density where actions are not choices."""
    lengths: np.ndarray
    """Number of steps of each episode, `[episodes]`."""

    def __post_init__(self) -> None:
        steps = int(self.lengths.sum())
        columns = ("observations", "actions", "rewards", "probabilities")
        for name in columns:
            array = getattr(self, name)
            if len(array) != steps:
                raise LogError(f"{name} has {len(array):,} rows, and the episodes {steps:,} steps")
            if not np.isfinite(array).all():
                at = int(np.flatnonzero(~np.isfinite(array.reshape(steps, -1)).all(axis=1))[0])
                raise LogError(f"{name} holds a number that is not finite, first in row {at}")
        if not steps or (self.lengths < 1).any():
            raise LogError("the log holds no steps, or an episode without any")
        if (self.probabilities <= 0).any():
            at = int(np.flatnonzero(self.probabilities <= 0)[0])
            raise LogError(
                f"probabilities[{at}] is {self.probabilities[at]:g}: an action that was taken had "
                "a positive probability. Log what the policy drew it with"
            )
        if self.choices and (self.probabilities > 1).any():
            raise LogError("a probability of a choice is above 1: log probabilities, not scores")

    @property
    def choices(self) -> bool:
        """Whether actions are choices: whole numbers."""
        return self.actions.ndim == 1 and self.actions.dtype.kind in "iu"

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(self.lengths)

    @property
    def first(self) -> np.ndarray:
        """Row of the first step of each episode."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]])

    @property
    def steps(self) -> np.ndarray:
        """Number of each row's step within its episode, from 0."""
        return np.arange(len(self.rewards)) - np.repeat(self.first, self.lengths)

    def padded(self, values: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """Return values `[steps]` as `[episodes, longest]`, filled after each episode's end."""
        table = np.full((self.episodes, int(self.lengths.max())), fill)
        table[np.repeat(np.arange(self.episodes), self.lengths), self.steps] = values
        return table


def read_log(path: Path) -> Log:
    """Read a log: arrays that `numpy.savez` wrote, or JSON lines with one step each.

    Args:
        path: `.npz` with the arrays `observations`, `actions`, `rewards`, `episodes` (the number of
            each step's episode) and `probabilities`; or JSON lines with `observation`, `action`,
            `reward`, `episode` and `probability`.

    Raises:
        LogError: Something is missing or does not fit; without probabilities nothing can be said.
        FileNotFoundError: There is no such file.
    """
    table = _arrays(path) if path.suffix == ".npz" else _lines(path)
    if "probabilities" not in table:
        raise LogError(
            f"not evaluable: {path} holds no probabilities of its actions. What another policy "
            "would have done can be told only from a policy that drew its actions, and logged "
            "with which probability: run one, or go by a canary"
        )
    missing = [name for name in NAMES if name not in table]
    if missing:
        raise LogError(f"{path} holds no {', '.join(missing)}: {', '.join(NAMES)} are wanted")
    numbers = np.asarray(table["episodes"])
    begins = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 1))
    if len(np.unique(numbers)) != len(begins):
        raise LogError(f"{path}: the steps of an episode must stand together, in their order")
    return Log(
        np.asarray(table["observations"], np.float64).reshape(len(numbers), -1),
        np.asarray(table["actions"]),
        np.asarray(table["rewards"], np.float64),
        np.asarray(table["probabilities"], np.float64),
        np.diff(begins, append=len(numbers)),
    )


def _arrays(path: Path) -> dict[str, Any]:
    try:
        with np.load(path) as stored:
            return {name: stored[name] for name in NAMES if name in stored}
    except (ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise LogError(f"{path} holds no arrays that can be read ({error})") from error


def _lines(path: Path) -> dict[str, Any]:
    table: dict[str, list[Any]] = {name: [] for name in NAMES}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            step = json.loads(line)
            for name in NAMES:
                if SINGULAR[name] in step:
                    table[name].append(step[SINGULAR[name]])
        except (ValueError, TypeError) as error:
            raise LogError(f"{path}, line {number}, is no step of a log ({error})") from error
    sizes = {name: len(values) for name, values in table.items() if values}
    if len(set(sizes.values())) > 1:
        raise LogError(f"{path}: some lines lack a key that others have: {sizes}")
    try:
        return {name: np.array(table[name]) for name in sizes}
    except ValueError as error:
        raise LogError(f"{path}: rows have different lengths ({error})") from error
