"""Remedies that are terms of the learning rule: they act with every gradient step."""

from __future__ import annotations

from typing import Any

import jax
import optax

from kanbatsu.remedies.parts import FirstWeights
from kanbatsu.remedies.records import L2Init, Remedy, SpectralNorm, WeightDecay
from kanbatsu.remedies.spectral import spectral


def towards_first_weights(strength: float) -> optax.GradientTransformation:
    r"""Add the gradient of $\lambda \lVert\theta - \theta_0\rVert^2$, where $\theta_0$ came first.

    Pruned weights are zero at the start and stay so: they have no part in it.

    Args:
        strength: $\lambda$.

    Example:
        >>> import jax.numpy as jnp
        >>> term = towards_first_weights(0.5)
        >>> state = term.init(jnp.array([1.0]))
        >>> term.update(jnp.array([0.0]), state, jnp.array([3.0]))[0]
        Array([2.], dtype=float32)

    Reference:
        Kumar, Marklund and Van Roy 2023, "Maintaining Plasticity in Continual Learning via
        Regenerative Regularization", equation 2.
    """

    def init(params: Any) -> FirstWeights:
        return FirstWeights(jax.tree.map(jax.numpy.copy, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        pulled = jax.tree.map(
            lambda g, now, first: g + 2.0 * strength * (now - first), updates, params, state.weights
        )
        return pulled, state

    return optax.GradientTransformation(init, update)


def with_terms(
    optimizer: optax.GradientTransformation, remedies: tuple[Remedy, ...], network: str
) -> optax.GradientTransformation:
    """Return an optimizer whose gradients have the remedies' terms added first.

    Args:
        optimizer: as the agent has it.
        remedies: all of a run's; only those that are terms of the loss, or of the weights that
            train, are read.
        network: name of what it trains.
    """
    terms = [towards_first_weights(r.strength) for r in remedies if isinstance(r, L2Init)]
    optimizer = optax.chain(*terms, optimizer) if terms else optimizer
    for remedy in remedies:
        if isinstance(remedy, SpectralNorm) and remedy.of in ("all", network):
            return spectral(optimizer, remedy.bound, remedy.layers == "last")
    return optimizer


def with_decay(
    optimizer: optax.GradientTransformation,
    step_size: optax.ScalarOrSchedule,
    remedies: tuple[Remedy, ...],
) -> optax.GradientTransformation:
    """Return an optimizer with decoupled weight decay, where remedies ask for any.

    Args:
        optimizer: one without.
        step_size: its own, which the decay is multiplied by.
        remedies: all of a run's.

    Example:
        >>> import jax.numpy as jnp
        >>> plain = with_decay(optax.sgd(0.1), 0.1, (WeightDecay(rate=0.5),))
        >>> now = jnp.array([2.0])
        >>> plain.update(jnp.array([0.0]), plain.init(now), now)[0]
        Array([-0.1], dtype=float32)
    """
    rate = decay_of(remedies, 0.0)
    if not rate:
        return optimizer
    decay = optax.chain(
        optax.set_to_zero(),
        optax.add_decayed_weights(rate),
        optax.scale_by_learning_rate(step_size),
    )
    return _sum_of(optimizer, decay)


def _sum_of(*parts: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return an optimizer whose step is the sum of others' steps."""

    def init(params: Any) -> tuple[Any, ...]:
        return tuple(part.init(params) for part in parts)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        steps, states = zip(
            *(part.update(updates, own, params) for part, own in zip(parts, state, strict=True)),
            strict=True,
        )
        return jax.tree.map(lambda *each: sum(each), *steps), states

    return optax.GradientTransformation(init, update)


def decay_of(remedies: tuple[Remedy, ...], default: float) -> float:
    """Return the weight decay that remedies ask for, or the default.

    Example:
        >>> decay_of((WeightDecay(rate=0.1),), 0.01), decay_of((), 0.01)
        (0.1, 0.01)
    """
    return next((r.rate for r in remedies if isinstance(r, WeightDecay)), default)
