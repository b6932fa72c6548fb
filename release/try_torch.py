"""Tries what PyTorch users do, where there is no JAX: prune, train, look inside, export, run."""

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

import kanbatsu.torch
from kanbatsu.deploy import load
from kanbatsu.torch import SimBa, count, probe, prune, prune_like
from kanbatsu.torch.deploy import export_policy

LINEAR = (0, 2, 4)
INSTALL = "pip install 'kanbatsu[jax]'"


def network() -> nn.Sequential:
    """Return a small network, large enough in the middle for the kernels."""
    middle = nn.Linear(256, 256)
    return nn.Sequential(nn.Linear(6, 256), nn.ReLU(), middle, nn.ReLU(), nn.Linear(256, 2))


def refusal(ask: Callable[[], object]) -> str:
    """Return what is said of a missing library."""
    try:
        ask()
    except ModuleNotFoundError as error:
        return str(error)
    return "nothing was missing"


def main(folder: Path) -> None:
    """Go all the way."""
    torch.manual_seed(0)
    actor = prune(network(), 0.9, seed=7, compute="packed")
    target = prune_like(network(), actor)
    assert count(target).kept == count(actor).kept
    optimizer = torch.optim.Adam(actor.parameters(), fused=True)
    x = torch.randn(64, 6)
    before = actor[2].weight.detach().clone()
    (actor(x) ** 2).mean().backward()
    optimizer.step()
    assert not torch.equal(before, actor[2].weight)
    assert count(actor).kept == sum(int((actor[i].weight != 0).sum()) for i in LINEAR)
    assert probe(actor, x)["dormant_0.1"] >= 0.0

    export_policy(actor, folder, onnx=False)
    with torch.no_grad():
        expected = torch.tanh(actor(x[:1]))[0].numpy()
    np.testing.assert_allclose(load(folder)(x[0].numpy()), expected, atol=1e-5)

    prune(SimBa(6, width=16, blocks=1), 0.5)
    assert INSTALL in refusal(SimBa(6, width=16, blocks=1).to_jax)
    assert refusal(lambda: kanbatsu.prune) == f"kanbatsu.prune needs jax: {INSTALL}"
    assert sys.modules.get("jax") is None
    print(count(actor))


with TemporaryDirectory() as folder:
    main(Path(folder) / "policy")
