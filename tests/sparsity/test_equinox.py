"""What people do with a dense Equinox model works with a pruned one, or is refused at once."""

import os
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kanbatsu
from kanbatsu.sparsity.weight import with_masks

KEY, OTHER = jax.random.key(0), jax.random.key(1)
FORMS = {
    "masked": {"compute": "masked"},
    "packed": {"compute": "packed"},
    "grouped": {"compute": "packed", "pattern": "grouped", "group_size": 8},
}
X = jax.random.normal(KEY, (16, 8))


def mlp(key=KEY):
    return eqx.nn.MLP(8, 2, 32, 2, key=key)


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


@pytest.fixture
def model(form):
    return kanbatsu.prune(mlp(), 0.8, key=OTHER, **form)


def zeros(model):
    return [kanbatsu.to_dense(layer.weight) == 0 for layer in model.layers]


OPTIMIZERS = {
    "adam": optax.adam(1e-2),
    "adamw": optax.adamw(1e-2),
    "lion": optax.lion(1e-3),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.rmsprop(1e-3)),
    # Optimizers that add something of their own to entries without a gradient:
    "noisy": optax.noisy_sgd(1e-2, key=KEY),
    "muon": optax.contrib.muon(1e-3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_trains_a_model_that_is_filtered_by_is_array(model, name):
    optimizer, choose = OPTIMIZERS[name], eqx.is_array

    def step(carry, _):
        arrays, moments = carry
        model = eqx.combine(arrays, rest)
        loss, gradient = eqx.filter_value_and_grad(lambda m: (jax.vmap(m)(X) ** 2).mean())(model)
        updates, moments = optimizer.update(gradient, moments, eqx.filter(model, choose))
        return (eqx.filter(eqx.apply_updates(model, updates), choose), moments), loss

    arrays, rest = eqx.partition(model, choose)
    with jax.numpy_dtype_promotion("standard"):
        (arrays, _), losses = jax.lax.scan(step, (arrays, optimizer.init(arrays)), None, 5)
    trained = eqx.combine(arrays, rest)
    assert losses[-1] < losses[0]
    for before, after in zip(zeros(model), zeros(trained), strict=True):
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("choose", [eqx.is_array, eqx.is_inexact_array])
def test_a_target_is_the_average_of_every_array(model, choose):
    moved = jax.tree.map(lambda x: 3.0 * x if eqx.is_array(x) else x, model)
    target, rest = eqx.partition(model, choose)
    target = jax.tree.map(lambda t, s: 0.5 * t + 0.5 * s, target, eqx.filter(moved, choose))
    averaged = eqx.combine(target, rest)
    for old, new in zip(model.layers, averaged.layers, strict=True):
        expected = 2.0 * kanbatsu.to_dense(old.weight)
        np.testing.assert_allclose(kanbatsu.to_dense(new.weight), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "replace", [lambda w: w * 0.01, lambda w: -w / 2.0, jnp.zeros_like, lambda w: jnp.ones(w.shape)]
)
def test_what_takes_a_weights_place_is_pruned_alike(model, replace):
    def where(model):
        return [layer.weight for layer in model.layers]

    before = [kanbatsu.to_dense(weight) for weight in where(model)]
    anew = eqx.tree_at(where, model, [replace(weight) for weight in where(model)])
    assert kanbatsu.count(anew) == kanbatsu.count(model)
    for old, new in zip(before, where(anew), strict=True):
        assert (kanbatsu.to_dense(new)[old == 0] == 0).all()


def test_a_convolution_stays_pruned_too():
    model = kanbatsu.prune(eqx.nn.Conv2d(2, 8, 3, key=KEY), 0.5, key=OTHER)
    anew = eqx.tree_at(lambda m: m.layer.weight, model, jnp.ones((8, 2, 3, 3)))
    assert kanbatsu.count(anew) == kanbatsu.count(model)
    assert int(kanbatsu.to_dense(anew.layer.weight).sum()) == 72


def test_a_weight_of_another_shape_is_refused(model):
    with pytest.raises(ValueError, match="cannot take the place of a pruned weight"):
        eqx.tree_at(lambda m: m.layers[0].weight, model, jnp.ones((5, 8)))


def test_saved_weights_load_into_a_model_that_keeps_the_same_ones_only(model, form, tmp_path):
    path = tmp_path / "model.eqx"
    eqx.tree_serialise_leaves(path, model)
    alike = kanbatsu.prune(mlp(OTHER), 0.8, key=OTHER, **form)
    loaded = eqx.tree_deserialise_leaves(path, alike)
    np.testing.assert_array_equal(jax.vmap(loaded)(X), jax.vmap(model)(X))
    with pytest.raises(RuntimeError) as refusal:
        eqx.tree_deserialise_leaves(path, kanbatsu.prune(mlp(), 0.8, key=KEY, **form))
    assert "saved from a model that keeps others" in str(refusal.value.__cause__)


@pytest.mark.parametrize("norm", ["weight", "spectral"])
def test_norms_of_weights_go_around_pruned_layers_and_are_pruned_with_them(norm):
    def wrap(layer):
        if norm == "weight":
            return eqx.nn.WeightNorm(layer), None
        return eqx.nn.make_with_state(eqx.nn.SpectralNorm)(layer, "weight", key=KEY)

    layer = eqx.nn.Linear(8, 32, key=KEY)
    first, first_state = wrap(kanbatsu.prune(layer, 0.5, key=OTHER, compute="masked"))
    wrapped, last_state = wrap(layer)
    last = kanbatsu.prune(wrapped, 0.5, key=OTHER, compute="masked")
    assert kanbatsu.count(first).kept == kanbatsu.count(last).kept == 128
    for pruned, state in ((first, first_state), (last, last_state)):
        result = pruned(X[0]) if state is None else pruned(X[0], state)[0]
        assert jnp.isfinite(result).all()


def test_masks_are_not_drawn_inside_jit_or_vmap_and_the_message_says_where():
    keys = jax.random.split(KEY, 2)
    params = {"kernel": jnp.ones((8, 4))}

    def draw(key):
        return kanbatsu.make_masks(params, 0.5, key=key)

    for inside in (jax.jit(draw), eqx.filter_jit(lambda key: kanbatsu.prune(mlp(), 0.5, key=key))):
        with pytest.raises(ValueError, match=r"inside jit or vmap. Draw them outside"):
            inside(KEY)
    with pytest.raises(ValueError, match=r"inside jit or vmap. Draw them outside"):
        jax.vmap(draw)(keys)
    stacked = jax.tree.map(lambda *masks: jnp.stack(masks), *map(draw, keys))
    pruned = jax.jit(jax.vmap(lambda masks: with_masks(params, masks)))(stacked)
    np.testing.assert_array_equal(pruned["kernel"].value, stacked["kernel"].astype(jnp.float32))


def test_a_model_is_pruned_inside_jit_with_a_key_that_is_known(model, form):
    inside = eqx.filter_jit(lambda dense: kanbatsu.prune(dense, 0.8, key=OTHER, **form))(mlp())
    np.testing.assert_array_equal(jax.vmap(inside)(X), jax.vmap(model)(X))


def test_several_keys_are_no_key():
    keys = jax.random.split(KEY, 2)
    with pytest.raises(ValueError, match=r"key must be one JAX random key.*keys of shape \(2,\)"):
        kanbatsu.make_masks({"kernel": jnp.ones((8, 4))}, 0.5, key=keys)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool", "bfloat16", "float16"])
def test_inputs_of_any_type_give_what_a_dense_layer_gives(model, dtype):
    x = jnp.ones((4, 8), dtype)
    with jax.numpy_dtype_promotion("standard"):
        result = jax.vmap(model)(x)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, jax.vmap(model)(jnp.ones((4, 8))), rtol=1e-6)


STRICT = """
import sys, jax
jax.config.update({mode})
import equinox as eqx, jax.numpy as jnp, kanbatsu
x = jnp.ones((4, 64))
for options in ({{"compute": "masked"}}, {{"compute": "packed"}},
                {{"compute": "packed", "pattern": "grouped"}}):
    model = eqx.nn.MLP(64, 2, 32, 1, key=jax.random.key(0))
    model = kanbatsu.prune(model, 0.8, key=jax.random.key(1), **options)
    gradient = eqx.filter_grad(lambda m: (jax.vmap(m)(x) ** 2).mean())(model)
    assert gradient.layers[0].bias.dtype == x.dtype
    y = kanbatsu.sparsity.weight.affine(x, model.layers[0].weight.array.T, jnp.ones(32))
    assert y.shape == (4, 32)
"""


@pytest.mark.parametrize(
    "mode",
    [
        '"jax_enable_x64", True',
        '"jax_disable_jit", True',
        '"jax_debug_nans", True',
        '"jax_numpy_rank_promotion", "raise"',
    ],
)
def test_strict_modes_of_jax(mode):
    program = STRICT.format(mode=mode)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
