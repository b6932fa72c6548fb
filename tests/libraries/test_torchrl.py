"""TorchRL's losses: the page's script, critics with masks of their own, saving and loading."""

import pytest
import torch
from torch import nn

import kanbatsu.torch
from kanbatsu.deploy import load
from kanbatsu.integrations.torchrl import export_policy, prune_networks

pytest.importorskip("torchrl", reason="torchrl: run `make libraries`")
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.data import Bounded, Categorical, OneHot
from torchrl.modules import (
    MLP,
    Actor,
    NormalParamExtractor,
    ProbabilisticActor,
    QValueActor,
    TanhNormal,
    TruncatedNormal,
    ValueOperator,
)
from torchrl.objectives import ClipPPOLoss, SACLoss, SoftUpdate, TD3Loss

SPEC = Bounded(-1.0, 1.0, (2,))
PARAMS = "qvalue_network_params"


def actor():
    network = nn.Sequential(
        MLP(in_features=3, out_features=4, num_cells=[16, 16]), NormalParamExtractor()
    )
    module = TensorDictModule(network, in_keys=["observation"], out_keys=["loc", "scale"])
    return ProbabilisticActor(
        module,
        in_keys=["loc", "scale"],
        spec=SPEC,
        distribution_class=TanhNormal,
        return_log_prob=True,
    )


def critic(inputs=5, keys=("observation", "action")):
    network = MLP(in_features=inputs, out_features=1, num_cells=[16, 16])
    return ValueOperator(network, in_keys=list(keys))


def batch(size=16):
    torch.manual_seed(0)
    done = torch.zeros(size, 1, dtype=torch.bool)
    after = {"observation": torch.randn(size, 3), "reward": torch.randn(size, 1)}
    return TensorDict(
        {
            "observation": torch.randn(size, 3),
            "action": torch.rand(size, 2) * 1.8 - 0.9,
            "next": {**after, "done": done, "terminated": done},
        },
        batch_size=[size],
    )


def train(loss, updates, data=None):
    optimizer = torch.optim.Adam(loss.parameters(), 1e-2)
    has_targets = not all(loss._has_update_associated.values())
    updater = SoftUpdate(loss, eps=0.9) if has_targets else None
    for _ in range(updates):
        losses = loss(batch() if data is None else data)
        optimizer.zero_grad()
        sum(value for key, value in losses.items() if key.startswith("loss_")).backward()
        optimizer.step()
        if updater:
            updater.step()
    return optimizer


def pairs(params):
    """Each pruned weight of a loss's parameters, and its mask."""
    for key, mask in params.items(True, True):
        if key[-1] == "weight_mask":
            yield params[*key[:-1], "weight"], mask


def assert_zeros(params, optimizer=None):
    found = list(pairs(params))
    assert found
    for weight, mask in found:
        assert not weight[mask == 0].any()
        assert weight[mask != 0].any()
        for moment in optimizer.state.get(weight, {}).values() if optimizer else ():
            if moment.shape == weight.shape:
                assert not moment[mask == 0].any()


@pytest.fixture(scope="module")
def page(run_page):
    return run_page("torchrl.md")


def test_the_page(page, assert_pruned):
    assert load(page["folder"] / "policy").contract["action"]["high"] == [2.0]
    loss, optimizer = page["loss"], page["optimizer"]
    assert_pruned(page["actor"], optimizer)
    online, target = (getattr(loss, name + PARAMS) for name in ("", "target_"))
    assert_zeros(online, optimizer)
    assert_zeros(target)
    for (moved, mask), (follower, its_mask) in zip(pairs(online), pairs(target), strict=True):
        assert optimizer.state[moved]["exp_avg"].any()
        assert torch.equal(mask, its_mask)
        assert not torch.equal(moved, follower)
    assert kanbatsu.torch.count(page["actor"]).sparsity == 0.5
    counts = [kanbatsu.torch.count(network) for network in page["qvalue"]]
    kept, total = (sum(getattr(count, of) for count in counts) for of in ("kept", "total"))
    assert kept == round(0.2 * total)
    assert kept == sum(
        int((online[*key[:-1], "weight"] != 0).sum())
        for key in online.keys(True, True)
        if key[-1] == "weight"
    )


def test_each_critic_has_masks_of_its_own(same_masks):
    pruned, critics = prune_networks(actor(), critic(), 0.5, 0.8, critics=3)
    # By hand: 3 observations, 2 actions, 16 and 16 units.
    count = kanbatsu.torch.count(pruned)
    assert (count.total, count.kept) == (3 * 16 + 16 * 16 + 16 * 4, 184)
    counts = [kanbatsu.torch.count(network) for network in critics]
    assert [each.total for each in counts] == [5 * 16 + 16 * 16 + 16] * 3
    assert sum(each.kept for each in counts) == round(0.2 * 3 * 352)
    assert not same_masks(critics[0], critics[1])
    assert not same_masks(critics[1], critics[2])
    biases = [network.module[0].bias for network in critics]
    assert not torch.equal(biases[0], biases[1])  # drawn anew


def test_a_trained_actor_is_exported(tmp_path, assert_exported):
    pruned, critics = prune_networks(actor(), critic(), 0.5, 0.8)
    train(SACLoss(pruned, critics, num_qvalue_nets=2), 5)
    export_policy(pruned, tmp_path, c=True)
    observations = 3 * torch.randn(50, 3)
    with torch.no_grad():
        wanted = pruned.module[0].module(observations)[0].tanh()  # the location, squashed
    assert_exported(tmp_path, observations, wanted, None)


OTHERS = {
    "deterministic": lambda net: Actor(net(2, nn.Tanh()), in_keys=["observation"], spec=SPEC),
    "values": lambda net: QValueActor(net(3), in_keys=["observation"], spec=OneHot(3)),
    "choices": lambda net: ProbabilisticActor(
        TensorDictModule(net(3), in_keys=["observation"], out_keys=["logits"]),
        in_keys=["logits"],
        spec=Categorical(3),
        distribution_class=torch.distributions.Categorical,
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_actors_are_exported(kind, tmp_path, assert_exported):
    def net(outputs, *end):
        torch.manual_seed(0)
        layers = MLP(in_features=3, out_features=outputs, num_cells=[16, 16])
        return nn.Sequential(layers, *end)

    made = OTHERS[kind](net)
    export_policy(made, tmp_path)
    observations = 9 * torch.randn(50, 3)
    with torch.no_grad():
        wanted = net(2, nn.Tanh())(observations) if kind == "deterministic" else None
        wanted = net(3)(observations).argmax(dim=-1) if wanted is None else wanted
    assert_exported(tmp_path, observations, wanted, None)


def test_what_cannot_be_exported_is_refused(tmp_path):
    mixed = ProbabilisticActor(
        actor().module[0], in_keys=["loc", "scale"], spec=SPEC, distribution_class=TruncatedNormal
    )
    for made, message in (
        (mixed, "its actions are drawn from a TruncatedNormal, and known are TanhNormal"),
        (critic(), "this ValueOperator is no actor of TorchRL with one network of one observation"),
    ):
        with pytest.raises(ValueError, match=message):
            export_policy(made, tmp_path / "policy")
    assert not (tmp_path / "policy").exists()


def test_critics_in_a_list_are_taken_as_they_are():
    given = [critic(), critic()]
    biases = [network.module[0].bias.clone() for network in given]
    _, critics = prune_networks(actor(), given, 0.0, 0.8)
    assert all(one is other for one, other in zip(critics, given, strict=True))
    for network, bias in zip(critics, biases, strict=True):
        assert torch.equal(network.module[0].bias, bias)
        assert kanbatsu.torch.masks(network)


def test_a_saved_loss_is_loaded_with_its_masks(tmp_path):
    def make(seed):
        pruned, critics = prune_networks(actor(), critic(), 0.5, 0.8, seed=seed)
        loss = SACLoss(pruned, critics, num_qvalue_nets=2)
        loss.make_value_estimator()  # by itself at the first call, and then its state is new
        return loss

    saved, fresh = make(0), make(1)
    train(saved, 3)
    torch.save(saved.state_dict(), tmp_path / "loss.pt")
    fresh.load_state_dict(torch.load(tmp_path / "loss.pt"))
    optimizer = train(fresh, 3)
    for name in ("actor_network_params", PARAMS, "target_" + PARAMS):
        one, other = getattr(saved, name), getattr(fresh, name)
        assert_zeros(other, optimizer)
        masks = [[mask != 0 for _, mask in pairs(params)] for params in (one, other)]
        assert all(torch.equal(a, b) for a, b in zip(*masks, strict=True))


def test_other_losses_take_the_networks():
    module = TensorDictModule(
        nn.Sequential(MLP(in_features=3, out_features=2, num_cells=[16, 16]), nn.Tanh()),
        in_keys=["observation"],
        out_keys=["action"],
    )
    pruned, critics = prune_networks(module, critic(), 0.5, 0.8)
    loss = TD3Loss(pruned, critics, num_qvalue_nets=2, action_spec=SPEC)
    optimizer = train(loss, 3)
    assert_zeros(getattr(loss, PARAMS), optimizer)
    assert_zeros(loss.actor_network_params, optimizer)

    pruned, (value,) = prune_networks(actor(), critic(3, ["observation"]), 0.5, 0.8, critics=1)
    loss = ClipPPOLoss(pruned, value)
    data = pruned(batch()).detach()
    loss.value_estimator(data)
    optimizer = train(loss, 3, data)
    assert_zeros(loss.critic_network_params, optimizer)
    assert_zeros(loss.actor_network_params, optimizer)


def test_a_critic_that_the_loss_expands_shares_one_mask():
    loss = SACLoss(actor(), kanbatsu.torch.prune(critic(), 0.8), num_qvalue_nets=2)
    for weight, mask in pairs(getattr(loss, PARAMS)):
        assert torch.equal(mask[0], mask[1])
        assert weight[mask == 0].any()  # drawn anew by the loss, and multiplied by zero
    train(loss, 3)
    before = loss(batch())["loss_qvalue"].item()  # batch sets the seed of the actor's samples
    for weight, mask in pairs(getattr(loss, PARAMS)):
        weight.data[mask == 0] += 1.0
    assert loss(batch())["loss_qvalue"].item() == before


def test_the_networks_can_be_probed():
    pruned, critics = prune_networks(actor(), critic())
    for network in (pruned, critics[0]):
        assert kanbatsu.torch.probe(network, batch(64))["srank"] >= 1


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"critic": 1.0}, r"must lie in \[0, 1\)"),
        ({"critics": 0}, "there must be a critic"),
        ({"exclude": "value.*"}, r"paths are: actor\.network\.module\.0\.module\.0\.0\.weight"),
        ({"compute": "fast"}, "compute"),
    ],
)
def test_wrong_input_changes_nothing(wanted, message, unchanged):
    networks = actor(), critic()
    as_before = unchanged(*networks)
    with pytest.raises(ValueError, match=message):
        prune_networks(*networks, **wanted)
    assert as_before()


def test_a_loss_and_pruned_networks_are_refused():
    pruned, critics = prune_networks(actor(), critic())
    with pytest.raises(ValueError, match="already pruned"):
        prune_networks(pruned, critics)
    with pytest.raises(ValueError, match="SACLoss is a loss"):
        prune_networks(SACLoss(actor(), critic()), critic())
