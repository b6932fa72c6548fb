"""Returns to learn from, worked out from the end of a rollout backwards."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def lambda_returns(
    reward: Float[Array, "steps n"],
    terminated: Bool[Array, "steps n"],
    truncated: Bool[Array, "steps n"],
    next_value: Float[Array, "steps n"],
    *,
    discount: float,
    decay: float,
) -> Float[Array, "steps n"]:
    r"""Mix rewards and values, from the end of a rollout backwards.

    $$ G_t = r_t + \gamma \left((1 - \lambda) V(s_{t+1}) + \lambda G_{t+1}\right) $$

    where the rollout ends, and where an episode was cut off, $G_t = r_t + \gamma V(s_{t+1})$; where
    one terminated, $G_t = r_t$.

    Args:
        reward: what each action earned.
        terminated: whether the world ended then.
        truncated: whether the episode was cut off then.
        next_value: value of the true successor.
        discount: $\gamma$.
        decay: $\lambda$.

    Example:
        >>> reward, no = jnp.array([[1.0], [2.0]]), jnp.zeros((2, 1), bool)
        >>> value = jnp.array([[10.0], [20.0]])
        >>> lambda_returns(reward, no, no, value, discount=0.5, decay=0.5).tolist()
        [[6.5], [12.0]]

    Reference:
        Gallici et al. 2024, "Simplifying Deep Temporal Difference Learning", section 3.3.
    """

    def back(later: Array, now: tuple[Array, ...]) -> tuple[Array, Array]:
        reward_t, terminated_t, truncated_t, value = now
        beyond = jnp.where(truncated_t, value, value + decay * (later - value))
        return_ = reward_t + discount * jnp.where(terminated_t, 0.0, beyond)
        return return_, return_

    steps = (reward, terminated, truncated, next_value)
    _, returns = jax.lax.scan(back, next_value[-1], steps, reverse=True)
    return returns
