"""One definition of an activation: the same weights give the same numbers in every framework."""

from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.nn.heads import ValueHead
from kanbatsu.nn.mlp import MLP
from kanbatsu.nn.network import Network
from kanbatsu.nn.simba import SimBa
from kanbatsu.probes import jaxpr
from kanbatsu.probes.health import network_health

torch = pytest.importorskip("torch")
linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")

import kanbatsu.flax  # noqa: E402  (after Flax and torch are known to be there)
import kanbatsu.torch  # noqa: E402

EPSILON = 1e-5
"""What LayerNorm adds to the variance."""


def mlp(f, x):
    for name in ("hidden0", "hidden1"):
        x = f.relu(f.layer(name, x))
    return f.layer("head", x)


def simba(f, x):
    x = f.layer("embed", x)
    for index in range(2):
        x = x + f.layer(f"down{index}", f.relu(f.layer(f"up{index}", f.norm(f"norm{index}", x))))
    return f.layer("head", f.norm("norm", x))


def residual(f, x):
    """A sum after an activation, norms, two heads; the tanh that squashes one is no hidden layer.

    Both of the sum's terms are activations, and the sum is the features.
    """
    h = f.norm("norm0", f.gelu(f.layer("hidden0", x)))
    h = h + f.silu(f.norm("norm1", f.layer("hidden1", h)))
    mean, deviation = f.layer("mean", h), f.layer("deviation", h)
    return f.tanh(mean), f.softplus(deviation)


def convolution(f, x):
    x = f.relu(f.layer("conv0", x))
    return f.layer("head", f.relu(f.layer("hidden", f.pool(f.elu(f.layer("conv1", x))))))


HIDDEN = {"hidden0": (5, 12), "hidden1": (12, 12)}
CASES = {
    "mlp": (mlp, HIDDEN | {"head": (12, 1)}, ["hidden0", "hidden1"]),
    "simba": (
        simba,
        {
            "embed": (5, 8),
            **{f"{name}{i}": s for i in "01" for name, s in (("up", (8, 32)), ("down", (32, 8)))},
            **dict.fromkeys(("norm0", "norm1", "norm"), (8,)),
            "head": (8, 1),
        },
        ["up0", "up1"],
    ),
    "residual": (
        residual,
        HIDDEN
        | dict.fromkeys(("norm0", "norm1"), (12,))
        | dict.fromkeys(("mean", "deviation"), (12, 2)),
        ["hidden0", "hidden1"],
    ),
    "convolution": (
        convolution,
        {"conv0": (3, 3, 2, 6), "conv1": (3, 3, 6, 7), "hidden": (7, 9), "head": (9, 1)},
        ["conv0", "conv1", "hidden"],
    ),
}
"""The function, the shapes of its kernels and norms, and the layers that fire."""


def weights_of(case):
    """Weights from NumPy; biases put some units to sleep."""
    rng = np.random.default_rng(3)
    return {
        name: {
            "kernel": rng.normal(size=shape, scale=1.0 / np.sqrt(np.prod(shape[:-1]))),
            "bias": np.linspace(-3.0, 0.5, shape[-1]),
        }
        if len(shape) > 1
        else {"scale": rng.normal(size=shape), "bias": rng.normal(size=shape)}
        for name, shape in CASES[case][1].items()
    }


def inputs_of(case):
    shape = (40, 6, 6, 2) if case == "convolution" else (40, 5)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def in_float32(weights):
    return {
        name: {kind: jnp.asarray(value, jnp.float32) for kind, value in layer.items()}
        for name, layer in weights.items()
    }


JAX = SimpleNamespace(
    **{name: getattr(jax.nn, name) for name in ("relu", "gelu", "silu", "elu", "softplus")},
    tanh=jnp.tanh,
    pool=lambda x: x.mean(axis=(1, 2)),
)


def plain(case):
    """A function of a tree of arrays."""

    def layer(weights, x):
        if weights["kernel"].ndim == 2:
            return x @ weights["kernel"] + weights["bias"]
        dimensions = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, weights["kernel"], (1, 1), "VALID", dimension_numbers=dimensions
        )
        return y + weights["bias"]

    def norm(weights, x):
        x = x - x.mean(axis=-1, keepdims=True)
        x = x * jax.lax.rsqrt((x**2).mean(axis=-1, keepdims=True) + EPSILON)
        return x * weights["scale"] + weights["bias"]

    def call(weights, x):
        f = SimpleNamespace(
            **vars(JAX),
            layer=lambda name, x: layer(weights[name], x),
            norm=lambda name, x: norm(weights[name], x),
        )
        return CASES[case][0](f, x)

    measure = jax.jit(lambda weights, x: jaxpr.probe(call, weights, x))
    return measure(in_float32(weights_of(case)), inputs_of(case))


def in_linen(case):
    def layer(name, x):
        *window, _, outputs = CASES[case][1][name]
        if window:
            return linen.Conv(outputs, window, padding="VALID", name=name)(x)
        return linen.Dense(outputs, name=name)(x)

    class Module(linen.Module):
        @linen.compact
        def __call__(self, x):
            def norm(name, x):
                return linen.LayerNorm(epsilon=EPSILON, name=name)(x)

            return CASES[case][0](SimpleNamespace(**vars(JAX), layer=layer, norm=norm), x)

    measure = jax.jit(lambda variables, x: kanbatsu.flax.probe(Module(), variables, x))
    return measure({"params": in_float32(weights_of(case))}, inputs_of(case))


def in_nnx(case):
    class Module(nnx.Module):
        def __init__(self):
            for name, weights in in_float32(weights_of(case)).items():
                *window, inputs, outputs = (1, *CASES[case][1][name])[-4:]
                rngs = nnx.Rngs(0)
                if "scale" in weights:
                    layer = nnx.LayerNorm(outputs, epsilon=EPSILON, rngs=rngs)
                elif len(window) == 2:
                    layer = nnx.Conv(inputs, outputs, window, padding="VALID", rngs=rngs)
                else:
                    layer = nnx.Linear(inputs, outputs, rngs=rngs)
                for kind, value in weights.items():
                    getattr(layer, kind)[...] = value
                setattr(self, name, layer)

        def __call__(self, x):
            def layer(name, x):
                return getattr(self, name)(x)

            return CASES[case][0](SimpleNamespace(**vars(JAX), layer=layer, norm=layer), x)

    measure = nnx.jit(lambda module, x: kanbatsu.flax.probe(module, x))
    return measure(Module(), jnp.asarray(inputs_of(case)))


def in_torch(case):
    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, weights in weights_of(case).items():
                kernel, bias = (torch.tensor(w, dtype=torch.float32) for w in weights.values())
                if kernel.ndim == 1:
                    layer = torch.nn.LayerNorm(len(kernel), eps=EPSILON)
                elif kernel.ndim == 4:
                    kernel = kernel.permute(3, 2, 0, 1)
                    layer = torch.nn.Conv2d(*kernel.shape[1::-1], kernel.shape[2:])
                else:
                    kernel, layer = kernel.T, torch.nn.Linear(*kernel.shape)
                layer.weight.data, layer.bias.data = kernel, bias
                self.add_module(name, layer)

        def forward(self, x):
            def layer(name, x):
                return getattr(self, name)(x)

            functions = torch.nn.functional
            f = SimpleNamespace(
                **{name: getattr(functions, name) for name in ("relu", "silu", "elu", "softplus")},
                gelu=lambda x: functions.gelu(x, approximate="tanh"),
                tanh=torch.tanh,
                pool=lambda x: x.mean(dim=(2, 3)),
                layer=layer,
                norm=layer,
            )
            return CASES[case][0](f, x)

    x = torch.from_numpy(inputs_of(case))
    return kanbatsu.torch.probe(Module(), x.movedim(-1, 1) if x.ndim == 4 else x)


def native(case):
    """Our own MLP or SimBa, and what its agents log."""
    weights, key = in_float32(weights_of(case)), jax.random.key(0)
    kind, width = (MLP, 12) if case == "mlp" else (SimBa, 8)
    network = Network(kind(5, width, 2, key=key), ValueHead(width, key=key))

    def layers(network):
        encoder = network.encoder
        if case == "mlp":
            return [*encoder.layers, network.head.value]
        blocks = [
            getattr(block, name) for name in ("up", "down", "norm") for block in encoder.blocks
        ]
        return [encoder.embed, *blocks, encoder.norm, network.head.value]

    names = ["embed", "up0", "up1", "down0", "down1", "norm0", "norm1", "norm", "head"]
    for index, name in enumerate(["hidden0", "hidden1", "head"] if case == "mlp" else names):
        network = eqx.tree_at(
            lambda network, i=index: jax.tree.leaves(layers(network)[i]),
            network,
            list(weights[name].values()),
        )

    @eqx.filter_jit
    def measure(network, x):
        features, activations = network.encode(x)
        named = dict(zip(CASES[case][2], activations.values(), strict=True))
        return network_health(network, None, features, named)

    health = measure(network, jnp.asarray(inputs_of(case)))
    del health["gradient_norm"]
    return health


FRAMEWORKS = {"linen": in_linen, "nnx": in_nnx, "torch": in_torch, "native": native}


@pytest.mark.parametrize("case", CASES)
def test_the_same_weights_give_the_same_numbers_everywhere(case):
    expected = plain(case)
    fired = [name.partition("/")[2] for name in expected if name.startswith("dormant_0.1/")]
    assert fired == CASES[case][2]
    assert case == "residual" or 0.0 < float(expected["dormant_0.1"]) < 1.0
    for name, measure in FRAMEWORKS.items():
        if name == "native" and case not in ("mlp", "simba"):
            continue
        health = measure(case)
        assert health.keys() == expected.keys(), name
        for probe, value in expected.items():
            assert float(health[probe]) == pytest.approx(float(value), rel=1e-4), (name, probe)
