"""Plasticity: how well a network can still learn something new, beside one at its first weights."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from kanbatsu.sparsity.weight import is_pruned, to_dense
from kanbatsu.types import Key

SAMPLES = 256
"""Transitions whose random targets are to be learned."""
STEPS = 50
"""Steps of Adam, each on all of them."""
LEARNING_RATE = 1e-3
"""Step size of Adam."""
LEAST_FIT = 0.01
"""Fit of the first weights below which a ratio to it would say nothing but noise."""


def random_fit(
    network: Any,
    inputs: tuple[Array, ...],
    key: Key,
    *,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
) -> Float[Array, ""]:
    r"""Share of random targets that a copy of a network learns in a fixed number of steps.

    The targets $y$ are standard normal numbers, one for each sample, and a new linear readout of
    the network's features is drawn, so that networks begin alike whatever their values have grown
    to. All weights are trained, those that a mask removed excepted.

    $$ \mathrm{fit} = \max\left(0,\; 1 - \frac{\sum_i (f(x_i) - y_i)^2}
       {\sum_i (y_i - \bar y)^2}\right) $$

    Args:
        network: a module with `encode`; it is not changed.
        inputs: arrays that it is called with, `[batch, ...]`.
        key: draws the targets and the readout; the same key gives every network of this width the
            same.
        steps: gradient steps, each on the whole batch.
        learning_rate: step size of Adam.

    Returns:
        A number in [0, 1]; 0 where training does not stay finite.

    Example:
        >>> from kanbatsu.nn.mlp import MLP
        >>> from kanbatsu.nn.network import Network
        >>> network = Network(MLP(3, 32, 1, key=jax.random.key(0)), eqx.nn.Identity())
        >>> x = jax.random.normal(jax.random.key(1), (8, 3))
        >>> few, many = (random_fit(network, (x,), jax.random.key(2), steps=n) for n in (1, 300))
        >>> bool(few < 0.5 < many)
        True

    Reference:
        Lyle et al. 2023, "Understanding Plasticity in Neural Networks"; docs/probes/plasticity.md
        says what differs.
    """
    target_key, readout_key = jax.random.split(key)
    shape = jax.eval_shape(lambda network: network.encode(*inputs)[0], network).shape
    targets = jax.random.normal(target_key, shape[:1])
    readout = jax.random.normal(readout_key, shape[1:]) / jnp.sqrt(shape[1])
    trained, fixed = eqx.partition((network, readout), eqx.is_inexact_array)
    optimizer = optax.adam(learning_rate)

    def error(trained: Any) -> Array:
        network, readout = eqx.combine(trained, fixed)
        return ((network.encode(*inputs)[0] @ readout - targets) ** 2).mean()

    def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
        trained, moments = carry
        with jax.numpy_dtype_promotion("standard"):  # Optax counts in integers
            updates, moments = optimizer.update(jax.grad(error)(trained), moments)
        return (optax.apply_updates(trained, updates), moments), None

    (trained, _), _ = jax.lax.scan(step, (trained, optimizer.init(trained)), length=steps)
    share = 1.0 - error(trained) / targets.var()
    return jnp.where(jnp.isfinite(share), jnp.maximum(share, 0.0), 0.0)


def plasticity(
    network: Any, first: Any, inputs: tuple[Array, ...], key: Key, *, steps: int = STEPS
) -> dict[str, Float[Array, ""]]:
    """Fit of random targets by a network, as a ratio to that of the network at its first weights.

    Args:
        network: as training has made it.
        first: of the same shape and masks, at its first weights.
        inputs: arrays that both are called with, `[batch, ...]`.
        key: draws the targets.
        steps: gradient steps of each fit.

    Returns:
        `plasticity` (the ratio: 1 = learns as well as a new network, 0 = learns nothing) and
        `plasticity_fit` (the fit itself). Where weights are pruned, also `plasticity_lifted`: the
        ratio with the masks of both lifted, so that pruned weights begin at zero and train.
    """
    fit = random_fit(network, inputs, key, steps=steps)
    numbers = {
        "plasticity": _ratio(fit, random_fit(first, inputs, key, steps=steps)),
        "plasticity_fit": fit,
    }
    if any(map(is_pruned, jax.tree.leaves(network, is_leaf=is_pruned))):
        lifted, new = (
            random_fit(lift_masks(each), inputs, key, steps=steps) for each in (network, first)
        )
        numbers["plasticity_lifted"] = _ratio(lifted, new)
    return numbers


def lift_masks(network: Any) -> Any:
    """Return the same function as a dense network: pruned weights are zeros that train.

    Example:
        >>> from kanbatsu.sparsity.weight import Masked
        >>> lift_masks({"w": Masked.of(jnp.ones(2), jnp.array([True, False]))})["w"].tolist()
        [1.0, 0.0]
    """
    return jax.tree.map(
        lambda leaf: to_dense(leaf) if is_pruned(leaf) else leaf, network, is_leaf=is_pruned
    )


def _ratio(fit: Array, first: Array) -> Array:
    return fit / jnp.maximum(first, LEAST_FIT)
