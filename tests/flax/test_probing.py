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
from kanbatsu.nn.heads import GaussianHead
from kanbatsu.nn.network import make_network
from kanbatsu.probes.health import network_health

linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    haiku = pytest.importorskip("haiku")

from flax.core import freeze  # noqa: E402  (after Flax is known to be there)

from kanbatsu.flax import probe  # noqa: E402

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
    return kanbatsu.tree.leaves_by_path(tree)


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
    """Our MLP with a head of two outputs."""

    @linen.compact
    def __call__(self, x):
        for index in range(2):
            x = linen.relu(linen.Dense(16, name=f"hidden{index}")(x))
        return [linen.Dense(2, name=f"head{index}")(x) for index in range(2)]


def in_flax(network):
    """The kernels and biases of our actor, or their gradients, as Flax stores them."""
    names = ["hidden0", "hidden1", "head0", "head1"]
    layers = [*network.encoder.layers, network.head.mean, network.head.log_std]
    return {
        name: {"kernel": getattr(layer.weight, "value", layer.weight), "bias": layer.bias}
        for name, layer in zip(names, layers, strict=True)
    }


def test_probes_of_flax_modules_equal_our_agents():
    config = NetworkConfig(network="mlp", width=16, sparsity=0.3, compute="masked")
    network = make_network(config, 5, partial(GaussianHead, action_dim=2), key=KEY)

    @eqx.filter_jit
    def measure(network):
        def loss(network):
            return sum(jnp.mean(y**2) for y in network(OBS))

        gradient = eqx.filter_grad(loss)(network)
        health = network_health(network, gradient, *network.encode(OBS))
        variables = {"params": in_flax(network)}
        theirs = probe(LinenMLP(), variables, OBS, gradients=in_flax(gradient))
        return health, theirs, variables

    ours, theirs, variables = measure(network)
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(theirs[name], value, rtol=1e-5, err_msg=name)
    assert ours["gradient_norm"] > 0
    assert "gradient_norm" not in jax.eval_shape(lambda v: probe(LinenMLP(), v, OBS), variables)


class NnxStateful(nnx.Module):
    """A model whose call changes its statistics and its count of random draws."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.hidden, self.out = nnx.Linear(5, 8, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)
        self.norm, self.dropout = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.out(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def test_a_probe_of_an_nnx_model_leaves_no_trace():
    model = NnxStateful()
    before = jax.tree.map(np.asarray, nnx.state(model, nnx.BatchStat))
    health = jax.eval_shape(lambda: probe(model, OBS))
    assert [name for name in health if name.startswith("dormant_0.1/")] == ["dormant_0.1/hidden"]
    after = nnx.state(model, nnx.BatchStat)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == np.asarray(b)).all(), before, after))
    assert int(model.dropout.rngs.count[...]) == 0


def test_an_ensemble_is_probed_one_member_at_a_time():
    vmap = partial(linen.vmap, variable_axes={"params": 0}, split_rngs={"params": True})
    critics = vmap(LinenMLP, in_axes=None, axis_size=2)()
    variables = jax.eval_shape(critics.init, KEY, OBS)
    with pytest.raises(ValueError, match=r"hidden1/kernel lies in vmap.*one member"):
        jax.eval_shape(lambda v: probe(critics, v, OBS), variables)


def test_a_layer_in_a_scan_is_refused():
    module = linen.Sequential([linen.RNN(linen.GRUCell(4)), linen.Dense(1)])
    variables = jax.eval_shape(module.init, KEY, jnp.ones((4, 6, 3)))
    with pytest.raises(ValueError, match=r"layers_0/cell/\w+/kernel lies in .* a loop"):
        jax.eval_shape(lambda v: probe(module, v, jnp.ones((4, 6, 3))), variables)


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
