"""Masks for the trees of other libraries: which axes mean what, one mask per member, zeros stay."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kanbatsu
from kanbatsu.sparsity.pattern import draw
from kanbatsu.sparsity.prune import plan
from kanbatsu.sparsity.roles import find_kernels

KEY = jax.random.key(0)


def layer(inputs, outputs, *members):
    """A layer as Flax stores it, `members` of it stacked by `vmap`."""
    return {"kernel": jnp.ones((*members, inputs, outputs)), "bias": jnp.ones((*members, outputs))}


def norm(units, *members):
    return {"scale": jnp.ones((*members, units)), "bias": jnp.ones((*members, units))}


FLAX_LIKE = {
    "encoder": {"Dense_0": layer(8, 16), "LayerNorm_0": norm(16)},
    "head": layer(16, 4),
    "log_temperature": jnp.ones(()),
}
CRITICS = {
    "Dense_0": layer(6, 16, 3),
    "LayerNorm_0": norm(16, 3),
    "Dense_1": layer(16, 16, 3),
    "Dense_2": layer(16, 1, 3),
    "Embed_0": {"embedding": jnp.ones((3, 5, 4))},
}


def leaf(tree, path):
    for name in path.split("/"):
        tree = tree[name]
    return np.asarray(tree)


def kernels_of(masks):
    leaves = jax.tree_util.tree_leaves_with_path(masks)
    return {"/".join(str(key.key) for key in keys): np.asarray(mask) for keys, mask in leaves}


@pytest.mark.parametrize(
    ("kernel", "bias", "members", "shape"),
    [
        ((3, 4), (4,), (), (3, 4)),
        ((3, 4), None, (), (3, 4)),
        ((3, 4, 5), (5,), (), (3, 4, 5)),  # a convolution over time
        ((3, 3, 4, 5), (5,), (), (3, 3, 4, 5)),  # and over an image
        ((3, 3, 5, 4), (5,), (), (3, 3, 5, 4)),  # Haiku's transposed one
        ((2, 3, 4), (2, 4), (2,), (3, 4)),  # two critics under vmap
        ((2, 3, 4, 5), (2, 5), (2,), (3, 4, 5)),  # two convolutions under vmap
        ((7, 2, 3, 4), (7, 2, 4), (7, 2), (3, 4)),  # vmap of vmap
        ((8, 2, 4), (2, 4), (), (8, 8)),  # an attention's query: two heads of four
        ((3, 8, 2, 4), (3, 2, 4), (3,), (8, 8)),  # three of these
    ],
)
def test_the_bias_tells_what_the_axes_of_a_kernel_mean(kernel, bias, members, shape):
    tree = {"kernel": jnp.ones(kernel)} | ({} if bias is None else {"bias": jnp.ones(bias)})
    found = find_kernels(tree)["kernel"]
    assert (found.members, found.shape) == (members, shape)
    (row,) = plan(tree, 0.5).layers
    assert (row.kept, row.total) == (
        round(0.5 * np.prod(shape)) * np.prod(members),
        np.prod(kernel),
    )


@pytest.mark.parametrize(
    ("kernel", "bias"),
    [
        ((2, 3, 4), None),
        ((3, 3, 4, 5), None),
        ((2, 2, 4), (2, 4)),  # two members of 2 -> 4, or 2 -> two heads of 4
        ((3, 3, 4, 5), (5, 1, 1)),
    ],
)
def test_what_the_bias_leaves_open_is_asked(kernel, bias):
    tree = {"conv": {"kernel": jnp.ones(kernel)}}
    if bias:
        tree["conv"]["bias"] = jnp.ones(bias)
    with pytest.raises(ValueError, match=r"cannot tell .* conv/kernel \(\d, .*ensemble=\(\)"):
        kanbatsu.make_masks(tree, 0.5, key=KEY)
    with pytest.raises(ValueError, match="cannot tell"):
        plan(tree, 0.5)
    assert kanbatsu.count(tree).total == np.prod(kernel)  # counting needs no answer
    (row,) = plan(tree, 0.5, ensemble="conv").layers
    assert row.kept == kernel[0] * round(0.5 * np.prod(kernel[1:]))
    (row,) = plan(tree, 0.5, ensemble=()).layers
    assert row.kept == round(0.5 * np.prod(kernel))


def test_an_ensemble_pattern_must_fit():
    with pytest.raises(ValueError, match=r"no axis for members.*head/kernel"):
        kanbatsu.make_masks(FLAX_LIKE, 0.5, key=KEY, ensemble="head")
    with pytest.raises(ValueError, match=r"'critic\*' matches no prunable weight.*head/kernel"):
        kanbatsu.make_masks(FLAX_LIKE, 0.5, key=KEY, ensemble="critic*")


def test_each_member_gets_what_it_would_get_alone():
    masks = kernels_of(kanbatsu.make_masks(CRITICS, 0.8, key=KEY))
    assert sorted(masks) == ["Dense_0/kernel", "Dense_1/kernel", "Dense_2/kernel"]
    for member, key in enumerate(jax.random.split(KEY, 3)):
        alone = jax.tree.map(lambda leaf, member=member: leaf[member], CRITICS)
        for path, mask in kernels_of(kanbatsu.make_masks(alone, 0.8, key=key)).items():
            np.testing.assert_array_equal(masks[path][member], mask)
        assert sum(mask[member].sum() for mask in masks.values()) == round(0.2 * (96 + 256 + 16))
    hidden = masks["Dense_1/kernel"]
    assert all((hidden[i] != hidden[j]).any() for i, j in ((0, 1), (0, 2), (1, 2)))


def test_a_shared_trunk_and_its_ensemble_share_out_their_sparsity_apart():
    tree = {"trunk": layer(20, 30), "heads": layer(30, 10, 4)}
    masks = kernels_of(kanbatsu.make_masks(tree, 0.9, key=KEY))
    assert masks["trunk/kernel"].sum() == 60
    assert masks["heads/kernel"].sum(axis=(1, 2)).tolist() == [30, 30, 30, 30]
    rows = kanbatsu.count(tree, kanbatsu.make_masks(tree, 0.9, key=KEY)).layers
    assert [(row.shape, row.kept, row.total) for row in rows] == [
        ((4, 30, 10), 120, 1200),
        ((20, 30), 60, 600),
    ]


def test_every_kernel_has_a_share_of_the_key_in_flatten_order():
    masks = kanbatsu.make_masks(FLAX_LIKE, 0.75, key=KEY, distribution="uniform")
    first, second = jax.random.split(KEY)
    encoder, head = leaf(masks, "encoder/Dense_0/kernel"), leaf(masks, "head/kernel")
    np.testing.assert_array_equal(encoder, draw(first, (8, 16), 32))
    np.testing.assert_array_equal(head, draw(second, (16, 4), 16))


def test_kernels_are_told_from_biases_norms_and_embeddings():
    masks = kanbatsu.make_masks(FLAX_LIKE, 0.75, key=KEY)
    assert masks["encoder"]["Dense_0"]["bias"] is None
    assert masks["encoder"]["LayerNorm_0"] == {"scale": None, "bias": None}
    assert masks["log_temperature"] is None
    counted = kanbatsu.count(FLAX_LIKE, masks)
    assert (counted.kept, counted.total) == (48, 192)
    pruned = kanbatsu.apply_masks(FLAX_LIKE, masks)
    assert sum(int(leaf.sum()) for leaf in jax.tree.leaves(pruned)) == 48 + 16 + 32 + 4 + 1
    # A pattern that fits kernels takes nothing else: an ensemble's biases have two axes, too.
    for include in ("*", ["Dense_*", "Dense_0/*"]):
        of_ensemble = kanbatsu.make_masks(CRITICS, 0.5, key=KEY, include=include)
        assert all(path.endswith("kernel") for path in kernels_of(of_ensemble))
    embedding = kanbatsu.make_masks(CRITICS, 0.5, key=KEY, include="Embed*", ensemble="*")
    assert list(kernels_of(embedding)) == ["Embed_0/embedding"]
    assert leaf(embedding, "Embed_0/embedding").sum(axis=(1, 2)).tolist() == [10, 10, 10]


def test_plain_trees_name_their_kernels():
    params = [(jnp.ones((4, 8)), jnp.ones(8)), (jnp.ones((8, 2)), jnp.ones(2))]
    masks = kanbatsu.make_masks(params, 0.5, key=KEY, include="*/0")
    assert [bias for _, bias in masks] == [None, None]
    assert sum(int(mask.sum()) for mask, _ in masks) == 24
    assert kanbatsu.count(params, masks).kept == 24
    with pytest.raises(ValueError, match=r"nothing to prune.*include"):
        kanbatsu.make_masks(params, 0.5, key=KEY)
    with pytest.raises(ValueError, match=r"'\*/w' matches no prunable weight.* 0/0, 1/0"):
        kanbatsu.make_masks(params, 0.5, key=KEY, include="*/w")


def test_a_sparsity_for_each_pattern():
    tree = {"actor": layer(10, 20), "critic": {"a": layer(10, 10), "b": layer(10, 10)}}
    masks = kernels_of(kanbatsu.make_masks(tree, {"actor": 0.5, "critic/*": 0.9}, key=KEY))
    assert masks["actor/kernel"].sum() == 100
    assert masks["critic/a/kernel"].sum() + masks["critic/b/kernel"].sum() == 20
    assert list(kernels_of(kanbatsu.make_masks(tree, {"actor": 0.5}, key=KEY))) == ["actor/kernel"]
    with pytest.raises(ValueError, match=r"'actr' matches no prunable weight.*actor/kernel"):
        kanbatsu.make_masks(tree, {"actr": 0.5}, key=KEY)
    with pytest.raises(ValueError, match=r"'actor' is for no kernel.*critic/a/kernel"):
        kanbatsu.make_masks(tree, {"actor": 0.5, "critic/*": 0.9}, key=KEY, include="critic/*")
    with pytest.raises(ValueError, match=r"actor/kernel is given several.*'actor', '\*'"):
        kanbatsu.make_masks(tree, {"actor": 0.5, "*": 0.9}, key=KEY)
    with pytest.raises(ValueError, match="give one number"):
        kanbatsu.make_masks(tree, {"actor": 0.5}, key=KEY, budget="all")
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        kanbatsu.make_masks(tree, {"actor": 1.5}, key=KEY)


def test_equinox_layers_under_vmap_have_members_too():
    keys = jax.random.split(KEY, 3)
    layers = eqx.filter_vmap(lambda key: eqx.nn.Linear(6, 4, key=key))(keys)
    pruned = kanbatsu.prune(layers, 0.5, key=KEY)
    for member, key in enumerate(keys):
        alone = kanbatsu.prune(eqx.nn.Linear(6, 4, key=key), 0.5, key=keys[member])
        np.testing.assert_array_equal(pruned.weight.mask[member], alone.weight.mask)
    y = eqx.filter_vmap(lambda layer, x: layer(x))(pruned, jnp.ones((3, 6)))
    np.testing.assert_allclose(y, pruned.weight.value.sum(axis=-1) + layers.bias, rtol=1e-6)
    convolutions = eqx.filter_vmap(lambda key: eqx.nn.Conv1d(2, 4, 3, key=key))(keys)
    assert kanbatsu.count(convolutions).layers[0].shape == (3, 3, 2, 4)
    with pytest.raises(ValueError, match="already pruned"):
        kanbatsu.make_masks(pruned, 0.5, key=KEY)


def test_a_query_is_drawn_as_the_matrix_that_it_is():
    query = {"kernel": jnp.ones((8, 2, 4)), "bias": jnp.ones((2, 4))}
    mask = kanbatsu.make_masks(query, 0.5, key=KEY, pattern="grouped", group_size=8)["kernel"]
    assert (np.asarray(mask).reshape(8, 8).sum(axis=1) % 8 == 0).all()  # one list for all outputs
    assert int(mask.sum()) == 32


def test_weights_targets_and_moments_stay_zero():
    params = {"actor": FLAX_LIKE, "critics": CRITICS}
    masks = kanbatsu.make_masks(params, 0.75, key=KEY)
    params = kanbatsu.apply_masks(params, masks)
    chain = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2, weight_decay=0.1))
    optimizer = kanbatsu.keep_pruned(chain, masks)

    def step(carry, time):
        params, target, state = carry
        gradient = jax.tree.map(lambda p: jnp.cos(7.0 * p + time), params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, optax.incremental_update(params, target, 0.1), state), None

    start = (params, params, optimizer.init(params))
    train = jax.jit(lambda start: jax.lax.scan(step, start, jnp.arange(100.0))[0])
    params, target, state = train(start)
    adam = state.inner[1][0]
    for path, mask in kernels_of(masks).items():
        for tree in (params, target, adam.mu, adam.nu):
            assert (leaf(tree, path)[~mask] == 0).all()
            assert (leaf(tree, path)[mask] != 0).all()


def test_masks_that_do_not_fit_are_refused():
    masks = kanbatsu.make_masks(FLAX_LIKE, 0.75, key=KEY)
    other = FLAX_LIKE | {"tail": layer(4, 4)}
    with pytest.raises(ValueError, match=r"another tree: .* nothing, and .* tail/bias, tail/kern"):
        kanbatsu.apply_masks(other, masks)
    with pytest.raises(ValueError, match=r"another tree: .* log_temperature, and .* nothing\."):
        kanbatsu.apply_masks({k: FLAX_LIKE[k] for k in ("encoder", "head")}, masks)
    wider = FLAX_LIKE | {"head": layer(16, 5)}
    with pytest.raises(ValueError, match=r"head/kernel: a mask of shape \(16, 4\) does not fit"):
        kanbatsu.keep_pruned(optax.sgd(0.1), masks).init(wider)
    with pytest.raises(ValueError, match=r"two leaves of this tree are called 'a/b/w'"):
        kanbatsu.make_masks({"a/b": {"w": jnp.ones(2)}, "a": {"b/w": jnp.ones(2)}}, 0.5, key=KEY)


def test_masks_replaced_in_the_state_take_effect_in_the_compiled_step():
    params = {"dense": layer(6, 4)}
    masks = kanbatsu.make_masks(params, 0.5, key=KEY)
    others = kanbatsu.make_masks(params, 0.5, key=jax.random.key(1))
    optimizer = kanbatsu.keep_pruned(optax.adam(1e-2), masks)
    compiled = 0

    @jax.jit
    def step(params, state):
        nonlocal compiled
        compiled += 1
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        return optax.apply_updates(params, updates), state

    def moved(before, after):
        return leaf(before, "dense/kernel") != leaf(after, "dense/kernel")

    start = kanbatsu.apply_masks(params, masks)
    first, state = step(start, optimizer.init(start))
    np.testing.assert_array_equal(moved(start, first), leaf(masks, "dense/kernel"))
    begun = kanbatsu.apply_masks(first, others)
    second, _ = step(begun, state._replace(masks=others))
    assert compiled == 1
    np.testing.assert_array_equal(moved(begun, second), leaf(others, "dense/kernel"))
