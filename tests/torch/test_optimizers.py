"""Optimizers that write whatever they like: what is pruned has no say, and is stored as zeros."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import kanbatsu.torch

X = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.core, self.head = nn.Linear(8, 16), nn.GRU(16, 16), nn.Linear(16, 8)

    def forward(self, x):
        return self.head(self.core(torch.relu(self.body(x)))[0])


def muon(network):
    """Mix the elements of every matrix."""
    matrices = [value for value in network.parameters() if value.ndim == 2]
    torch.optim.Muon(matrices, 0.1).step()


def noisy_gradients(network):
    """Add noise to every gradient, after it was masked."""
    for value in network.parameters():
        value.grad.add_(torch.randn_like(value))
    torch.optim.SGD(network.parameters(), 0.1).step()


def evolution(network):
    """Set every parameter from a vector, as evolution strategies do."""
    vector = parameters_to_vector(network.parameters())
    vector_to_parameters(vector + torch.randn_like(vector), network.parameters())


def new_parameters(network):
    """Put other parameters in the place of those that there are."""
    network.body.weight = nn.Parameter(torch.randn(16, 8))
    network.core.weight_hh_l0 = nn.Parameter(torch.randn(48, 16))


@pytest.mark.parametrize("write", [muon, noisy_gradients, evolution, new_parameters])
def test_what_is_written_where_nothing_is_has_no_say(write):
    torch.manual_seed(0)
    network = kanbatsu.torch.prune(Network(), 0.5, distribution="uniform", also="core")
    masks = kanbatsu.torch.masks(network)
    before = network(X)
    before.sum().backward()
    write(network)
    with torch.no_grad():
        after = network(X)
        assert not torch.allclose(after, before)
        stored = network.state_dict()
        for path, mask in masks.items():
            assert torch.equal(stored[f"{path}_mask"], mask)
            assert not stored[path][~mask].any()
        plain = kanbatsu.torch.unprune(copy.deepcopy(network))
        torch.testing.assert_close(plain(X), after)
