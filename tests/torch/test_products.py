"""Packed products are masked ones: the same function, gradients and refusals, only faster."""

import copy
import ctypes
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import kanbatsu.torch
from kanbatsu.kernels.shared import shared_library
from kanbatsu.torch import choosing, layers, products

pytestmark = pytest.mark.skipif(shared_library() is None, reason="built without kernels")

SHAPES = [(40, 33), (64, 64), (5, 1100), (1100, 37)]
PATTERNS = {"element": {}, **{f"grouped {n}": {"group_size": n} for n in (8, 16, 32)}}


def layer(inputs, outputs, pattern="element", sparsity=0.7, compute="packed", bias=True):
    torch.manual_seed(0)
    return kanbatsu.torch.prune(
        nn.Linear(inputs, outputs, bias=bias),
        sparsity,
        pattern=pattern.split()[0],
        compute=compute,
        **PATTERNS[pattern],
    )


def twin_of(module):
    """The same, masked."""
    twin = copy.deepcopy(module)
    for part in twin.modules():
        if hasattr(part, "weight_mask"):
            part.compute = "masked"
    return twin


def is_packed(module, x):
    """Whether the kernels make the product."""
    return "Product" in type(module(x).grad_fn).__name__


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_those_of_a_masked_layer(shape, pattern):
    packed = layer(*shape, pattern)
    masked = twin_of(packed)
    for batch in (0, 1, 3, 16, 33, 70):
        x = torch.randn(batch, shape[0], requires_grad=True)
        twin = x.detach().clone().requires_grad_()
        dy = torch.randn(batch, shape[1])
        assert is_packed(packed, x)
        assert not is_packed(masked, x)
        for module, seen in ((packed, x), (masked, twin)):
            module.zero_grad()
            module(seen).backward(dy)
        with torch.no_grad():
            torch.testing.assert_close(packed(x), masked(x), rtol=1e-4, atol=1e-5)
        for ours, theirs in (
            (packed(x), masked(twin)),
            (x.grad, twin.grad),
            (packed.weight.grad, masked.weight.grad),
            (packed.bias.grad, masked.bias.grad),
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
            assert ours.is_contiguous() and ours.shape == theirs.shape  # noqa: PT018
        assert not packed.weight.grad[packed.weight_mask == 0].any()


@pytest.mark.parametrize("pattern", ["element", "grouped 16"])
@pytest.mark.parametrize("shape", [(64,), (2, 3, 64), (0, 64), (2, 0, 64)], ids=str)
def test_inputs_of_any_shape_and_order_in_memory(shape, pattern):
    packed = layer(64, 48, pattern, bias=False)
    x = torch.randn(*shape)
    torch.testing.assert_close(packed(x), twin_of(packed)(x), rtol=1e-4, atol=1e-5)
    turned = torch.randn(64, 5).t()
    torch.testing.assert_close(packed(turned), packed(turned.contiguous()))


@pytest.mark.parametrize("pattern", ["element", "grouped 16"])
def test_only_the_gradients_that_are_wanted_are_made(pattern):
    packed = layer(64, 48, pattern)
    x = torch.randn(5, 64)
    packed.bias.requires_grad_(False)
    packed(x).sum().backward()
    assert packed.bias.grad is None
    packed.weight.requires_grad_(False)
    packed.weight.grad = None
    x.requires_grad_()
    packed(x).sum().backward()
    assert packed.weight.grad is None
    torch.testing.assert_close(x.grad, packed.weight.sum(0).expand(5, 64), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="torch's threads are GNU's on Linux")
def test_the_threads_of_torch_are_found():
    assert hasattr(ctypes.CDLL(torch._C.__file__), "GOMP_parallel")


@pytest.mark.parametrize("pattern", ["element", "grouped 16"])
def test_the_number_of_threads_changes_no_bit(pattern):
    packed = layer(300, 200, pattern)
    x, before, seen = torch.randn(100, 300), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            packed.zero_grad()
            y = packed(x)
            y.square().sum().backward()
            seen.append((y, packed.weight.grad))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other, strict=True))


@pytest.mark.parametrize("pattern", ["element", "grouped 16"])
def test_a_gradient_can_be_differentiated_again(pattern):
    packed = layer(64, 48, pattern)
    found = []
    for module in (packed, twin_of(packed)):
        x = torch.linspace(-1, 1, 3 * 64).reshape(3, 64).requires_grad_()
        (dx,) = torch.autograd.grad(module(x).tanh().sum(), x, create_graph=True)
        dx.square().sum().backward()
        found.append((x.grad, module.weight.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_weight_that_changes_before_backward_is_told():
    packed = layer(64, 48)
    y = packed(torch.randn(5, 64, requires_grad=True))
    with torch.no_grad():
        packed.weight.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_another_mask_has_another_layout():
    packed, other = layer(64, 48, "grouped 16"), layer(64, 48, "element", 0.5)
    x = torch.randn(5, 64)
    packed(x)
    state = {**dict(packed.named_parameters()), **dict(packed.named_buffers())}
    swapped = torch.func.functional_call(
        other, {name: state[name].detach() for name in ("weight", "weight_mask", "bias")}, (x,)
    )
    torch.testing.assert_close(swapped, packed(x), rtol=1e-4, atol=1e-5)
    packed.load_state_dict(other.state_dict())
    torch.testing.assert_close(packed(x), other(x), rtol=1e-4, atol=1e-5)
    assert is_packed(packed, x)


@pytest.mark.parametrize("storage", ["dense", "kept"])
def test_auto_measures_once_and_is_pinned(monkeypatch, storage):
    module = kanbatsu.torch.prune(torch.nn.Linear(64, 64), 0.9, compute="auto", storage=storage)
    monkeypatch.setattr(choosing, "_DECISIONS", {})
    seconds = {"packed": 1.0, "dense": 2.0}
    turns = []

    def turn(product, _):
        name = ("packed", "dense")[len(turns) % 2]
        turns.append(name)
        product(torch.ones(3, 64))
        return lambda: seconds[name]

    monkeypatch.setattr(choosing, "_turn", turn)
    assert all(module.takes_packed(torch.ones(rows, 64)) for rows in (65, 100, 128))
    assert turns == ["packed", "dense"]  # measured for the first of them
    seconds["dense"] = 0.9
    assert not module.takes_packed(torch.ones(129, 64))
    with torch.no_grad():
        assert not module.takes_packed(torch.ones(128, 64))
    record = kanbatsu.torch.settle(module, batch=128)
    assert record == {"weight": "packed"}
    assert module.takes_packed(torch.ones(129, 64))
    kanbatsu.torch.settle(module, compute={"weight": "masked"})
    assert not module.takes_packed(torch.ones(128, 64))
    with pytest.raises(ValueError, match="weights is no pruned linear layer here: these are wei"):
        kanbatsu.torch.settle(module, compute={"weights": "masked"})
    with pytest.raises(ValueError, match="give a batch to measure with"):
        kanbatsu.torch.settle(module)


def test_the_faster_product_is_taken():
    slow, quick = (lambda seconds: lambda: seconds)(2.0), (lambda seconds: lambda: seconds)(1.0)
    assert choosing._is_less(quick, slow)
    assert not choosing._is_less(slow, quick)
    noisy = iter([5.0, 0.5, 4.0, 4.0, 4.0, 4.0, 4.0])
    assert choosing._is_less(lambda: next(noisy), lambda: 4.0)


def test_tiny_layers_are_not_measured(monkeypatch):
    monkeypatch.setattr(choosing, "_turn", None)
    assert not layer(63, 64, "element", 0.9, compute="auto").takes_packed(torch.ones(256, 63))


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_what_the_kernels_cannot_take_is_masked(monkeypatch):
    packed = layer(64, 48)
    x = torch.randn(5, 64)
    assert is_packed(packed, x)
    assert not is_packed(copy.deepcopy(packed).double(), x.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_packed(packed, x)
    traced = torch.jit.trace(packed, x)
    torch.testing.assert_close(traced(x + 1), packed(x + 1), rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        packed(torch.randn(5, 63))
    monkeypatch.setattr(products, "shared_library", lambda: None)
    assert not is_packed(copy.deepcopy(packed), x)


ODD_BIASES = {
    "strided": lambda bias: torch.randn(96)[::2],
    "expanded": lambda bias: torch.randn(1).expand(48),
    "one for all": lambda bias: torch.randn(1),
    "of the batch": lambda bias: torch.randn(5, 48),
    "negated": lambda bias: torch._neg_view(torch.randn(48)),
}


@pytest.mark.parametrize("odd", ODD_BIASES)
def test_an_odd_bias_is_added_as_torch_adds_it(odd):
    packed = layer(64, 48)
    del packed.bias
    packed.bias = ODD_BIASES[odd](48)
    x = torch.randn(5, 64)
    assert torch.equal(packed(x), twin_of(packed)(x))


@pytest.mark.parametrize("rows", [1, 24, 96])
def test_a_weight_of_another_shape_is_never_read_by_the_mask(rows):
    packed, x = layer(64, 48), torch.randn(5, 64)
    packed(x)
    packed.weight.data = torch.randn(rows, 64)
    for module in (packed, twin_of(packed)):
        if rows == 1:
            assert module(x).shape == (5, 48)
        else:
            with pytest.raises(RuntimeError, match="must match the size"):
                module(x)


@pytest.mark.parametrize("change", ["requires_grad", "halved"])
def test_a_mask_that_is_no_mask_is_multiplied_as_it_is(change):
    packed, x = layer(64, 48), torch.randn(5, 64)
    packed(x)
    if change == "halved":
        packed.weight_mask.mul_(0.5)
    else:
        packed.weight_mask.requires_grad_()
    assert torch.equal(packed(x), twin_of(packed)(x))


def test_modes_that_see_every_operation_see_those_of_the_masked_layer():
    packed = layer(64, 48)
    x = torch.randn(5, 64)
    packed(x)
    with FlopCounterMode(display=False) as counter:
        packed(x)
    assert counter.get_total_flops() == 2 * 5 * 64 * 48
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert packed(x).shape == (5, 48)
    traced = make_fx(packed)(x)
    torch.testing.assert_close(traced(x + 1), packed(x + 1), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_forward_mode_keeps_its_tangent():
    packed = layer(64, 48)
    x, tangent = torch.randn(5, 64), torch.randn(5, 64)
    with torch.no_grad(), forward_ad.dual_level():
        dual = forward_ad.unpack_dual(packed(forward_ad.make_dual(x, tangent)))
    torch.testing.assert_close(dual.tangent, tangent @ packed.weight.T, rtol=1e-4, atol=1e-5)


def test_many_gradients_at_once():
    packed = layer(64, 48)
    x = torch.randn(2, 64, requires_grad=True)
    dys = torch.randn(3, 2, 48)
    (batched,) = torch.autograd.grad(packed(x), x, dys, is_grads_batched=True)
    each = [torch.autograd.grad(packed(x), x, dy)[0] for dy in dys]
    torch.testing.assert_close(batched, torch.stack(each), rtol=1e-4, atol=1e-5)
    hessian = torch.autograd.functional.hessian(lambda x: packed(x).tanh().sum(), x, vectorize=True)
    assert hessian.abs().sum() > 0


def test_a_negated_gradient_keeps_its_sign():
    packed = layer(64, 1)
    weights = []
    for module in (packed, twin_of(packed)):
        y = module(torch.ones(1, 64))
        torch.complex(torch.zeros_like(y), y).conj().resolve_conj().imag.sum().backward()
        weights.append(module.weight.grad)
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


def test_layers_made_in_inference_mode():
    with torch.inference_mode():
        packed = layer(64, 48)
        x = torch.randn(5, 64)
        torch.testing.assert_close(packed(x), twin_of(packed)(x), rtol=1e-4, atol=1e-5)


def test_a_mask_that_is_loaded_again_keeps_its_layout(monkeypatch):
    packed = layer(64, 48)
    packed(torch.randn(5, 64))
    monkeypatch.setattr(layers, "layout_of", lambda mask: pytest.fail("it was listed again"))
    packed.load_state_dict(copy.deepcopy(packed.state_dict()))
    average = torch.optim.swa_utils.AveragedModel(packed, use_buffers=True)
    average.module._known = packed._known
    average.update_parameters(packed)
    packed(torch.randn(5, 64))
    average(torch.randn(5, 64))


def test_what_no_gradient_needs_may_change_before_backward():
    packed = layer(64, 48)
    y = packed(torch.randn(5, 64))
    with torch.no_grad():
        packed.weight.mul_(2.0)
    y.sum().backward()
    packed.weight.requires_grad_(False)
    x = torch.randn(5, 64, requires_grad=True)
    seen = x * 1.0
    y = packed(seen)
    seen.detach().zero_()
    y.sum().backward()


def test_defaults_of_torch_do_not_reach_the_kernels():
    packed = layer(64, 48)
    x = torch.randn(5, 64)
    packed(x).sum().backward()
    expected, packed.weight.grad = packed.weight.grad, None
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            y = packed(x)
            y.sum().backward()
    finally:
        torch.set_default_dtype(torch.float32)
    assert y.dtype == torch.float32
    assert torch.equal(packed.weight.grad, expected)


def test_unprune_leaves_a_plain_layer():
    packed = layer(64, 48)
    x = torch.randn(5, 64)
    expected = packed(x)
    plain = kanbatsu.torch.unprune(packed)
    assert type(plain) is nn.Linear
    assert {"compute", "_known"}.isdisjoint(vars(plain))
    torch.testing.assert_close(plain(x), expected, rtol=1e-4, atol=1e-5)


def test_a_mistyped_compute_is_told():
    with pytest.raises(ValueError, match="unknown compute 'fast': choose from"):
        layer(64, 48, compute="fast")


FORK = """
import os, torch, kanbatsu.torch
torch.set_num_threads(2)
layer = kanbatsu.torch.prune(torch.nn.Linear(300, 200), 0.7, compute="packed")
x = torch.randn(100, 300)
with torch.no_grad():
    before = layer(x)
    child = os.fork()
    same = torch.equal(layer(x), before)
if child == 0:
    os._exit(not same)
assert same and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_a_forked_process_has_threads_of_its_own():
    """A fork copies no threads, and whoever waits for them would wait for ever."""
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    done = subprocess.run(command, timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
