"""The random numbers without JAX are those of JAX, bit for bit."""

import jax
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

from kanbatsu.sparsity.config import DISTRIBUTIONS, PATTERNS, Pruning
from kanbatsu.sparsity.draw import draw_masks, kept_by_path
from kanbatsu.sparsity.kernel import Kernel
from kanbatsu.sparsity.threefry import AT_ONCE, Threefry

SEEDS = (0, 1, 7, 2**31 - 1, 2**31, 2**32 - 1)


def theirs(seed):
    return jax.random.wrap_key_data(np.array([0, seed], np.uint32))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_is_the_key_that_jax_makes_of_it(seed):
    ours = Threefry.of(seed)
    assert [ours.high, ours.low] == jax.random.key_data(jax.random.key(seed)).tolist()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 4, 5), (AT_ONCE + 3,), ()])
def test_bits_are_those_of_jax(seed, shape):
    ours = Threefry.of(seed).bits(shape)
    assert ours.dtype == np.uint32
    np.testing.assert_array_equal(ours, jax.random.bits(theirs(seed), shape, np.uint32))


@pytest.mark.parametrize("number", [1, 2, 5])
def test_keys_split_as_those_of_jax(number):
    for ours, other in zip(
        Threefry.of(11).split(number), jax.random.split(theirs(11), number), strict=True
    ):
        assert [ours.high, ours.low] == jax.random.key_data(other).tolist()
        for mine, its in zip(ours.split(3), jax.random.split(other, 3), strict=True):
            np.testing.assert_array_equal(mine.bits((9,)), jax.random.bits(its, (9,), np.uint32))


@pytest.mark.parametrize("probability", [0.0, 0.1, 1 / 3, 0.5, 0.999, 1.0])
def test_coins_fall_as_those_of_jax(probability):
    ours = Threefry.of(3).bernoulli(probability, (40, 50))
    np.testing.assert_array_equal(ours, jax.random.bernoulli(theirs(3), probability, (40, 50)))


def test_places_beyond_32_bits_are_hashed_by_both_halves():
    """An array of so many numbers is too large to draw, so JAX's hash is asked for the places."""
    begin = (1 << 32) - 2
    high, low = (np.array(half, np.uint32) for half in ([0, 0, 1, 1], [begin, begin + 1, 0, 1]))
    key = (np.uint32(5), np.uint32(9))
    expected = threefry_2x32(key, np.concatenate([high, low]))
    first, second = Threefry(5, 9)._hashed(begin, begin + 4)
    np.testing.assert_array_equal(np.concatenate([first, second]), expected)


KERNELS = [
    Kernel(("a/w",), (17, 64)),
    Kernel(("b/w",), (3, 3, 8, 32)),
    Kernel(("c/w",), (2, 64, 24), leading=1),
    Kernel(("d.weight",), (24, 64), outputs_first=True),
    Kernel(("e.weight",), (40, 1)),
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_masks_are_those_of_jax(distribution, pattern):
    for seed, sparsity, group_size in ((0, 0.5, 16), (2**32 - 1, 0.75, 8), (123, 0.6, 5)):
        pruning = Pruning(sparsity, distribution, pattern, group_size)
        kept = kept_by_path(KERNELS, pruning)
        ours = draw_masks(KERNELS, kept, pruning, Threefry.of(seed))
        expected = draw_masks(KERNELS, kept, pruning, jax.random.key(seed))
        assert ours.keys() == expected.keys()
        for path, mask in ours.items():
            np.testing.assert_array_equal(mask, expected[path], err_msg=f"{path}, seed {seed}")
        assert not all(mask.all() for mask in ours.values())
