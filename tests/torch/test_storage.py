"""One contract for both storages: a parameter of zeros and weights, or of kept values alone."""

import copy
import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import kanbatsu.torch
from kanbatsu.torch.deploy import export_policy
from kanbatsu.torch.kept import KeptLinear
from kanbatsu.torch.layers import PrunedLinear

X = torch.linspace(-1, 1, 9 * 24).reshape(9, 24).cos()
KEPT_AND_PATTERN = [(s, p) for s in ("dense", "kept") for p in ("element", "grouped")]


def network(width=40):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, width), nn.Tanh(), nn.Linear(width, 12), nn.Tanh())


def pruned(storage, pattern, compute="packed", module=None, **settings):
    return kanbatsu.torch.prune(
        module or network(),
        settings.pop("sparsity", 0.75),
        pattern=pattern,
        group_size=8,
        distribution="uniform",
        compute=compute,
        storage=storage,
        **settings,
    )


@pytest.fixture(params=KEPT_AND_PATTERN, ids="-".join)
def kind(request):
    return request.param


def train(module, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        (module(X) - 0.5).square().sum().backward()
        optimizer.step()


def close(module, other):
    torch.testing.assert_close(module(X), other(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compute", ["packed", "masked"])
def test_a_hundred_steps_of_adam_are_those_of_masked_dense_layers(kind, compute):
    module, reference = pruned(*kind, compute=compute), pruned("dense", kind[1], compute="masked")
    for one in (module, reference):
        train(one, torch.optim.Adam(one.parameters(), 1e-3, fused=True), 100)
    for layer, other in ((module[0], reference[0]), (module[2], reference[2])):
        torch.testing.assert_close(layer.weight, other.weight.data, rtol=1e-3, atol=1e-5)
        assert not layer.weight[~layer.weight_mask.bool()].any()
    close(module, reference)


def test_state_is_as_small_as_the_network_is_sparse():
    states = {}
    for storage in ("dense", "kept"):
        module = pruned(storage, "grouped", module=network(200), sparsity=0.9)
        optimizer = torch.optim.Adam(module.parameters())
        train(module, optimizer, 1)
        tensors = [x for state in optimizer.state.values() for x in state.values()]
        tensors += [*module.parameters(), *(x.grad for x in module.parameters())]
        states[storage] = sum(x.numel() * x.element_size() for x in tensors)
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        states[f"{storage} file"] = file.tell()
    assert states["kept"] <= 0.2 * states["dense"]
    assert states["kept file"] <= 0.3 * states["dense file"]


def test_copies_pickles_and_averages(kind):
    module = pruned(*kind)
    target = copy.deepcopy(module)
    train(module, torch.optim.SGD(module.parameters(), 0.1), 2)
    for new, old in zip(module.parameters(), target.parameters(), strict=True):
        old.data.mul_(0.5).add_(0.5 * new.data)
    start = pruned(*kind)
    middle = (start[0].weight.detach() + module[0].weight.detach()) / 2
    torch.testing.assert_close(target[0].weight.detach() + 0, middle + 0)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(loaded(X), module(X))
    average = torch.optim.swa_utils.AveragedModel(module, use_buffers=True)
    average.update_parameters(module)
    average.update_parameters(module)
    close(average, module)


def test_state_dicts_round_trip_between_all_storages(kind):
    module = pruned(*kind)
    state = module.state_dict()
    for storage, seed in (("dense", 0), ("kept", 0), ("kept", 5), ("dense", 5)):
        other = pruned(storage, kind[1], module=network(), seed=seed)
        before = [id(x) for x in other.parameters()]
        other.load_state_dict(state)
        close(other, module)
        assert [id(x) for x in other.parameters()] == before
        again = pruned(*kind, seed=7)
        again.load_state_dict(other.state_dict())
        close(again, module)
    plain = network()
    plain.load_state_dict(
        kanbatsu.torch.dense_state_dict(kanbatsu.torch.unprune(module).state_dict())
    )
    close(plain, module)


def test_dense_state_dicts_of_kept_ones():
    module = pruned("kept", "grouped")
    state, plain = module.state_dict(), network()
    assert kanbatsu.torch.masks(state).keys() == {"0.weight", "2.weight"}
    plain.load_state_dict(kanbatsu.torch.dense_state_dict(state))
    close(plain, module)
    with_masks = kanbatsu.torch.dense_state_dict(state, with_masks=True)
    assert with_masks.keys() == pruned("dense", "grouped").state_dict().keys()
    module.load_state_dict(network().state_dict())  # dense, never pruned: the masks stay
    close(module, pruned("dense", "grouped"))
    with pytest.raises(ValueError, match=r"0.weight_kept is \(48, 24\) in the state_dict"):
        module.load_state_dict(pruned("kept", "grouped", module=network(48)).state_dict())


def test_targets_probes_counts_and_export(kind, tmp_path):
    module = pruned(*kind)
    target = kanbatsu.torch.prune_like(network(), module)
    assert type(target[0]) is type(module[0]) is (KeptLinear if "kept" in kind else PrunedLinear)
    close(target, module)
    reference = pruned("dense", kind[1])
    assert kanbatsu.torch.count(module) == kanbatsu.torch.count(reference)
    health = [kanbatsu.torch.probe(m, X, loss=lambda y: y.sum()) for m in (module, reference)]
    assert health[0] == pytest.approx(health[1], rel=1e-4)
    export_policy(module, tmp_path / "policy", c=False, onnx=False)
    assert (tmp_path / "policy" / "policy.json").exists()


def test_turned_back_it_is_dense_and_moments_follow(kind):
    module, reference = pruned(*kind), pruned("dense", kind[1])
    optimizers = [torch.optim.Adam(m.parameters(), 1e-3) for m in (module, reference)]
    for one, optimizer in zip((module, reference), optimizers, strict=True):
        train(one, optimizer, 3)
        kanbatsu.torch.unprune(one, optimizer if "kept" in kind and one is module else None)
        assert type(one[0]) is nn.Linear
        assert list(one.state_dict()) == list(network().state_dict())
        train(one, optimizer, 3)
    close(module, reference)


def test_compiled_autocast_and_other_types(kind):
    module, reference = pruned(*kind), pruned("dense", kind[1], compute="masked")
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(module(X), reference(X), rtol=1e-2, atol=1e-2)
    compiled = torch.compile(module, backend="eager")
    close(compiled, reference)
    double = copy.deepcopy(module).double()
    torch.testing.assert_close(double(X.double()).float(), reference(X), rtol=1e-4, atol=1e-5)
    hessian = torch.autograd.functional.hessian(lambda x: module(x).sum(), X[:1])
    expected = torch.autograd.functional.hessian(lambda x: reference(x).sum(), X[:1])
    torch.testing.assert_close(hessian, expected, rtol=1e-3, atol=1e-5)
    params = {name: torch.stack([x, 2 * x]) for name, x in module.named_parameters()}
    two = torch.func.vmap(lambda p: torch.func.functional_call(module, p, (X,)))(params)
    torch.testing.assert_close(two[0], reference(X), rtol=1e-4, atol=1e-5)


def test_moments_follow_when_pruned_after_training_began():
    modules = [network(), network()]
    optimizers = [torch.optim.Adam(m.parameters(), 1e-3) for m in modules]
    for module, optimizer, storage in zip(modules, optimizers, ("dense", "kept"), strict=True):
        train(module, optimizer, 3)
        if storage == "kept":
            with pytest.raises(ValueError, match="has moments of this module already"):
                pruned(storage, "element", module=module)
            assert type(module[0]) is nn.Linear
        given = {"optimizer": optimizer} if storage == "kept" else {}
        pruned(storage, "element", module=module, **given)
        if storage == "dense":  # its moments are the user's: where nothing is, none are left
            for layer in (module[0], module[2]):
                for name in ("exp_avg", "exp_avg_sq"):
                    optimizer.state[layer.weight][name].mul_(layer.weight_mask)
        train(module, optimizer, 3)
    close(*modules)


def test_an_optimizer_that_holds_nothing_of_it_is_refused():
    other = torch.optim.SGD(network().parameters(), 0.1)
    module = network()
    with pytest.raises(ValueError, match="this SGD holds no parameter"):
        pruned("kept", "element", module=module, optimizer=other)
    factored = torch.optim.Adafactor(module.parameters(), 0.1)
    train(module, factored, 1)
    with pytest.raises(ValueError, match="the optimizer's row_var is"):
        pruned("kept", "element", module=module, optimizer=factored)
    assert type(module[0]) is nn.Linear


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_the_view_of_the_weight_is_read_and_never_written():
    layer = pruned("kept", "element")[0]
    weight = layer.weight
    penalty = weight.square().sum()
    (gradient,) = torch.autograd.grad(penalty, layer.weight_kept)
    torch.testing.assert_close(gradient, 2 * layer.weight_kept)
    assert type(weight * 2) is torch.Tensor
    refused = [
        lambda: nn.init.orthogonal_(layer.weight),
        lambda: layer.weight.data.zero_(),
        lambda: layer.weight.detach().mul_(2),
        lambda: layer.weight.__setitem__(0, 1.0),
        lambda: layer.weight.data[0].fill_(1.0),
        lambda: setattr(layer.weight, "data", torch.zeros(40, 24)),
        lambda: torch.add(weight, 1, out=layer.weight.detach()),
        lambda: setattr(layer, "weight", torch.zeros(40, 24)),
    ]
    for write in refused:
        with torch.no_grad(), pytest.raises(ValueError, match="a view for reading"):
            write()
    for take in (
        lambda: setattr(layer, "weight", nn.Parameter(torch.zeros(40, 24))),
        lambda: prune.random_unstructured(layer, "weight", 0.5),
    ):
        with pytest.raises(ValueError, match='need storage="dense"'):
            take()
    with pytest.raises(ValueError, match="cannot compile a layer"):
        torch.jit.script(layer)


def test_what_cannot_be_kept_is_refused_and_changes_nothing():
    module = nn.Sequential(nn.Conv1d(2, 8, 3), nn.Flatten(), nn.Linear(16, 12))
    with pytest.raises(ValueError, match=r"0.weight can be pruned with storage=\"dense\" only"):
        pruned("kept", "element", module=module)
    assert not kanbatsu.torch.masks(module)
    pruned("kept", "element", module=module, exclude="0")
    pruned("dense", "element", module=module, include="0")
    assert kanbatsu.torch.masks(module).keys() == {"0.weight", "2.weight"}
    with pytest.raises(ValueError, match="unknown storage 'sparse'"):
        pruned("sparse", "element")
    with pytest.raises(ValueError, match="already pruned"):
        pruned("kept", "element", module=pruned("dense", "element"))


def test_values_of_a_layer_with_another_mask_are_noticed():
    module, target = pruned("kept", "grouped", seed=0), pruned("kept", "grouped", seed=1)
    for old, new in zip(target.parameters(), module.parameters(), strict=True):
        old.data.copy_(new.data)
    with pytest.warns(UserWarning, match="has other masks"):
        target(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        target(X)
    target[0].weight_print.add_(0.1)
    target[0].calls = 0
    with pytest.raises(ValueError, match="prune with one seed everywhere"):
        target(X)


def test_layers_that_share_a_weight_share_their_kept_values():
    module = network()
    module = nn.ModuleDict({"a": nn.Linear(24, 24), "b": nn.Linear(24, 24)})
    module["b"].weight = module["a"].weight
    pruned("kept", "element", module=module)
    assert module["a"].weight_kept is module["b"].weight_kept
    assert kanbatsu.torch.count(module).total == 24 * 24
    kanbatsu.torch.unprune(module)
    assert module["a"].weight is module["b"].weight


def test_the_order_of_stored_values_is_part_of_files():
    """Whoever changes the kernels' lists must read files that hold the old ones."""
    mask = np.zeros((2, 1100), bool)
    mask[0, [3, 1050]] = mask[1, [2, 7]] = True
    places = kanbatsu.torch.places.Places(mask)
    assert places.index().tolist() == [3, 1102, 1107, 1050]
    assert places.record()["shape"].tolist() == [2, 1100, 1024]
    state = pruned("kept", "element", module=nn.Sequential(nn.Linear(1100, 8))).state_dict()
    state["0.weight_shape"][2] = 512
    other = pruned("kept", "element", module=nn.Sequential(nn.Linear(1100, 8)))
    with pytest.raises(ValueError, match="by blocks of 512 inputs"):
        other.load_state_dict(state)
