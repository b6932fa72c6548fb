"""Pruning a torch module: JAX's masks, exact counts, and refusals that change nothing."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

import kanbatsu
import kanbatsu.torch
from kanbatsu.torch.layers import PRUNED

DENSE = {
    "linear": lambda: mlp(),
    "conv2d, grouped": lambda: nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=2)),
    "conv3d, linear": lambda: nn.Sequential(nn.Conv3d(2, 6, (1, 2, 3)), nn.Linear(4, 16)),
}


def mlp(width=16):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.Tanh())


def actor_critic():
    return nn.ModuleDict({"actor": mlp(), "critic": mlp(24)})


def jax_masks(module, sparsity, seed, **how):
    """What make_masks draws for the same layers in the same order, in torch's layout."""
    layers = [layer for layer in module if hasattr(layer, "weight")]
    to_jax = [np.moveaxis(x.weight.detach().numpy(), (0, 1), (-1, -2)) for x in layers]
    params = [{"kernel": jnp.asarray(kernel)} for kernel in to_jax]
    drawn = kanbatsu.make_masks(params, sparsity, key=jax.random.key(seed), ensemble=(), **how)
    return [np.moveaxis(np.asarray(mask["kernel"]), (-1, -2), (0, 1)) for mask in drawn]


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *((kind, {}) for kind in DENSE),
        ("linear", {"distribution": "er"}),
        ("linear", {"pattern": "bernoulli"}),
        ("conv2d, grouped", {"distribution": "uniform"}),
        ("conv2d, grouped", {"pattern": "grouped", "group_size": 4}),
    ],
    ids=str,
)
def test_masks_are_those_of_jax_bit_for_bit(kind, how):
    module = DENSE[kind]()
    expected = jax_masks(module, 0.7, 3, **how)
    assert kanbatsu.torch.prune(module, 0.7, seed=3, **how) is module
    drawn = list(kanbatsu.torch.masks(module).values())
    assert len(drawn) == len(expected)
    for mask, from_jax in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(mask.numpy(), from_jax)
    other = kanbatsu.torch.masks(kanbatsu.torch.prune(DENSE[kind](), 0.7, seed=4, **how))
    assert not np.array_equal(next(iter(other.values())), drawn[0])


@pytest.mark.parametrize(("dims", "groups"), [(1, 2), (2, 1), (2, 2), (3, 1)])
def test_a_transposed_convolution_is_thinned_like_the_one_that_it_turns_round(dims, groups):
    """Its inputs come first, and its groups with them: [groups * inputs, outputs, *window]."""
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 1]
    layer = kind(4, 6, 2, stride=2, groups=groups)
    kanbatsu.torch.prune(layer, 0.5, seed=1, pattern="grouped", group_size=6 // groups)
    mask = kanbatsu.torch.masks(layer)["weight"].unflatten(0, (groups, 4 // groups))
    # All outputs of a group of the convolution lose the same inputs of that group, half of them.
    assert torch.equal(mask, mask[:, :, :1].expand_as(mask))
    assert mask.sum() == mask.numel() // 2
    (row,) = kanbatsu.torch.count(layer).layers
    assert row.shape == ((2,) * dims + (4 // groups, 6))
    x = torch.randn(2, 4, *[3] * dims)
    plain = kanbatsu.torch.unprune(copy.deepcopy(layer))
    size = [7] * dims if dims == 2 else None
    assert torch.equal(layer(x, size), plain(x, size))


@pytest.mark.parametrize("kind", DENSE)
def test_a_pruned_layer_is_the_dense_one_with_zeros(kind):
    for layer in DENSE[kind]():
        if type(layer) not in PRUNED:
            continue
        plain = copy.deepcopy(layer)
        kanbatsu.torch.prune(layer, 0.7)
        with torch.no_grad():
            plain.weight *= kanbatsu.torch.masks(layer)["weight"]
        shape = {nn.Linear: (5, plain.weight.shape[1])}.get(type(plain))
        x = torch.randn(shape or (2, plain.in_channels, *[7] * (plain.weight.ndim - 2)))
        assert torch.equal(layer(x), plain(x))
        assert torch.equal(layer.weight, plain.weight)


def test_the_table_is_that_of_jax():
    module = mlp()
    kanbatsu.torch.prune(module, 0.5)
    counted = kanbatsu.torch.count(module)
    params = [{"kernel": jnp.ones((4, 16))}, {"kernel": jnp.ones((16, 16))}]
    masks = kanbatsu.make_masks(params, 0.5, key=jax.random.key(0))
    expected = kanbatsu.count(params, masks)
    assert type(counted) is type(expected)
    assert [(row.shape, row.kept, row.total) for row in counted.layers] == [
        (row.shape, row.kept, row.total) for row in expected.layers
    ]
    assert [row.path for row in counted.layers] == ["0.weight", "2.weight"]
    assert counted.kept == sum(int((layer.weight != 0).sum()) for layer in (module[0], module[2]))
    with pytest.raises(ValueError, match="nothing to count"):
        kanbatsu.torch.count(nn.ReLU())


def test_what_loses_nothing_stays_what_it_was():
    module = mlp()
    before = copy.deepcopy(module.state_dict())
    assert kanbatsu.torch.prune(module, 0.0) is module
    assert [type(layer) for layer in module] == [nn.Linear, nn.ReLU, nn.Linear, nn.Tanh]
    assert list(module.state_dict()) == list(before)
    assert kanbatsu.torch.masks(module) == {}
    assert kanbatsu.torch.count(module).kept == 4 * 16 + 16 * 16


def test_parts_of_a_module():
    nets = kanbatsu.torch.prune(actor_critic(), 0.5, include="critic.*", exclude=["critic.0"])
    assert list(kanbatsu.torch.masks(nets)) == ["critic.2.weight"]
    kanbatsu.torch.prune(nets, 0.75, include=["actor.*"], exclude=None)
    assert {row.path: row.kept / row.total for row in kanbatsu.torch.count(nets).layers}[
        "critic.2.weight"
    ] == 0.5
    assert kanbatsu.torch.count(nets["actor"]).sparsity == 0.75


def test_each_pattern_shares_out_its_own_sparsity():
    nets = actor_critic()
    kanbatsu.torch.prune(nets, {"critic.*": 0.75, "actor.*.weight": 0.5}, seed=2)
    assert kanbatsu.torch.count(nets["actor"]).sparsity == 0.5
    assert kanbatsu.torch.count(nets["critic"]).sparsity == 0.75
    named = kanbatsu.torch.prune(actor_critic(), {"actor.2": 0.5})
    assert list(kanbatsu.torch.masks(named)) == ["actor.2.weight"]
    some = kanbatsu.torch.prune(actor_critic(), {"*.2": 0.5}, include="critic.*")
    assert list(kanbatsu.torch.masks(some)) == ["critic.2.weight"]
    same = kanbatsu.torch.prune(mlp(), {"*": 0.5}), kanbatsu.torch.prune(mlp(), 0.5)
    first, second = (kanbatsu.torch.masks(module) for module in same)
    assert all(torch.equal(first[path], second[path]) for path in first)


class Tied(nn.Module):
    def __init__(self, embedding=False):
        super().__init__()
        self.inside, self.outside = nn.Linear(8, 8), nn.Linear(8, 8)
        self.outside.weight = self.inside.weight
        if embedding:
            self.embedding = nn.Embedding(8, 8)
            self.embedding.weight = self.inside.weight

    def forward(self, x):
        return self.outside(torch.relu(self.inside(x)))


def test_layers_that_share_a_weight_share_a_mask():
    module = kanbatsu.torch.prune(Tied(), 0.75)
    masks = kanbatsu.torch.masks(module)
    assert list(masks) == ["inside.weight", "outside.weight"]
    assert torch.equal(*masks.values())
    assert module.inside.weight is module.outside.weight
    assert kanbatsu.torch.count(module).total == 64
    module(torch.randn(4, 8)).sum().backward()
    assert not module.inside.weight.grad[~masks["inside.weight"]].any()
    twin = kanbatsu.torch.apply_masks(Tied(), masks)
    assert torch.equal(kanbatsu.torch.masks(twin)["outside.weight"], masks["inside.weight"])
    different = masks | {"outside.weight": ~masks["inside.weight"]}
    with pytest.raises(ValueError, match=r"inside.weight and outside.weight are one weight"):
        kanbatsu.torch.apply_masks(Tied(), different)


def test_masks_travel_to_another_module():
    first = kanbatsu.torch.prune(mlp(), 0.75)
    for masks in (
        kanbatsu.torch.masks(first),
        kanbatsu.torch.masks(first.state_dict()),
        {path: jnp.asarray(mask.numpy()) for path, mask in kanbatsu.torch.masks(first).items()},
    ):
        second = kanbatsu.torch.apply_masks(mlp(), masks)
        second.load_state_dict(first.state_dict())
        x = torch.randn(3, 4)
        assert torch.equal(first(x), second(x))


def test_unprune_leaves_nothing_behind():
    module = kanbatsu.torch.prune(mlp(), 0.75)
    parameters = list(module.parameters())
    x = torch.randn(3, 4)
    expected, keys = module(x), list(mlp().state_dict())
    assert kanbatsu.torch.unprune(module) is module
    assert [type(layer) for layer in module] == [type(layer) for layer in mlp()]
    assert list(module.state_dict()) == keys
    assert not module._load_state_dict_pre_hooks
    assert all(a is b for a, b in zip(module.parameters(), parameters, strict=True))
    assert torch.equal(module(x), expected)
    module[0](x).sum().backward()
    assert (module[0].weight.grad != 0).all()  # it trains densely again
    with pytest.raises(ValueError, match="not pruned"):
        kanbatsu.torch.unprune(module)


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x) + self.weight.sum()


def normed():
    return nn.Sequential(mlp(), nn.utils.parametrizations.weight_norm(nn.Linear(16, 2)))


def torch_pruned():
    module = mlp()
    torch_prune.random_unstructured(module[2], "weight", 0.5)
    return module


def patched():
    module = mlp()
    module[2].forward = lambda x: x @ module[2].weight
    return module


def tied_over_kinds():
    module = nn.ModuleList([nn.Conv1d(4, 4, 1), nn.ConvTranspose1d(4, 4, 1)])
    module[1].weight = module[0].weight
    return module


@pytest.mark.parametrize(
    ("make", "how", "message"),
    [
        (mlp, {"sparsity": 1.0}, r"must lie in \[0, 1\)"),
        (mlp, {"sparsity": -0.1}, r"must lie in \[0, 1\)"),
        (mlp, {"sparsity": {"0": 0.5, "2": 1.5}}, r"must lie in \[0, 1\)"),
        (mlp, {"sparsity": 0.999}, "highest sparsity that can be met is 0.99375"),
        (mlp, {"sparsity": 0.5, "distribution": "erdos"}, "unknown distribution 'erdos'"),
        (mlp, {"sparsity": 0.5, "pattern": "block"}, "unknown pattern 'block'"),
        (mlp, {"sparsity": 0.5, "pattern": "grouped", "group_size": 0}, "at least 1"),
        (
            mlp,
            {"sparsity": 0.5, "include": "actor.*"},
            r"'actor.\*' matches no prunable weight; the paths are: 0.weight, 2.weight",
        ),
        (mlp, {"sparsity": 0.5, "exclude": ["2", "4"]}, "'4' matches no prunable weight"),
        (mlp, {"sparsity": {"0": 0.5, "head": 0.5}}, "'head' matches no prunable weight"),
        (mlp, {"sparsity": {"*": 0.5, "2": 0.5}}, r"2.weight is given several sparsities"),
        (mlp, {"sparsity": {}}, "names no layer"),
        (mlp, {"sparsity": 0.5, "exclude": "*"}, "exclude takes out all"),
        (lambda: nn.Sequential(nn.Embedding(3, 4), nn.LSTM(4, 4)), {"sparsity": 0.5}, "no linear"),
        (lambda: kanbatsu.torch.prune(mlp(), 0.5), {"sparsity": 0.75}, "already pruned"),
        (lambda: kanbatsu.torch.prune(mlp(), 0.5, 1), {"sparsity": 0.5}, "already pruned"),
        (lambda: nn.LazyLinear(3), {"sparsity": 0.5}, "call it once"),
        (lambda: nn.MultiheadAttention(4, 2), {"sparsity": 0.5}, "its attention reads it"),
        (lambda: nn.Sequential(mlp(), Noisy(16, 2)), {"sparsity": 0.5}, r"1.weight \(Noisy may"),
        (patched, {"sparsity": 0.5}, r"2.weight \(Linear may use its weight"),
        (normed, {"sparsity": 0.5}, r"1.weight \(its weight is computed"),
        (torch_pruned, {"sparsity": 0.5}, r"2.weight \(its weight is computed"),
        (lambda: nn.Linear(4, 4, device="meta"), {"sparsity": 0.5}, "meta device"),
        (lambda: Tied(embedding=True), {"sparsity": 0.5}, r"embedding.weight \(shares"),
        (Tied, {"sparsity": 0.5, "exclude": "outside"}, r"outside.weight \(shares"),
        (tied_over_kinds, {"sparsity": 0.5}, r"1.weight \(shares"),
    ],
)
def test_a_refusal_changes_nothing(make, how, message):
    module = make()
    classes = [type(part) for part in module.modules()]
    before = {name: x if x.is_meta else x.clone() for name, x in initialised(module)}
    with pytest.raises(ValueError, match=message):
        kanbatsu.torch.prune(module, **how)
    assert [type(part) for part in module.modules()] == classes
    after = dict(initialised(module))
    assert list(after) == list(before)
    assert all(x.is_meta or torch.equal(x, before[name]) for name, x in after.items())


def initialised(module):
    lazy = nn.parameter.UninitializedTensorMixin
    return [(name, x) for name, x in module.state_dict().items() if not isinstance(x, lazy)]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({}, "no masks to apply"),
        ({"0.weight": torch.ones(4, 16, dtype=torch.bool)}, r"the mask \(4, 16\) for 0.weight"),
        (
            {"0.weight": torch.ones(16, 4) > 2, "2.weight": torch.ones(3, 3) > 0},
            r"the mask \(3, 3\) for 2.weight must have its weight's shape \(16, 16\)",
        ),
        ({"head.weight": torch.ones(2, 2) > 0}, "the paths are: 0.weight, 2.weight"),
    ],
)
def test_masks_that_do_not_fit_change_nothing(masks, message):
    module = mlp()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match=message):
        kanbatsu.torch.apply_masks(module, masks)
    assert type(module[0]) is nn.Linear
    assert all(torch.equal(x, before[name]) for name, x in module.state_dict().items())


def test_attention_can_be_left_out():
    module = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    kanbatsu.torch.prune(module, 0.75, exclude="*.out_proj")
    assert list(kanbatsu.torch.masks(module)) == ["linear1.weight", "linear2.weight"]
    x = torch.randn(2, 3, 8)
    plain = kanbatsu.torch.unprune(copy.deepcopy(module))
    for mode in (True, False):  # with dropout and without, where torch takes a short cut
        module.train(mode)
        plain.train(mode)
        with torch.random.fork_rng():
            expected = plain(x)
        torch.testing.assert_close(module(x), expected)


def test_seeds_that_would_draw_what_others_draw_are_refused():
    drawn = [
        kanbatsu.torch.masks(kanbatsu.torch.prune(nn.Linear(64, 64), 0.8, seed=seed))["weight"]
        for seed in (1, 2**32 - 1)
    ]
    assert not torch.equal(*drawn)
    for seed in (2**32, 2**32 + 1, 2**63, -1):
        with pytest.raises(ValueError, match=r"seed must lie in \[0, 2\*\*32\)"):
            kanbatsu.torch.prune(nn.Linear(64, 64), 0.8, seed=seed)
