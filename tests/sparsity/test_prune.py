"""Pruning: the right leaves, exact counts, and zeros that stay zero whatever the optimizer does."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kanbatsu
from kanbatsu.sparsity.count import parameters
from kanbatsu.sparsity.prune import plan

KEY = jax.random.key(0)


class Net(eqx.Module):
    """A convolution, two linear layers and a norm, as a user would write them."""

    convolution: eqx.nn.Conv2d
    norm: eqx.nn.LayerNorm
    hidden: eqx.nn.Linear
    out: eqx.nn.Linear
    temperature: jax.Array

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.convolution = eqx.nn.Conv2d(2, 8, 3, key=keys[0])
        self.norm = eqx.nn.LayerNorm(8 * 16)
        self.hidden = eqx.nn.Linear(8 * 16, 32, key=keys[1])
        self.out = eqx.nn.Linear(32, 3, key=keys[2])
        self.temperature = jnp.ones((2, 2))

    def __call__(self, x):
        x = jax.nn.relu(self.convolution(x)).reshape(-1)
        return self.out(jax.nn.relu(self.hidden(self.norm(x))))


def masked_leaves(model):
    leaves = jax.tree.leaves(model, is_leaf=lambda x: isinstance(x, kanbatsu.Masked))
    return [leaf for leaf in leaves if isinstance(leaf, kanbatsu.Masked)]


def test_kernels_are_found_by_role_and_counts_are_exact():
    net = kanbatsu.prune(Net(KEY), 0.8, key=KEY)
    counted = kanbatsu.count(net)
    total = 8 * 2 * 9 + 128 * 32 + 32 * 3
    assert [row.path.split("/")[0] for row in counted.layers] == ["convolution", "hidden", "out"]
    assert (counted.total, counted.kept) == (total, round(0.2 * total))
    assert [row.shape for row in counted.layers] == [(3, 3, 2, 8), (128, 32), (32, 3)]
    assert counted == kanbatsu.count(net)
    assert plan(Net(KEY), 0.8).kept == counted.kept
    assert parameters(net) == parameters(Net(KEY))


def test_a_pruned_model_runs_and_its_zeros_survive_training():
    net = kanbatsu.prune(Net(KEY), 0.8, key=KEY)
    x = jax.random.normal(KEY, (2, 6, 6))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2, weight_decay=0.1))

    @eqx.filter_jit
    def step(net, target, moments):
        gradient = eqx.filter_grad(lambda n: ((n(x) - 1.0) ** 2).sum())(net)
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = optimizer.update(
                gradient, moments, eqx.filter(net, eqx.is_inexact_array)
            )
        net = eqx.apply_updates(net, updates)
        average = jax.tree.map(
            lambda new, old: 0.1 * new + 0.9 * old if eqx.is_inexact_array(old) else old,
            net,
            target,
        )
        return net, average, moments

    target, before = net, net
    moments = optimizer.init(eqx.filter(net, eqx.is_inexact_array))
    for _ in range(100):
        net, target, moments = step(net, target, moments)

    for state in (net, target, *(moments[1][0].mu, moments[1][0].nu)):
        for weight, start in zip(masked_leaves(state), masked_leaves(before), strict=True):
            assert (np.asarray(weight.value)[~np.asarray(start.mask)] == 0).all()
    for weight, start in zip(masked_leaves(net), masked_leaves(before), strict=True):
        assert (weight.mask == start.mask).all()
        moved = np.asarray(weight.value != start.value)
        assert moved.sum() > 0.9 * np.asarray(weight.mask).sum()


def test_no_sparsity_is_the_unpruned_model_bit_for_bit():
    net = Net(KEY)
    for ours, theirs in zip(
        jax.tree.leaves(kanbatsu.prune(net, 0.0, key=KEY)), jax.tree.leaves(net), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_survivors_keep_their_values():
    net, pruned = Net(KEY), kanbatsu.prune(Net(KEY), 0.5, key=KEY)
    weight = pruned.hidden.weight
    np.testing.assert_array_equal(weight.value, jnp.where(weight.mask, net.hidden.weight, 0.0))


def test_grouped_thins_neighbouring_outputs_alike_in_every_layout():
    net = kanbatsu.prune(Net(KEY), 0.5, key=KEY, pattern="grouped", group_size=8)
    mask = np.asarray(net.hidden.weight.mask)  # Equinox stores [outputs, inputs]
    assert (mask[:8] == mask[0]).all()
    assert (mask.sum(axis=1) == mask[0].sum()).all()


def test_include_and_exclude():
    net = kanbatsu.prune(Net(KEY), 0.5, key=KEY, exclude="out*")
    assert isinstance(net.out.weight, jax.Array)
    net = kanbatsu.prune(Net(KEY), 0.5, key=KEY, include=["hidden*weight"])
    assert isinstance(net.convolution, eqx.nn.Conv2d)
    assert isinstance(net.hidden.weight, kanbatsu.Masked)
    with pytest.raises(ValueError, match=r"'hiden\*' matches no prunable weight.*hidden/weight"):
        kanbatsu.prune(Net(KEY), 0.5, key=KEY, include="hiden*")


def test_budget_all_counts_every_parameter_but_removes_kernels_only():
    net = Net(KEY)
    pruned = kanbatsu.count(kanbatsu.prune(net, 0.5, key=KEY, budget="all"))
    assert pruned.total - pruned.kept == pytest.approx(0.5 * parameters(net), abs=1)
    shapes = eqx.filter_eval_shape(Net, KEY)
    assert plan(shapes, 0.5, budget="all").kept == pruned.kept


def test_what_cannot_be_pruned_is_refused():
    with pytest.raises(ValueError, match="already pruned"):
        kanbatsu.prune(kanbatsu.prune(Net(KEY), 0.5, key=KEY), 0.5, key=KEY)
    with pytest.raises(ValueError, match="nothing to prune"):
        kanbatsu.prune(eqx.nn.LayerNorm(4), 0.5, key=KEY)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        kanbatsu.prune(Net(KEY), 1.0, key=KEY)
    with pytest.raises(ValueError, match="unknown budget"):
        kanbatsu.prune(Net(KEY), 0.5, key=KEY, budget="most")


def test_the_table_reads_well():
    table = str(kanbatsu.count(kanbatsu.prune(Net(KEY), 0.8, key=KEY))).splitlines()
    assert table[0].split() == ["layer", "shape", "kept", "total", "sparsity"]
    assert table[-1].split() == ["all", "867", "4,336", "0.8000"]
    assert len({len(line) for line in table}) == 1
