"""A target network that computes with another mask than its source is noticed, and nothing else."""

import copy
import gc
import warnings

import pytest
import torch
from torch import nn

import kanbatsu.torch
from kanbatsu.torch import foreign
from kanbatsu.torch.foreign import MESSAGE

X = torch.randn(8, 12)


def network(seed=0):
    torch.manual_seed(seed)
    head = nn.Linear(32, 2)
    nn.init.zeros_(head.weight)  # as heads often begin
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), head)


def pruned(seed, sparsity=0.6, **how):
    return kanbatsu.torch.prune(network(), sparsity, seed=seed, **how)


def polyak(target, source, tau=0.05):
    for ours, theirs in zip(target.parameters(), source.parameters(), strict=True):
        ours.data.mul_(1.0 - tau).add_(tau * theirs.data)


def learn(critic, optimizer, target):
    optimizer.zero_grad()
    with torch.no_grad():
        goal = target(X) + 1.0
    (critic(X) - goal).square().mean().backward()
    optimizer.step()


def hard(target, source):
    for ours, theirs in zip(target.parameters(), source.parameters(), strict=True):
        ours.data.copy_(theirs.data)


def through_state(target, source):
    new, online = target.state_dict(), source.state_dict()
    target.load_state_dict({name: 0.95 * x + 0.05 * online[name] for name, x in new.items()})


def by_values_alone(target, source):
    target.load_state_dict(kanbatsu.torch.unprune(copy.deepcopy(source)).state_dict())


UPDATES = {"polyak": polyak, "hard": hard, "states": through_state, "values": by_values_alone}


def training(critic, target, update, steps=6):
    optimizer = torch.optim.AdamW(critic.parameters(), 1e-2)
    for _ in range(steps):
        learn(critic, optimizer, target)
        update(target, critic)


@pytest.mark.parametrize("compute", ["masked", "packed"])
@pytest.mark.parametrize("how", UPDATES)
def test_a_target_with_masks_of_its_own_is_noticed_once_a_layer(how, compute):
    critic, target = pruned(0, compute=compute), pruned(1, compute=compute)
    with pytest.warns(UserWarning, match=r"kanbatsu\.torch\.prune_like\(target, network\)") as seen:
        training(critic, target, UPDATES[how])
    ours = [each for each in seen if str(each.message) == MESSAGE]
    assert 1 <= len(ours) <= 3


def test_python_shows_it_once():
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        training(pruned(0), pruned(1), polyak, steps=20)
    assert len(seen) == 1


def test_a_convolution_is_watched_too():
    critic, target = (
        kanbatsu.torch.prune(nn.Conv2d(4, 16, 3), 0.6, seed=seed) for seed in range(2)
    )
    hard(target, critic)
    with pytest.warns(UserWarning, match="prune_like"):
        target(torch.ones(1, 4, 5, 5))


@pytest.mark.parametrize("update", [polyak, hard, through_state, by_values_alone])
def test_a_target_with_the_masks_of_its_source_is_not(update):
    critic = pruned(0)
    for target in (copy.deepcopy(critic), kanbatsu.torch.prune_like(network(3), critic)):
        training(critic, target, update)


class Muon(torch.optim.Optimizer):
    """Steps along the nearest orthogonal matrix, which writes every element of a weight."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for x in group["params"]:
                if x.grad is not None and x.ndim == 2:
                    u, _, v = torch.linalg.svd(x.grad, full_matrices=False)
                    x -= 0.02 * u @ v


def noise(module):
    for x in module.parameters():
        x.data.add_(0.1 * torch.randn_like(x))


def rows_of_noise(module):
    for x in module.parameters():
        x.data[::3].add_(0.1 * torch.randn_like(x[::3]))


@pytest.mark.parametrize("write", [noise, rows_of_noise, nn.Module.eval])
def test_optimizers_that_write_anywhere_are_not_taken_for_it(write):
    critics = [pruned(seed) for seed in range(4)]  # others live, with masks of their own
    for critic in critics:
        muon = Muon(critic.parameters())
        for _ in range(5):
            critic(X).sub(1.0).square().mean().backward()
            muon.step()
            write(critic)


def test_runs_with_other_masks_from_one_start_are_not_taken_for_it():
    base = network()
    runs = [kanbatsu.torch.prune(copy.deepcopy(base), 0.6, seed=seed) for seed in range(3)]
    for run in runs:
        training(run, copy.deepcopy(run), polyak, steps=3)


def test_what_was_forgotten_costs_nothing():
    before = len(foreign._LAYERS)
    module = pruned(0)
    assert len(foreign._LAYERS) == before + 3 - sum(type(x) is nn.Linear for x in module)
    del module
    gc.collect()
    assert len(foreign._LAYERS) <= before


def test_a_layer_that_was_unpruned_is_no_longer_compared_with():
    kanbatsu.torch.unprune(other := kanbatsu.torch.prune(nn.Linear(32, 32), 0.5, seed=1))
    layer = kanbatsu.torch.prune(nn.Linear(32, 32), 0.5)
    layer._parameters["weight"].data.copy_(other.weight)
    assert layer(torch.ones(32)).shape == (32,)
