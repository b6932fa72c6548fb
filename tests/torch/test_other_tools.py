"""What other tools of PyTorch do to pruned layers: it works, or is refused before any harm."""

import copy
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.nn import utils
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import prune as torch_prune

import kanbatsu.torch
from kanbatsu.torch.layers import PRUNED, PrunedLinear


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))


def pruned(**how):
    return kanbatsu.torch.prune(network(), 0.8, seed=1, **how)


def linears(module):
    return [(layer, "weight") for layer in module if isinstance(layer, nn.Linear)]


TORCH_PRUNES = {
    "l1": lambda net: torch_prune.l1_unstructured(net[2], "weight", 0.3),
    "global": lambda net: torch_prune.global_unstructured(
        linears(net), torch_prune.L1Unstructured, amount=0.3
    ),
    "structured": lambda net: torch_prune.ln_structured(net[0], "weight", 0.3, n=2, dim=0),
    "custom": lambda net: torch_prune.custom_from_mask(net[2], "weight", torch.ones(4, 64)),
    "identity": lambda net: torch_prune.identity(net[2], "weight"),
}


@pytest.mark.parametrize("name", TORCH_PRUNES)
def test_pruning_by_torch_on_top_is_refused_and_changes_nothing(name):
    module = pruned()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match=r"Take kanbatsu's masks off first, by kanbatsu\.torch"):
        TORCH_PRUNES[name](module)
    assert list(module.state_dict()) == list(before)
    assert all(torch.equal(x, before[key]) for key, x in module.state_dict().items())
    assert not module[0]._forward_pre_hooks
    TORCH_PRUNES[name](kanbatsu.torch.unprune(module))
    torch_prune.random_unstructured(pruned()[0], "bias", 0.5)  # a bias has no mask of ours


PARAMETRIZATIONS = {
    "weight_norm": parametrizations.weight_norm,
    "of each input": lambda layer: parametrizations.weight_norm(layer, dim=1),
    "spectral_norm": parametrizations.spectral_norm,
    "one's own": lambda layer: parametrize.register_parametrization(layer, "weight", nn.Tanh()),
    "two": lambda layer: parametrizations.spectral_norm(
        parametrize.register_parametrization(layer, "weight", nn.Identity())
    ),
    "weight_norm, the old one": utils.weight_norm,
    "spectral_norm, the old one": utils.spectral_norm,
}


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_what_is_pruned_has_no_say_in_a_weight_that_is_computed(name):
    """Whole units have lost their inputs: what is normalised must not become 0 / 0."""
    module = pruned()
    masks = kanbatsu.torch.masks(module)
    assert not masks["0.weight"].any(1).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old ones are deprecated
        for layer in (module[0], module[2]):
            PARAMETRIZATIONS[name](layer)
    x = torch.randn(16, 8)
    optimizer = torch.optim.AdamW(module.parameters(), 1e-2)
    first = loss = None
    for _ in range(15):
        loss = (module(x) - 1.0).square().mean()
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        assert torch.isfinite(utils.clip_grad_norm_(module.parameters(), 1.0))
        optimizer.step()
    assert loss.item() < first
    module.eval()(x)
    for path, mask in masks.items():
        layer = module.get_submodule(path.removesuffix(".weight"))
        assert not layer.masked_weight()[~mask].any()
        identity = torch.eye(mask.shape[1])
        expected = layer.masked_weight().T + layer.bias
        torch.testing.assert_close(layer(identity), expected, atol=1e-6, rtol=1e-4)
    assert kanbatsu.torch.count(module).kept == sum(int(mask.sum()) for mask in masks.values())
    with pytest.raises(ValueError, match=r"0.weight, 2.weight is computed .* take that off first"):
        kanbatsu.torch.unprune(module)


def test_spectral_norms_are_those_of_the_kept_weights():
    module = pruned()
    parametrizations.spectral_norm(module[0], n_power_iterations=50)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        module(torch.randn(16, 8)).square().sum().backward()
        optimizer.step()
    module(torch.randn(1, 8))
    norm = torch.linalg.matrix_norm(module.eval()[0].masked_weight().detach(), 2)
    assert float(norm) == pytest.approx(1.0, rel=1e-3)


def test_counting_and_probing_leave_a_parametrization_as_it_was():
    module = pruned()
    parametrizations.spectral_norm(module[0])
    before = copy.deepcopy(module.state_dict())
    kanbatsu.torch.count(module)
    kanbatsu.torch.probe(module, torch.randn(16, 8))
    module.load_state_dict(before)
    assert all(torch.equal(x, before[key]) for key, x in module.state_dict().items())


def test_a_parametrization_can_be_taken_off_again():
    module = pruned()
    masks = kanbatsu.torch.masks(module)
    parametrizations.weight_norm(module[0])
    x = torch.randn(4, 8)
    y = module(x)
    parametrize.remove_parametrizations(module[0], "weight")
    assert type(module[0]) is PrunedLinear
    torch.testing.assert_close(module(x), y)
    assert torch.equal(kanbatsu.torch.masks(module)["0.weight"], masks["0.weight"])
    torch.testing.assert_close(kanbatsu.torch.unprune(module)(x), y)


SCRIPTS = """
import torch, kanbatsu.torch
from torch import nn
from kanbatsu.torch.layers import PRUNED
for kind in PRUNED:
    layer = kind(8, 6) if kind is nn.Linear else kind(4, 6, 2)
    module = kanbatsu.torch.prune(nn.Sequential(layer, nn.ReLU()), 0.6).eval()
    x = torch.randn((3, 8) if kind is nn.Linear else (2, 4, *[5] * (layer.weight.ndim - 2)))
    for other in (torch.jit.script(module), torch.fx.symbolic_trace(module)):
        torch.testing.assert_close(other(x), module(x))
print(len(PRUNED), "kinds")
"""


def test_layers_of_every_kind_are_compiled_to_scripts():
    """In a process of its own: what checks types in tests hides the source from torch."""
    command = [sys.executable, "-W", "ignore", "-c", SCRIPTS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == f"{len(PRUNED)} kinds\n", done.stderr


@pytest.mark.parametrize("kind", PRUNED)
def test_code_that_goes_by_exact_type_takes_a_pruned_layer_for_its_kind(kind):
    layer = kanbatsu.torch.prune(kind(8, 6) if kind is nn.Linear else kind(4, 6, 2), 0.6)
    assert type(layer) == kind  # noqa: E721
    assert type(layer) in (kind,)
    assert type(layer) in {kind: 1}
    assert {type(layer): 1}[kind]
    others = [other for other in PRUNED if other is not kind]
    assert len(others) == len(PRUNED) - 1
    assert not any(type(layer) == other for other in others)  # noqa: E721


def test_a_weight_that_is_initialised_anew_by_exact_type_is_masked():
    module = pruned()

    def initialise(layer):
        if type(layer) == nn.Linear:  # noqa: E721
            nn.init.constant_(layer.weight, 3.0)
            nn.init.constant_(layer.bias, 1.0)

    module.apply(initialise)
    kept = kanbatsu.torch.masks(module)["0.weight"].sum(1)
    torch.testing.assert_close(module[0](torch.ones(8)), 1.0 + 3.0 * kept)


@pytest.mark.filterwarnings("ignore")  # torch.ao is deprecated
def test_quantization_takes_pruned_layers_and_trains_none():
    from torch.ao import quantization

    module = pruned()
    with torch.no_grad():
        for value in module.parameters():
            value.add_(torch.ones_like(value))  # where it is pruned too
    x = torch.randn(16, 8)
    expected = module(x)
    quantized = quantization.quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8)
    assert not any(isinstance(layer, nn.Linear) for layer in quantized)
    torch.testing.assert_close(quantized(x), expected, atol=0.1 * float(expected.std()), rtol=0.1)
    module.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    with pytest.raises(ValueError, match="quantize after training, in evaluation mode"):
        quantization.prepare_qat(module)
    assert type(module[0]) is PrunedLinear


WRITES = {
    "in place": lambda x: x.add_(0.1 * torch.randn_like(x)),
    "data": lambda x: x.data.add_(0.1 * torch.randn_like(x)),
    "other data": lambda x: setattr(x, "data", x + 0.1 * torch.randn_like(x)),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("write", WRITES)
def test_fused_kernels_that_read_a_weight_find_zeros(write, padded):
    """In evaluation mode an encoder reads the weights of its layers, and calls none of them."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    encoder = nn.TransformerEncoder(layer, 2)
    kanbatsu.torch.prune(encoder, 0.8, exclude="*.out_proj").eval()
    x = torch.randn(3, 5, 8)
    padding = torch.arange(5) >= torch.tensor([[5], [3], [2]]) if padded else None
    ours = padding.logical_not() if padded else torch.ones(3, 5, dtype=bool)
    with torch.no_grad():
        for value in encoder.parameters():
            WRITES[write](value)
        fused = encoder(x, src_key_padding_mask=padding)
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            called = encoder(x, src_key_padding_mask=padding)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
    torch.testing.assert_close(fused[ours], called[ours])


def test_a_weight_is_read_without_a_trace_in_autograd():
    module = pruned(compute="packed")
    x = torch.randn(16, 8, requires_grad=True)
    y = module(x).sum()
    assert module[0].weight.any()
    module.state_dict()
    copy.deepcopy(module)
    y.backward()
    assert x.grad is not None
