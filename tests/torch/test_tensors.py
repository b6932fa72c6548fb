"""Recurrent layers, attention and embeddings: pruned by request, and then like any other layer."""

import copy
import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import kanbatsu.torch

X = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.arange(12).reshape(4, 3)
KINDS = {
    "LSTM": (lambda: nn.LSTM(8, 8, num_layers=2, bidirectional=True), (X,)),
    "LSTM with a projection": (lambda: nn.LSTM(8, 8, proj_size=4), (X,)),
    "GRU": (lambda: nn.GRU(8, 8), (X,)),
    "RNN": (lambda: nn.RNN(8, 8), (X,)),
    "LSTMCell": (lambda: nn.LSTMCell(8, 8), (X[0],)),
    "GRUCell": (lambda: nn.GRUCell(8, 8), (X[0],)),
    "RNNCell": (lambda: nn.RNNCell(8, 8), (X[0],)),
    "attention": (lambda: nn.MultiheadAttention(8, 2), (X, X, X)),
    "attention to others": (
        lambda: nn.MultiheadAttention(8, 2, kdim=8, vdim=6),
        (X, X, X[..., :6]),
    ),
    "Embedding": (lambda: nn.Embedding(12, 8), (TOKENS,)),
}
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")
each_kind = pytest.mark.parametrize("kind", KINDS)


def pruned(kind, sparsity=0.5):
    torch.manual_seed(0)
    return kanbatsu.torch.prune(KINDS[kind][0](), sparsity, also="*")


def first(outputs):
    return first(outputs[0]) if isinstance(outputs, tuple) else outputs


def output(module, kind):
    return first(module(*KINDS[kind][1]))


def parameters(module):
    return dict(module.named_parameters())


def assert_zeros(module, values):
    for path, mask in kanbatsu.torch.masks(module).items():
        assert not values[path][~mask].any(), path
        assert values[path][mask].any(), path


@each_kind
def test_it_is_the_dense_one_with_zeros(kind):
    module = pruned(kind)
    counted = kanbatsu.torch.count(module)
    assert abs(counted.sparsity - 0.5) < 0.02
    assert len(counted.layers) == len(kanbatsu.torch.masks(module)) > 0
    dense = KINDS[kind][0]()
    plain = kanbatsu.torch.unprune(copy.deepcopy(module))
    assert type(plain) is type(dense)
    dense.load_state_dict(plain.state_dict())
    assert torch.equal(output(module, kind), output(dense, kind))
    assert_zeros(module, dense.state_dict())


@each_kind
def test_weights_gradients_and_moments_stay_zero_whatever_is_written(kind):
    module = pruned(kind)
    optimizer = torch.optim.Adam(module.parameters(), 0.1, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        output(module, kind).square().sum().backward()
        optimizer.step()
    moments = {
        name: optimizer.state[value]["exp_avg"] for name, value in parameters(module).items()
    }
    assert_zeros(module, parameters(module))
    assert_zeros(module, moments)
    with torch.no_grad():
        before = output(module, kind)
        for path, mask in kanbatsu.torch.masks(module).items():
            parameters(module)[path].data[~mask] = 7.0
        assert torch.equal(output(module, kind), before)
    assert_zeros(module, module.state_dict())


@each_kind
def test_copies_compute_the_same_and_go_on_alike(kind):
    module = pruned(kind)
    output(module, kind).sum().backward()
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    given = kanbatsu.torch.masks(module.state_dict())
    fresh = kanbatsu.torch.apply_masks(KINDS[kind][0](), given)
    fresh.load_state_dict(module.state_dict())
    target = kanbatsu.torch.prune_like(KINDS[kind][0](), module)
    target.load_state_dict(module.state_dict())
    for other in (
        copy.deepcopy(module),
        torch.load(file, weights_only=False),
        fresh,
        target,
        copy.deepcopy(module).double().float(),
    ):
        assert torch.equal(output(other, kind), output(module, kind))
        masks = kanbatsu.torch.masks(other)
        assert masks.keys() == given.keys()
        assert all(torch.equal(mask, given[path]) for path, mask in masks.items())


@pytest.mark.parametrize(
    "put_on",
    [
        lambda module: nn.utils.parametrizations.weight_norm(module, "weight_hh_l0"),
        lambda module: nn.utils.parametrizations.spectral_norm(module, "weight_ih_l0"),
        lambda module: prune.l1_unstructured(module, "weight_hh_l0", 0.5),
    ],
)
def test_what_would_take_a_parameter_from_its_mask_is_refused(put_on):
    module = pruned("GRU")
    before = output(module, "GRU")
    with pytest.raises(ValueError, match="is pruned, and in a GRU it cannot be computed too"):
        put_on(module)
    assert torch.equal(output(module, "GRU"), before)
    assert kanbatsu.torch.count(module).sparsity == 0.5


def test_threads_that_share_a_module_compute_the_same():
    module = pruned("GRU")
    with torch.no_grad():
        before = output(module, "GRU")
        with ThreadPoolExecutor(4) as pool:
            outputs = list(pool.map(lambda _: output(module, "GRU"), range(40)))
    assert all(torch.equal(each, before) for each in outputs)


def test_each_gate_loses_the_same_share():
    masks = kanbatsu.torch.masks(pruned("LSTM", 0.75))
    for mask in masks.values():
        assert mask.shape[0] == 4 * 8
        assert len({int(gate.sum()) for gate in mask.split(8)}) == 1
    mask = kanbatsu.torch.masks(pruned("attention", 0.75))["in_proj_weight"]
    assert [int(part.sum()) for part in mask.split(8)] == [16] * 3


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.core = nn.LSTM(8, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.0)
        self.head = nn.Linear(8, 2)

    def forward(self, tokens):
        return self.head(self.encoder(self.core(self.embed(tokens))[0]))


class NoisyLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight_mu = nn.Parameter(torch.ones(4, 8))
        self.weight_sigma = nn.Parameter(torch.ones(4, 8))


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.noisy = nn.Linear(8, 8), NoisyLinear()


def test_by_default_they_stay_dense():
    network = kanbatsu.torch.prune(Network(), 0.5, exclude="*out_proj")
    assert all("linear" in path or "head" in path for path in kanbatsu.torch.masks(network))
    how = {"exclude": "encoder*", "distribution": "uniform", "also": ("core", "embed")}
    network = kanbatsu.torch.prune(Network(), 0.5, **how)
    assert list(kanbatsu.torch.masks(network)) == [
        *("head.weight", "embed.weight", "core.weight_ih_l0", "core.weight_hh_l0")
    ]


def test_fused_kernels_and_a_dense_state_dict_find_zeros():
    network = kanbatsu.torch.prune(Network(), 0.5, also="*").eval()
    network.load_state_dict(Network().state_dict())
    plain = kanbatsu.torch.unprune(copy.deepcopy(network))
    with torch.no_grad():
        for value in network.parameters():
            value.data.add_(torch.where(value == 0, 3.0, 0.0) if value.ndim > 1 else 0.0)
        torch.testing.assert_close(network(TOKENS), plain(TOKENS))


def test_compiled_ones_compute_the_same():
    module = pruned("GRU")
    compiled = torch.compile(module, backend="eager")
    assert torch.equal(output(compiled, "GRU"), output(module, "GRU"))


@pytest.mark.parametrize(
    ("make", "how", "message"),
    [
        (Network, {}, "out_proj.weight .its attention reads it: prune them together"),
        (lambda: nn.LSTM(8, 8), {}, r"recurrent layers, attention and .* `also` names them"),
        (Network, {"also": "cor"}, r"'cor' matches no prunable weight; .*core.weight_ih_l0"),
        (Noisy, {"include": "noisy"}, "noisy.weight_mu cannot be pruned: NoisyLinear uses it"),
        (Noisy, {"also": "*.weight_sigma"}, "noisy.weight_sigma cannot be pruned: NoisyLinear"),
        (Network, {"include": "core"}, "core.weight_ih_l0 cannot be pruned: .* where `also` names"),
        (lambda: nn.Sequential(nn.LazyLinear(4)), {}, "call it once"),
        (lambda: nn.Embedding(4, 4, sparse=True), {"also": "*"}, "sparse=True or max_norm"),
        (lambda: pruned("GRU"), {"also": "*", "seed": 1}, "already pruned"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(make, how, message):
    module = make()
    before = list(module.state_dict())
    with pytest.raises(ValueError, match=f"(?is){message}"):
        kanbatsu.torch.prune(module, 0.5, **how)
    assert list(module.state_dict()) == before
