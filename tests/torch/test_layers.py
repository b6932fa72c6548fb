"""Zeros stay zero: in weights, gradients and moments, whatever the user does with the module."""

import copy
import io
import warnings

import pytest
import torch
from torch import nn

import kanbatsu.torch
from kanbatsu.torch.layers import PrunedLinear
from kanbatsu.torch.pruned import Pruned

LOOKS = torch.arange(12.0).reshape(3, 4).cos()


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2)
    )


def prune(seed, compute):
    return kanbatsu.torch.prune(network(), 0.6, seed=seed, distribution="uniform", compute=compute)


@pytest.fixture(params=["masked", "packed"])
def pruned(request):
    """Every promise is kept by masked products, and by those with kept weights alone."""
    return lambda seed=0: prune(seed, request.param)


def call(module, dtype=torch.float32):
    return module(LOOKS[:, None].to(dtype))


def pruned_places(module):
    """The pruned part of each weight that is pruned, and its parameter."""
    masks, weights = kanbatsu.torch.masks(module), dict(module.named_parameters())
    assert len(masks) == 3
    return [(~mask, weights[path]) for path, mask in masks.items()]


def assert_pruned(module, masks=None):
    assert all(not weight[gone].any() for gone, weight in pruned_places(module))
    if masks is not None:
        now = kanbatsu.torch.masks(module)
        assert all(torch.equal(now[path], mask) for path, mask in masks.items())


def train(module, optimizer, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (call(module, next(module.parameters()).dtype) - 1.0).square().sum()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        optimizer.step()
    return loss


OPTIMIZERS = {
    "sgd": lambda x: torch.optim.SGD(x, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda x: torch.optim.Adam(x, 0.1, amsgrad=True),
    "adamw": lambda x: torch.optim.AdamW(x, 0.1, weight_decay=0.5),
    "fused": lambda x: torch.optim.AdamW(x, 0.1, weight_decay=0.5, fused=True),
    "rmsprop": lambda x: torch.optim.RMSprop(x, 0.1, momentum=0.9, centered=True),
    "adagrad": lambda x: torch.optim.Adagrad(x, 0.1, initial_accumulator_value=0.1),
    "nadam": lambda x: torch.optim.NAdam(x, 0.1, weight_decay=0.1),
    "adadelta": lambda x: torch.optim.Adadelta(x, 1.0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_gradients_and_moments_stay_zero(pruned, name):
    module = pruned()
    masks = kanbatsu.torch.masks(module)
    target = copy.deepcopy(module)
    optimizer = OPTIMIZERS[name](module.parameters())
    before = [weight.clone() for weight in module.parameters()]
    for _ in range(2):
        train(module, optimizer)
        for new, old in zip(module.parameters(), target.parameters(), strict=True):
            old.data.mul_(0.9).add_(0.1 * new.data)
    for gone, weight in pruned_places(module):
        assert not weight.grad[gone].any()
        state = optimizer.state[weight]
        moments = [x for x in state.values() if torch.is_tensor(x) and x.shape == weight.shape]
        assert moments
        filled = 0.1 if name == "adagrad" else 0.0  # where its accumulator starts
        assert all((moment[gone] == filled).all() for moment in moments)
    assert_pruned(module, masks)
    assert_pruned(target, masks)
    for new, old in zip(module.parameters(), before, strict=True):
        assert not torch.equal(new, old)


def test_muon_mixes_the_elements_of_a_matrix_and_what_is_pruned_has_no_say():
    """Stored values are moved by such an optimizer; neither the function nor a checkpoint is."""
    module = kanbatsu.torch.prune(nn.Sequential(nn.Linear(8, 16, bias=False)), 0.75)
    optimizer = torch.optim.Muon(module.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.randn(4, 8)).square().sum().backward()
        optimizer.step()
    (mask,) = kanbatsu.torch.masks(module).values()
    x = torch.randn(4, 8)
    assert torch.equal(module(x), x @ (module[0].weight * mask).T)
    assert not optimizer.state[module[0].weight]["momentum_buffer"][~mask].any()
    assert not module.state_dict()["0.weight"][~mask].any()
    assert not module[0].weight[~mask].any()


def test_gradients_are_those_of_a_dense_layer_with_zeros_and_clip_by_their_own_norm(pruned):
    module = pruned()
    twin = kanbatsu.torch.unprune(copy.deepcopy(module))
    for each in (module, twin):
        call(each).square().sum().backward()
    total = 0.0
    masks = kanbatsu.torch.masks(module)
    for (path, ours), theirs in zip(module.named_parameters(), twin.parameters(), strict=True):
        expected = theirs.grad * masks[path] if path in masks else theirs.grad
        torch.testing.assert_close(ours.grad, expected)
        total += float(expected.square().sum())
    norm = nn.utils.clip_grad_norm_(module.parameters(), 1e9)
    assert float(norm) == pytest.approx(total**0.5, rel=1e-6)


@pytest.mark.parametrize("write", ["data", "copy_", "init"])
def test_a_weight_that_is_overwritten_has_no_say_where_it_is_pruned(pruned, write):
    module = pruned()
    layer, mask = module[3], kanbatsu.torch.masks(module)["3.weight"]
    dense = torch.randn(16, 16)
    if write == "data":
        layer.weight.data.copy_(dense)
    elif write == "copy_":
        with torch.no_grad():
            layer.weight.copy_(dense)
    else:
        nn.init.orthogonal_(layer.weight)
        dense = layer.weight.detach().clone()
    x = torch.randn(5, 16)
    torch.testing.assert_close(layer(x), x @ (dense * mask).T + layer.bias)
    layer(x).sum().backward()
    assert not layer.weight.grad[~mask].any()
    assert not module.state_dict()["3.weight"][~mask].any()


def saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def from_state(module):
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = prune(7, module[3].compute)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


def assigned(module):
    other = copy.deepcopy(module).to("meta")
    other.load_state_dict(copy.deepcopy(module.state_dict()), assign=True)
    return other


COPIES = {
    "deepcopy": copy.deepcopy,
    "module saved": saved,
    "state saved": from_state,
    "state assigned": assigned,
    "wrapped": lambda module: nn.DataParallel(copy.deepcopy(module)).module,
    "to": lambda module: copy.deepcopy(module).to("cpu", torch.float64).float(),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_compute_the_same_and_go_on_alike(pruned, how):
    module = pruned()
    train(module, torch.optim.Adam(module.parameters(), 0.1))
    masks = kanbatsu.torch.masks(module)
    other = COPIES[how](module)
    assert torch.equal(call(other), call(module))
    first, second = (
        train(each, torch.optim.AdamW(each.parameters(), 0.1)) for each in (module, other)
    )
    assert torch.equal(first, second)
    assert_pruned(other, masks)
    assert all(a is not b for a, b in zip(module.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(pruned, dtype):
    module = pruned().to(dtype)
    masks = kanbatsu.torch.masks(module)
    assert call(module, dtype).dtype == dtype
    assert {mask.dtype for mask in masks.values()} == {torch.bool}
    assert module.state_dict()["3.weight_mask"].dtype == torch.bool
    # The default epsilon is 0 in float16, and 0 / 0 ends pure float16 training, dense or pruned.
    train(module, torch.optim.AdamW(module.parameters(), 0.01, eps=1e-4))
    assert_pruned(module, masks)
    back = pruned()
    back.load_state_dict(module.state_dict())
    assert_pruned(back, masks)
    assert back[3].weight.dtype == torch.float32


def test_autocast_and_modes(pruned):
    module = pruned()
    with torch.autocast("cpu", torch.bfloat16):
        call(module).float().sum().backward()
    assert all(not weight.grad[gone].any() for gone, weight in pruned_places(module))
    assert torch.equal(call(module.eval()), call(module.train()))


def test_compiled(pruned):
    module = pruned()
    expected = call(module)
    masks = kanbatsu.torch.masks(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch's own while it traces
        compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(call(compiled), expected)
        train(compiled, torch.optim.AdamW(compiled.parameters(), 0.1))
    assert_pruned(module, masks)
    assert not torch.equal(call(module), expected)


def test_functional_calls_and_ensembles(pruned):
    """One mask per member, as `torch.func` stacks parameters and buffers."""
    members = [pruned(seed) for seed in range(3)]
    parameters, buffers = torch.func.stack_module_state(members)
    base = members[0]

    def loss(parameters, buffers):
        return torch.func.functional_call(base, (parameters, buffers), (LOOKS[:, None],)).sum()

    values = torch.vmap(loss)(parameters, buffers)
    torch.testing.assert_close(values, torch.stack([call(member).sum() for member in members]))
    gradients = torch.vmap(torch.func.grad(loss))(parameters, buffers)
    for index, member in enumerate(members):
        gone = ~kanbatsu.torch.masks(member)["3.weight"]
        assert not gradients["3.weight"][index][gone].any()


def test_averages_of_pruned_modules(pruned):
    """Torch's own average of weights, and one that a user takes of whole state_dicts."""
    module = pruned()
    masks = kanbatsu.torch.masks(module)
    average = torch.optim.swa_utils.AveragedModel(module, use_buffers=True)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(3):
        train(module, optimizer)
        average.update_parameters(module)
    assert_pruned(average.module, masks)
    target, online = copy.deepcopy(module.state_dict()), module.state_dict()
    mixed = {name: 0.995 * target[name] + 0.005 * online[name] for name in target}
    other = pruned(seed=5)
    other.load_state_dict(mixed)
    assert_pruned(other, masks)


def test_masks_lie_in_memory_as_their_weights_do(pruned):
    """A product of two that do not is ten times slower."""
    module = pruned()
    module.load_state_dict(module.state_dict())
    layers = [each for each in module.modules() if isinstance(each, Pruned)]
    assert len(layers) == 3
    assert all(each.weight_mask.stride() == each.weight.stride() for each in layers)


def test_a_pruned_layer_says_so():
    layer = kanbatsu.torch.prune(nn.Linear(8, 4), 0.75)
    assert isinstance(layer, PrunedLinear)
    assert isinstance(layer, nn.Linear)
    assert repr(layer).endswith("in_features=8, out_features=4, bias=True, kept=8 of 32)")
