"""Packed and grouped weights are the masked one in every respect but their size."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kanbatsu
from kanbatsu.sparsity.packed import Grouped, Packed
from kanbatsu.sparsity.pattern import draw
from kanbatsu.sparsity.weight import Masked, affine, is_pruned, matmul, to_dense

KEY = jax.random.key(0)
GROUP = 8


def as_packed(value, mask, **options):
    return Packed.of(value, mask, **options)


def as_grouped(value, mask, **options):
    return Grouped.of(value, mask, group_size=GROUP, **options)


FORMS = {"element": as_packed, "grouped": as_grouped}
forms = pytest.mark.parametrize("pattern", FORMS)


def random_weight(pattern, inputs, outputs, inputs_kept, key=KEY):
    """A dense value and a mask that keeps `inputs_kept` inputs of each output, on average."""
    value = jax.random.normal(key, (inputs, outputs))
    return value, draw(key, (inputs, outputs), inputs_kept * outputs, pattern, GROUP)


def test_packed_by_hand():
    value = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    mask = np.array([[True, False], [False, True], [True, True]])
    weight = Packed.of(value, mask)
    np.testing.assert_array_equal(weight.values, [1, 5, 4, 6])
    np.testing.assert_array_equal(weight.by_output.starts, [0, 2, 4])
    np.testing.assert_array_equal(weight.by_output.sources, [0, 2, 1, 2])
    np.testing.assert_array_equal(weight.by_input.starts, [0, 1, 2, 4])
    np.testing.assert_array_equal(weight.by_input.sources, [0, 1, 0, 1])
    np.testing.assert_array_equal(weight.order, [0, 2, 1, 3])
    assert (weight.kept, weight.shape, weight.ndim) == (4, (3, 2), 2)
    np.testing.assert_array_equal(to_dense(weight), [[1, 0], [0, 4], [5, 6]])
    np.testing.assert_array_equal(matmul(jnp.array([1.0, 10.0, 100.0]), weight), [501, 640])


def test_grouped_by_hand():
    mask = np.zeros((3, 10), bool)
    mask[[0, 2], :8] = True
    mask[[1, 2], 8:] = True
    value = jnp.arange(30.0).reshape(3, 10)
    weight = Grouped.of(value, mask, group_size=8)
    np.testing.assert_array_equal(weight.sources, [[0, 2], [1, 2]])
    np.testing.assert_array_equal(weight.values[0], [range(8), range(20, 28)])
    np.testing.assert_array_equal(weight.values[1], [[18, 19] + [0] * 6, [28, 29] + [0] * 6])
    assert (weight.kept, weight.shape, weight.ndim) == (20, (3, 10), 2)
    np.testing.assert_array_equal(to_dense(weight), np.where(mask, value, 0))


@forms
def test_forward_and_gradients_are_those_of_the_masked_weight(pattern):
    value, mask = random_weight(pattern, 40, 27, inputs_kept=9)
    x, dy = jax.random.normal(KEY, (35, 40)), jax.random.normal(KEY, (35, 27))
    bias = jax.random.normal(KEY, (27,))
    masked, packed = Masked.of(value, mask), FORMS[pattern](value, mask)
    assert packed.kept == masked.kept == mask.sum()

    @eqx.filter_jit
    def run(weight):
        y, back = eqx.filter_vjp(matmul, x, weight)
        return y, affine(x, weight, bias, relu=True), *back(dy)

    (y, positive, dx, dweight), expected = run(packed), run(masked)
    # Sums of 9 products of standard normals: a hundred roundings of the largest.
    np.testing.assert_allclose(y, expected[0], atol=2e-5)
    np.testing.assert_allclose(positive, expected[1], atol=2e-5)
    np.testing.assert_allclose(dx, expected[2], atol=2e-5)
    dense = to_dense(eqx.combine(dweight, packed))
    np.testing.assert_allclose(dense, expected[3].value, atol=5e-5)


class Net(eqx.Module):
    """Two layers and a ReLU."""

    weights: tuple
    biases: tuple

    def __call__(self, x):
        hidden = affine(x, self.weights[0], self.biases[0], relu=True)
        return affine(hidden, self.weights[1], self.biases[1])


def make_net(pattern, form):
    pairs = [
        random_weight(pattern, 12, 40, 4, jax.random.key(1)),
        random_weight(pattern, 40, 11, 9, jax.random.key(2)),
    ]
    weights = tuple(form(value / 3, mask) for value, mask in pairs)
    return Net(weights, (jnp.zeros(40), jnp.zeros(11)))


def train(net, updates=100):
    """AdamW with weight decay and clipping, and a Polyak target; returns all that it holds."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, weight_decay=0.1))
    x, y = jax.random.normal(KEY, (20, 12)), jax.random.normal(KEY, (20, 11))

    @eqx.filter_jit
    def step(net, target, state):
        gradient = eqx.filter_grad(lambda net: ((net(x) - y) ** 2).mean())(net)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, eqx.filter(net, eqx.is_array))
        net = eqx.apply_updates(net, updates)
        target = jax.tree.map(
            lambda new, old: 0.1 * new + 0.9 * old if eqx.is_inexact_array(old) else old,
            net,
            target,
        )
        return net, target, state

    target = jax.tree.map(jnp.copy, net)
    state = optimizer.init(eqx.filter(net, eqx.is_inexact_array))
    for _ in range(updates):
        net, target, state = step(net, target, state)
    return net, target, state


@forms
def test_a_hundred_updates_are_those_of_the_masked_network(pattern):
    start = make_net(pattern, FORMS[pattern])
    net, target, state = train(start)
    masked_net, masked_target, _ = train(make_net(pattern, Masked.of))
    for trained, expected in ((net, masked_net), (target, masked_target)):
        for weight, other in zip(trained.weights, expected.weights, strict=True):
            # Every weight moved by up to 0.1; Adam divides rounding errors of small gradients by
            # their size, so they are not in the last bit any more.
            np.testing.assert_allclose(to_dense(weight), other.value, atol=2e-5)
            assert (to_dense(weight)[~other.mask] == 0).all()
        for bias, other in zip(trained.biases, expected.biases, strict=True):
            np.testing.assert_allclose(bias, other, atol=2e-5)
    moved = [
        abs(to_dense(a) - to_dense(b)).max()
        for a, b in zip(start.weights, net.weights, strict=True)
    ]
    assert min(moved) > 0.02
    # Both moments, of kept values (with the padding of the last group, 11 of 16 outputs) and
    # biases, and nothing else.
    kept = {"element": 12 * 40 // 3 + 9 * 11, "grouped": 12 * 40 // 3 + 9 * 16}[pattern]
    sizes = [leaf.size for leaf in jax.tree.leaves(state) if eqx.is_inexact_array(leaf)]
    assert sum(sizes) == 2 * (kept + 40 + 11)


def test_padding_stays_zero():
    net, _, _ = train(make_net("grouped", as_grouped))
    np.testing.assert_array_equal(net.weights[1].values[-1, :, 3:], 0)


@forms
def test_a_weight_shares_nothing_with_its_copy_or_with_what_it_was_made_from(pattern):
    value, mask = random_weight(pattern, 6, 8, 3)
    value, mask = np.array(value), np.array(mask)
    weight = FORMS[pattern](value, mask)
    before, expected = jax.tree.map(np.array, weight), np.where(mask, value, 0)
    value[:], mask[:] = 7.0, True
    copy = jax.tree.map(jnp.copy, weight)
    for leaf in jax.tree.leaves(copy):
        leaf.delete()
    for leaf, other in zip(jax.tree.leaves(weight), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(leaf, other)
    np.testing.assert_array_equal(to_dense(weight), expected)


def test_what_cannot_be_packed_is_refused():
    value, mask = jnp.ones((3, 16)), np.ones((3, 16), bool)
    for form in FORMS.values():
        with pytest.raises(ValueError, match=r"\(16, 3\) must have the weight's shape \(3, 16\)"):
            form(value, mask.T)
        with pytest.raises(ValueError, match="of two axes"):
            form(value[0], mask[0])
    with pytest.raises(ValueError, match=r"must be one of \(8, 16, 32\): got 4"):
        Grouped.of(value, mask, group_size=4)
    uneven, mixed = mask.copy(), mask.copy()
    uneven[0, :8] = False
    mixed[0, 3] = False
    for other in (uneven, mixed):
        with pytest.raises(ValueError, match="as many inputs for groups of 8"):
            Grouped.of(value, other, group_size=8)
    for shape in ((65_537, 1), (1, 65_537)):
        with pytest.raises(ValueError, match=r"at most 65,536 inputs and outputs.*grouped pattern"):
            Packed.of(jnp.ones(shape), np.ones(shape, bool))


def test_the_most_inputs_that_fit():
    mask = np.zeros((65_536, 1), bool)
    mask[[0, 1024, 65_535]] = True
    weight = Packed.of(jnp.arange(65_536.0)[:, None], mask)
    np.testing.assert_array_equal(matmul(jnp.ones((2, 65_536)), weight), [[1024 + 65_535]] * 2)


@forms
def test_inside_an_equinox_layer(pattern):
    layer = eqx.nn.Linear(12, 19, key=KEY)
    mask = draw(KEY, (12, 19), 5 * 19, pattern, GROUP).T  # Equinox stores [outputs, inputs]
    x = jax.random.normal(KEY, (6, 12))

    def holding(weight):
        return eqx.tree_at(lambda layer: layer.weight, layer, weight)

    packed = holding(FORMS[pattern](layer.weight, mask, outputs_first=True))
    masked = holding(Masked.of(layer.weight, mask))
    assert packed.weight.shape == (19, 12)
    np.testing.assert_array_equal(to_dense(packed.weight), masked.weight.value)

    @eqx.filter_jit
    def run(layer):
        gradient = eqx.filter_grad(lambda layer: (jax.vmap(layer)(x) ** 2).sum())(layer)
        return layer(x[0]), jax.vmap(layer)(x), gradient

    (one, batch, mine), (other_one, other_batch, theirs) = run(packed), run(masked)
    np.testing.assert_allclose(one, other_one, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(batch, other_batch, rtol=1e-5, atol=1e-6)
    dense = to_dense(eqx.combine(mine.weight, packed.weight))
    np.testing.assert_allclose(dense, theirs.weight.value, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mine.bias, theirs.bias, rtol=1e-5, atol=1e-5)


@forms
def test_pruning_to_packed_keeps_what_pruning_to_masked_keeps(pattern):
    model = eqx.nn.MLP(12, 8, 40, 1, key=KEY)
    options = {"key": jax.random.key(1), "pattern": pattern, "group_size": GROUP}
    packed = kanbatsu.prune(model, 0.9, compute="packed", **options)
    masked = kanbatsu.prune(model, 0.9, compute="masked", **options)
    kind = {"element": Packed, "grouped": Grouped}[pattern]
    for mine, theirs in zip(packed.layers, masked.layers, strict=True):
        assert isinstance(mine.weight, kind)
        assert isinstance(theirs.weight, Masked)
        np.testing.assert_array_equal(to_dense(mine.weight), theirs.weight.value)
    x = jax.random.normal(KEY, (5, 12))
    run = eqx.filter_jit(lambda model: jax.vmap(model)(x))
    np.testing.assert_allclose(run(packed), run(masked), rtol=1e-5, atol=1e-6)
    assert kanbatsu.count(packed) == kanbatsu.count(masked)
    assert str(kanbatsu.count(packed)) == str(kanbatsu.count(masked))


def test_a_convolution_stays_masked():
    model = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(2, 8, 3, key=KEY),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(8 * 4, 6, key=KEY),
        ]
    )
    packed = kanbatsu.prune(model, 0.5, key=KEY, compute="packed")
    masked = kanbatsu.prune(model, 0.5, key=KEY, compute="masked")
    kinds = [type(leaf) for leaf in jax.tree.leaves(packed, is_leaf=is_pruned) if is_pruned(leaf)]
    assert kinds == [Masked, Packed]
    x = jax.random.normal(KEY, (2, 4, 4))
    run = eqx.filter_jit(lambda model: model(x))
    np.testing.assert_allclose(run(packed), run(masked), rtol=1e-5, atol=1e-6)
