"""Dispatching rules: what shop floors go by, as functions of what is seen of the waiting jobs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kanbatsu.envs.dispatch import PER_PLACE, Dispatch, Shop

TUNED = (1.0, 0.5)
"""Look-ahead of ATCS in due dates and in set-ups that `search` finds on the episodes of keys 0 to
255 (benchmarks/dispatch.py)."""
FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Values of each look-ahead that `search` tries."""

Priority = Callable[[Float[Array, "places 5"]], Float[Array, " places"]]


def by_due_date(jobs: Float[Array, "places 5"]) -> Float[Array, " places"]:
    """Return priorities by the earliest due date (EDD; Jackson 1955).

    Example:
        >>> by_due_date(jnp.ones((3, 5))).tolist()  # places stand in the order of due dates
        [3.0, 2.0, 1.0]
    """
    return jnp.arange(len(jobs), 0, -1, dtype=jnp.float32)


def by_processing_time(jobs: Float[Array, "places 5"]) -> Float[Array, " places"]:
    """Return priorities by the shortest weighted processing time (WSPT; Smith 1956)."""
    return jobs[:, 3] / jnp.maximum(jobs[:, 1], 1e-6)


def by_tardiness_cost(
    jobs: Float[Array, "places 5"], due: float | Array = TUNED[0], setup: float | Array = TUNED[1]
) -> Float[Array, " places"]:
    r"""Return priorities by the apparent tardiness cost with set-ups (ATCS).

    $$ \frac{w}{p} \exp\left(-\frac{\max(slack, 0)}{k_1 \bar p}\right)
       \exp\left(-\frac{s}{k_2 \bar s}\right) $$

    Args:
        jobs: as an observation has them: presence, processing time, slack, weight, set-up.
        due: $k_1$, the look-ahead in due dates, in mean processing times of the jobs that wait.
        setup: $k_2$, the look-ahead in set-ups.

    Returns:
        One number for each place; the highest goes first.

    Source: Vepsalainen and Morton 1987, "Priority rules for job shops with weighted tardiness
    costs"; Lee, Bhaskaran and Pinedo 1997, who add set-ups. Here $s / \bar s$ is 1 where the
    machine must change and 0 where it need not.
    """
    there, processing, slack, weight, needs = jobs.T
    mean = (there * processing).sum() / jnp.maximum(there.sum(), 1.0)
    urgency = jnp.exp(-jnp.maximum(slack, 0.0) / (due * jnp.maximum(mean, 1e-6)))
    return weight / jnp.maximum(processing, 1e-6) * urgency * jnp.exp(-needs / setup)


def choose(priority: Priority, obs: Float[Array, " obs_dim"], places: int) -> Array:
    """Return the place of the job with the highest priority, of those that wait."""
    jobs = obs[: PER_PLACE * places].reshape(places, PER_PLACE)
    return jnp.argmax(jnp.where(jobs[:, 0] > 0, priority(jobs), -jnp.inf))


def edd() -> Callable[[Any], int]:
    """Return the earliest due date as a rule of jax/dispatch: an incumbent by name.

    Example:
        >>> edd()(np.ones(36))
        0
    """
    return _rule(by_due_date)


def wspt() -> Callable[[Any], int]:
    """Return the shortest weighted processing time as a rule of jax/dispatch.

    Example:
        >>> obs = np.ones(36)
        >>> obs[8] = 4.0  # the weight of the second job
        >>> wspt()(obs)
        1
    """
    return _rule(by_processing_time)


def atcs() -> Callable[[Any], int]:
    """Return the apparent tardiness cost with set-ups, tuned by search, as a rule of jax/dispatch.

    Example:
        >>> obs = np.ones(36)
        >>> obs[14] = 0.0  # the machine is set up for the third job
        >>> atcs()(obs)
        2
    """
    return _rule(by_tardiness_cost)


def _rule(priority: Priority) -> Callable[[Any], int]:
    places = Dispatch().places
    chosen = jax.jit(lambda obs: choose(priority, obs, places))
    return lambda obs: int(chosen(jnp.asarray(obs, jnp.float32)))


@partial(jax.jit, static_argnames=("priority", "shop", "episodes"))
def returns(
    priority: Any, shop: Dispatch, episodes: int, first: int | Array = 0, arguments: Any = ()
) -> Float[Array, " episodes"]:
    """Return what episodes pay a rule.

    Args:
        priority: function of the visible jobs and of `arguments`.
        shop: the task.
        episodes: how many to play.
        first: key of the first; the others follow.
        arguments: further arguments of the priority.

    Example:
        >>> bool((returns(by_due_date, Dispatch(jobs=8), 2) <= 0.0).all())
        True
    """

    def episode(key: Array) -> Array:
        begins, rest = jax.random.split(key)
        state, obs = shop.reset(begins)

        def turn(carry: tuple[Shop, Array], _: None) -> tuple[tuple[Shop, Array], Array]:
            place = choose(lambda jobs: priority(jobs, *arguments), carry[1], shop.places)
            state, step = shop.step(carry[0], jax.nn.one_hot(place, shop.places), rest)
            return (state, step.obs), step.reward

        _, rewards = jax.lax.scan(turn, (state, obs), None, length=shop.jobs)
        return rewards.sum()

    return jax.vmap(lambda number: episode(jax.random.key(number)))(first + jnp.arange(episodes))


def search(shop: Dispatch, episodes: int = 256) -> tuple[float, float]:
    """Find the look-aheads of ATCS that pay most on the same episodes, on a grid.

    Args:
        shop: the task.
        episodes: those that settings are judged by, from key 0 on; compare rules on others.

    Returns:
        $k_1$ and $k_2$.
    """
    pairs = [(due, setup) for due in FACTORS for setup in FACTORS]
    both = (tuple(map(jnp.float32, pair)) for pair in pairs)
    paid = [float(returns(by_tardiness_cost, shop, episodes, 0, pair).mean()) for pair in both]
    return pairs[int(np.argmax(paid))]
