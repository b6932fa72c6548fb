"""Real Flax and Haiku parameters: pruned with three lines; probes equal to our own agents'."""

import runpy
import sys
import warnings
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kanbatsu
from kanbatsu.nn.config import NetworkConfig
from kanbatsu.nn.heads import GaussianHead, ValueHead
from kanbatsu.nn.network import make_network
from kanbatsu.probes.health import network_health

linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    haiku = pytest.importorskip("haiku")

from flax.core import freeze  # noqa: E402  (after Flax is known to be there)

from kanbatsu.flax import probe, probe_nnx, record, record_nnx  # noqa: E402

KEY = jax.random.key(0)
EXAMPLE = Path(__file__).parents[2] / "examples" / "08_flax_linen.py"
OBS = jax.random.normal(jax.random.key(1), (32, 5))


class Linen(linen.Module):
    """A convolution, a dense layer, a norm, an attention and a head."""

    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(4, (3,))(x))
        x = linen.LayerNorm()(linen.Dense(8)(x))
        return linen.Dense(2)(linen.MultiHeadDotProductAttention(2)(x))


class Nnx(nnx.Module):
    """The same in nnx."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3,), rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)])
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, rngs=rngs, decode=False)

    def __call__(self, x):
        x = nnx.relu(self.conv(x))
        return self.layers[1](self.attention(self.norm(self.layers[0](x))))


def haiku_network(x):
    x = jax.nn.relu(haiku.Conv1D(4, 3)(x))
    x = haiku.LayerNorm(-1, True, True)(haiku.Linear(8)(x))
    return haiku.Linear(2)(haiku.Flatten()(x))


def ones_like(shapes):
    return jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)


def linen_params():
    return ones_like(jax.eval_shape(Linen().init, KEY, jnp.ones((1, 6, 3))))


def haiku_params():
    with jax.numpy_dtype_promotion("standard"):
        init = haiku.transform(haiku_network).init
        return ones_like(jax.eval_shape(init, jax.random.PRNGKey(0), jnp.ones((1, 6, 3))))


def nnx_params():
    return ones_like(nnx.state(nnx.eval_shape(lambda: Nnx(nnx.Rngs(0))), nnx.Param))


ATTENTION = ["key", "out", "query", "value"]
TREES = {
    "linen": (
        linen_params,
        [
            "Conv_0",
            "Dense_0",
            "Dense_1",
            *(f"MultiHeadDotProductAttention_0/{n}" for n in ATTENTION),
        ],
    ),
    "nnx": (nnx_params, [*(f"attention/{n}" for n in ATTENTION), "conv", "layers/0", "layers/1"]),
    "haiku": (haiku_params, ["conv1_d", "linear", "linear_1"]),
}


def by_path(tree):
    return kanbatsu.sparsity.roles.leaves_by_path(tree)


@pytest.mark.parametrize("library", TREES)
def test_kernels_of_every_library_stay_pruned(library):
    make, layers = TREES[library]
    params = make()
    masks = kanbatsu.make_masks(params, 0.6, key=KEY)
    mask_at = by_path(masks)
    kernels = {path.removeprefix("params/").rpartition("/")[0] for path in mask_at}
    assert sorted(kernels) == sorted(layers)
    counted = kanbatsu.count(params, masks)
    assert counted.kept == round(0.4 * counted.total) == sum(int(m.sum()) for m in mask_at.values())

    params = kanbatsu.apply_masks(params, masks)
    chain = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2, weight_decay=0.1))
    optimizer = kanbatsu.keep_pruned(chain, masks)

    def step(carry, time):
        params, state = carry
        gradient = jax.tree.map(lambda p: jnp.cos(7.0 * p + time), params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    train = jax.jit(lambda *start: jax.lax.scan(step, start, jnp.arange(100.0))[0])
    params, state = train(params, optimizer.init(params))
    for tree in (params, state.inner[1][0].mu, state.inner[1][0].nu):
        values = by_path(tree)
        for path, mask in mask_at.items():
            assert (np.asarray(values[path])[~np.asarray(mask)] == 0).all()
            assert (np.asarray(values[path])[np.asarray(mask)] != 0).all()


def test_frozen_dicts_and_dicts_are_one_tree():
    params = linen_params()
    masks = kanbatsu.make_masks(freeze(params), 0.5, key=KEY)
    for path, mask in by_path(kanbatsu.make_masks(params, 0.5, key=KEY)).items():
        np.testing.assert_array_equal(mask, by_path(masks)[path])
    assert kanbatsu.apply_masks(params, masks).keys() == params.keys()


def test_the_optimizer_of_nnx_keeps_a_model_pruned():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Linear(3, 8, rngs=rngs), nnx.Linear(8, 2, rngs=rngs))
    with pytest.raises(ValueError, match=r"give an nnx model as nnx\.state"):
        kanbatsu.make_masks(model, 0.5, key=KEY)
    params = nnx.state(model, nnx.Param)
    masks = kanbatsu.make_masks(params, 0.5, key=KEY)
    nnx.update(model, kanbatsu.apply_masks(params, masks))
    before = np.array(model.layers[1].kernel[...])
    adam = kanbatsu.keep_pruned(optax.adam(1e-2), masks)
    optimizer = nnx.Optimizer(model, adam, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        gradient = nnx.grad(lambda model: ((model(jnp.ones((4, 3))) - 1.0) ** 2).mean())(model)
        optimizer.update(model, gradient)

    with jax.numpy_dtype_promotion("standard"):
        step(model, optimizer)
    after, mask = np.asarray(model.layers[1].kernel[...]), by_path(masks)["layers/1/kernel"]
    assert (after[~np.asarray(mask)] == 0).all()
    assert (after != before)[np.asarray(mask)].any()


def test_members_of_vmapped_critics_have_masks_of_their_own():
    critics = linen.vmap(
        Linen, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=2
    )
    params = jax.eval_shape(critics().init, KEY, jnp.ones((1, 6, 3)))
    masks = kanbatsu.make_masks(params, 0.6, key=KEY)
    alone = kanbatsu.make_masks(
        jax.eval_shape(Linen().init, KEY, jnp.ones((1, 6, 3))), 0.6, key=jax.random.split(KEY)[1]
    )
    of_all = {path.removeprefix("params/"): mask for path, mask in by_path(masks).items()}
    for path, mask in by_path(alone).items():
        np.testing.assert_array_equal(of_all[path.removeprefix("params/")][1], mask)


class LinenMLP(linen.Module):
    """Our MLP with a head; each of the widths of `out` is a head."""

    out: tuple

    @linen.compact
    def __call__(self, *inputs):
        x = jnp.concatenate(inputs, axis=-1)
        for index in range(2):
            x = linen.relu(linen.Dense(16, name=f"hidden{index}")(x))
        return [linen.Dense(out, name=f"head{index}")(x) for index, out in enumerate(self.out)]


class LinenSimBa(linen.Module):
    """Our SimBa with a head of one output."""

    @linen.compact
    def __call__(self, *inputs):
        x = linen.Dense(8, name="embed")(jnp.concatenate(inputs, axis=-1))
        for index in range(2):
            y = linen.Dense(32, name=f"up{index}")(linen.LayerNorm(name=f"norm{index}")(x))
            x = x + linen.Dense(8, name=f"down{index}")(linen.relu(y))
        return linen.Dense(1, name="head")(linen.LayerNorm(name="norm")(x))


class NnxMLP(nnx.Module):
    """The first of these in nnx, with the weights of `params`."""

    def __init__(self, params):
        def layer(name):
            new = nnx.Linear(*params[name]["kernel"].shape, rngs=nnx.Rngs(0))
            new.kernel[...], new.bias[...] = params[name]["kernel"], params[name]["bias"]
            return new

        self.hidden = nnx.List([layer("hidden0"), layer("hidden1")])
        self.head = layer("head0")

    def __call__(self, *inputs):
        x = jnp.concatenate(inputs, axis=-1)
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.head(x)


def stored(layer):
    """A layer of ours, or its gradient, as Flax stores it."""
    if hasattr(layer, "scale"):
        return {"scale": layer.scale, "bias": layer.shift}
    return {"kernel": getattr(layer.weight, "value", layer.weight), "bias": layer.bias}


def mlp_layers(network):
    layers = {f"hidden{index}": layer for index, layer in enumerate(network.encoder.layers)}
    if isinstance(network.head, ValueHead):
        return layers | {"head0": network.head.value}
    return layers | {"head0": network.head.mean, "head1": network.head.log_std}


def simba_layers(network):
    encoder = network.encoder
    blocks = {
        f"{name}{index}": getattr(block, name)
        for index, block in enumerate(encoder.blocks)
        for name in ("norm", "up", "down")
    }
    ends = {"embed": encoder.embed, "norm": encoder.norm, "head": network.head.value}
    return blocks | ends


CASES = {
    "critic": ("mlp", ValueHead, LinenMLP((1,)), mlp_layers, ("hidden1", "head0")),
    "actor": (
        "mlp",
        partial(GaussianHead, action_dim=2),
        LinenMLP((2, 2)),
        mlp_layers,
        ("hidden1", "head0"),
    ),
    "simba": ("simba", ValueHead, LinenSimBa(), simba_layers, ("down0", "down1")),
}
"""Our encoder and head, the same in linen, its layers, and those that our activations enter."""


def our_network(name):
    encoder, head, *_ = CASES[name]
    width = 8 if encoder == "simba" else 16
    config = NetworkConfig(network=encoder, width=width, sparsity=0.3, compute="masked")
    return make_network(config, 5, head, key=KEY)


def in_flax(layers):
    return {"params": {name: stored(layer) for name, layer in layers.items()}}


@pytest.mark.parametrize("name", CASES)
def test_what_is_recorded_in_linen_modules_is_what_our_networks_report(name):
    *_, module, layers_of, entered = CASES[name]
    network = our_network(name)
    inputs = OBS[:, :3], OBS[:, 3:]
    recorded = jax.jit(lambda v: record(module, v, *inputs))(in_flax(layers_of(network)))
    features, activations = recorded
    our_features, ours = eqx.filter_jit(lambda network: network.encode(*inputs))(network)
    np.testing.assert_allclose(features, our_features, rtol=1e-5, atol=1e-6)
    assert activations.keys() == {f"{layer}/input" for layer in entered}
    for layer, expected in zip(entered, ours.values(), strict=True):
        np.testing.assert_allclose(activations[f"{layer}/input"], expected, rtol=1e-5, atol=1e-6)


def test_probes_of_flax_modules_equal_our_agents():
    *_, module, layers_of, entered = CASES["actor"]

    @eqx.filter_jit
    def measure(network):
        def loss(network):
            return sum(jnp.mean(y**2) for y in network(OBS))

        gradient = eqx.filter_grad(loss)(network)
        health = network_health(network, gradient, *network.encode(OBS))
        variables, gradients = in_flax(layers_of(network)), in_flax(layers_of(gradient))
        return health, probe(module, variables, OBS, gradients=gradients), variables

    ours, theirs, variables = measure(our_network("actor"))
    for name, value in ours.items():
        kind, _, layer = name.partition("/hidden")
        name = f"{kind}/{entered[int(layer)]}/input" if layer else kind
        np.testing.assert_allclose(theirs[name], value, rtol=1e-5, err_msg=name)
    assert len(theirs) == len(ours) == 10
    assert ours["gradient_norm"] > 0
    assert "gradient_norm" not in jax.eval_shape(lambda v: probe(module, v, OBS), variables)


def test_probes_of_nnx_modules_equal_those_of_linen():
    *_, module, layers_of, _ = CASES["critic"]
    variables = in_flax(layers_of(our_network("critic")))
    model = NnxMLP(variables["params"])
    call = nnx.Linear.__call__
    theirs = nnx.jit(lambda model: probe_nnx(model, OBS[:, :3], OBS[:, 3:]))(model)
    assert nnx.Linear.__call__ is call
    expected = jax.jit(lambda v: probe(module, v, OBS))(variables)
    for name in ("dormant_0.1", "dormant_0.025", "srank", "weight_norm", "feature_norm"):
        np.testing.assert_allclose(theirs[name], expected[name], rtol=1e-5, err_msg=name)
    activations = nnx.eval_shape(lambda model: record_nnx(model, OBS)[1], model)
    assert list(activations) == ["head/input", "hidden/1/input"]


def test_layers_can_be_left_out_and_calls_are_told_apart():
    class Twice(linen.Module):
        @linen.compact
        def __call__(self, x):
            layer = linen.Dense(5)
            return linen.Dense(1)(linen.tanh(layer(linen.tanh(layer(linen.tanh(layer(x)))))))

    variables = jax.eval_shape(Twice().init, KEY, OBS)

    def names(**options):
        shapes = jax.eval_shape(lambda v: record(Twice(), v, OBS, **options)[1], variables)
        return {name: shape.shape for name, shape in shapes.items()}

    assert names() == {
        "Dense_0/input/1": (32, 5),
        "Dense_0/input/2": (32, 5),
        "Dense_1/input": (32, 5),
    }
    assert list(names(exclude="Dense_0")) == ["Dense_1/input"]
    with pytest.raises(ValueError, match=r"'Dense_7' matches no layer; they are: Dense_0, "):
        names(exclude="Dense_7")
    with pytest.raises(ValueError, match=r"nothing that enters a layer .* is an activation"):
        names(exclude="*")


def test_convolutions_count_channels_as_units():
    module = linen.Sequential(
        [linen.Conv(4, (3,)), linen.relu, linen.Conv(2, (3,)), linen.relu, linen.Dense(1)]
    )
    variables = jax.eval_shape(module.init, KEY, jnp.ones((7, 6, 3)))
    shapes = jax.eval_shape(lambda v: record(module, v, jnp.ones((7, 6, 3)))[1], variables)
    assert {name: shape.shape for name, shape in shapes.items()} == {
        "layers_2/input": (42, 4),
        "layers_4/input": (42, 2),
    }


def test_an_ensemble_is_probed_one_member_at_a_time():
    vmap = partial(linen.vmap, variable_axes={"params": 0}, split_rngs={"params": True})
    critics = vmap(LinenMLP, in_axes=None, axis_size=2)((1,))
    variables = jax.eval_shape(critics.init, KEY, OBS)
    with pytest.raises(ValueError, match=r"hidden0 lies in nn\.vmap.*one member"):
        jax.eval_shape(lambda v: record(critics, v, OBS), variables)


def test_flax_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "flax", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'kanbatsu\[flax\]'"):
        runpy.run_path(str(EXAMPLE.parents[1] / "kanbatsu" / "flax" / "__init__.py"))


def test_the_linen_example_trains_a_pruned_network(capsys):
    with jax.numpy_dtype_promotion("standard"):
        done = runpy.run_path(str(EXAMPLE))
    printed = capsys.readouterr().out.splitlines()
    assert printed[4].split() == ["all", "934", "4,672", "0.8001"]
    assert float(done["after"]) < 0.1 * float(done["before"])
    assert printed[6:8] == [
        "largest pruned weight: 0.0",
        "largest Adam moment of a pruned weight: 0.0",
    ]
    assert printed[8].startswith("dormant: ")
