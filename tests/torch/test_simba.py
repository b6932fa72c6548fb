"""SimBa in PyTorch is the function that kanbatsu's own is, and its weights go both ways."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import kanbatsu
import kanbatsu.torch
from kanbatsu.nn import simba as jax_simba
from kanbatsu.torch import SimBa

X = np.random.default_rng(0).normal(size=(32, 7)).astype(np.float32)
PRUNINGS = {
    "dense": {},
    "masked": {"compute": "masked"},
    "packed": {"compute": "packed"},
    "grouped": {"compute": "packed", "pattern": "grouped"},
}


def ours(how="dense", seed=0):
    """SimBa of JAX whose biases, scales and shifts are not what they begin as."""
    encoder = jax_simba.SimBa(7, width=32, blocks=2, key=jax.random.key(seed))
    noise = np.random.default_rng(seed)
    encoder = jax.tree.map(
        lambda x: x + jnp.asarray(noise.normal(size=x.shape), x.dtype) if x.ndim == 1 else x,
        encoder,
    )
    if PRUNINGS[how]:
        encoder = kanbatsu.prune(encoder, 0.7, key=jax.random.key(3), **PRUNINGS[how])
    return encoder


def close(module, encoder):
    theirs = module(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(theirs, encoder(jnp.asarray(X))[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", PRUNINGS)
def test_the_same_function_both_ways(how):
    encoder = ours(how)
    module = SimBa.from_jax(encoder)
    close(module, encoder)
    kept = {"dense": 1.0}.get(how, 0.3)
    counted = kanbatsu.torch.count(module)
    assert counted.kept == kanbatsu.count(encoder).kept
    assert counted.kept / counted.total == pytest.approx(kept, abs=1e-2)
    back = module.to_jax()
    close(module, back)
    assert kanbatsu.count(back).kept == counted.kept
    again = SimBa.from_jax(back).state_dict()
    assert again.keys() == module.state_dict().keys()
    assert all(torch.equal(x, again[name]) for name, x in module.state_dict().items())


def test_gradients_are_the_same():
    encoder = ours("masked")
    module = SimBa.from_jax(encoder)
    module(torch.from_numpy(X)).square().sum().backward()
    gradient = eqx.filter_grad(lambda network: (network(jnp.asarray(X))[0] ** 2).sum())(encoder)
    for layer, theirs in (
        (module.blocks[0].up, gradient.blocks[0].up),
        (module.blocks[1].down, gradient.blocks[1].down),
    ):
        np.testing.assert_allclose(layer.weight.grad.T, theirs.weight.value, rtol=1e-3, atol=1e-3)


def test_the_same_seed_draws_the_same_masks():
    module = kanbatsu.torch.prune(SimBa(7, width=32), 0.7, seed=3)
    drawn = kanbatsu.torch.masks(SimBa.from_jax(ours("masked")))
    masks = kanbatsu.torch.masks(module)
    assert masks.keys() == drawn.keys()
    assert all(torch.equal(mask, drawn[path]) for path, mask in masks.items())


def test_it_begins_as_ours_does():
    torch.manual_seed(0)
    module = SimBa(64, width=128, blocks=1)
    eye = module.embed.weight.T @ module.embed.weight
    torch.testing.assert_close(eye, torch.eye(64), atol=1e-5, rtol=0)
    for layer in (module.blocks[0].up, module.blocks[0].down):
        weight = layer.weight.detach()
        assert float(weight.std()) == pytest.approx((2 / layer.in_features) ** 0.5, rel=0.02)
        assert float(weight.abs().max()) < 2.3 * (2 / layer.in_features) ** 0.5  # cut off at 2
    assert not any(layer.bias.any() for layer in module.modules() if isinstance(layer, nn.Linear))
    total = sum(x.numel() for x in SimBa(67 + 21).parameters()) + 513
    assert total == 4_248_577  # the paper's critic on humanoid


def test_its_units_are_found_by_the_probes():
    network = nn.Sequential(SimBa(7, width=16), nn.Linear(16, 1))
    names = kanbatsu.torch.probe(network, torch.from_numpy(X))
    assert {"dormant_0.1/0.blocks.0.up", "dormant_0.1/0.blocks.1.up"} < set(names)
