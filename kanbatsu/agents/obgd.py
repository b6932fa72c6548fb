"""ObGD: gradient descent with eligibility traces and a step that is too small to overshoot."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Scalar = Float[Array, ""]


def extend_trace(trace: Any, gradient: Any, decay: float) -> Any:
    r"""Let a trace fade and add a gradient: $e \leftarrow \gamma\lambda e + \nabla$.

    Args:
        trace: a tree of arrays.
        gradient: the same tree; of what should rise when the TD error is positive.
        decay: $\gamma\lambda$.

    Example:
        >>> extend_trace({"w": jnp.ones(1)}, {"w": jnp.full(1, 2.0)}, 0.5)
        {'w': Array([2.5], dtype=float32)}
    """
    return jax.tree.map(lambda e, g: decay * e + g, trace, gradient)


def cut_trace(trace: Any, when: Bool[Array, ""]) -> Any:
    """Forget a trace where `when` is True: an episode has ended, or an action was not greedy."""
    return jax.tree.map(lambda e: jnp.where(when, 0.0, e), trace)


def bounded_step(
    trace: Any, td_error: Scalar, *, learning_rate: float, kappa: float
) -> tuple[Any, dict[str, Scalar]]:
    r"""Turn a trace and a TD error into a move of all weights, short enough not to overshoot.

    $$ M = \alpha \kappa \max(|\delta|, 1) \lVert e \rVert_1, \qquad
       \alpha' = \frac{\alpha}{\max(M, 1)}, \qquad \Delta w = \alpha' \delta e $$

    with the norm over the whole network. Where M > 1, the weights together move by at most
    $1 / \kappa$. A pruned weight has no trace: pruning shortens $\lVert e \rVert_1$, and so
    lengthens the step.

    Args:
        trace: a tree of arrays; only leaves that train.
        td_error: $\delta$.
        learning_rate: $\alpha$, the step where it is not bounded.
        kappa: the larger, the shorter the step; 0 takes the bound away.

    Returns:
        What to add to the weights, and `step_size` ($\alpha'$) and `trace_norm`
        ($\lVert e \rVert_1$).

    Example:
        >>> trace = {"w": jnp.array([1.0, -2.0])}
        >>> move, facts = bounded_step(trace, jnp.float32(0.5), learning_rate=1.0, kappa=2.0)
        >>> round(1 / float(facts["step_size"]), 4)  # M = 1 * 2 * max(0.5, 1) * 3
        6.0

    Reference:
        Elsayed, Vasan and Mahmood 2024, "Streaming Deep Reinforcement Learning Finally Works".
    """
    norm = sum((jnp.abs(e).sum() for e in jax.tree.leaves(trace)), start=jnp.float32(0.0))
    bound = learning_rate * kappa * jnp.maximum(jnp.abs(td_error), 1.0) * norm
    step_size = learning_rate / jnp.maximum(bound, 1.0)
    move = jax.tree.map(lambda e: (step_size * td_error) * e, trace)
    return move, {"step_size": step_size, "trace_norm": norm}
