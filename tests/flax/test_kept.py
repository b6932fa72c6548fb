"""Kept values in place of kernels: the same network as the masked one, in a tenth of the memory."""

import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kanbatsu
from kanbatsu.tree import leaves_by_path

linen = pytest.importorskip("flax.linen")

from flax import serialization  # noqa: E402  (after Flax is known to be there)
from flax.training.train_state import TrainState  # noqa: E402

from kanbatsu.flax import masks as masks_of  # noqa: E402
from kanbatsu.flax import packed, probe, pruned, to_dense, to_kept  # noqa: E402

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (40, 48))
PATTERNS = ("element", "grouped", "bernoulli")


class Value(linen.Module):
    """Three hidden layers, of which the second is called twice, and a norm."""

    width: int = 64

    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Dense(self.width)(x))
        again = linen.Dense(self.width, name="again")
        x = linen.LayerNorm()(again(linen.relu(again(x))))
        return linen.Dense(1)(linen.relu(linen.Dense(self.width)(x)))


class Images(linen.Module):
    """A convolution, a projection by two axes, and a matrix."""

    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(8, (3, 3))(x.reshape(-1, 4, 4, 3)))
        x = linen.DenseGeneral((4, 4))(x.reshape(x.shape[0], -1))
        return linen.Dense(32, use_bias=False)(x.reshape(x.shape[0], -1))


def pair(module=Value):
    """Two critics that `nn.vmap` stacked."""
    vmap = partial(linen.vmap, variable_axes={"params": 0}, split_rngs={"params": True})
    return vmap(module, in_axes=None, out_axes=0, axis_size=2)()


MODULES = {"one": Value(), "two": pair(), "images": Images()}


def both(module, pattern="element", sparsity=0.8, compute="packed"):
    """A module's masks, its masked parameters, the kept ones, and how to apply those."""
    params = module.init(KEY, X)
    masks = kanbatsu.make_masks(params, sparsity, key=KEY, pattern=pattern)
    params = kanbatsu.apply_masks(params, masks)
    apply = packed(module, masks, compute=compute, storage="kept")
    return masks, params, to_kept(params, masks), apply


def close(left, right, rtol=1e-4, atol=1e-5):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for ours, theirs in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def equal(left, right):
    close(left, right, 0, 0)


def squared(apply):
    return lambda params, x: (apply(params, x) ** 2).sum()


@pytest.mark.parametrize(
    ("name", "pattern"),
    [*((name, pattern) for name in MODULES for pattern in PATTERNS[:2]), ("one", "bernoulli")],
)
def test_outputs_and_gradients_are_those_of_the_masked_module(name, pattern):
    module = MODULES[name]
    masks, params, kept, apply = both(module, pattern)
    equal(to_dense(kept, masks), params)
    ours = jax.jit(jax.value_and_grad(squared(apply), argnums=(0, 1)))(kept, X)
    theirs = jax.jit(jax.value_and_grad(squared(module.apply), argnums=(0, 1)))(params, X)
    value, (of_params, of_x) = theirs
    close(ours, (value, (to_kept(of_params, masks), of_x)))


@pytest.mark.parametrize("pattern", PATTERNS[:2])
def test_a_step_gathers_and_scatters_nothing(pattern):
    _, _, kept, apply = both(pair(), pattern)
    optimizer = optax.adam(1e-3)

    def step(params, state, x):
        gradient = jax.grad(squared(apply))(params, x)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    with jax.numpy_dtype_promotion("standard"):
        program = jax.jit(step).lower(kept, optimizer.init(kept), X).compile().as_text()
    assert " gather(" not in program
    assert " scatter(" not in program
    assert "kanbatsu_" in program


@pytest.mark.parametrize("storage", ["kept", "dense"])
@pytest.mark.parametrize("pattern", PATTERNS[:2])
def test_a_hundred_steps_of_adam_with_decay_and_clipping_are_those_of_masks(storage, pattern):
    module = Value()
    masks, params, kept, apply = both(module, pattern)
    plain = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, weight_decay=0.1))
    ours = (apply, kept, plain)
    if storage == "dense":
        ours = (packed(module, masks, compute="packed"), params, kanbatsu.keep_pruned(plain, masks))
    masked = (module.apply, params, kanbatsu.keep_pruned(plain, masks))

    def train(apply, params, optimizer):
        state = TrainState.create(apply_fn=apply, params=params, tx=optimizer)

        def step(state, x):
            def loss(params):
                return jnp.mean((apply(params, x) - jnp.sin(x.sum(1, keepdims=True))) ** 2)

            return state.apply_gradients(grads=jax.grad(loss)(state.params)), None

        batches = jax.random.normal(jax.random.key(2), (100, 32, 48))
        with jax.numpy_dtype_promotion("standard"):
            return jax.jit(lambda s: jax.lax.scan(step, s, batches)[0])(state).params

    after = train(*ours)
    after = to_dense(after, masks) if storage == "kept" else after
    expected = train(*masked)
    close(after, expected, rtol=2e-3, atol=2e-5)
    moved = expected["params"]["again"]["kernel"] - params["params"]["again"]["kernel"]
    assert np.abs(moved).max() > 0.02


@pytest.mark.parametrize("pattern", PATTERNS[:2])
def test_weights_moments_gradients_and_places_are_a_fifth_of_dense_at_most(pattern):
    module = pair(partial(Value, 256))
    _, params, kept, apply = both(module, pattern, sparsity=0.9)
    optimizer = optax.adam(1e-3)

    def held(params):
        trees = (params, params, optimizer.init(params), params)  # with a gradient and a target
        return sum(leaf.nbytes for leaf in jax.tree.leaves(trees))

    structures = [matrix.structure for each in apply.places.values() for matrix in each.matrices]
    places = sum(array.nbytes for array in jax.tree.leaves(structures))
    assert len(structures) == 6, "three layers of two critics; the last is too small to lose any"
    assert held(kept) + places <= (0.2 if pattern == "element" else 0.13) * held(params)


def test_single_samples_empty_batches_and_axes_in_front():
    module = Value()
    _, params, kept, apply = both(module)
    for x in (X[0], X[:0], X[:36].reshape(2, 18, 48), X[:1]):
        close(apply(kept, x), module.apply(params, x))


@pytest.mark.parametrize("compute", ["masked", "mixed"])
def test_other_ways_to_multiply_are_the_same_function(compute):
    _, params, kept, apply = both(Value(), compute=compute)
    close(jax.jit(apply)(kept, X), Value().apply(params, X))
    text = str(jax.make_jaxpr(lambda k, x: apply(k, x))(kept, X))
    assert ("kanbatsu_affine" in text) == (compute == "mixed")


@pytest.mark.parametrize("lift", ["jit", "remat", "scan"])
def test_layers_that_flax_compiles_by_itself(lift):
    class Block(linen.Module):
        @linen.compact
        def __call__(self, x, _=None):
            return linen.relu(linen.Dense(48)(x)), None

    class Blocks(linen.Module):
        @linen.compact
        def __call__(self, x):
            if lift == "scan":
                options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
                return linen.scan(Block, length=2, **options)()(x, None)[0]
            for name in ("first", "second"):
                x = getattr(linen, lift)(Block)(name=name)(x)[0]
            return x

    module = Blocks()
    masks, params, kept, apply = both(module)
    close(jax.jit(apply)(kept, X), module.apply(params, X))
    theirs = to_kept(jax.grad(squared(module.apply))(params, X), masks)
    close(jax.grad(squared(apply))(kept, X), theirs)
    text = str(jax.make_jaxpr(lambda k, x: apply(k, x))(kept, X))
    assert ("kanbatsu_affine" in text) == (lift != "scan"), "nothing tells which layer one is"


def test_a_gradient_inside_of_critics_and_second_derivatives():
    class Slope(linen.Module):
        @linen.compact
        def __call__(self, x):
            layer = linen.Dense(16)
            layer(x)
            return jax.grad(lambda x: (layer(x) ** 2).sum())(x)

    module = pair(Slope)
    _, params, kept, apply = both(module)
    close(apply(kept, X), module.apply(params, X))
    module = linen.Dense(8)
    masks, params, kept, apply = both(module)
    ours = jax.jvp(lambda k: jax.grad(squared(apply))(k, X), (kept,), (kept,))[1]
    theirs = jax.jvp(lambda p: jax.grad(squared(module.apply))(p, X), (params,), (params,))[1]
    close(ours, to_kept(theirs, masks), rtol=1e-3, atol=1e-3)


NETWORK = pruned(Value(), 0.8, storage="kept", seed=3)
VARIABLES = NETWORK.init(KEY, X)


def test_a_module_that_prunes_itself_keeps_what_its_seed_says():
    dense = Value().init(KEY, X)
    masks = kanbatsu.make_masks(dense["params"], 0.8, key=jax.random.key(3))
    assert list(VARIABLES) == ["params"]
    equal(VARIABLES["params"], to_kept(dense["params"], masks))
    pruned_ones = jax.tree.map(lambda mask: None if mask.all() else mask, masks)
    equal(masks_of(VARIABLES, NETWORK), pruned_ones)
    close(
        NETWORK.apply(VARIABLES, X),
        Value().apply(kanbatsu.apply_masks(dense, {"params": masks}), X),
    )
    y, again = jax.jit(NETWORK.init_with_output)(KEY, X)
    close((y, again), (NETWORK.apply(VARIABLES, X), VARIABLES))
    close(NETWORK.bind(VARIABLES)(X), y)
    assert pruned(Value(), 0.8, storage="kept", seed=3) == NETWORK


def test_seeds_side_by_side_keep_the_same_weights_with_other_values():
    keys = jax.random.split(KEY, 3)
    stacked = jax.jit(jax.vmap(NETWORK.init, (0, None)))(keys, X)
    alone = NETWORK.init(keys[1], X)
    close(jax.tree.map(lambda leaf: leaf[1], stacked), alone)
    outputs = jax.vmap(NETWORK.apply, (0, None))(stacked, X)
    close(outputs[1], NETWORK.apply(alone, X))
    gradients = jax.vmap(jax.grad(squared(NETWORK.apply)), (0, None))(stacked, X)
    close(jax.tree.map(lambda g: g[1], gradients), jax.grad(squared(NETWORK.apply))(alone, X))


def test_checkpoints_of_either_storage_load_into_the_other():
    masks = {"params": masks_of(VARIABLES, NETWORK)}
    masked = to_dense(VARIABLES, masks)
    saved = serialization.to_bytes(VARIABLES)
    loaded = serialization.from_bytes(NETWORK.init(jax.random.key(7), X), saved)
    equal(to_dense(loaded, masks), masked)
    from_dense = serialization.from_bytes(masked, serialization.to_bytes(masked))
    equal(to_kept(from_dense, masks), VARIABLES)
    other = pruned(Value(), 0.8, storage="kept", seed=4)
    with pytest.raises(ValueError, match="do not match"):
        serialization.from_bytes(other.init(KEY, X), saved)


def test_orbax_saves_and_restores_kept_values(tmp_path):
    orbax = pytest.importorskip("orbax.checkpoint")
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "kept", VARIABLES)
        checkpointer.wait_until_finished()
        equal(
            checkpointer.restore(tmp_path / "kept", jax.tree.map(jnp.zeros_like, VARIABLES)),
            VARIABLES,
        )


@pytest.mark.parametrize("pattern", PATTERNS)
def test_counts_need_no_masks(pattern):
    module = pair(partial(Value, 40))  # the last group of 16 is not full
    masks, params, kept, _ = both(module, pattern)
    ours, theirs = kanbatsu.count(kept), kanbatsu.count(params, masks)
    assert (ours.kept, ours.total) == (theirs.kept, theirs.total)
    assert {each.shape for each in ours.layers} == {each.shape for each in theirs.layers}


def test_probes_measure_the_network_and_its_apply_can_be_pickled():
    masks = {"params": masks_of(VARIABLES, NETWORK)}
    measured = probe(NETWORK, VARIABLES, X)
    theirs = probe(Value(), to_dense(VARIABLES, masks), X)
    close({name: measured[name] for name in theirs}, theirs)
    _, _, kept, apply = both(Value())
    close(pickle.loads(pickle.dumps(apply))(kept, X), apply(kept, X))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NETWORK.apply(Value().init(KEY, X), X), r"are dense.*to_kept\(params, masks\)"),
        (lambda: pruned(Value(), 0.8, storage="kept", seed=4).apply(VARIABLES, X),
         "under another mask.*Prune it with the seed"),
        (lambda: pruned(NETWORK, 0.5), "is pruned already"),
        (lambda: kanbatsu.make_masks(VARIABLES, 0.5, key=KEY), "already pruned"),
        (lambda: to_dense(VARIABLES, both(Value())[0]), "under another mask"),
        (lambda: to_kept(VARIABLES, both(Value())[0]), "made for another tree"),
        (lambda: masks_of(VARIABLES), "have no 'masks'.*network"),
        (lambda: pruned(Value(), 0.8, storage="sparse"), "unknown storage 'sparse'"),
        (lambda: packed(Value(), both(Value())[0], storage="sparse"), "unknown storage 'sparse'"),
    ],
)  # fmt: skip
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_names_tell_the_kernel():
    names = [path for path in leaves_by_path(VARIABLES) if "kernel_" in path]
    assert [name.rpartition("_")[0] for name in names] == [
        "params/Dense_0/kernel_48x64",
        "params/Dense_2/kernel_64x64",
        "params/again/kernel_64x64",
    ]
