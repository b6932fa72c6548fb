"""A bounded correction of an incumbent's action: the same sum in training and in service."""

from __future__ import annotations

import numpy as np


def corrected(base: np.ndarray, correction: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Return an incumbent's action plus a correction, each entry of which is bounded.

    Args:
        base: action of the incumbent, `[action_dim]`.
        correction: what is added to it, in the same units.
        bound: largest size of each entry of the correction, positive.

    Returns:
        The sum; a NaN in either stays one. Whoever acts keeps it inside the actuators' bounds.

    Example:
        >>> corrected(np.array([0.5, -1.0]), np.array([0.05, 9.0]), np.array([0.1, 0.1])).tolist()
        [0.55, -0.9]
    """
    return base + np.minimum(np.maximum(correction, -bound), bound)
