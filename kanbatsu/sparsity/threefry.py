"""The random numbers of a JAX key in numpy, bit for bit: masks are drawn where there is no JAX."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
"""Bits by which a half is rotated, in rounds that alternate."""
PARITY = np.uint32(0x1BD11BDA)
AT_ONCE = 1 << 15
"""Numbers that are computed together, so that they stay in the second cache."""


@dataclass(frozen=True)
class Threefry:
    """Key of JAX's default generator, as `jax.random.key(seed)` makes it.

    Its numbers are those of JAX with its default settings, which are to hash the place of each
    number (`jax_threefry_partitionable`) and floats of 32 bits.

    Example:
        >>> import jax
        >>> Threefry.of(7).bits((3,)) == jax.random.bits(jax.random.key(7), (3,))
        Array([ True,  True,  True], dtype=bool)

    Source:
        Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3", Threefry-2x32 with 20
        rounds.
    """

    high: int
    """The upper half of the key, 32 bits."""
    low: int
    """The lower half."""

    @classmethod
    def of(cls, seed: int) -> Threefry:
        """Return the key of a seed, a whole number from 0 to 2**32 - 1."""
        return cls(0, seed)

    def split(self, number: int) -> list[Threefry]:
        """Return independent keys, as `jax.random.split` does."""
        highs, lows = self._hashed(0, number)
        return [Threefry(int(high), int(low)) for high, low in zip(highs, lows, strict=True)]

    def bits(self, shape: tuple[int, ...]) -> np.ndarray:
        """Draw 32 random bits for each entry of a shape, as `jax.random.bits` does."""
        numbers = np.empty(math.prod(shape), np.uint32)
        for begin in range(0, numbers.size, AT_ONCE):
            end = min(begin + AT_ONCE, numbers.size)
            np.bitwise_xor(*self._hashed(begin, end), out=numbers[begin:end])
        return numbers.reshape(shape)

    def bernoulli(self, probability: float, shape: tuple[int, ...]) -> np.ndarray:
        """Draw True with a probability for each entry, as `jax.random.bernoulli` does."""
        # The upper bits become the mantissa of a number in [1, 2).
        from_one = ((self.bits(shape) >> np.uint32(9)) | np.uint32(0x3F800000)).view(np.float32)
        return from_one - np.float32(1.0) < np.float32(probability)

    def _hashed(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Return both halves of the hash of every place from `begin` to before `end`."""
        places = np.arange(begin, end, dtype=np.uint64)
        keys = np.array([self.high, self.low, 0], np.uint32)
        keys[2] = keys[0] ^ keys[1] ^ PARITY
        first = (places >> np.uint64(32)).astype(np.uint32) + keys[0]
        second = places.astype(np.uint32) + keys[1]
        for turn in range(5):
            for rotation in ROTATIONS[turn % 2]:
                first += second
                second = (second << np.uint32(rotation)) | (second >> np.uint32(32 - rotation))
                second ^= first
            first += keys[(turn + 1) % 3]
            # Through an array: numpy warns of a scalar that overflows, which is meant here.
            second += keys[(turn + 2) % 3 : (turn + 2) % 3 + 1] + np.uint32(turn + 1)
        return first, second
