"""Dynamic sparsity: counts, what begins at zero, and targets that follow at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kanbatsu
from kanbatsu.remedies import rewire
from kanbatsu.remedies.parts import is_masked, masked_weights, parts_of, unmasked
from kanbatsu.sparsity.weight import with_masks

KEY = jax.random.key(3)


def masks_of(tree):
    return [np.asarray(weight.mask) for weight in masked_weights(tree)]


def values_of(tree):
    return [np.asarray(weight.value) for weight in masked_weights(tree)]


def moved(kind, part):
    if kind == "set":
        return rewire.move_at_random(part, 0.3, KEY)
    gradient = jax.tree.map(lambda x: jax.random.normal(KEY, x.shape), unmasked(part.network))
    return rewire.move_by_gradient(part, gradient, jnp.float32(0.3))


@pytest.mark.parametrize("kind", ["set", "rigl"])
def test_counts_stay_and_what_begins_is_zero_everywhere(kind, trained):
    part = parts_of(trained)["critic"]
    for _ in range(2):
        new = moved(kind, part)
        before, after = masks_of(part.network), masks_of(new.network)
        assert [m.sum() for m in after] == [m.sum() for m in before]
        assert any((a != b).any() for a, b in zip(after, before, strict=True))
        for old, now in zip(before, after, strict=True):
            dropped, grown = old & ~now, now & ~old
            asked = int(np.float32(0.3) * np.float32(old.sum()))
            assert dropped.sum() == grown.sum() == min(asked, (~old).sum())
            assert not (dropped & grown).any()
        assert all((a == b).all() for a, b in zip(masks_of(new.target), after, strict=True))
        for tree in (new.network, new.target, new.moments[0].mu, new.moments[0].nu):
            for value, old, now in zip(values_of(tree), before, after, strict=True):
                assert (value[~now] == 0).all()
                assert (value[now & ~old] == 0).all()
        part = new


def test_rigl_grows_where_the_unmasked_gradient_is_largest(trained):
    part = parts_of(trained)["critic"]
    gradient = jax.tree.map(lambda x: jax.random.normal(KEY, x.shape), unmasked(part.network))
    new = rewire.move_by_gradient(part, gradient, jnp.float32(0.3))
    leaves = [
        np.abs(np.asarray(g))
        for g, w in zip(
            jax.tree.leaves(gradient),
            jax.tree.leaves(part.network, is_leaf=is_masked),
            strict=True,
        )
        if is_masked(w)
    ]
    for size, old, now in zip(leaves, masks_of(part.network), masks_of(new.network), strict=True):
        grown = now & ~old
        if grown.any() and not (old | now).all():
            assert size[grown].min() > size[~old & ~now].max()


def test_gradual_pruning_ends_with_the_counts_of_a_static_arm(agent):
    masks = jax.tree.map(jnp.ones_like, agent.masks(KEY))
    state = agent.init(KEY, masks)
    part = parts_of(state)["critic"]
    kept = []
    for at in (100, 250, 400, 500):
        part = rewire.prune_gradually(part, 0.5, "erk", 100, 400, jnp.int32(at))
        kept.append(int(rewire.kept_weights(part.network)))
    static = agent.init(jax.random.key(9))
    total = kanbatsu.count(static.critics).total
    assert kept[0] == total
    assert kept[1] == pytest.approx(total * (1 - 0.5 * 0.875), abs=6)
    assert kept[2] == kept[3] == kanbatsu.count(static.critics).kept
    ours, theirs = (
        [layer.kept for layer in kanbatsu.count(critics).layers]
        for critics in (part.network, static.critics)
    )
    assert ours == theirs
    assert all(
        (a == b).all() for a, b in zip(masks_of(part.network), masks_of(part.target), strict=True)
    )


def test_the_smallest_weights_go(agent):
    state = agent.init(KEY, jax.tree.map(jnp.ones_like, agent.masks(KEY)))
    part = parts_of(state)["critic"]
    new = rewire.prune_gradually(part, 0.5, "uniform", 0, 10, jnp.int32(10))
    for old, mask in zip(values_of(part.network), masks_of(new.network), strict=True):
        if not mask.all():
            assert np.abs(old[mask]).min() >= np.abs(old[~mask]).max()


def test_a_revival_adds_a_share_and_begins_at_zero(trained):
    part = parts_of(trained)["critic"]
    new = rewire.revive(part, 0.2, KEY)
    before, after = (int(rewire.kept_weights(p.network)) for p in (part, new))
    assert after - before == pytest.approx(0.2 * before, abs=len(masks_of(part.network)))
    for old, now, value in zip(
        masks_of(part.network), masks_of(new.network), values_of(new.network), strict=True
    ):
        assert (old <= now).all()
        assert (value[now & ~old] == 0).all()
    assert all(
        (a == b).all() for a, b in zip(masks_of(new.target), masks_of(new.network), strict=True)
    )


def test_dense_networks_are_left_alone(trained):
    actor = parts_of(trained)["actor"]
    assert not masked_weights(actor.network)
    new = rewire.move_at_random(actor, 0.3, KEY)
    assert all(
        bool((a == b).all())
        for a, b in zip(jax.tree.leaves(actor), jax.tree.leaves(new), strict=True)
    )


def test_masked_weights_that_keep_all_do_not_move():
    network = with_masks({"w": jnp.ones((2, 3))}, {"w": jnp.ones((2, 3), bool)})
    part = rewire.Part(network, ())
    new = rewire.move_at_random(part, 0.5, KEY)
    assert masks_of(new.network)[0].all()
    assert (values_of(new.network)[0] == 1).all()
