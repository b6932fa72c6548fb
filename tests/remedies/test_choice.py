"""Exact counts, disjoint choices, and the published schedules of dynamic sparsity."""

import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.remedies.choice import cosine_share, highest, removed_share, swapped


@pytest.mark.parametrize("count", [0, 3, 12])
def test_as_many_are_marked_as_asked_for_whatever_ties(count):
    scores = jnp.array(np.random.default_rng(0).integers(0, 3, (3, 4)), jnp.float32)
    marked = np.asarray(highest(scores, jnp.int32(count)))
    assert marked.sum() == count
    if 0 < count < 12:
        assert scores[marked].min() >= scores[~marked].max()


def test_dropped_and_grown_are_disjoint_and_as_many():
    rng = np.random.default_rng(1)
    mask = rng.random((9, 7)) < 0.4
    size = np.where(mask, rng.random((9, 7)) + 0.1, 0.0).astype(np.float32)
    score = rng.random((9, 7)).astype(np.float32)
    new = np.asarray(swapped(jnp.array(mask), jnp.array(size), jnp.array(score), jnp.float32(0.3)))
    dropped, grown = mask & ~new, new & ~mask
    assert new.sum() == mask.sum()
    assert dropped.sum() == grown.sum() == int(0.3 * mask.sum())
    assert size[dropped].max() < size[mask & new].min()
    assert score[grown].min() > score[~mask & ~new].max()


def test_no_more_moves_than_there_is_room_for():
    mask = jnp.array([True, True, True, False])
    new = swapped(mask, jnp.arange(4.0), jnp.ones(4), jnp.float32(1.0))
    assert new.tolist() == [False, True, True, True]


def test_gradual_pruning_keeps_what_the_cubic_schedule_says():
    def kept(at):
        return 1.0 - 0.9 * float(removed_share(200_000, 800_000, jnp.int32(at)))

    assert [kept(at) for at in (200_000, 500_000, 800_000)] == pytest.approx([1.0, 0.2125, 0.1])
    assert kept(0) == 1.0
    assert kept(1_000_000) == pytest.approx(0.1)


def test_the_share_of_rigl_falls_by_a_cosine():
    shares = [float(cosine_share(0.3, jnp.float32(t))) for t in (0.0, 0.5, 1.0, 2.0)]
    assert shares == pytest.approx([0.3, 0.15, 0.0, 0.0], abs=1e-7)
