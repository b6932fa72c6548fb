"""Interference: whether what one sample teaches undoes what another one teaches."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kanbatsu.probes.subject import Subject
from kanbatsu.probes.taps import Factors, kernel_factors

SAMPLES = 64
"""Transitions whose gradients are compared: 2,016 pairs. The cost grows with the square."""


def gram(factors: Factors) -> Float[Array, "batch batch"]:
    r"""Inner products of the gradients of one kernel, for each pair of samples.

    A dense layer's gradient is $x_i \otimes \delta_i$, so that

    $$ \langle g_i, g_j \rangle = (x_i \cdot x_j)(\delta_i \cdot \delta_j), $$

    and under a mask $M$

    $$ \langle g_i, g_j \rangle = (x_i \circ x_j)^\top M\, (\delta_i \circ \delta_j). $$

    No gradient is ever written down, but that of a convolution, whose kernel is small.

    Args:
        factors: what the layer reads and is blamed for.

    Example:
        >>> x, error = jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.array([[1.0], [-1.0]])
        >>> gram(Factors(x, error, None)).tolist()
        [[5.0, -3.0], [-3.0, 9.0]]
        >>> gram(Factors(x, error, jnp.array([[0.0], [1.0]])))[0, 0].item()
        4.0
    """
    x, error, mask = factors
    if x.ndim > 2:
        x, error = (each.reshape(len(each), -1, each.shape[-1]) for each in (x, error))
        gradients = jnp.einsum("npa,npb->nab", x, error, precision="highest")
        gradients = (gradients if mask is None else gradients * mask).reshape(len(x), -1)
        return _product(gradients, gradients.T)
    if mask is None:
        return _product(x, x.T) * _product(error, error.T)

    def row(sample: tuple[Array, Array]) -> Array:
        return (_product(x * sample[0], mask) * (error * sample[1])).sum(axis=-1)

    return jax.lax.map(row, (x, error))


def cosines(products: Float[Array, "batch batch"]) -> Float[Array, "batch batch"]:
    """Cosine of the angle between each pair of gradients, from their inner products.

    Args:
        products: what `gram` returned, of one layer or summed over several.

    Returns:
        Numbers in [-1, 1]; 0 where a gradient is zero.

    Example:
        >>> cosines(jnp.array([[4.0, -2.0], [-2.0, 1.0]])).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    squares = jnp.diagonal(products)
    inverse = jnp.where(squares > 0.0, jax.lax.rsqrt(jnp.maximum(squares, 1e-38)), 0.0)
    return jnp.clip(products * inverse[:, None] * inverse, -1.0, 1.0)


def gradient_cosines(subject: Subject) -> Float[Array, "batch batch"]:
    """Cosines of the samples' gradients in the kept weights of all of a network's kernels.

    Args:
        subject: the network, its batch and its loss.
    """
    factors = kernel_factors(subject.network, subject.loss)
    return cosines(sum((gram(own) for own in factors.values()), start=jnp.float32(0.0)))


def interference(matrix: Float[Array, "batch batch"]) -> dict[str, Float[Array, ""]]:
    """Numbers that sum up a matrix of cosines; the diagonal is left out.

    Args:
        matrix: what `cosines` returned, of at least two samples.

    Returns:
        `interference` (the mean), `interference_magnitude` (the mean absolute value) and
        `interference_negative` (the share below 0).

    Example:
        >>> numbers = interference(jnp.array([[1.0, -0.5], [-0.5, 1.0]]))
        >>> {name: float(x) for name, x in numbers.items()}
        {'interference': -0.5, 'interference_magnitude': 0.5, 'interference_negative': 1.0}

    Reference:
        Lyle et al. 2023, "Understanding Plasticity in Neural Networks", draw the matrix; the three
        numbers that sum it up are kanbatsu's.
    """
    n = len(matrix)
    off, pairs = ~jnp.eye(n, dtype=bool), n * (n - 1)
    return {
        "interference": jnp.where(off, matrix, 0.0).sum() / pairs,
        "interference_magnitude": jnp.where(off, jnp.abs(matrix), 0.0).sum() / pairs,
        "interference_negative": (off & (matrix < 0.0)).sum() / pairs,
    }


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
