"""What is evaluated: a policy that says how probable its actions are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from kanbatsu.rollout.evaluation.log import LogError
from kanbatsu.rollout.policy.load import load_policy

Features = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Function of observations `[n, features]`, steps `[n]` and actions, to `[n, basis]`."""


@runtime_checkable
class Candidate(Protocol):
    """A policy that can be evaluated from the logs of another."""

    def probability(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return the probability, or density, `[n]` of actions that were logged."""
        ...

    def expected(
        self, observations: np.ndarray, steps: np.ndarray, features: Features
    ) -> np.ndarray:
        """Return the mean `[n, basis]` of features over the candidate's own actions."""
        ...


class Choices:
    """A policy that chooses among numbered actions.

    Args:
        function: from observations `[n, features]` to probabilities `[n, choices]`.

    Example:
        >>> uniform = Choices(lambda observations: np.full((len(observations), 2), 0.5))
        >>> uniform.probability(np.zeros((3, 1)), np.array([0, 1, 1]))
        array([0.5, 0.5, 0.5])
    """

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        self._function = function

    def probabilities(self, observations: np.ndarray) -> np.ndarray:
        """Return the probabilities `[n, choices]` of every choice.

        Raises:
            LogError: They are no probabilities.
        """
        table = np.asarray(self._function(observations), np.float64)
        if table.ndim != 2 or len(table) != len(observations):
            raise LogError(
                f"the candidate gives {list(table.shape)} for {len(observations)} observations: "
                "probabilities [observations, choices] are wanted"
            )
        if not np.isfinite(table).all() or (table < 0).any():
            raise LogError("the candidate gives probabilities that are negative or not finite")
        if np.abs(table.sum(axis=1) - 1.0).max(initial=0.0) > 1e-4:
            raise LogError("the candidate's probabilities of one observation do not add up to 1")
        return table

    def probability(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return the probability `[n]` of choices that were logged."""
        table = self.probabilities(observations)
        if actions.min(initial=0) < 0 or actions.max(initial=0) >= table.shape[1]:
            raise LogError(
                f"the log holds the choices {actions.min()} to {actions.max()}, and the candidate "
                f"knows 0 to {table.shape[1] - 1}"
            )
        taken: np.ndarray = table[np.arange(len(actions)), actions]
        return taken

    def expected(
        self, observations: np.ndarray, steps: np.ndarray, features: Features
    ) -> np.ndarray:
        """Return the sum of features over every choice, weighted by its probability."""
        table = self.probabilities(observations)
        return np.asarray(
            sum(
                table[:, [choice]] * features(observations, steps, np.full(len(steps), choice))
                for choice in range(table.shape[1])
            )
        )


class Density:
    """A policy that draws actions which are no choices.

    Args:
        density: from observations `[n, features]` and actions `[n, entries]` to densities `[n]`.
        draw: from observations and a generator of random numbers to actions `[n, entries]`.
        draws: actions that means over the policy are taken over.
        seed: seed of these draws.
    """

    def __init__(
        self,
        density: Callable[[np.ndarray, np.ndarray], np.ndarray],
        draw: Callable[[np.ndarray, np.random.Generator], np.ndarray],
        draws: int = 16,
        seed: int = 0,
    ) -> None:
        self._density, self._draw, self._draws, self._seed = density, draw, draws, seed

    def probability(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return the density `[n]` of actions that were logged."""
        return np.asarray(self._density(observations, actions), np.float64)

    def expected(
        self, observations: np.ndarray, steps: np.ndarray, features: Features
    ) -> np.ndarray:
        """Return the mean of features over actions that are drawn."""
        rng = np.random.default_rng(self._seed)
        drawn = (self._draw(observations, rng) for _ in range(self._draws))
        return np.asarray(sum(features(observations, steps, a) for a in drawn)) / self._draws


def read_candidate(name: str) -> Candidate:
    """Return the candidate that a name stands for.

    Args:
        name: folder of an exported policy that chooses; or `package.module:factory`, where
            `factory()` returns a `Candidate`, or a function from observations `[n, features]` to
            probabilities `[n, choices]`.

    Raises:
        LogError: The policy gives actions that are no choices, and no probabilities.
        kanbatsu.rollout.config.RolloutError: There is no such policy.
    """
    policy: Any = load_policy(name)
    if isinstance(policy, Candidate):
        return policy
    if not Path(name).is_dir():
        return Choices(policy)
    low, high = int(policy.low[0]), policy.high
    if policy(np.zeros((1, policy.obs_dim))).dtype.kind != "i" or len(high) != 1:
        raise LogError(
            f"not evaluable: {name} gives one action for each observation, and no probability of "
            "any other. Name package.module:factory of a policy that draws its actions (a Density)"
        )
    size = int(high[0]) - low + 1
    return Choices(lambda observations: np.eye(size)[np.asarray(policy(observations)) - low])
