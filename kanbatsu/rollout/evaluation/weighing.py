r"""Importance weights by step: per-decision, weighted, doubly robust.

With $\rho_{0:t} = \prod_{k \le t} \pi(a_k|s_k) / \mu(a_k|s_k)$, and $\hat Q$, $\hat V$ zero where
there is no model, every estimate here is

$$ \sum_t \gamma^t \Bigl[ \sum_i w^i_t \, (r^i_t - \hat Q(s^i_t, a^i_t))
   + \sum_i w^i_{t-1} \, \hat V(s^i_t) \Bigr], $$

$w^i_t = \rho^i_{0:t} / n$, or $\rho^i_{0:t} / \sum_j \rho^j_{0:t}$ where it is weighted. Sources:
Precup, Sutton and Singh, "Eligibility traces for off-policy policy evaluation", ICML 2000; Jiang
and Li, "Doubly robust off-policy value evaluation for reinforcement learning", ICML 2016; Thomas
and Brunskill, "Data-efficient off-policy policy evaluation for reinforcement learning", ICML 2016.
"""

from __future__ import annotations

import numpy as np

from kanbatsu.rollout.evaluation.log import Log


def cumulative(log: Log, ratios: np.ndarray) -> np.ndarray:
    """Return the products of ratios up to each step, `[episodes, longest]`.

    Args:
        log: the log.
        ratios: probability under the candidate by that under the logging policy, `[steps]`.

    Returns:
        The products; after an episode's end its last one, as of a state that it never leaves.
    """
    return np.cumprod(log.padded(ratios, fill=1.0), axis=1)


def effective_episodes(products: np.ndarray) -> float:
    """Return how many episodes of the candidate itself would tell as much (Kish).

    Args:
        products: as `cumulative` returns them.

    Example:
        >>> effective_episodes(np.array([[1.0], [1.0], [0.0], [0.0]]))
        2.0
    """
    last = products[:, -1]
    squares = float(np.square(last).sum())
    return float(last.sum()) ** 2 / squares if squares else 0.0


def weigh(
    log: Log,
    products: np.ndarray,
    counts: np.ndarray,
    discount: float,
    *,
    weighted: bool,
    q: np.ndarray | None = None,
    v: np.ndarray | None = None,
) -> np.ndarray:
    """Return the estimate, for each of several resamples of the episodes.

    Args:
        log: the log.
        products: as `cumulative` returns them.
        counts: how often each episode stands in each resample, `[resamples, episodes]`.
        discount: of rewards, from step to step.
        weighted: divide by the sum of the weights of a step, instead of by the number of episodes.
        q: model of the value of each logged action, `[steps]`.
        v: model of the candidate's value at each logged observation, `[steps]`.

    Returns:
        One number for each resample.
    """
    discounts = discount ** np.arange(products.shape[1])
    left = log.padded(log.rewards if q is None else log.rewards - q) * discounts
    total = _mean(counts, products, left, weighted)
    if v is not None:
        before = np.hstack([np.ones((log.episodes, 1)), products[:, :-1]])
        total = total + _mean(counts, before, log.padded(v) * discounts, weighted)
    return total


def _mean(
    counts: np.ndarray, weights: np.ndarray, values: np.ndarray, weighted: bool
) -> np.ndarray:
    above = counts @ (weights * values)
    below = counts @ weights if weighted else counts.sum(axis=1, keepdims=True)
    # Where no episode of a resample has any weight left, nothing is added.
    divided = np.divide(
        above, below, out=np.zeros_like(above), where=np.broadcast_to(below > 0, above.shape)
    )
    total: np.ndarray = divided.sum(axis=1)
    return total
