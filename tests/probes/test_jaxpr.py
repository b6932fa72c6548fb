"""What counts as a layer and an activation in a function of parameters and inputs."""

import warnings
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.probes.jaxpr import record

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (16, 3))
SHAPES = {"a": (3, 8), "b": (8, 8), "c": (8, 1)}
PARAMS = {
    name: {"w": jax.random.normal(jax.random.key(len(name)), shape), "b": jnp.ones(shape[-1])}
    for name, shape in SHAPES.items()
}


def dense(layer, x):
    return x @ layer["w"] + layer["b"]


def network(act):
    return lambda params, x: dense(params["c"], act(dense(params["a"], x)))


def shapes(function, params=PARAMS, x=X, **options):
    """The shapes of the features and of the activations."""
    features, found = eqx.filter_eval_shape(lambda p: record(function, p, x, **options), params)
    return features.shape, {name: units.shape for name, units in found.items()}


def by_hand(x):
    return jnp.where(x > 0, x, jnp.exp(jnp.where(x > 0, 0.0, x)) - 1.0)


NAMES = (
    *("relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "sigmoid"),
    *("softplus", "squareplus", "soft_sign", "hard_tanh", "hard_sigmoid", "hard_silu", "tanh"),
)
WRITTEN = {
    "exact gelu": partial(jax.nn.gelu, approximate=False),
    "relu": lambda x: jnp.maximum(x, 0.0),
    "leaky": lambda x: jnp.where(x >= 0, x, 0.1 * x),
    "elu": by_hand,
    "silu": lambda x: x * jax.nn.sigmoid(x),
    "remat": jax.checkpoint(jax.nn.relu),
}
FUNCTIONS = {f"jax.nn.{name}": getattr(jax.nn, name) for name in NAMES} | WRITTEN


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_activation_function_is_found_whole(name):
    features, found = jax.jit(partial(record, network(FUNCTIONS[name])))(PARAMS, X)
    expected = FUNCTIONS[name](dense(PARAMS["a"], X))
    assert list(found) == ["a"]
    for units in (found["a"], features):
        np.testing.assert_allclose(units, expected, rtol=1e-5, atol=1e-6)


def test_other_functions_are_found_by_name():
    @jax.jit
    def snake(x):
        return x + jnp.sin(x) ** 2

    with pytest.raises(ValueError, match=r"no activation was found .*activations=\.\.\."):
        shapes(network(snake))
    assert shapes(network(snake), activations=["snake"]) == ((16, 8), {"a": (16, 8)})


def test_what_fires_before_the_first_or_after_the_last_layer_is_no_activation():
    def function(params, x):
        x = dense(params["a"], jnp.tanh(x))
        return jnp.tanh(dense(params["c"], jax.nn.relu(dense(params["b"], jax.nn.relu(x)))))

    assert shapes(function)[1] == {"a": (16, 8), "b": (16, 8)}


def test_a_layer_that_fires_twice_and_kernels_in_one_branch():
    def function(params, x):
        x = jnp.tanh(x @ params["a"])
        return jnp.tanh(jnp.tanh(x @ params["b"]) @ params["b"]) @ params["c"]

    params = {name: layer["w"] for name, layer in PARAMS.items()}
    names = ["a", "b", "b#2"]
    assert list(shapes(function, params)[1]) == names
    nested = {"net": params}
    found = shapes(lambda nested, x: function(nested["net"], x), nested)[1]
    assert list(found) == [f"net/{name}" for name in names]


def test_a_kernel_may_be_masked_or_normalised_and_products_of_two_inputs_are_no_layer():
    def function(params, x):
        kernel = params["a"]["w"] * jnp.where(jnp.arange(8) > 3, 1.0, 0.0)
        h = jnp.tanh(x @ (kernel / jnp.linalg.norm(kernel)))
        weights = jnp.tanh(h @ h.T)  # this fires for the same layer
        return dense(params["c"], weights @ h)

    assert shapes(function)[1] == {"a": (16, 8), "a#2": (16, 16)}


def test_a_batch_is_asked_for():
    with pytest.raises(ValueError, match="must be a batch"):
        shapes(network(jnp.tanh), x=X[0])


def test_layers_of_an_ensemble_or_in_a_loop_are_refused():
    pair = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), PARAMS)
    with pytest.raises(ValueError, match=r"c/w lies in vmap .* probe one member"):
        shapes(jax.vmap(network(jnp.tanh), in_axes=(0, None)), pair)

    def loop(params, x):
        return jax.lax.fori_loop(0, 3, lambda _, h: jnp.tanh(dense(params["b"], h)), x)

    with pytest.raises(ValueError, match=r"b/w lies in .* a loop"):
        shapes(lambda params, x: loop(params, dense(params["a"], x)))


class Image(eqx.Module):
    conv: eqx.nn.Conv2d
    head: eqx.nn.Linear

    def __call__(self, x):
        return self.head(jax.nn.relu(self.conv(x)).ravel())


def test_equinox_models_under_vmap_have_samples_first():
    mlp = eqx.nn.MLP(3, 1, 8, 2, key=KEY)
    features, found = record(lambda model, x: jax.vmap(model)(x), mlp, X)
    first = jax.nn.relu(X @ mlp.layers[0].weight.T + mlp.layers[0].bias)
    np.testing.assert_allclose(found["layers/0"], first, rtol=1e-5, atol=1e-6)
    second = jax.nn.relu(first @ mlp.layers[1].weight.T + mlp.layers[1].bias)
    np.testing.assert_allclose(features, second, rtol=1e-5, atol=1e-6)
    image = Image(eqx.nn.Conv2d(2, 6, 3, key=KEY), eqx.nn.Linear(6 * 16, 1, key=KEY))
    images = jnp.ones((5, 2, 6, 6))
    found = shapes(lambda model, x: jax.vmap(model)(x), image, images)
    assert found == ((5, 96), {"conv": (5, 6)})


def test_haiku():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        haiku = pytest.importorskip("haiku")
    module = haiku.without_apply_rng(haiku.transform(lambda x: haiku.nets.MLP([8, 8, 1])(x)))
    with jax.numpy_dtype_promotion("standard"):
        params = jax.eval_shape(module.init, jax.random.PRNGKey(0), X)
        found = shapes(module.apply, params)
    assert found == ((16, 8), dict.fromkeys(("mlp/~/linear_0", "mlp/~/linear_1"), (16, 8)))
