"""Packed Flax layers are the dense ones with zeros: the same outputs and gradients, only faster."""

import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kanbatsu
from kanbatsu.kernels.library import library
from kanbatsu.sparsity import stored_dense

linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")

from flax.training.train_state import TrainState  # noqa: E402  (after Flax is known to be there)

from kanbatsu.flax import pack_nnx, packed  # noqa: E402
from kanbatsu.probes.jaxpr import record  # noqa: E402

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (37, 24))
PATTERNS = {"element": {}, **{f"grouped {n}": {"group_size": n} for n in (8, 16, 32)}}


class Value(linen.Module):
    """Two hidden layers, of which the second is called twice, and a norm."""

    use_bias: bool = True

    @linen.compact
    def __call__(self, x, scale=1.0):
        x = linen.relu(linen.Dense(40, use_bias=self.use_bias)(x))
        again = linen.Dense(40, name="again")
        x = linen.LayerNorm()(again(linen.relu(again(x))))
        return scale * linen.Dense(1)(x)


def pruned(module, pattern="element", sparsity=0.7, x=X):
    params = module.init(KEY, x)
    masks = kanbatsu.make_masks(
        params, sparsity, key=KEY, pattern=pattern.split()[0], **PATTERNS[pattern]
    )
    return kanbatsu.apply_masks(params, masks), masks


def products_in(apply, *arguments):
    """How many products with kept weights a function makes."""
    text = str(jax.make_jaxpr(lambda *a: apply(*a))(*arguments))  # afresh
    return text.count("kanbatsu_gathered")


def close(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for ours, theirs in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def squared(apply):
    return lambda params, x, *rest: (apply(params, x, *rest) ** 2).sum()


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("use_bias", [True, False])
def test_outputs_and_gradients_are_those_of_the_module(pattern, use_bias):
    module = Value(use_bias)
    params, masks = pruned(module, pattern)
    apply = packed(module, masks, compute="packed")
    assert products_in(apply, params, X) == 3
    for x in (X, X[0], X[:0], X[:36].reshape(2, 18, 24)):
        close(apply(params, x), module.apply(params, x))
    close(apply(params, X, scale=2.0), module.apply(params, X, scale=2.0))
    ours, theirs = (
        jax.jit(jax.grad(squared(f), argnums=(0, 1)))(params, X) for f in (apply, module.apply)
    )
    close(ours, (kanbatsu.apply_masks(theirs[0], masks), theirs[1]))


def test_a_gradient_can_be_differentiated_again_and_forwards():
    module = linen.Dense(16)
    params, masks = pruned(module)
    apply = packed(module, masks, compute="packed")
    kept = partial(kanbatsu.apply_masks, masks=masks)

    def masked(params, x):
        return module.apply(kept(params), x)

    for derive in (jax.hessian, jax.jacfwd):
        close(derive(squared(apply))(params, X), derive(squared(masked))(params, X))


def test_the_weights_of_a_trained_network_stay_zero_and_those_kept_are_the_same():
    module = Value()
    params, masks = pruned(module)
    optimizer = kanbatsu.keep_pruned(optax.adam(1e-2), masks)
    states = [
        TrainState.create(apply_fn=apply, params=params, tx=optimizer)
        for apply in (packed(module, masks, compute="packed"), module.apply)
    ]

    @jax.jit
    def step(state, x):
        def loss(params):
            return jnp.mean((state.apply_fn(params, x) - x.sum(1, keepdims=True)) ** 2)

        return state.apply_gradients(grads=jax.grad(loss)(state.params))

    with jax.numpy_dtype_promotion("standard"):
        for _ in range(20):
            states = [step(state, X) for state in states]
    ours, theirs = (state.params for state in states)
    close(ours, theirs)
    close(ours, kanbatsu.apply_masks(ours, masks))
    assert (
        np.abs(ours["params"]["again"]["kernel"] - params["params"]["again"]["kernel"]).max() > 0.05
    )


def critics(members=2):
    vmap = partial(linen.vmap, variable_axes={"params": 0}, split_rngs={"params": True})
    return vmap(Value, in_axes=None, out_axes=0, axis_size=members)()


@pytest.mark.parametrize("pattern", ["element", "grouped 16"])
def test_each_critic_of_an_ensemble_multiplies_by_its_own_weights(pattern):
    module = critics()
    params, masks = pruned(module, pattern)
    apply = packed(module, masks, compute="packed")
    assert products_in(apply, params, X) == 6
    close(apply(params, X), module.apply(params, X))
    ours, theirs = (
        jax.jit(jax.grad(squared(f), argnums=(0, 1)))(params, X) for f in (apply, module.apply)
    )
    close(ours, (kanbatsu.apply_masks(theirs[0], masks), theirs[1]))


def test_members_that_the_caller_stacks():
    module = Value()
    keys = jax.random.split(KEY, 3)
    params = jax.vmap(module.init, (0, None))(keys, X)
    masks = kanbatsu.make_masks(params, 0.7, key=KEY)
    params = kanbatsu.apply_masks(params, masks)
    shared = jax.tree.map(lambda mask: mask[0], masks)
    alike = jax.vmap(partial(kanbatsu.apply_masks, masks=shared))(params)

    def one(params, x):
        return packed(module, shared, compute="packed")(params, x)

    close(jax.vmap(one, (0, None))(alike, X), jax.vmap(module.apply, (0, None))(alike, X))
    gradients = jax.vmap(jax.grad(squared(one)), (0, None))(alike, X)
    close(gradients, jax.vmap(partial(kanbatsu.apply_masks, masks=shared))(gradients))


def product_of_members():
    masks = np.stack(
        [np.asarray(jax.random.bernoulli(k, 0.3, (24, 16))) for k in jax.random.split(KEY)]
    )
    kernels = jnp.where(masks, jax.random.normal(KEY, masks.shape), 0.0)
    return partial(stored_dense.multiply, stored_dense.products_of(masks, "packed")), kernels


def dense(x, kernel, bias=None):
    return x @ kernel if bias is None else x @ kernel + bias


VMAPS = {
    "members": lambda f, x, k, b: jax.vmap(f, (None, 0, 0))(x, k, b),
    "without bias": lambda f, x, k, b: jax.vmap(f, (None, 0))(x, k),
    "each its own batch": lambda f, x, k, b: jax.vmap(f)(jnp.stack([x, -x]), k, b),
    "one bias": lambda f, x, k, b: jax.vmap(f, (0, 0, None))(jnp.stack([x, -x]), k, b[0]),
    "last axis": lambda f, x, k, b: jax.vmap(f, (None, 2))(x, jnp.moveaxis(k, 0, 2)),
    "compiled": lambda f, x, k, b: jax.vmap(jax.jit(f), (None, 0))(x, k),
    "samples of members": lambda f, x, k, b: jax.vmap(jax.vmap(f, (None, 0)), (0, None))(x, k),
    "members of samples": lambda f, x, k, b: jax.vmap(jax.vmap(f, (0, None)), (None, 0))(x, k),
}
ALONE = {
    "one": lambda f, x, k, b: f(x, k[1], b[1]),
    "samples": lambda f, x, k, b: jax.vmap(f, (0, None, None))(x, k[0], b[0]),
    "too many": lambda f, x, k, b: jax.vmap(f, (None, 0))(x, jnp.concatenate([k, k])),
    "biases": lambda f, x, k, b: jax.vmap(f, (None, None, 0))(x, k[0], b),
    "gradients": lambda f, x, k, b: jax.vmap(jax.grad(lambda k: (f(x, k) ** 2).sum()))(k),
    "few": lambda f, x, k, b: jax.vmap(f, (None, 0))(x[:31], k),
}


@pytest.mark.parametrize("name", [*VMAPS, *ALONE])
def test_members_touch_kept_weights_only_and_one_alone_is_dense(name):
    batched = (VMAPS | ALONE)[name]
    multiply, kernels = product_of_members()
    biases = jax.random.normal(KEY, (2, 16))
    close(batched(multiply, X, kernels, biases), batched(dense, X, kernels, biases))
    poisoned = jnp.where(kernels == 0, jnp.nan, kernels)
    assert jnp.isfinite(batched(multiply, X, poisoned, biases)).all() == (name in VMAPS)


@pytest.mark.parametrize(("pattern", "fewest"), [("element", 32), ("grouped 16", 2)])
def test_few_samples_are_multiplied_densely(pattern, fewest):
    module = linen.Dense(32)
    params, masks = pruned(module, pattern)
    apply = packed(module, masks, compute="packed")
    poisoned = jax.tree.map(
        lambda mask, leaf: leaf if mask is None else jnp.where(mask, leaf, jnp.nan),
        masks,
        params,
        is_leaf=lambda node: node is None,
    )
    for samples, touches in ((fewest - 1, True), (fewest, False), (2 * fewest, False)):
        for x in (X[:samples], jnp.stack([X[:1]] * samples)):
            y = jax.jit(apply)(poisoned, x)
            each = jax.vmap(apply, (None, 0))(poisoned, x)
            assert bool(jnp.isnan(y).any()) == bool(jnp.isnan(each).any()) == touches
            close(apply(params, x), module.apply(params, x))


def test_what_the_kernels_cannot_do_is_as_it_was():
    half = linen.Dense(16, dtype=jnp.bfloat16)
    own = linen.Dense(16, dot_general=lambda *a, **k: 2.0 * jax.lax.dot_general(*a, **k))
    several = linen.DenseGeneral((4, 4))
    for module in (half, own, several):
        params, masks = pruned(module)
        apply = packed(module, masks, compute="packed")
        assert products_in(apply, params, X) == 0
        np.testing.assert_array_equal(apply(params, X), module.apply(params, X))


def test_options_of_apply_and_other_methods():
    class Noisy(linen.Module):
        def setup(self):
            self.hidden = linen.Dense(16)

        def __call__(self, x, train):
            x = linen.BatchNorm(use_running_average=not train)(self.features(x))
            return linen.Dropout(0.5, deterministic=not train)(x)

        def features(self, x):
            return self.hidden(x)

        __call__ = linen.compact(__call__)

    module = Noisy()
    variables = module.init(KEY, X, False)
    masks = kanbatsu.make_masks(variables["params"], 0.5, key=KEY)
    variables = {**variables, "params": kanbatsu.apply_masks(variables["params"], masks)}
    apply = packed(module, masks, compute="packed")
    options = {"rngs": {"dropout": KEY}, "mutable": ["batch_stats"]}
    close(apply(variables, X, True, **options), module.apply(variables, X, True, **options))
    options = {"method": "features"}
    assert products_in(partial(apply, **options), variables, X) == 1
    close(apply(variables, X, **options), module.apply(variables, X, **options))


def test_auto_packs_what_is_large_and_sparse_enough():
    module = linen.Dense(256)
    x = jnp.ones((4, 256))
    for pattern, sparsity, number in (
        ("element", 0.9, 1),
        ("element", 0.6, 0),
        ("grouped 16", 0.6, 1),
        ("grouped 16", 0.4, 0),
    ):
        params, masks = pruned(module, pattern, sparsity, x)
        expected = number if library() is not None else 0
        assert products_in(packed(module, masks), params, x) == expected
        assert products_in(packed(module, masks, compute="masked"), params, x) == 0
    params, masks = pruned(Value(), sparsity=0.9)
    assert products_in(packed(Value(), masks), params, X) == 0


def test_layers_that_flax_compiles_by_itself_keep_their_own_masks():
    class Block(linen.Module):
        @linen.compact
        def __call__(self, x, _=None):
            return linen.relu(linen.Dense(24)(x)), None

    class Blocks(linen.Module):
        lift: str

        @linen.compact
        def __call__(self, x):
            block = getattr(linen, self.lift)(Block)
            for name in ("first", "second"):
                x = block(name=name)(x)[0]
            return linen.Dense(16)(x)

    for lift in ("jit", "remat"):
        module = Blocks(lift)
        params, masks = pruned(module)
        apply = packed(module, masks, compute="packed")
        close(apply(params, X), module.apply(params, X))
        assert products_in(apply, params, X) == 1, "the last layer"
        theirs, ours = (jax.grad(squared(f))(params, X) for f in (module.apply, apply))
        close(*(kanbatsu.apply_masks(tree, masks) for tree in (ours, theirs)))

    stacked = linen.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
    module, start = stacked(), (X, None)
    params = module.init(KEY, *start)
    masks = kanbatsu.make_masks(params, 0.7, key=KEY)
    seeds = jax.vmap(lambda key: kanbatsu.apply_masks(module.init(key, *start), masks))(
        jax.random.split(KEY)
    )
    apply = packed(module, masks, compute="packed")
    close(*(jax.vmap(lambda p, f=f: f(p, *start)[0])(seeds) for f in (apply, module.apply)))


def test_what_is_not_differentiated_costs_no_product():
    module = linen.Dense(16, use_bias=False)
    params, masks = pruned(module)
    apply = packed(module, masks, compute="packed")
    for argument, products in ((0, 2), (1, 2), ((0, 1), 3)):
        text = str(jax.make_jaxpr(jax.grad(squared(apply), argument))(params, X))
        calls = ("kanbatsu_product", "kanbatsu_input_gradient", "kanbatsu_weight_gradient")
        assert sum(text.count(call) for call in calls) == products


def test_it_can_be_made_while_compiling():
    module = linen.Dense(16)
    params, masks = pruned(module)
    y = jax.jit(lambda p, x: packed(module, masks, compute="packed")(p, x))(params, X)
    close(y, module.apply(params, X))


def test_layers_that_the_kernels_cannot_list_stay_dense():
    wide = np.zeros((70_000, 1), bool)
    assert stored_dense.products_of(wide, "packed") is None
    wide[::2] = True
    assert stored_dense.products_of(wide, "packed") is None
    assert stored_dense.products_of(np.ones((24, 16), bool), "packed") is None
    assert stored_dense.products_of(np.ones((2, 2, 24, 16), bool), "packed") is None


def test_a_promotion_of_ones_own():
    def promote(inputs, kernel, bias, *, dtype):
        assert bias is None
        return 2.0 * inputs, kernel, bias

    module = linen.Dense(16, use_bias=False, promote_dtype=promote)
    params, masks = pruned(module)
    apply = packed(module, masks, compute="packed")
    assert products_in(apply, params, X) == 1
    close(apply(params, X), module.apply(params, X))


def test_wrong_input_is_named():
    _, masks = pruned(Value())
    with pytest.raises(ValueError, match="unknown compute 'fast'"):
        packed(Value(), masks, compute="fast")
    with pytest.raises(ValueError, match="unknown compute 'fast'"):
        pack_nnx(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), masks, compute="fast")
    other = linen.Dense(3)
    with pytest.raises(ValueError, match="made for another tree"):
        packed(other, masks)(other.init(KEY, X), X)
    with pytest.raises(ValueError, match="made for another tree"):
        pack_nnx(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), masks)


def test_it_can_be_pickled_and_probed():
    module = Value()
    params, masks = pruned(module)
    apply = packed(module, masks, compute="packed")
    close(pickle.loads(pickle.dumps(apply))(params, X), apply(params, X))
    assert record(module.apply, params, X)[0].shape == (37, 40)


@pytest.mark.parametrize(
    "samples",
    [(), (4, 10), *(pytest.param(x, marks=pytest.mark.slow) for x in ((8,), (40,)))],
    ids=str,
)
def test_strict_ranks_and_types_are_as_good_as_for_a_dense_module(samples):
    module = Value()
    params, masks = pruned(module)
    x = jax.random.normal(KEY, (*samples, 24))
    apply = packed(module, masks, compute="packed")
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        close(apply(params, x), module.apply(params, x))
        gradients = (jax.grad(squared(f))(params, x) for f in (apply, module.apply))
        close(*(kanbatsu.apply_masks(tree, masks) for tree in gradients))
