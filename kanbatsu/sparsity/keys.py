"""Keys that masks are drawn from: JAX's own, or those of `Threefry`, which need no JAX."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kanbatsu.sparsity.threefry import Threefry

if TYPE_CHECKING:
    import jax

    Key = jax.Array | Threefry
else:
    Key = Any  # JAX is imported where a key of its own comes in


def split(key: Key, number: int) -> Sequence[Key]:
    """Return independent keys."""
    if isinstance(key, Threefry):
        return key.split(number)
    import jax

    return list(jax.random.split(key, number))


def bits(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    """Draw 32 random bits for each entry of a shape."""
    if isinstance(key, Threefry):
        return key.bits(shape)
    import jax

    return np.asarray(jax.random.bits(key, shape, np.uint32))


def bernoulli(key: Key, probability: float, shape: tuple[int, ...]) -> np.ndarray:
    """Draw True with a probability for each entry of a shape."""
    if isinstance(key, Threefry):
        return key.bernoulli(probability, shape)
    import jax

    return np.asarray(jax.random.bernoulli(key, probability, shape))


@contextlib.contextmanager
def drawn_now(key: Key) -> Iterator[Key]:
    """Yield the key, checked, where draws are made at once, even if the caller compiles something.

    Raises:
        ValueError: if it is not one random key whose value is known.
    """
    if isinstance(key, Threefry):
        yield key
        return
    import jax

    with jax.ensure_compile_time_eval():
        yield _checked(key)


def _checked(key: Any) -> jax.Array:
    import jax
    import jax.numpy as jnp

    if isinstance(key, jax.core.Tracer):
        raise ValueError(
            "masks are drawn on the host, from a key whose value is known, and this one is inside "
            "jit or vmap. Draw them outside (kanbatsu.make_masks, or kanbatsu.prune of the whole "
            "model), and give them to the compiled function as an argument: there, "
            "kanbatsu.apply_masks and kanbatsu.sparsity.weight.with_masks apply them"
        )
    is_key = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    is_old = getattr(key, "shape", None) == (2,) and getattr(key, "dtype", None) == np.uint32
    if not (is_old or (is_key and key.shape == ())):
        given = f"keys of shape {key.shape}" if is_key else repr(key)
        raise ValueError(f"key must be one JAX random key, such as jax.random.key(0): got {given}")
    return key
