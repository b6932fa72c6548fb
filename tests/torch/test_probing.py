"""Probes of torch modules: the numbers of our own agents' networks, and what counts as hidden."""

import copy
import itertools
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import kanbatsu
import kanbatsu.torch
from kanbatsu.agents.common import with_gradient
from kanbatsu.nn.heads import ValueHead
from kanbatsu.nn.mlp import MLP
from kanbatsu.nn.network import Network
from kanbatsu.probes.health import network_health
from kanbatsu.sparsity.weight import to_dense
from kanbatsu.torch.tape import recording

OBS = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)


class Functional(nn.Module):
    """The same network without a module for its activation functions."""

    def __init__(self, layers):
        super().__init__()
        self.hidden0, self.hidden1, self.head = layers[0], layers[2], layers[4]

    def forward(self, x):
        x = torch.relu_(self.hidden0(x))
        return self.head(functional.relu(self.hidden1(x)))


def own_network():
    """A pruned MLP of our own; its weights come from NumPy, and biases put some units to sleep."""
    key, rng = jax.random.key(3), np.random.default_rng(1)
    shapes = eqx.filter_eval_shape(
        lambda: Network(MLP(5, width=12, blocks=2, key=key), ValueHead(12, key=key))
    )
    draw = partial(rng.normal, scale=0.5)
    network = jax.tree.map(lambda x: jnp.asarray(draw(size=x.shape), jnp.float32), shapes)
    network = kanbatsu.prune(network, 0.7, key=key, compute="masked")
    return eqx.tree_at(
        lambda n: [layer.bias for layer in n.encoder.layers],
        network,
        [jnp.asarray(np.linspace(-3.0, 0.5, 12), jnp.float32)] * 2,
    )


def twin(network):
    """The same weights in torch, pruned by the same masks."""
    kernels = [*network.encoder.layers, network.head.value]
    linear = []
    for layer in kernels:
        inputs, outputs = layer.weight.shape
        linear.append(nn.Linear(inputs, outputs))
        with torch.no_grad():
            linear[-1].weight.copy_(torch.tensor(np.asarray(to_dense(layer.weight).T)))
            linear[-1].bias.copy_(torch.tensor(np.asarray(layer.bias)))
    masks = {
        f"{2 * at}.weight": np.asarray(layer.weight.mask).T
        for at, layer in enumerate(kernels)
        if hasattr(layer.weight, "mask")
    }
    module = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2])
    return kanbatsu.torch.apply_masks(module, masks)


@pytest.mark.parametrize("form", [lambda module: module, Functional], ids=["modules", "functions"])
def test_the_numbers_are_those_of_our_own_networks(form):
    network, x = own_network(), jnp.asarray(OBS)

    @eqx.filter_jit
    def measure(network):
        def loss(network):
            return ((network(x) - 1.0) ** 2).mean(), None

        _, gradient = with_gradient(loss)(network)
        return network_health(network, gradient, *network.encode(x))

    expected = measure(network)
    module = form(twin(network))
    health = kanbatsu.torch.probe(
        module, torch.from_numpy(OBS), loss=lambda value: (value[:, 0] - 1.0).square().mean()
    )
    names = {"hidden0": "0", "hidden1": "2"} if form is not Functional else {}
    for name, value in expected.items():
        probe, _, layer = name.partition("/")
        ours = health.pop(f"{probe}/{names.get(layer, layer)}" if layer else probe)
        assert ours == pytest.approx(float(value), rel=1e-5), name
    assert health == {}
    assert 0.0 < float(expected["dormant_0.1"]) < 1.0


def mlp(*widths, act=nn.ReLU, end=None):
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), act()]
    return nn.Sequential(*layers[:-1], *([end] if end else []))


def found(module, *inputs, **names):
    with recording(module, **names) as tape, torch.no_grad():
        module(*inputs)
    return tape


def test_what_squashes_the_output_is_no_hidden_layer():
    tape = found(mlp(5, 8, 6, 2, end=nn.Tanh()), torch.from_numpy(OBS))
    assert {name: units.shape for name, units in tape.activations.items()} == {
        "0": (40, 8),
        "2": (40, 6),
    }
    assert torch.equal(tape.features, tape.activations["2"])


@pytest.mark.parametrize(
    "act",
    [
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
        *(nn.Mish, nn.Softplus, nn.Softsign, nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardswish),
        *(nn.Hardtanh, nn.RReLU, partial(nn.ReLU, inplace=True), partial(nn.SiLU, inplace=True)),
    ],
)
def test_every_activation_function_of_torch_is_found(act):
    module = mlp(5, 8, 2, act=act).eval()
    x = torch.from_numpy(OBS)
    (units,) = found(module, x).activations.values()
    assert torch.equal(units, module[:2](x))


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.mean, self.log_std = nn.Linear(5, 8), nn.Linear(8, 2), nn.Linear(8, 2)
        self.act = nn.Threshold(0.0, 0.0)  # a ReLU by another name, which is not looked for

    def forward(self, x):
        features = self.act(self.trunk(x)) + 0.0
        return self.mean(features), torch.tanh(self.log_std(features))


def test_names_for_what_is_not_found():
    module, x = Heads(), torch.from_numpy(OBS)
    fired = torch.relu(module.trunk(x))
    with pytest.raises(ValueError, match="no hidden activation was found"):
        kanbatsu.torch.probe(module, x)
    for named, name in (({"trunk": torch.relu}, "trunk"), (["act"], "act")):
        tape = found(module, x, activations=named)
        assert list(tape.activations) == [name]
        assert torch.equal(tape.activations[name], fired)
        assert torch.equal(tape.features, fired)
    tape = found(module, x, activations=["act"], features="trunk")
    assert torch.equal(tape.features, module.trunk(x))


@pytest.mark.parametrize(
    ("inputs", "names", "message"),
    [
        (OBS, {"activations": ["head"]}, "there is no module 'head'; the names are: trunk, mean"),
        (OBS, {"activations": ["act"], "features": "end"}, "there is no module 'end'"),
        (OBS, {"activations": ["trunk"]}, r"give the function too, as in activations={'trunk'"),
        (OBS, {"activations": [""]}, " returns a tuple; name a module of one tensor"),
        (OBS[0], {"activations": ["act"]}, "must be a batch"),
    ],
)
def test_names_that_do_not_fit(inputs, names, message):
    module = Heads()
    with pytest.raises(ValueError, match=message):
        kanbatsu.torch.probe(module, torch.from_numpy(inputs), **names)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_without_layers_there_are_no_features():
    with pytest.raises(ValueError, match="no linear or convolution layer was called"):
        kanbatsu.torch.probe(nn.Sequential(nn.ReLU()), torch.from_numpy(OBS))


def test_a_unit_of_a_convolution_is_a_channel():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 1)
    )
    with torch.no_grad():
        module[0].bias[:3] = -100.0
        module[0].bias[3] = 100.0
    x = torch.randn(10, 1, 3, 3)
    tape = found(module, x)
    assert {name: units.shape for name, units in tape.activations.items()} == {
        "0": (10, 4),
        "3": (10, 6),
    }
    torch.testing.assert_close(tape.activations["0"], module[:2](x).mean(dim=(2, 3)))
    health = kanbatsu.torch.probe(module, x)
    assert health["dormant_0.1/0"] == 0.75
    sequence = mlp(5, 8, 2)
    units = found(sequence, torch.from_numpy(OBS).reshape(8, 5, 5)).activations["0"]
    assert units.shape == (8, 8)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.step, self.out = nn.Linear(5, 5), nn.Linear(5, 1)

    def forward(self, x):
        return self.out(torch.tanh(self.step(torch.tanh(self.step(x)))))


def test_a_layer_that_fires_twice():
    module, x = Twice(), torch.from_numpy(OBS)
    tape = found(module, x)
    first = torch.tanh(module.step(x))
    assert list(tape.activations) == ["step", "step#2"]
    assert torch.equal(tape.activations["step"], first)
    assert torch.equal(tape.features, torch.tanh(module.step(first)))


def test_gradients_are_those_that_are_there_or_those_of_a_loss():
    module, x = kanbatsu.torch.prune(mlp(5, 8, 1), 0.5), torch.from_numpy(OBS)
    assert "gradient_norm" not in kanbatsu.torch.probe(module, x)
    module(x).sum().backward()
    norm = nn.utils.get_total_norm([p.grad for p in module.parameters()])
    held = kanbatsu.torch.probe(module, x)
    assert held["gradient_norm"] == pytest.approx(float(norm), rel=1e-6)
    module.zero_grad()
    of_loss = kanbatsu.torch.probe(module, x, loss=torch.sum)
    assert of_loss == pytest.approx(held, rel=1e-6)
    assert all(parameter.grad is None for parameter in module.parameters())
    module[0].weight.requires_grad_(False)
    rest = nn.utils.get_total_norm(
        torch.autograd.grad(module(x).sum(), [p for p in module.parameters() if p.requires_grad])
    )
    frozen = kanbatsu.torch.probe(module, x, loss=torch.sum)
    assert frozen["gradient_norm"] == pytest.approx(float(rest), rel=1e-6)


def test_weights_that_are_pruned_have_no_norm():
    module, x = kanbatsu.torch.prune(mlp(5, 8, 1), 0.5), torch.from_numpy(OBS)
    clean = kanbatsu.torch.probe(module, x)
    module[0].weight.data.add_(100.0 * (module[0].weight == 0))
    assert kanbatsu.torch.probe(module, x) == clean
    total = nn.utils.get_total_norm(list(kanbatsu.torch.unprune(module).parameters()))
    assert clean["weight_norm"] == pytest.approx(float(total), rel=1e-6)


def test_a_probe_leaves_no_trace():
    module = nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), mlp(8, 4, 1)
    )
    module[1].eval()
    before, x = copy.deepcopy(module.state_dict()), torch.from_numpy(OBS)
    modes = [part.training for part in module.modules()]
    random = torch.get_rng_state()

    def loss(value):
        return (value + torch.randn_like(value)).square().mean()

    first, second = (kanbatsu.torch.probe(module, x, loss=loss) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), random)
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    with torch.no_grad():
        assert kanbatsu.torch.probe(module, x, loss=loss) == first


def test_a_compiled_module_and_half_precision():
    module, x = mlp(5, 8, 1), torch.from_numpy(OBS)
    expected = kanbatsu.torch.probe(module, x)
    compiled = kanbatsu.torch.probe(torch.compile(module, backend="eager"), x)
    # Torch puts the name of its wrapper into every path.
    assert {name.replace("_orig_mod.", ""): x for name, x in compiled.items()} == expected
    half = kanbatsu.torch.probe(module.bfloat16(), x.bfloat16())
    assert half["weight_norm"] == pytest.approx(expected["weight_norm"], rel=1e-2)
