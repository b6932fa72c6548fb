"""The answer: what a candidate would return, with intervals; or that the log cannot tell."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from kanbatsu.rollout.evaluation.candidates import Candidate, Choices, Features
from kanbatsu.rollout.evaluation.fitted_q import Rows, Sums, default_features
from kanbatsu.rollout.evaluation.log import Log, LogError
from kanbatsu.rollout.evaluation.weighing import cumulative, effective_episodes, weigh

LEAST_SHARE = 0.1
"""Share of the episodes that the effective number of them must reach."""

LEAST_EPISODES = 20
"""Episodes that a log must hold: a bootstrap of fewer says little."""

LEAST_MASS = 0.02
"""Share of the candidate's actions that may lie outside the support without a refusal."""

GROUPS = 100
"""Groups of episodes at most that the bootstrap of the fitted values is over."""


@dataclass(frozen=True)
class Estimate:
    """A return with its interval."""

    name: str
    """Name of the estimator."""
    value: float
    """Mean return of an episode."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""


@dataclass(frozen=True)
class Evaluation:
    """Answer of an off-policy evaluation."""

    refused: str
    """Why the log cannot tell; empty where it can."""
    estimates: tuple[Estimate, ...]
    """Estimates of the candidate's return; none where it is refused."""
    logged: Estimate
    """Mean return of the logging policy's own episodes."""
    episodes: int
    """Number of episodes in the log."""
    effective: float
    """Number of episodes of the candidate itself that would tell as much."""
    covered: float
    """Share of the candidate's actions that the logging policy might have taken, by the mean of the
    ratios of probabilities; above 1 by more than chance where logged probabilities are wrong."""


def evaluate(
    log: Log,
    candidate: Candidate,
    *,
    discount: float = 1.0,
    level: float = 0.95,
    draws: int = 1_000,
    seed: int = 0,
    features: Features | None = None,
) -> Evaluation:
    """Estimate what a candidate would return, from the log of another policy.

    It is refused where the logging policy did not draw its actions, where too few episodes are left
    in effect, and where the candidate does what the logging policy never does.

    Args:
        log: whole episodes.
        candidate: policy that says how probable its actions are.
        discount: of rewards, from step to step.
        level: of the intervals, from a bootstrap over episodes.
        draws: resamples of the bootstrap.
        seed: seed of resamples and folds.
        features: basis of the fitted values; `default_features` by default.

    Raises:
        LogError: The candidate does not fit the log.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> arms = rng.integers(2, size=500)
        >>> log = Log(np.zeros((500, 1)), arms, 1.0 * arms, np.full(500, 0.5), np.ones(500, int))
        >>> candidate = Choices(lambda observations: np.tile([0.2, 0.8], (len(observations), 1)))
        >>> answer = evaluate(log, candidate, draws=200)
        >>> answer.refused, [estimate.name for estimate in answer.estimates][1::2]
        ('', ['weighted per-decision', 'weighted doubly robust'])
        >>> [round(estimate.value, 1) for estimate in answer.estimates][1:]
        [0.8, 0.8, 0.8, 0.8]
    """
    if not 0.0 < discount <= 1.0 or not 0.0 < level < 1.0:
        raise LogError("discount must lie in (0, 1], and level between 0 and 1, exclusively")
    if log.choices != isinstance(candidate, Choices):
        raise LogError(
            "the log's actions are choices (whole numbers), and the candidate gives a density"
            if log.choices
            else "the log's actions are no whole numbers, and the candidate gives probabilities of "
            "choices: give a Density"
        )
    rng = np.random.default_rng(seed)
    ratios = candidate.probability(log.observations, log.actions) / log.probabilities
    products = cumulative(log, ratios)
    groups = rng.permutation(log.episodes) % min(GROUPS, log.episodes)
    without = (groups != np.arange(groups.max() + 1)[:, None]).astype(float)
    counts = _resamples(log.episodes, without, draws, rng)
    estimate = functools.partial(_estimate, left_out=len(without), level=level)
    own = weigh(log, np.ones_like(products), counts, discount, weighted=False)
    effective, covered = effective_episodes(products), float(ratios.mean())
    known = (estimate("logged", own), log.episodes, effective, covered)
    refused = _refusal(log, ratios, effective)
    if refused:
        return Evaluation(refused, (), *known)
    one = log.observations[:1]
    count = candidate.probabilities(one).shape[1] if isinstance(candidate, Choices) else 0
    basis = features or default_features(log, count, seed)
    rows = Rows.of(log, candidate, basis)
    try:
        q, v = _crossed(log, rows, discount, rng)
        fitted = _fitted(rows.sums(log, groups), discount, draws, rng)
    except LogError as error:
        return Evaluation(str(error), (), *known)
    values = {
        "per-decision": weigh(log, products, counts, discount, weighted=False),
        "weighted per-decision": weigh(log, products, counts, discount, weighted=True),
        "doubly robust": weigh(log, products, counts, discount, weighted=False, q=q, v=v),
        "weighted doubly robust": weigh(log, products, counts, discount, weighted=True, q=q, v=v),
        "fitted Q": fitted,
    }
    estimates = tuple(estimate(name, value) for name, value in values.items())
    return Evaluation("", estimates, *known)


def _refusal(log: Log, ratios: np.ndarray, effective: float) -> str:
    """Return why the log cannot tell what the candidate would return; empty where it can."""
    if log.choices and (log.probabilities >= 1 - 1e-6).all():
        return (
            "the logging policy is deterministic: every logged action had probability 1, so that "
            "nothing is known of any other. Log a policy that draws its actions, or go by a canary"
        )
    if log.episodes < LEAST_EPISODES:
        return f"the log holds {log.episodes} episodes, and {LEAST_EPISODES} are the least"
    totals = np.add.reduceat(ratios - ratios.mean(), log.first)
    error = float(np.sqrt(np.square(totals).sum())) / len(ratios)
    off = float(ratios.mean()) - 1.0
    if off < -max(3 * error, LEAST_MASS):
        return (
            f"the candidate leaves the support of the log: {-off:.0%} of what it does, the logging "
            "policy never does in the same situations. Log a policy that tries it"
        )
    if off > max(3 * error, LEAST_MASS):
        return (
            f"the logged probabilities are too small: the ratios have mean {1 + off:.3g}, and of "
            "right ones it is 1. Log the probability that each action was drawn with"
        )
    if effective < LEAST_SHARE * log.episodes:
        return (
            f"of {log.episodes} episodes {effective:.1f} are left in effect, and at least "
            f"{LEAST_SHARE:.0%} are needed: the candidate differs too much for episodes of this "
            "length. Log a policy that is closer to it, or shorter episodes"
        )
    return ""


def _crossed(
    log: Log, rows: Rows, discount: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return models of values `[steps]`, each fitted on the half of episodes that it is not of."""
    halves = rng.permutation(log.episodes) % 2
    sums = rows.sums(log, halves)
    by_row = np.repeat(halves, log.lengths)
    q, v = np.zeros(len(by_row)), np.zeros(len(by_row))
    for half in (0, 1):
        weights = sums.of(np.eye(2)[1 - half]).fit(discount)
        at = by_row == half
        q[at], v[at] = rows.taken[at] @ weights, rows.own[at] @ weights
    return q, v


def _fitted(sums: Sums, discount: float, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the fitted value of the whole log, without each group, and of each resample."""
    count = len(sums.episodes)
    values = []
    for drawn in _resamples(count, 1.0 - np.eye(count), draws, rng):
        resample = sums.of(drawn)
        values.append(resample.value(resample.fit(discount)))
    return np.array(values)


def _resamples(count: int, without: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each of `count` stands in the whole, in each part, and in each resample."""
    drawn = rng.multinomial(count, np.full(count, 1 / count), draws)
    return np.vstack([np.ones(count), without, drawn])


def _estimate(name: str, values: np.ndarray, left_out: int, level: float) -> Estimate:
    """Return the first value with its interval, corrected for bias and skewness (BCa).

    The next `left_out` values are those without a group each, the others those of resamples.
    Source: Efron, "Better bootstrap confidence intervals", JASA 1987.
    """
    value, parts, drawn = values[0], values[1 : 1 + left_out], values[1 + left_out :]
    normal = NormalDist()
    below = ((drawn < value).sum() + 0.5 * (drawn == value).sum() + 0.5) / (len(drawn) + 1)
    bias = normal.inv_cdf(float(below))
    off = parts.mean() - parts
    spread = float(np.square(off).sum()) ** 1.5
    skewness = float((off**3).sum()) / (6 * spread) if spread else 0.0
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        moved = bias + normal.inv_cdf(share)
        ends.append(normal.cdf(bias + moved / (1 - skewness * moved)))
    low, high = np.quantile(drawn, ends)
    return Estimate(name, float(value), float(low), float(high))
