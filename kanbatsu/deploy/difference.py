"""Two policies side by side: contracts, layers, kept weights, and the actions that differ."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.deploy.files import read
from kanbatsu.deploy.layers import Layer, Product, to_dense
from kanbatsu.deploy.policy import Policy, load
from kanbatsu.deploy.seal import Key

MOST_SHOWN = 60
"""Characters of a value that a line shows."""
CHECKSUMS = ("checksum", "signature", "sha256", "golden")
"""Parts of a contract that differ wherever anything does: golden actions are compared instead."""


def differences(
    one: str | os.PathLike[str], other: str | os.PathLike[str], *, key: Key | None = None
) -> list[str]:
    """Say in which lines two policies differ; an empty list says that they are one policy.

    Args:
        one: folder of a policy.
        other: folder of another.
        key: path of the key file, where they are signed.

    Returns:
        A line for each difference of the contracts, of the layers, of their weights, and of the
        actions for the golden observations of the first.

    Raises:
        FileNotFoundError, PolicyError: as for `kanbatsu.deploy.load`.
    """
    first, second = load(one, key=key), load(other, key=key)
    layers = [read(Path(path), key)[0] for path in (one, other)]
    said, said_too = (
        {name: value for name, value in policy.contract.items() if name not in CHECKSUMS}
        for policy in (first, second)
    )
    return [
        *_contract_lines(said, said_too, "contract"),
        *_layer_lines(*layers),
        *_action_lines(first, second),
    ]


def _contract_lines(one: Any, other: Any, at: str) -> list[str]:
    """Compare two parts of a contract, key by key."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        names = sorted({*one, *other})
        return [
            line
            for name in names
            for line in _contract_lines(one.get(name), other.get(name), f"{at}.{name}")
        ]
    if one == other:
        return []
    return [f"{at}: {_short(one)} | {_short(other)}"]


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


def _layer_lines(one: Sequence[Layer], other: Sequence[Layer]) -> list[str]:
    """Compare two policies layer by layer."""
    if [_kind(layer) for layer in one] != [_kind(layer) for layer in other]:
        return [
            f"layers: {' '.join(map(_kind, one))} | {' '.join(map(_kind, other))}",
            f"kept weights: {sum(map(kept, one)):,} | {sum(map(kept, other)):,}",
        ]
    lines = []
    for index, (a, b) in enumerate(zip(one, other, strict=True)):
        at = f"layer {index} ({_kind(a)})"
        if isinstance(a, Product) and isinstance(b, Product):
            if kept(a) != kept(b):
                lines.append(f"{at}: {kept(a):,} kept weights | {kept(b):,}")
            if type(a.weight) is not type(b.weight):
                stored = [type(layer.weight).__name__.lower() for layer in (a, b)]
                lines.append(f"{at}: stored {stored[0]} | {stored[1]}")
        largest = max(
            (_distance(x, y) for x, y in zip(_dense(a), _dense(b), strict=True)), default=0.0
        )
        if largest > 0:
            lines.append(f"{at}: numbers differ by up to {largest:.3g}")
    return lines


def _kind(layer: Layer) -> str:
    """The kind of a layer, with its sizes where it has some."""
    name = type(layer).__name__.lower()
    return f"{name}[{layer.inputs}, {layer.outputs}]" if isinstance(layer, Product) else name


def kept(layer: Layer) -> int:
    """Return how many weights of a layer are kept."""
    if not isinstance(layer, Product):
        return 0
    return int(np.count_nonzero(to_dense(layer)))


def _dense(layer: Layer) -> list[np.ndarray]:
    """Every number of a layer, as arrays that do not depend on how it is stored."""
    if isinstance(layer, Product):
        return [to_dense(layer), layer.bias, np.array([layer.relu])]
    return [np.asarray(value) for value in layer if isinstance(value, np.ndarray | float)]


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one.astype(float) - other.astype(float)).max(initial=0.0))


def _action_lines(first: Policy, second: Policy) -> list[str]:
    """Compare the actions for the golden observations of the first."""
    if (first.obs_dim, first.action_dim) != (second.obs_dim, second.action_dim):
        return ["golden actions: not compared, for observations or actions have other sizes"]
    observations = np.array(first.contract["golden"]["observations"], np.float32)
    actions = [np.asarray(policy(observations), float) for policy in (first, second)]
    gaps = np.abs(actions[0] - actions[1]).reshape(len(observations), -1)
    names = first.contract["action"]["names"] or [f"action {i}" for i in range(gaps.shape[1])]
    return [
        f"golden actions, {name}: differ by {gap.mean():.3g} on average, {gap.max():.3g} at most"
        for name, gap in zip(names, gaps.T, strict=True)
        if gap.max() > 0
    ]
