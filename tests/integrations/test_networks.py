"""What the adapters of PyTorch libraries share, on plain modules: no library is needed."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import kanbatsu.torch
from kanbatsu.integrations.networks import Networks
from kanbatsu.integrations.rsl_rl import prune_runner
from kanbatsu.integrations.skrl import prune_agent


def mlp(inputs=4, outputs=2):
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs))


def make():
    """An actor, two critics that began as copies, and their targets."""
    actor, critic = mlp(), mlp(6, 1)
    critics = {"one": critic, "two": copy.deepcopy(critic)}
    targets = {f"critic.{name}": copy.deepcopy(network) for name, network in critics.items()}
    weights = [x for network in (actor, *critics.values()) for x in network.parameters()]
    optimizer = torch.optim.Adam(weights, 1e-2)
    parts = {"actor": {"policy": actor}, "critic": critics}
    return Networks("this agent", parts, targets, (optimizer,))


def everything(networks):
    parts = [network for part in networks.parts.values() for network in part.values()]
    return nn.ModuleList([*parts, *networks.targets.values()])


def masks(module):
    return [mask for _, mask in sorted(kanbatsu.torch.masks(module).items())]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(masks(one), masks(other), strict=True))


def test_parts_have_their_shares_copies_their_own_masks_and_targets_those_of_their_sources():
    networks = make()
    networks.prune({"actor": 0.5, "critic": 0.75})
    one, two = networks.parts["critic"].values()
    assert kanbatsu.torch.count(networks.parts["actor"]["policy"]).kept == (4 * 16 + 16 * 2) / 2
    counts = [kanbatsu.torch.count(network).kept for network in (one, two)]
    assert sum(counts) == 2 * (6 * 16 + 16) / 4
    assert not same(one, two)
    for name, source in networks.parts["critic"].items():
        target = networks.targets[f"critic.{name}"]
        assert same(source, target)
        x = torch.randn(8, 6)
        assert torch.equal(source(x), target(x))


def test_what_is_loaded_is_checked_before_any_of_it_is():
    networks = make()
    networks.prune({"actor": 0.5, "critic": 0.75})
    actor = networks.parts["actor"]["policy"]
    before = copy.deepcopy(actor.state_dict())
    wrong = kanbatsu.torch.prune(mlp(), 0.5, include="0").state_dict()
    with pytest.raises(ValueError, match="nothing was loaded"):
        actor.load_state_dict(wrong)
    assert all(torch.equal(before[key], value) for key, value in actor.state_dict().items())


def test_a_share_of_zero_leaves_a_part_dense_and_none_is_the_default():
    networks = make()
    networks.prune({"actor": 0.0, "critic": None})
    assert not masks(networks.parts["actor"]["policy"])
    critics = nn.ModuleDict(dict(networks.parts["critic"]))
    assert kanbatsu.torch.count(critics).kept == round(0.2 * 2 * 112)
    nothing = make()
    nothing.prune({"actor": 0.0, "critic": 0.0})
    assert not masks(everything(nothing))


def learned(networks):
    loss = sum(x.sum() for x in networks.parts["actor"]["policy"].parameters())
    loss.backward()
    networks.optimizers[0].step()


def unlike(networks):
    networks.targets["critic.two"][0] = nn.Linear(5, 16)


def shorter(networks):
    networks.targets["critic.one"][2] = nn.Identity()


@pytest.mark.parametrize(
    ("shares", "spoil", "message"),
    [
        ({"actor": 1.0}, None, r"must lie in \[0, 1\)"),
        ({"features": 0.5}, None, "no features to prune, only actor and critic: leave"),
        ({}, learned, "this agent has been trained"),
        ({}, lambda networks: networks.prune({}), "this agent is already pruned"),
        ({}, shorter, r"target of critic\.one is unlike it: it has no 2\.weight"),
        ({}, unlike, r"target of critic\.two is unlike it: 0\.weight is \(16, 5\) in the target"),
    ],
)
def test_a_refusal_changes_nothing(shares, spoil, message):
    networks = make()
    if spoil:
        spoil(networks)
    before = copy.deepcopy(everything(networks).state_dict())
    with pytest.raises(ValueError, match=message):
        networks.prune(shares)
    after = everything(networks).state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_adapters_say_what_they_take():
    with pytest.raises(ValueError, match="no agent of skrl"):
        prune_agent(mlp())
    several = SimpleNamespace(models={"one": {"policy": mlp()}}, checkpoint_modules={})
    with pytest.raises(ValueError, match="has several agents, 'one'"):
        prune_agent(several)
    with pytest.raises(ValueError, match="no runner of rsl_rl"):
        prune_runner(mlp())
