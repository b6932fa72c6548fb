"""Random shifts of images, which a convolution learns to see through."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Num


def shifted(
    images: Num[Array, "batch height width channels"], by: Int[Array, "batch 2"], most: int
) -> Num[Array, "batch height width channels"]:
    """Cut images of their size out of images that are padded by their own edges.

    Args:
        images: all frames of a stack are shifted alike.
        by: first row and first column of what is cut out; `most` of both is where nothing moves.
        most: pixels of padding on every side.

    Example:
        >>> image = jnp.arange(3.0).reshape(1, 1, 3, 1)
        >>> shifted(image, jnp.array([[1, 0]]), 1).ravel().tolist()
        [0.0, 0.0, 1.0]

    Reference:
        Yarats et al. 2021, "Mastering Visual Continuous Control", section 3.1.
    """
    height, width = images.shape[1:3]

    def cut(image: Array, first: Array) -> Array:
        rows = jnp.clip(first[0] - most + jnp.arange(height), 0, height - 1)
        columns = jnp.clip(first[1] - most + jnp.arange(width), 0, width - 1)
        return image[rows][:, columns]

    return jax.vmap(cut)(images, by)
