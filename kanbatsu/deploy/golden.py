"""Golden pairs: observations and the actions that a policy must give for them, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kanbatsu.deploy.compute import run
from kanbatsu.deploy.contract import Moments
from kanbatsu.deploy.entry import Entry, PolicyError
from kanbatsu.deploy.layers import Choose, Layer, with_dense_weights

PAIRS, PAIRS_OF_IMAGES, CANDIDATES, SEED = 16, 4, 64, 0
TOLERANCE = 1e-4
"""Largest difference of actions, in halves of their range, that is taken for rounding."""
Function = Callable[[np.ndarray], np.ndarray]


def draw(
    obs_dim: int,
    moments: Moments | None,
    low: Sequence[float | None] | None,
    high: Sequence[float | None] | None,
    pairs: int = PAIRS,
    pixels: bool = False,
) -> tuple[np.ndarray, str]:
    """Draw observations like those of training, the same at every call.

    Args:
        obs_dim: length of an observation.
        moments: of the training data; without them, the range is drawn from, and without a
            range a standard Gaussian.
        low: lowest values; draws lie above them.
        high: highest values likewise.
        pairs: number of observations.
        pixels: flag of observations of whole numbers from 0 to 255.

    Returns:
        float32 `[pairs, obs_dim]`, and where they were drawn from.

    Example:
        >>> observations, source = draw(1, None, [0.0], [1.0])
        >>> observations.shape, source
        ((16, 1), 'range')
    """
    rng = np.random.default_rng(SEED)
    if pixels:
        return rng.integers(0, 256, (pairs, obs_dim)).astype(np.float32), "pixels"
    bottom, top = _filled(low, obs_dim, -np.inf), _filled(high, obs_dim, np.inf)
    if moments is not None:
        x = moments.mean + moments.sd * rng.standard_normal((pairs, obs_dim))
        source = moments.source
    elif np.isfinite(bottom).all() and np.isfinite(top).all():
        x, source = rng.uniform(bottom, top, (pairs, obs_dim)), "range"
    else:
        x, source = rng.standard_normal((pairs, obs_dim)), "standard Gaussian"
    return np.clip(x, bottom, top).astype(np.float32), source


def clearest(layers: Sequence[Layer], candidates: np.ndarray, pairs: int = PAIRS) -> np.ndarray:
    """Return the observations for golden pairs among candidates: the first, or the clearest.

    Where a policy chooses, rounding may turn a near tie: those are taken whose best scores lead
    most.

    Args:
        layers: the policy.
        candidates: float32 `[candidates, obs_dim]`.
        pairs: number of observations to take.
    """
    end = layers[-1]
    if not isinstance(end, Choose):
        return candidates[:pairs]
    scores = run(with_dense_weights(layers[:-1]), candidates)
    leads = np.full(len(candidates), np.inf)
    for row in np.split(scores, np.cumsum(end.sizes)[:-1], axis=-1):
        if row.shape[-1] > 1:
            second, best = np.sort(row, axis=-1)[:, -2:].T
            leads = np.minimum(leads, best - second)
    return candidates[np.sort(np.argsort(-leads, kind="stable")[:pairs])]


def _filled(values: Sequence[float | None] | None, size: int, empty: float) -> np.ndarray:
    if values is None:
        return np.full(size, empty)
    return np.array([empty if value is None else value for value in values], float)


def difference(actions: np.ndarray, wanted: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Return the largest difference of two sets of actions.

    Args:
        actions: `[pairs, action_dim]`.
        wanted: the same shape.
        low: lowest value of each entry, or -inf.
        high: highest value, or inf.

    Returns:
        The difference in halves of an entry's range; of an entry without bounds, in its largest
        size among `wanted`, or 1. NaN if an action is.

    Example:
        >>> one = np.ones((1, 1))
        >>> difference(one, 2 * one, -4 * one[0], 4 * one[0])
        0.25
    """
    actions, wanted = (np.asarray(a, np.float64).reshape(-1, low.size) for a in (actions, wanted))
    return float((np.abs(actions - wanted) / scale_of(wanted, low, high)).max())


def scale_of(wanted: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return what a difference of actions is measured in, entry by entry, as `difference` says.

    Example:
        >>> zero, three = np.zeros(1), 3 * np.ones(1)
        >>> scale_of(three[None], zero, three), scale_of(three[None], zero, np.inf * three)
        (array([1.5]), array([3.]))
    """
    half = high.astype(np.float64) / 2 - low.astype(np.float64) / 2
    size = np.maximum(np.abs(wanted).max(axis=0), 1.0)
    return np.where(np.isfinite(half) & (half > 0), half, size)


def check_golden(
    contract: Mapping[str, Any], act: Function, low: np.ndarray, high: np.ndarray
) -> None:
    """Compute the golden pairs of a contract again, and compare.

    Args:
        contract: as it was read.
        act: the policy, from `[pairs, obs_dim]` to `[pairs, action_dim]`.
        low: lowest value of each entry of an action.
        high: highest value likewise.

    Raises:
        PolicyError: an action differs by more than the contract's tolerance.
    """
    entry = Entry("the golden pairs", contract.get("golden"), {})
    sides = [Entry(f"{name} of the contract", contract.get(name), {}) for name in SIDES]
    obs_dim, action_dim = (side.integer("size") for side in sides)
    observations = entry.rows("observations", obs_dim)
    wanted = entry.rows("actions", action_dim)
    if len(observations) != len(wanted):
        raise PolicyError("the golden pairs have another number of observations than of actions")
    tolerance = entry.number("tolerance")
    actions = act(observations)
    error = difference(actions, wanted, low, high)
    if not error <= tolerance:
        raise PolicyError(
            f"the golden pairs are not met: actions differ by {error:.3g} halves of their range, "
            f"and {tolerance:.3g} is allowed. Weights, normaliser or the order of entries are not "
            "those that were exported"
        )


SIDES = ("observation", "action")
