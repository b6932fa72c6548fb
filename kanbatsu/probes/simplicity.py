"""Simplicity: how low the frequencies are that a network is made of before it learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kanbatsu.types import Key

LOOPS = 16
"""Circles through the space of inputs, over which scores are averaged."""
POINTS = 128
"""Points of each circle; frequencies up to half as many are seen."""


def fourier_score(values: Float[Array, "*functions points"]) -> Float[Array, "*functions"]:
    r"""Mean frequency of a function on a circle, weighted by amplitude.

    $$ c(f) = \frac{\sum_{k \ge 1} k\, |\tilde f(k)|}{\sum_{k \ge 1} |\tilde f(k)|} $$

    Args:
        values: the function at equally spaced points, once around.

    Returns:
        1 for a function that is linear in the plane of the circle; higher for more complex ones. 0
        for a constant.

    Example:
        >>> around = jnp.arange(64) / 64
        >>> wave = lambda k: jnp.cos(2 * jnp.pi * k * around)
        >>> round(float(fourier_score(wave(3))), 3)
        3.0
        >>> round(float(fourier_score(wave(1) + wave(4))), 3)
        2.5

    Reference:
        Lee et al. 2025, "SimBa"; the mean of the function (k = 0) is left out here.
    """
    amplitudes = jnp.abs(jnp.fft.rfft(values, axis=-1))[..., 1:]
    # What is left of rounding is no frequency: a constant has none.
    floor = 1e-6 * jnp.abs(values).max(axis=-1, keepdims=True) * values.shape[-1]
    amplitudes = jnp.where(amplitudes > floor, amplitudes, 0.0)
    total = amplitudes.sum(axis=-1)
    weighted = (amplitudes * jnp.arange(1.0, amplitudes.shape[-1] + 1)).sum(axis=-1)
    return weighted / jnp.where(total > 0.0, total, 1.0)


def circles(
    key: Key, shape: tuple[int, ...], loops: int = LOOPS, points: int = POINTS
) -> Float[Array, "samples ..."]:
    """Points on random circles around 0, each as far from it as a standard normal vector is.

    Args:
        key: draws the planes of the circles.
        shape: shape of one input.
        loops: how many circles.
        points: points of each.

    Returns:
        Inputs `[loops * points, *shape]`, circle after circle.

    Example:
        >>> x = circles(jax.random.key(0), (9,), loops=2, points=8)
        >>> x.shape, round(float(jnp.linalg.norm(x[5])), 3)
        ((16, 9), 3.0)
    """
    size = math.prod(shape)
    first, second = jnp.moveaxis(jax.random.normal(key, (loops, 2, size)), 1, 0)
    first /= jnp.linalg.norm(first, axis=-1, keepdims=True)
    second -= (first * second).sum(axis=-1, keepdims=True) * first
    # In one dimension there is no plane: the circle is then gone over to and fro.
    second /= jnp.maximum(jnp.linalg.norm(second, axis=-1, keepdims=True), 1e-6)
    angle = 2.0 * jnp.pi * jnp.arange(float(points)) / points
    plane = jnp.cos(angle)[:, None] * first[:, None] + jnp.sin(angle)[:, None] * second[:, None]
    return (math.sqrt(size) * plane).reshape(-1, *shape)


def simplicity(
    function: Callable[..., Any], inputs: tuple[Array, ...], points: int = POINTS
) -> Float[Array, ""]:
    """Mean over circles and outputs of one over the Fourier score.

    Args:
        function: of the inputs to one array, or several, of outputs `[samples, ...]`.
        inputs: arrays `[loops * points, ...]`, circle after circle, each in one plane.
        points: points of each circle.

    Returns:
        A number in (0, 1]: 1 for a linear function. Outputs that are constant are left out; 0
        where all are.

    Example:
        >>> x = circles(jax.random.key(0), (3,))
        >>> round(float(simplicity(lambda x: x[:, 0], (x,))), 3)
        1.0
    """
    outputs = jax.tree.leaves(function(*inputs))
    values = jnp.concatenate([each.reshape(len(each), -1) for each in outputs], axis=-1)
    values = jnp.moveaxis(values.reshape(-1, points, values.shape[-1]), 1, -1)
    scores = fourier_score(values)
    moving = scores > 0.0
    inverse = jnp.where(moving, 1.0 / jnp.where(moving, scores, 1.0), 0.0)
    return inverse.sum() / jnp.maximum(moving.sum(dtype=jnp.float32), 1.0)
