"""Target networks compute with the masks of what they follow, or it is said at once."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

import kanbatsu.torch

X = torch.randn(8, 4)
prune = partial(kanbatsu.torch.prune, distribution="uniform")


def network(seed=0):
    torch.manual_seed(seed)
    head = nn.Linear(16, 2)
    nn.init.zeros_(head.weight)  # as heads often begin
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), head)


class Policy(nn.ModuleDict):
    """An actor, twin critics of their own, and targets of the critics, filled in one way."""

    def __init__(self, fill, targets_first=False):
        critic = nn.ModuleDict({"qf0": network(1), "qf1": network(2)})
        target = fill(critic)
        pairs = {"critic": critic, "critic_target": target}
        if targets_first:
            pairs = dict(reversed(pairs.items()))
        super().__init__({"actor": network(0)} | pairs)


def loaded(critic):
    target = nn.ModuleDict({"qf0": network(3), "qf1": network(4)})
    target.load_state_dict(critic.state_dict())
    return target.requires_grad_(False)


FILLS = {"deepcopy": copy.deepcopy, "load_state_dict": loaded}


@pytest.mark.parametrize("targets_first", [False, True])
@pytest.mark.parametrize("fill", FILLS)
def test_targets_inside_a_module_share_the_masks_of_their_sources(fill, targets_first):
    policy = prune(Policy(FILLS[fill], targets_first), 0.5)
    critic, target = (kanbatsu.torch.masks(policy[name]) for name in ("critic", "critic_target"))
    assert len(critic) == 6
    assert critic.keys() == target.keys()
    assert all(torch.equal(mask, target[path]) for path, mask in critic.items())
    for layer in ("0", "2", "4"):
        first, second = critic[f"qf0.{layer}.weight"], critic[f"qf1.{layer}.weight"]
        assert not torch.equal(first, second), "each critic has masks of its own"
    pairs = (policy[name].parameters() for name in ("critic", "critic_target"))
    for ours, theirs in zip(*pairs, strict=True):
        ours.data.add_(1.0)  # where it is pruned too
        theirs.data.copy_(ours.data)
    for name in ("qf0", "qf1"):
        assert torch.equal(policy["critic"][name](X), policy["critic_target"][name](X))


def test_targets_follow_what_is_named_unless_they_are_excluded():
    for targets_first in (False, True):
        policy = Policy(copy.deepcopy, targets_first)
        prune(policy, {"actor.*": 0.8, "critic.*": 0.5})
        critic, target = (kanbatsu.torch.masks(policy[n]) for n in ("critic", "critic_target"))
        assert len(critic) == len(target) == 6
        assert all(torch.equal(mask, target[path]) for path, mask in critic.items())
        assert kanbatsu.torch.count(policy["actor"]).sparsity == pytest.approx(0.8, abs=2e-3)
    apart = kanbatsu.torch.prune(Policy(copy.deepcopy), 0.5, exclude="critic_target.*")
    assert not kanbatsu.torch.masks(apart["critic_target"])


def test_a_policy_without_copies_draws_what_it_always_drew():
    """Several layers of zeros are no copies of each other: nothing else says that they are."""
    policy = prune(nn.ModuleDict({"a": network(0), "b": network(1)}), 0.5)
    first, second = (kanbatsu.torch.masks(policy[name])["4.weight"] for name in ("a", "b"))
    assert not torch.equal(first, second)


def test_sparsities_that_differ_for_a_network_and_its_copy_are_refused():
    shares = {"critic.*": 0.5, "critic_target.*": 0.8}
    with pytest.raises(ValueError, match="is given several sparsities"):
        kanbatsu.torch.prune(Policy(copy.deepcopy), shares)


def test_a_target_beside_the_network_is_pruned_like_it():
    critic = kanbatsu.torch.prune(network(0), 0.5, compute="masked")
    target = network(1)
    weight = target[0].weight.detach().clone()
    assert kanbatsu.torch.prune_like(target, critic) is target
    masks = kanbatsu.torch.masks(critic)
    assert all(
        torch.equal(mask, masks[path]) for path, mask in kanbatsu.torch.masks(target).items()
    )
    assert torch.equal(target[0].weight, weight * masks["0.weight"])
    assert target[0].compute == "masked"
    for ours, theirs in zip(target.parameters(), critic.parameters(), strict=True):
        ours.data.copy_(theirs.data)
    assert torch.equal(target(X), critic(X))


def test_what_cannot_be_pruned_like_a_source_is_refused():
    critic = kanbatsu.torch.prune(network(0), 0.5)
    with pytest.raises(ValueError, match="the source is not pruned: prune it first"):
        kanbatsu.torch.prune_like(network(1), network(0))
    with pytest.raises(ValueError, match="already pruned"):
        kanbatsu.torch.prune_like(critic, critic)
    with pytest.raises(ValueError, match="matches no prunable weight"):
        kanbatsu.torch.prune_like(nn.Sequential(nn.Linear(4, 16)), critic)
