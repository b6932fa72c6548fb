"""How long a log remembers: the number of samples that are worth one independent sample."""

from __future__ import annotations

import numpy as np

SPAN = 5.0
"""Autocorrelation times over which correlations are summed, as Sokal proposes."""


def autocorrelation_times(log: np.ndarray) -> np.ndarray:
    r"""Return the integrated autocorrelation time of each column, its standard error added.

    With $\rho_k$ the correlation of samples $k$ apart, $\tau = 1 + 2 \sum_{k=1}^{M} \rho_k$, where
    $M$ is the least number that is at least `SPAN` times $\tau$. A mean over $n$ samples spreads
    like one over $n / \tau$ independent samples. The relative standard error of $\tau$ is
    $\sqrt{(4 M + 2) / n}$.

    Source: Sokal, "Monte Carlo methods in statistical mechanics", 1997, section 3.

    Args:
        log: numbers `[samples, columns]`, in their order in time.

    Returns:
        Samples, at least 1, `[columns]`; 1 where a column never moves, and a large share of the log
        where its correlations do not end within it, as those of a trend do not.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(20_000, 1))
        >>> held = np.repeat(noise[:2_000], 10, axis=0)  # each value stands ten times
        >>> autocorrelation_times(np.hstack([noise, held])).round().tolist()
        [1.0, 11.0]
    """
    return np.array([_time(column) for column in np.asarray(log, np.float64).T])


def _time(x: np.ndarray) -> float:
    count = len(x)
    centred = x - x.mean()
    if not count or np.square(centred).mean() <= 1e-24 * max(1.0, float(np.square(x).mean())):
        return 1.0
    size = 1 << (2 * count - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    covariance = np.fft.irfft(np.square(np.abs(spectrum)), size)[:count]
    times = 2.0 * np.cumsum(covariance / covariance[0]) - 1.0
    enough = np.arange(count) >= SPAN * np.maximum(times, 1.0)
    if not enough.any():
        return float(count)
    last = int(np.argmax(enough))
    return max(1.0, float(times[last])) * (1.0 + np.sqrt((4 * last + 2) / count))
