"""From the named arrays of a trained actor to the layers of a policy, stored as small as they go.

The names are the paths of the actor's tree, as checkpoints hold them; so a run is exported without
its environment, its critics or its agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kanbatsu.deploy.layers import (
    Add,
    Dense,
    Grouped,
    Layer,
    LayerNorm,
    Linear,
    Normalise,
    Packed,
    Remember,
    Squash,
    Weight,
)
from kanbatsu.kernels.constants import GROUP_SIZES, MOST_FEATURES
from kanbatsu.nn.constants import LAYER_NORM_EPSILON, OBSERVATION_EPSILON
from kanbatsu.sparsity.lists import list_groups, list_kept

Arrays = Mapping[str, np.ndarray]


def policy_layers(
    actor: Arrays,
    mean: np.ndarray,
    variance: np.ndarray,
    low: Any,
    high: Any,
) -> list[Layer]:
    """Return the layers of the greedy policy of an actor: tanh of its mean.

    Args:
        actor: every array of a `Network` with a SimBa or an MLP encoder and a Gaussian or a tanh
            head, by its path.
        mean: of the observations, `[obs_dim]`.
        variance: likewise.
        low: lowest value of each entry of an action, `[action_dim]` or one for all.
        high: highest value likewise.

    Raises:
        ValueError: if the actor is another network.
    """
    actor = dict(actor)
    scale = np.sqrt(variance + np.float32(OBSERVATION_EPSILON))
    layers: list[Layer] = [Normalise(mean, scale)]
    if "encoder/embed/bias" in actor:
        embed = linear(actor, "encoder/embed", mean.size)
        layers.append(embed)
        for at in numbered(actor, "encoder/blocks"):
            up = linear(actor, f"{at}/up", embed.outputs, relu=True)
            down = linear(actor, f"{at}/down", up.outputs)
            layers += [Remember(), norm(actor, f"{at}/norm"), up, down, Add()]
        layers.append(norm(actor, "encoder/norm"))
        width = embed.outputs
    else:
        width = mean.size
        for at in numbered(actor, "encoder/layers"):
            hidden = linear(actor, at, width, relu=True)
            layers.append(hidden)
            width = hidden.outputs
    head = linear(actor, "head/mean", width)
    for name in [name for name in actor if name.startswith("head/log_std/")]:
        del actor[name]  # greedy actions do not spread
    if actor:
        raise ValueError(f"this network cannot be exported: it has {', '.join(actor)}")
    try:
        ends = [np.asarray(bound, np.float32) for bound in (low, high)]
        bounds = [np.broadcast_to(end, head.outputs) for end in ends]
    except ValueError:
        raise ValueError(f"low and high must be one number, or {head.outputs} each") from None
    return [*layers, head, Squash(*bounds)]


def smallest(value: np.ndarray, mask: np.ndarray) -> Weight:
    """Store a masked weight in the fewest bytes: dense, packed or grouped.

    Args:
        value: float32 `[inputs, outputs]`, zero where pruned.
        mask: the same shape, True = kept.

    Example:
        >>> value = np.eye(8, dtype=np.float32)
        >>> type(smallest(value, value > 0)).__name__
        'Packed'
        >>> type(smallest(value, np.ones((8, 8), bool))).__name__
        'Dense'
    """
    choices: list[Weight] = [Dense(value)]
    if max(value.shape) <= MOST_FEATURES:
        starts, inputs, outputs = list_kept(mask)
        lists = starts.astype(np.int32), inputs.astype(np.uint16)
        choices.append(Packed(value[inputs, outputs], *lists))
    grouped = (_as_groups(value, mask, size) for size in GROUP_SIZES)
    choices += [weight for weight in grouped if weight is not None]
    return min(choices, key=lambda weight: sum(array.nbytes for array in weight))


def _as_groups(value: np.ndarray, mask: np.ndarray, size: int) -> Grouped | None:
    """The weight as groups, if its mask is of that pattern."""
    sources = list_groups(mask, size)
    if sources is None:
        return None
    wide = np.zeros((len(value), len(sources) * size), value.dtype)
    wide[:, : value.shape[1]] = value
    outputs = np.arange(wide.shape[1]).reshape(-1, 1, size)
    return Grouped(wide[sources[:, :, None], outputs], sources.astype(np.int32))


def linear(arrays: dict[str, np.ndarray], at: str, inputs: int, relu: bool = False) -> Linear:
    """Take a layer out of the arrays."""
    bias = take(arrays, f"{at}/bias")
    return Linear(weight_of(arrays, f"{at}/weight"), bias, inputs, bias.size, relu)


def weight_of(arrays: dict[str, np.ndarray], weight: str) -> Weight:
    """Take a weight out of the arrays, as small as it goes; one of a convolution is laid flat."""
    stored: Weight
    if f"{weight}/mask" in arrays:
        value, mask = take(arrays, f"{weight}/value"), take(arrays, f"{weight}/mask")
        stored = smallest(*(array.reshape(-1, array.shape[-1]) for array in (value, mask)))
    elif f"{weight}/order" in arrays:
        for name in ("order", "by_input/starts", "by_input/sources"):  # for gradients
            take(arrays, f"{weight}/{name}")
        names = ("values", "by_output/starts", "by_output/sources")
        stored = Packed(*(take(arrays, f"{weight}/{name}") for name in names))
    elif f"{weight}/sources" in arrays:
        stored = Grouped(take(arrays, f"{weight}/values"), take(arrays, f"{weight}/sources"))
    else:
        value = take(arrays, weight)
        stored = Dense(value.reshape(-1, value.shape[-1]))
    return stored


def norm(arrays: dict[str, np.ndarray], at: str) -> LayerNorm:
    """Take a normalisation out of the arrays."""
    scale, shift = take(arrays, f"{at}/scale"), take(arrays, f"{at}/shift")
    return LayerNorm(scale, shift, LAYER_NORM_EPSILON)


def take(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Take one array out.

    Raises:
        ValueError: there is none; the message says which networks can be exported.
    """
    if name not in arrays:
        raise ValueError(
            f"this network cannot be exported: it has no {name}. A policy is a SimBa or an MLP "
            "encoder with a Gaussian or a tanh head, as SAC and DDPG have, or the network of "
            "Stream AC, Stream Q or PQN"
        )
    return arrays.pop(name)


def numbered(arrays: Arrays, at: str) -> list[str]:
    """Return the paths of the members of a tuple, in order."""
    numbers = {
        int(name[len(at) + 1 :].split("/")[0]) for name in arrays if name.startswith(f"{at}/")
    }
    return [f"{at}/{number}" for number in sorted(numbers)]
