"""A bounded correction of an incumbent's action: the same sum in training and in service."""

from __future__ import annotations

import numpy as np


def corrected(
    base: np.ndarray, correction: np.ndarray, bound: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return an incumbent's action plus a bounded correction, within what the actuators can do.

    Args:
        base: action of the incumbent, `[action_dim]`.
        correction: what is added to it, in the same units.
        bound: largest size of each entry of the correction, positive.
        low: lowest value of each actuator.
        high: highest value of each actuator.

    Returns:
        The sum, between `low` and `high`; a NaN in either stays one.

    Example:
        >>> base, bound, one = np.array([0.5, -0.95]), np.array([0.1, 0.1]), np.ones(2)
        >>> corrected(base, np.array([0.05, -9.0]), bound, -one, one).tolist()
        [0.55, -1.0]
    """
    total = base + np.minimum(np.maximum(correction, -bound), bound)
    return np.minimum(np.maximum(total, low), high)
