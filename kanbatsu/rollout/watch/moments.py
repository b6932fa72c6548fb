"""The moments of the observations that a policy was trained on: what drift is measured from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kanbatsu.rollout.config import RolloutError

FURTHEST = 10.0
"""Standard deviations beyond which an entry counts as this far away; NaN and infinity do too."""


class DriftError(RolloutError):
    """Drift that cannot be watched; the message says why and what to do."""


@dataclass(frozen=True)
class Moments:
    """Mean and spread of observations, by feature.

    Example:
        >>> moments = Moments.of(np.array([[0.0, 1.0], [2.0, 1.0]]), names=["level", "lamp"])
        >>> moments.standardised(np.array([[3.0, np.nan]])).tolist()
        [[2.0, 10.0]]
    """

    names: tuple[str, ...]
    """Names of the features, in their order in an observation."""
    mean: np.ndarray
    """Mean of each feature, in its own unit, `[features]`."""
    sd: np.ndarray
    """Standard deviation of each feature, in its own unit, `[features]`."""
    count: float
    """Number of observations that the moments were taken over."""
    covariance: np.ndarray | None = None
    """Covariance `[features, features]`; where it is not known they count as uncorrelated."""

    @classmethod
    def of(cls, observations: np.ndarray, names: Sequence[str] | None = None) -> Moments:
        """Take the moments of observations, covariance included.

        Args:
            observations: numbers `[samples, features]`.
            names: names of the features; `observation[0]` and so on by default.
        """
        x = np.asarray(observations, np.float64)
        named = tuple(names or (f"observation[{i}]" for i in range(x.shape[1])))
        covariance = np.atleast_2d(np.cov(x, rowvar=False, bias=True))
        return cls(named, x.mean(axis=0), x.std(axis=0), float(len(x)), covariance)

    @classmethod
    def from_contract(cls, contract: Mapping[str, Any]) -> Moments:
        """Read the moments of the training data in a bundle's contract.

        Args:
            contract: what `contract.json` holds, or its part `training_data` alone.

        Raises:
            DriftError: The contract says nothing of its training data, or its lengths disagree.

        Example:
            >>> Moments.from_contract({"mean": [0.0], "sd": [1.0], "count": 100}).names
            ('observation[0]',)
        """
        data = contract.get("training_data", contract)
        if "mean" not in data or "sd" not in data:
            why = data.get("absent", "it has no mean and sd")
            raise DriftError(
                f"the contract holds no moments of the training data ({why}): export the bundle "
                "with them, or take them from a log of the policy with Moments.of"
            )
        mean, sd = (np.asarray(data[key], np.float64) for key in ("mean", "sd"))
        names = data.get("names") or (contract.get("observation") or {}).get("names")
        named = tuple(names or (f"observation[{i}]" for i in range(mean.size)))
        if mean.shape != sd.shape or mean.ndim != 1 or len(named) != mean.size:
            raise DriftError(
                f"the contract's moments disagree: {len(named)} names, mean {mean.shape}, "
                f"sd {sd.shape}. Export the bundle again"
            )
        covariance = data.get("covariance")
        matrix = None if covariance is None else np.asarray(covariance, np.float64)
        return cls(named, mean, sd, float(data.get("count", 0)), matrix)

    def standardised(self, observations: np.ndarray) -> np.ndarray:
        """Return observations in standard deviations from the mean, at most FURTHEST away.

        Args:
            observations: numbers `[samples, features]`.

        Returns:
            float64 `[samples, features]`; finite whatever was observed.
        """
        # What never moved in training is far away as soon as it moves at all.
        scale = np.maximum(self.sd, 1e-6 * np.maximum(1.0, np.abs(self.mean)))
        z = np.nan_to_num((observations - self.mean) / scale, nan=FURTHEST)
        return np.clip(z, -FURTHEST, FURTHEST)

    def whitening(self) -> np.ndarray:
        """Return the matrix, `[features, features]`, that makes standardised features uncorrelated.

        The squared length of a row of `standardised(x) @ whitening()` is the squared Mahalanobis
        distance of an observation. A hundredth of the identity is added to the correlation, so
        that directions that hardly varied in training do not rule the distance alone.
        """
        if self.covariance is None:
            return np.eye(self.mean.size)
        sd = np.sqrt(np.maximum(np.diag(self.covariance), 1e-300))
        correlation = self.covariance / np.outer(sd, sd)
        np.fill_diagonal(correlation, 1.0)
        values, vectors = np.linalg.eigh(0.99 * correlation + 0.01 * np.eye(sd.size))
        return vectors / np.sqrt(np.maximum(values, 1e-6))
