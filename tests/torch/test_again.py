"""Pruning what is pruned already: as before it stays, with a warning; otherwise it is refused."""

import copy

import pytest
import torch
from stable_baselines3 import SAC
from torch import nn

import kanbatsu.torch
from kanbatsu.integrations.sb3 import prune_policy


class Parts(nn.ModuleDict):
    def __init__(self):
        torch.manual_seed(0)
        critic = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
        super().__init__({"actor": nn.Linear(8, 8), "critic": critic})
        self["target"] = copy.deepcopy(critic)


def by_whole(module):
    return kanbatsu.torch.prune(module, 0.5)


def by_part(module):
    return kanbatsu.torch.prune(module, {"actor": 0.5, "critic*": 0.5})


def unchanged(module, again):
    before = copy.deepcopy(module.state_dict())
    with pytest.warns(UserWarning, match="pruned already, to this sparsity and with this seed"):
        assert again(module) is module
    after = module.state_dict()
    return before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize(
    ("first", "again"), [(by_whole, by_whole), (by_part, by_part), (by_part, by_whole)]
)
def test_a_module_that_is_as_asked_stays_as_it_is(first, again):
    module = first(Parts())
    assert unchanged(module, again)
    assert unchanged(copy.deepcopy(module), again)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"sparsity": 0.5}, {"sparsity": 0.75}),
        ({"sparsity": 0.5}, {"sparsity": 0.5, "seed": 1}),
        ({"sparsity": 0.5}, {"sparsity": {"actor": 0.5, "critic*": 0.75}}),
        ({"sparsity": 0.5, "include": "actor"}, {"sparsity": 0.5}),
        ({"sparsity": 0.5, "include": "critic*"}, {"sparsity": 0.5, "include": "critic.*"}),
    ],
)
def test_one_that_is_not_is_refused(first, second):
    module = kanbatsu.torch.prune(Parts(), **first)
    if first.get("include") == "critic*":  # whose masks were given, not drawn
        given = kanbatsu.torch.masks(module)
        module = kanbatsu.torch.apply_masks(Parts(), given)
    with pytest.raises(ValueError, match="already pruned"):
        kanbatsu.torch.prune(module, **second)


def test_a_model_that_is_as_asked_stays_as_it_is():
    kwargs = {"net_arch": [16, 16]}
    model = prune_policy(SAC("MlpPolicy", "Pendulum-v1", policy_kwargs=kwargs), actor=0.8)
    assert unchanged(model.policy, lambda policy: prune_policy(model).policy)
    assert unchanged(model.policy, lambda policy: kanbatsu.torch.prune(policy, 0.8))
    masks = kanbatsu.torch.masks(model.policy)
    assert all(
        torch.equal(mask, masks[path.replace("critic.", "critic_target.")])
        for path, mask in masks.items()
        if path.startswith("critic.")
    )


def test_a_module_that_was_unpruned_is_pruned_anew():
    module = kanbatsu.torch.unprune(by_whole(Parts()))
    assert kanbatsu.torch.count(kanbatsu.torch.prune(module, 0.5, seed=1)).sparsity > 0.5
