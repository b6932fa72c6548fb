"""Overestimation: what a critic promised, beside what came of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Pair = tuple[Array, Array]


def returns_that_followed(
    reward: Float[Array, " steps"],
    terminated: Bool[Array, " steps"],
    cut: Bool[Array, " steps"],
    next_value: Float[Array, " steps"],
    *,
    discount: float,
) -> tuple[Float[Array, " steps"], Float[Array, " steps"]]:
    r"""Discounted return from each interaction on, in the order in which they happened.

    $$ G_t = r_t + \gamma\, G_{t+1} $$

    where the world ends, $G_t = r_t$. Where an episode is cut off, by a time limit or because
    nobody played on, its tail is bootstrapped, $G_t = r_t + \gamma Q(s_{t+1})$: rewards that were
    never seen are worth what the critic says. The weight of that tail says how much of $G_t$ is
    the critic's own word.

    Args:
        reward: what each interaction earned.
        terminated: whether the world ended then.
        cut: whether the episode was cut off then; the last interaction is in any case.
        next_value: the critic's value of the true successor.
        discount: per interaction.

    Returns:
        The returns, and the weight $\gamma^{T - t}$ of the bootstrapped tail in each: 0 = all of
        it was seen.

    Example:
        >>> one, no = jnp.ones(3), jnp.zeros(3, bool)
        >>> returns, tails = returns_that_followed(one, no, no, 100 * one, discount=0.99)
        >>> [round(float(x), 3) for x in returns], round(float(tails[0]), 3)
        ([100.0, 100.0, 100.0], 0.97)
    """

    def back(later: tuple[Array, Array], now: tuple[Array, ...]) -> tuple[Pair, Pair]:
        reward_t, terminated_t, cut_t, value = now
        beyond = jnp.where(cut_t, value, later[0])
        tail = jnp.where(cut_t, 1.0, later[1])
        going = jnp.where(terminated_t, 0.0, discount)
        result = reward_t + going * beyond, going * tail
        return result, result

    cut = (cut | (jnp.arange(len(reward)) == len(reward) - 1)) & ~terminated
    start = jnp.float32(0.0), jnp.float32(0.0)
    steps = (reward, terminated, cut, next_value)
    _, (returns, tails) = jax.lax.scan(back, start, steps, reverse=True)
    return returns, tails


def overestimation(
    value: Float[Array, " steps"],
    returns: Float[Array, " steps"],
    tails: Float[Array, " steps"],
) -> dict[str, Float[Array, ""]]:
    """Mean of what the critic said, less the mean of the returns that followed.

    Args:
        value: the critic's value of each interaction.
        returns: the discounted return from there on.
        tails: the weight of the bootstrapped tail in it.

    Returns:
        `overestimation` (in units of return), `value` and `return_followed` (the two means) and
        `overestimation_tail` (the mean weight of the tail: near 1, the critic is compared with
        itself and the difference says little).

    Example:
        >>> two = jnp.full(2, 2.0)
        >>> float(overestimation(3 * two, two, 0 * two)["overestimation"])
        4.0

    Reference:
        van Hasselt et al. 2016, "Deep Reinforcement Learning with Double Q-learning", and Fujimoto
        et al. 2018, "Addressing Function Approximation Error in Actor-Critic Methods", compare the
        two means.
    """
    return {
        "overestimation": value.mean() - returns.mean(),
        "value": value.mean(),
        "return_followed": returns.mean(),
        "overestimation_tail": tails.mean(),
    }
