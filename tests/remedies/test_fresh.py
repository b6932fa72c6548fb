"""What is drawn anew equals what is drawn at the start; what is kept stays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kanbatsu.agents.remedied import Pace, Remedied
from kanbatsu.remedies import fresh
from kanbatsu.remedies.parts import FirstWeights, is_masked, masked_weights, parts_of, trainable
from kanbatsu.remedies.records import L2Init
from kanbatsu.remedies.terms import with_terms

KEY = jax.random.key(7)


def arrays(tree):
    """Return the arrays of a tree, without masks."""
    leaves = jax.tree.leaves(tree, is_leaf=is_masked)
    return [np.asarray(leaf.value if is_masked(leaf) else leaf) for leaf in leaves]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(arrays(a), arrays(b), strict=True))


@pytest.fixture(scope="module")
def dense(agent):
    """Return what is drawn with the new key, not pruned."""
    return Remedied(agent, (), Pace(0, 1, 1, 10))._draw(KEY)


def test_after_a_reset_all_is_as_initialised_with_the_new_key(agent, trained, dense):
    expected = parts_of(agent.init(KEY, agent.masks(jax.random.key(0))))
    assert list(expected) == ["actor", "critic", "temperature"]
    for name, part in parts_of(trained).items():
        new = fresh.reset(part, dense[name])
        assert not same(part.network, new.network)
        assert same(new, expected[name]), name
        if name == "critic":
            masks = [w.mask for w in masked_weights(part.network)]
            assert same(masks, [w.mask for w in masked_weights(new.network)])
            assert same(new.network, new.target)


def test_a_reset_of_heads_leaves_all_else(trained, dense):
    part = parts_of(trained)["critic"]
    new = fresh.reset_head(part, dense["critic"])
    for old, now, at_start, target in zip(
        part.network, new.network, dense["critic"], new.target, strict=True
    ):
        assert same(old.encoder, now.encoder)
        assert not same(old.head, now.head)
        assert same(now.head, fresh.like(old.head, at_start.head))
        assert same(now.head, target.head)
    adam, before = new.moments[0], part.moments[0]
    assert all((x == 0).all() for network in adam.mu for x in arrays(network.head))
    assert same([n.encoder for n in adam.nu], [n.encoder for n in before.nu])
    assert adam.count == before.count


def test_masks_drawn_anew_keep_as_many_and_moments_follow(trained):
    part = parts_of(trained)["critic"]
    new = fresh.with_new_masks(part, KEY)
    old_masks, masks = (
        [np.asarray(w.mask) for w in masked_weights(p.network)] for p in (part, new)
    )
    assert [m.sum() for m in masks] == [m.sum() for m in old_masks]
    assert not same(masks, old_masks)
    for tree in (new.network, new.target, new.moments[0].mu, new.moments[0].nu):
        for weight, mask in zip(masked_weights(tree), masks, strict=True):
            assert (np.asarray(weight.value)[~mask] == 0).all()


def test_shrink_and_perturb_mixes_weights_and_draws(trained, dense):
    part = parts_of(trained)["critic"]
    new = fresh.shrink_perturb(part, dense["critic"], 0.5, 0.25)
    draws = arrays(fresh.like(part.network, dense["critic"]))
    for now, old, draw in zip(arrays(new.network), arrays(part.network), draws, strict=True):
        np.testing.assert_allclose(now, 0.5 * old + 0.25 * draw, rtol=1e-6)
    assert all((x == 0).all() for x in arrays(new.moments))


def test_a_schedule_goes_on_where_moments_start_again():
    optimizer = optax.radam(optax.linear_schedule(1.0, 0.0, 10))
    state = jax.tree.map(lambda leaf: leaf + 3, optimizer.init(jnp.ones(2)))
    counts = [s.count for s in fresh.restarted(state)]
    assert [int(count) for count in counts] == [0, 3]


def test_first_weights_pull_nothing_at_the_start_and_towards_them_later(agent):
    critics = agent.init(KEY).critics
    term = with_terms(optax.identity(), (L2Init(strength=0.5),), "critic")
    weights = trainable(critics)
    none = jax.tree.map(jnp.zeros_like, weights)
    state = term.init(weights)
    at_start, _ = term.update(none, state, weights)
    assert all((x == 0).all() for x in arrays(at_start))
    later, _ = term.update(none, state, jax.tree.map(lambda x: 3.0 * x, weights))
    assert all(np.allclose(x, 2.0 * w) for x, w in zip(arrays(later), arrays(weights), strict=True))
    # Pruned weights were zero at the start, and nothing pulls them.
    for pull, weight in zip(masked_weights(later), masked_weights(critics), strict=True):
        assert (np.asarray(pull.value)[~np.asarray(weight.mask)] == 0).all()


def test_a_reset_begins_with_first_weights_of_its_own(dense):
    weights = trainable(dense["critic"])
    old = (FirstWeights(jax.tree.map(jnp.zeros_like, weights)), optax.EmptyState())
    assert same(fresh.restarted(old, dense["critic"])[0].weights, weights)
    assert same(fresh.restarted(old), old)
