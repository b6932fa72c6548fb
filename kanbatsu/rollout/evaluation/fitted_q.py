r"""Fitted Q evaluation: a linear model of the candidate's values, fitted to its own expectations.

$w \leftarrow \arg\min_u \sum (r + \gamma\, E_{a' \sim \pi} \phi(s', a')^\top w - \phi(s, a)^\top
u)^2 + \lambda |u|^2$, repeated; what follows an episode's last step is 0. Source: Le, Voloshin and
Yue, "Batch policy learning under constraints", ICML 2019, algorithm 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kanbatsu.rollout.evaluation.candidates import Candidate, Features
from kanbatsu.rollout.evaluation.log import Log, LogError

DOUBLINGS = 14
"""Doublings of the number of repetitions of the fit at most: 16,384 of them; it ends before, where
the weights no longer move."""

RIDGE = 1e-9
"""Ridge, as a share of the mean square of the features."""

WAVES = 32
"""Random Fourier features of the default basis."""


@dataclass(frozen=True)
class Sums:
    """What a fit needs of some episodes: products of features, summed over steps."""

    square: np.ndarray
    """Features with themselves, `[..., basis, basis]`."""
    next: np.ndarray
    """Features with the candidate's at the next step, `[..., basis, basis]`."""
    reward: np.ndarray
    """Features with rewards, `[..., basis]`."""
    first: np.ndarray
    """The candidate's features at first steps, `[..., basis]`."""
    episodes: np.ndarray
    """Number of episodes, `[...]`."""

    def of(self, counts: np.ndarray) -> Sums:
        """Return the sums over groups, each as often as `counts` `[groups]` says."""
        parts = (self.square, self.next, self.reward, self.first, self.episodes)
        # Not tensordot: its many small products would each be spread over threads.
        return Sums(*(np.asarray(np.einsum("g,g...->...", counts, part)) for part in parts))

    def fit(self, discount: float) -> np.ndarray:
        """Return the weights `[basis]` that the repeated fit ends at.

        Raises:
            LogError: The fit runs away.
        """
        size = len(self.reward)
        ridge = RIDGE * max(float(np.trace(self.square)) / size, 1e-12)
        both = np.column_stack([self.next, self.reward])
        solved = np.linalg.solve(self.square + ridge * np.eye(size), both)
        power, weights = discount * solved[:, :-1], solved[:, -1]
        # Repeating w <- b + M w for n times gives the sum of M^k b; each turn here doubles n.
        for _ in range(DOUBLINGS):
            added = power @ weights
            weights = weights + added
            moved, size_now = float(np.abs(added).max()), float(np.abs(weights).max())
            if moved <= 1e-10 * (1.0 + size_now):
                return weights
            if not moved <= 1e12:
                break
            power = power @ power
        raise LogError("the fitted values run away: the basis does not fit this log")

    def value(self, weights: np.ndarray) -> float:
        """Return the candidate's mean value at first steps."""
        return float(self.first @ weights / self.episodes)


@dataclass(frozen=True)
class Rows:
    """Features of every step of a log, and of the candidate's own actions there."""

    taken: np.ndarray
    """Features of the actions that were taken, `[steps, basis]`."""
    own: np.ndarray
    """Mean features of the candidate's own actions, `[steps, basis]`."""

    @classmethod
    def of(cls, log: Log, candidate: Candidate, features: Features) -> Rows:
        """Compute the features of a log."""
        taken = features(log.observations, log.steps, log.actions)
        return cls(taken, candidate.expected(log.observations, log.steps, features))

    def sums(self, log: Log, groups: np.ndarray) -> Sums:
        """Sum over the episodes of each group.

        Args:
            log: the log.
            groups: number of each episode's group, `[episodes]`.
        """
        after = np.zeros_like(self.own)
        after[:-1] = self.own[1:]
        after[log.first[1:] - 1] = 0.0
        after[-1] = 0.0
        by_row = np.repeat(groups, log.lengths)
        parts = []
        for group in range(int(groups.max()) + 1):
            at, own = by_row == group, self.own[log.first[groups == group]]
            taken = self.taken[at]
            parts.append(
                (
                    taken.T @ taken,
                    taken.T @ after[at],
                    taken.T @ log.rewards[at],
                    own.sum(axis=0),
                    np.float64(len(own)),
                )
            )
        return Sums(*(np.stack(part) for part in zip(*parts, strict=True)))


def default_features(log: Log, choices: int = 0, seed: int = 0) -> Features:
    """Return a basis for a log: constant, linear, and random Fourier features of a Gaussian kernel.

    The share of the longest episode that is over is one of its inputs. Each choice has a basis of
    its own; actions that are no choices are inputs too.

    Args:
        log: the log, for means and spreads.
        choices: number of choices; 0 where actions are none.
        seed: seed of the Fourier features.

    Source:
        Rahimi and Recht, "Random features for large-scale kernel machines", NIPS 2007.
    """
    longest = max(int(log.lengths.max()) - 1, 1)

    def inputs(observations: np.ndarray, steps: np.ndarray, actions: np.ndarray) -> np.ndarray:
        own = [] if choices else [actions.reshape(len(steps), -1)]
        return np.column_stack([observations, steps / longest, *own])

    table = inputs(log.observations, log.steps, log.actions)
    mean, sd = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-8)
    rng = np.random.default_rng(seed)
    size = table.shape[1]
    frequencies = rng.normal(size=(size, WAVES)) / np.sqrt(size)
    phases = rng.uniform(0.0, 2 * np.pi, WAVES)

    def features(observations: np.ndarray, steps: np.ndarray, actions: np.ndarray) -> np.ndarray:
        z = (inputs(observations, steps, actions) - mean) / sd
        waves = np.sqrt(2.0 / WAVES) * np.cos(z @ frequencies + phases)
        basis = np.column_stack([np.ones(len(z)), z, waves])
        if not choices:
            return basis
        chosen = np.arange(choices) == np.asarray(actions)[:, None]
        return (chosen[:, :, None] * basis[:, None, :]).reshape(len(z), -1)

    return features
