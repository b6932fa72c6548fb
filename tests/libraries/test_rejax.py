"""rejax: the page's script, two seeds side by side, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

import kanbatsu
from kanbatsu.flax import masks, probe
from kanbatsu.integrations.rejax import prune_networks
from kanbatsu.tree import leaves_by_path

pytest.importorskip("rejax", reason="rejax: run `make libraries`")
from rejax import DQN, PPO, SAC

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def page(run_page):
    return run_page("rejax.md")


def first(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


def assert_zeros(params, *others):
    """Others are targets, or moments, whose trees are those of the parameters."""
    mask_at = leaves_by_path(params["masks"])
    assert mask_at
    for tree in (params, *others):
        values = leaves_by_path(tree["params"])
        for path, mask in mask_at.items():
            assert not np.asarray(values[path])[np.asarray(mask) < 0].any()
            assert np.asarray(values[path])[np.asarray(mask) > 0].any()


def moments(train_state):
    (adam,) = [s for s in jax.tree.leaves(train_state.opt_state, is_leaf=is_adam) if is_adam(s)]
    return adam.mu, adam.nu


def is_adam(state):
    return hasattr(state, "mu")


def test_the_page(page):
    state = page["state"]
    for train_state in (state.actor_ts, state.critic_ts):
        assert_zeros(train_state.params, *moments(train_state))
    target = state.critic_target_params
    assert_zeros(target)
    for path, mask in leaves_by_path(state.critic_ts.params["masks"]).items():
        follower = leaves_by_path(target["masks"])[path]
        assert ((np.asarray(mask) > 0) == (np.asarray(follower) > 0)).all()
    assert np.isfinite(page["returns"]).all()


def test_counts_are_exact_and_masks_differ(page):
    state = page["state"]
    actor = first(state.actor_ts.params)
    count = kanbatsu.count(actor["params"], masks(actor))
    # By hand: 3 observations, 1 action, 64 and 64 units, and heads for mean and deviation.
    assert (count.total, count.kept) == (3 * 64 + 64 * 64 + 2 * 64, 2208)
    critics = state.critic_ts.params
    for path, mask in leaves_by_path(critics["masks"]).items():
        assert mask.shape[:2] == (2, 2), path  # seeds and critics
        kept = (np.asarray(mask) > 0).reshape(4, -1)
        assert len(set(kept.sum(axis=1))) == 1
        assert len(np.unique(kept, axis=0)) == 4
    kept = sum(int((mask > 0).sum()) for mask in leaves_by_path(critics["masks"]).values())
    dense = sum(
        leaf.size
        for path, leaf in leaves_by_path(critics["params"]).items()
        if path.endswith("kernel") and path not in leaves_by_path(critics["masks"])
    )
    assert kept + dense == 4 * round(0.2 * (4 * 64 + 64 * 64 + 64))


def test_a_saved_state_keeps_its_masks(page):
    state = first(page["state"])
    fresh = page["algorithm"].init_state(jax.random.PRNGKey(7))
    assert not trees_equal(fresh.actor_ts.params["masks"], state.actor_ts.params["masks"])
    loaded = serialization.from_bytes(fresh, serialization.to_bytes(state))
    assert trees_equal(loaded.actor_ts.params, state.actor_ts.params)
    assert trees_equal(loaded.critic_target_params, state.critic_target_params)
    act = page["algorithm"].make_act(loaded)
    with jax.numpy_dtype_promotion("standard"):
        assert np.isfinite(act(jnp.ones(3), jax.random.PRNGKey(0))).all()


def trees_equal(one, other):
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), one, other)))


@pytest.mark.parametrize(("algorithm", "state"), [(PPO, "actor_ts"), (DQN, "q_ts")])
def test_other_algorithms_begin_pruned(algorithm, state):
    made = algorithm.create(env="CartPole-v1")
    share = {"critic": 0.8} if algorithm is DQN else {"actor": 0.8, "critic": 0.5}
    pruned = prune_networks(made, **share)
    with jax.numpy_dtype_promotion("standard"):
        params = getattr(pruned.init_state(jax.random.PRNGKey(0)), state).params
        dense = getattr(made.init_state(jax.random.PRNGKey(0)), state).params
    assert "masks" not in dense
    count = kanbatsu.count(params["params"], masks(params))
    assert count.total == 4 * 64 + 64 * 64 + 64 * 2
    assert count.kept == round(0.2 * count.total)
    assert_zeros(params)


def test_the_networks_can_be_probed(page):
    params = first(page["state"].actor_ts.params)
    observations = jax.random.normal(jax.random.key(0), (64, 3))
    with jax.numpy_dtype_promotion("standard"):
        health = probe(page["algorithm"].actor, params, observations, jax.random.PRNGKey(0))
    assert health["srank"] >= 1


def test_wrong_input_is_refused():
    algorithm = SAC.create(env="Pendulum-v1")
    with pytest.raises(ValueError, match="this DQN has no actor to prune, only critic"):
        prune_networks(DQN.create(env="CartPole-v1"), actor=0.5)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        prune_networks(algorithm, critic=1.0)
    with pytest.raises(ValueError, match="pattern"):
        prune_networks(algorithm, pattern="stripes")
    with pytest.raises(ValueError, match="this dict is no algorithm of rejax"):
        prune_networks({})
    with pytest.raises(ValueError, match="networks of this SAC are pruned already"):
        prune_networks(prune_networks(algorithm))
    assert prune_networks(algorithm, 0.0, 0.0) == algorithm
