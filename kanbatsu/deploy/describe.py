"""What lies in a policy's folder, in a few lines: files and sizes, kept weights, parity errors."""

from __future__ import annotations

import os
from pathlib import Path

from kanbatsu.deploy.bundle import DIGESTS
from kanbatsu.deploy.contract import CONTRACT
from kanbatsu.deploy.difference import kept
from kanbatsu.deploy.files import read
from kanbatsu.deploy.layers import Product
from kanbatsu.deploy.seal import Key

FORMS = {"onnx": "policy.onnx", "c": "policy.c"}


def describe(path: str | os.PathLike[str], *, key: Key | None = None) -> list[str]:
    """Say what a policy's folder holds, and how far each form is from the original.

    Args:
        path: folder of the policy.
        key: path of the key file, where it is signed.

    Returns:
        Lines of text.

    Raises:
        FileNotFoundError, PolicyError: as for `kanbatsu.deploy.load`.

    Example:
        >>> import tempfile
        >>> import jax
        >>> from kanbatsu.agents.ddpg import DDPG, DDPGConfig
        >>> from kanbatsu.deploy import export_policy
        >>> from kanbatsu.nn.config import CriticConfig, NetworkConfig
        >>> from kanbatsu.types import Spec
        >>> config = DDPGConfig(NetworkConfig(width=8, blocks=1), CriticConfig(width=8, blocks=1))
        >>> state = DDPG(Spec((3,), 1, episode_length=100), config).init(jax.random.key(0))
        >>> folder = tempfile.mkdtemp()
        >>> export_policy(state.actor, state.normaliser, folder, low=-2.0, high=2.0)
        >>> describe(folder)[1]
        'weights: 544 kept of 544'
    """
    folder = Path(path)
    layers, contract = read(folder, key)
    names = [CONTRACT, *sorted(contract[DIGESTS])]
    sizes = (f"{name} {(folder / name).stat().st_size:,}" for name in names)
    weights = [layer for layer in layers if isinstance(layer, Product)]
    total = sum(layer.inputs * layer.outputs for layer in weights)
    golden = contract["golden"]
    pairs = len(golden["observations"])
    lines = [
        f"{folder}, in bytes: {', '.join(sizes)}",
        f"weights: {sum(map(kept, weights)):,} kept of {total:,}",
        f"largest difference from {golden['compared_with']} on {pairs} golden pairs: "
        f"{golden['parity_error']:.2g} of half an action's range",
    ]
    for form, name in FORMS.items():
        if name in contract[DIGESTS]:
            error, by = golden[f"{form}_parity_error"], golden[f"{form}_by"]
            lines.append(
                f"{name}: not compared, nothing here runs it"
                if error is None
                else f"{name}: {error:.2g}, computed by {by}"
            )
    return lines
