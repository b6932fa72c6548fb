"""Masks: exact counts, the shape of a group, and the same draw from the same key."""

import hashlib

import jax
import numpy as np
import pytest

from kanbatsu.sparsity.pattern import draw

KEY = jax.random.key(0)


@pytest.mark.parametrize("kept", [0, 1, 17, 59, 60])
def test_element_keeps_exactly(kept):
    assert draw(KEY, (6, 10), kept).sum() == kept


def test_grouped_gives_neighbouring_outputs_the_same_inputs():
    mask = draw(KEY, (12, 40), kept=5 * 40, pattern="grouped", group_size=16)
    assert (mask.sum(axis=0) == 5).all()
    for group in (mask[:, :16], mask[:, 16:32], mask[:, 32:]):  # the last one has 8 outputs
        assert (group == group[:, :1]).all()
    assert (mask[:, 0] != mask[:, 16]).any()


def test_grouped_counts_a_window_as_inputs():
    mask = draw(KEY, (3, 3, 4, 8), kept=9 * 8, pattern="grouped", group_size=4)
    assert (mask.reshape(36, 8).sum(axis=0) == 9).all()


def test_channel_takes_whole_windows_of_input_channels_and_is_grouped_where_there_are_none():
    mask = draw(KEY, (3, 3, 8, 12), kept=3 * 9 * 12, pattern="channel", group_size=4)
    windows = mask.reshape(9, 8, 12)
    assert (windows == windows[:1]).all()
    assert (windows[0].sum(axis=0) == 3).all()
    for first in (0, 4, 8):
        assert (mask[..., first : first + 4] == mask[..., first : first + 1]).all()
    assert (mask[..., 0] != mask[..., 4]).any()
    alike = [draw(KEY, (12, 40), 5 * 40, pattern=name) for name in ("grouped", "channel")]
    assert np.array_equal(*alike)
    with pytest.raises(ValueError, match="moves in steps of 108"):
        draw(KEY, (3, 3, 8, 12), kept=3 * 12, pattern="channel")


def test_grouped_refuses_a_count_that_its_groups_cannot_hold():
    with pytest.raises(ValueError, match="moves in steps of 40"):
        draw(KEY, (12, 40), kept=41, pattern="grouped")


def test_every_weight_is_equally_likely():
    masks = [draw(key, (4, 5), kept=5) for key in jax.random.split(KEY, 2000)]
    share = np.mean(masks, axis=0)
    # Standard error sqrt(.25 * .75 / 2000) = 0.0097; 20 cells within 5 of them.
    assert abs(share - 0.25).max() < 0.05


def test_the_same_key_draws_the_same_mask_everywhere():
    mask = draw(jax.random.key(7), (64, 48), kept=300)
    digest = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
    assert digest[:16] == "9817d7ed02329db9"
    assert (draw(jax.random.key(8), (64, 48), kept=300) != mask).any()


def test_bernoulli_is_right_on_average_only():
    keys = jax.random.split(KEY, 50)
    counts = [draw(key, (50, 50), 500, pattern="bernoulli").sum() for key in keys]
    assert np.mean(counts) == pytest.approx(500, abs=5 * np.sqrt(2500 * 0.16 / 50))
    assert np.std(counts) > 0


def test_unknown_pattern():
    with pytest.raises(ValueError, match="unknown pattern 'block'"):
        draw(KEY, (3, 4), 2, pattern="block")
