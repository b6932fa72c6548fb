"""Loading a state_dict: dense or pruned, and a wrong one changes nothing."""

import copy

import pytest
import torch
from torch import nn

import kanbatsu.torch


def mlp(width=16, outputs=2):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, outputs))


def pruned(width=16, seed=0, sparsity=0.5):
    return kanbatsu.torch.prune(mlp(width), sparsity, seed=seed, distribution="uniform")


def test_a_dense_one_keeps_the_masks():
    module, dense = pruned(), mlp()
    masks = kanbatsu.torch.masks(module)
    given = dense.state_dict()
    before = copy.deepcopy(given)
    module.load_state_dict(given)
    for path, mask in masks.items():
        assert torch.equal(kanbatsu.torch.masks(module)[path], mask)
        assert torch.equal(dict(module.named_parameters())[path], before[path] * mask)
        assert torch.equal(given[path], before[path])  # what the user holds is not touched
    module.load_state_dict(given, assign=True)
    assert not module[0].weight[~masks["0.weight"]].any()
    assert torch.equal(given["0.weight"], before["0.weight"])


def test_a_pruned_one_brings_its_masks():
    module, other = pruned(seed=0), pruned(seed=1)
    missing, unexpected = module.load_state_dict(other.state_dict())
    assert missing == unexpected == []
    ours, theirs = kanbatsu.torch.masks(module), kanbatsu.torch.masks(other)
    assert all(torch.equal(ours[path], theirs[path]) for path in theirs)
    x = torch.randn(3, 4)
    assert torch.equal(module(x), other(x))


def test_masks_alone_and_single_layers():
    module, other = pruned(seed=0), pruned(seed=1)
    masks_only = {name: x for name, x in other.state_dict().items() if name.endswith("_mask")}
    module.load_state_dict(masks_only, strict=False)
    assert not module[0].weight[~kanbatsu.torch.masks(other)["0.weight"]].any()
    module[2].load_state_dict(mlp()[2].state_dict())
    assert not module[2].weight[~kanbatsu.torch.masks(other)["2.weight"]].any()


def test_a_part_of_a_larger_module():
    whole = nn.ModuleDict({"actor": pruned(seed=0), "critic": pruned(seed=1)})
    other = nn.ModuleDict({"actor": pruned(seed=2), "critic": pruned(seed=3)})
    whole.load_state_dict(other.state_dict())
    ours, theirs = kanbatsu.torch.masks(whole), kanbatsu.torch.masks(other)
    assert len(ours) == 4
    assert all(torch.equal(ours[path], theirs[path]) for path in theirs)


def broken(change):
    state = pruned(seed=1).state_dict()
    change(state)
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            broken(lambda state: state.update({"2.weight_mask": torch.ones(3, 3) > 0})),
            r"2.weight_mask is \(3, 3\) in the state_dict, and the weight is \(2, 16\) here",
        ),
        (pruned(width=8).state_dict(), r"0.weight is \(8, 4\) in the state_dict"),
        (broken(lambda state: state.pop("2.weight_mask")), "2.weight is pruned here and dense in"),
    ],
)
@pytest.mark.parametrize("duplicate", [lambda module: module, copy.deepcopy])
def test_one_that_does_not_fit_changes_nothing(state, message, duplicate):
    module = duplicate(pruned())
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match=message):
        module.load_state_dict(state)
    assert all(torch.equal(x, before[name]) for name, x in module.state_dict().items())


def test_masks_for_a_layer_that_is_dense_here():
    module = kanbatsu.torch.prune(mlp(), 0.5, exclude="2")
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match=r"2.weight is dense here and pruned in the state_dict"):
        module.load_state_dict(pruned().state_dict())
    assert all(torch.equal(x, before[name]) for name, x in module.state_dict().items())
    state = pruned().state_dict()
    fresh = kanbatsu.torch.apply_masks(mlp(), kanbatsu.torch.masks(state))
    fresh.load_state_dict(state)
    assert list(fresh.state_dict()) == list(state)


def test_what_torch_refuses_is_refused_as_ever():
    module = pruned()
    state = module.state_dict()
    state["head.weight"] = state.pop("0.bias")
    with pytest.raises(RuntimeError, match=r"(?s)Missing key.*0.bias.*Unexpected key.*head.weight"):
        module.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*0.weight_mask"):
        mlp().load_state_dict(pruned().state_dict())
