"""A policy as JSON and named arrays: layers to entries, and back with every check.

What `read` returns needs no further check.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.deploy.arrays import parse
from kanbatsu.deploy.bundle import AGAIN, ARRAYS, DESCRIPTION, read_bundle
from kanbatsu.deploy.entry import GREATEST, Entry, PolicyError
from kanbatsu.deploy.functions import FUNCTIONS
from kanbatsu.deploy.layers import (
    Activate,
    Add,
    ChannelsLast,
    Choose,
    Clip,
    Conv,
    Dense,
    End,
    Grouped,
    Layer,
    LayerNorm,
    Linear,
    Normalise,
    Packed,
    Remember,
    Squash,
    Weight,
    blocks,
    check_lists,
    width_after,
)
from kanbatsu.deploy.seal import Key
from kanbatsu.kernels.constants import GROUP_SIZES

KINDS: dict[str, type[Layer]] = {
    "normalise": Normalise,
    "channels_last": ChannelsLast,
    "convolution": Conv,
    "remember": Remember,
    "add": Add,
    "layer_norm": LayerNorm,
    "linear": Linear,
    "activate": Activate,
    "clip": Clip,
    "choose": Choose,
    "squash": Squash,
}
STORAGES: dict[str, type[Weight]] = {"dense": Dense, "packed": Packed, "grouped": Grouped}
ENDS = ("squash", "clip", "choose")
"""Layers that a policy may end with; their arrays are for people to read, and stand in the JSON."""


def encode(layers: Sequence[Layer]) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Write layers as JSON entries and named arrays.

    Example:
        >>> one = np.ones(1, np.float32)
        >>> entries, arrays = encode([Normalise(one, one), Squash(-one, one)])
        >>> entries[0]
        {'kind': 'normalise', 'mean': '0/mean', 'scale': '0/scale'}
        >>> entries[1]
        {'kind': 'squash', 'low': [-1.0], 'high': [1.0]}
        >>> list(arrays)
        ['0/mean', '0/scale']
    """
    arrays: dict[str, np.ndarray] = {}

    def entry(kind: str, value: Layer | Weight, at: str) -> dict[str, Any]:
        written: dict[str, Any] = {"kind": kind}
        for name, field in value._asdict().items():
            if isinstance(field, np.ndarray) and isinstance(value, End):
                written[name] = field.tolist()
            elif isinstance(field, np.ndarray):
                written[name] = f"{at}/{name}"
                arrays[f"{at}/{name}"] = field
            elif isinstance(field, Weight):
                written[name] = entry(_name(STORAGES, field), field, f"{at}/{name}")
            else:
                written[name] = field
        return written

    return [entry(_name(KINDS, layer), layer, str(i)) for i, layer in enumerate(layers)], arrays


def decode(entries: Any, arrays: Mapping[str, np.ndarray]) -> list[Layer]:
    """Undo `encode`, and check that every array fits its layer and every layer the one before.

    Raises:
        PolicyError: if something is missing or does not fit; the message names the layer.
    """
    layers: list[Layer] = []
    width, remembered, channels = None, None, None
    if not isinstance(entries, list) or not entries:
        raise PolicyError("there are no layers")
    for index, written in enumerate(entries):
        entry = Entry(f"layer {index}", written, arrays)
        kind = entry.choice("kind", KINDS)
        last = index == len(entries) - 1
        ends = kind in ENDS if last else kind in ("squash", "choose")
        if (kind == "normalise") != (index == 0) or ends != last:
            raise PolicyError(
                "a policy begins with one normalise and ends with one squash, clip or choose"
            )
        layer = _layer(kind, entry, width, channels)
        if isinstance(layer, Remember):
            remembered = width
        if isinstance(layer, Add) and remembered != width:
            raise PolicyError(f"layer {index} adds {remembered} features to {width}")
        width = width_after(layer, width or 0)
        if isinstance(layer, Conv | Linear):
            channels = layer.outputs if isinstance(layer, Conv) else None
        layers.append(layer)
    return layers


def read(folder: Path, key: Key | None = None) -> tuple[list[Layer], dict[str, Any]]:
    """Read and check the policy in a folder.

    Args:
        folder: folder of the policy.
        key: path of the key file that it was signed with.

    Returns:
        The layers, and the contract; its golden pairs are not computed here.

    Raises:
        FileNotFoundError: if there is none.
        PolicyError: if it is damaged, or something else; the message says what to do.
    """
    contract, files = read_bundle(folder, key)
    try:
        description = json.loads(files[DESCRIPTION])
        entries = description.get("layers") if isinstance(description, dict) else None
        layers = decode(entries, parse(files[ARRAYS]))
        check_contract(contract, layers)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{folder} does not describe a policy: {error}; {AGAIN}") from None
    return layers, contract


def check_contract(contract: Mapping[str, Any], layers: Sequence[Layer]) -> None:
    """Refuse a contract that says something else than the layers that it comes with.

    Raises:
        PolicyError: sizes, bounds or the normaliser differ.
    """
    begin, end = layers[0], layers[-1]
    assert isinstance(begin, Normalise)
    assert isinstance(end, End)
    actions = (end.sizes if isinstance(end, Choose) else end.low).size
    if not isinstance(contract.get("environment"), dict):
        raise PolicyError("the environment of the contract is no table")
    sizes = {"observation": begin.mean.size, "action": actions}
    for name, size in sizes.items():
        side = Entry(f"{name} of the contract", contract.get(name), {})
        if side.integer("size") != size:
            raise PolicyError(f"the contract is of another policy: its {name} has another size")
    shape = Entry("observation of the contract", contract["observation"], {}).integers("shape")
    if shape.prod(dtype=np.int64) != begin.mean.size:
        raise PolicyError("the contract is of another policy: its observation has another shape")
    normaliser = Entry("normaliser of the contract", contract.get("normaliser"), {})
    for name, array in begin._asdict().items():
        if not np.array_equal(normaliser.listed(name, array.size), array):
            raise PolicyError(f"{name} of the contract's normaliser is not that of the policy")


def _layer(kind: str, entry: Entry, width: int | None, channels: int | None) -> Layer:
    match kind:
        case "normalise":
            scale = entry.floats("scale", positive=True)
            return Normalise(entry.floats("mean", scale.size), scale)
        case "layer_norm":
            scale = entry.floats("scale")
            if scale.size not in (width, channels):
                raise PolicyError(f"{entry.where} normalises {scale.size} of {width} features")
            shift = entry.floats("shift", scale.size)
            return LayerNorm(scale, shift, entry.number("epsilon"))
        case "linear":
            inputs, outputs = entry.integer("inputs"), entry.integer("outputs")
            if inputs != width:
                raise PolicyError(f"{entry.where} takes {inputs} features and is given {width}")
            weight = _weight(entry, inputs, outputs)
            bias = entry.floats("bias", outputs)
            return Linear(weight, bias, inputs, outputs, entry.flag("relu"))
        case "convolution":
            return _convolution(entry, width)
        case "channels_last":
            of_image = ChannelsLast(entry.integer("channels"), entry.integer("pixels"))
            if of_image.channels * of_image.pixels != width:
                raise PolicyError(f"{entry.where} takes another image than one of {width} numbers")
            return of_image
        case "squash":
            low, high = entry.listed("low", width), entry.listed("high", width)
            if not (low < high).all():
                raise PolicyError(f"{entry.where} has a low bound that is not below the high one")
            if not (high / 2 - low / 2 <= GREATEST / 2).all():
                raise PolicyError(f"{entry.where} has bounds too far apart for float32")
            return Squash(low, high)
        case "clip":
            low, high = entry.listed("low", width), entry.listed("high", width)
            if not (low <= high).all():
                raise PolicyError(f"{entry.where} has a low bound that is above the high one")
            return Clip(low, high)
        case "choose":
            sizes, starts = entry.integers("sizes"), entry.integers("starts")
            scalar = entry.flag("scalar")
            if sizes.min() < 1 or sizes.sum(dtype=np.int64) != width or sizes.size != starts.size:
                raise PolicyError(f"{entry.where} does not choose among {width} scores")
            if scalar and sizes.size != 1:
                raise PolicyError(f"{entry.where} is no one choice")
            return Choose(sizes, starts, scalar)
        case "activate":
            function = entry.choice("function", dict.fromkeys(FUNCTIONS))
            return Activate(function, entry.number("alpha"))
        case "remember":
            return Remember()
        case _:
            return Add()


def _convolution(entry: Entry, features: int | None) -> Conv:
    names = ("channels", "height", "width", "outputs", "window", "stride")
    channels, height, width, outputs, window, stride = (entry.integer(name) for name in names)
    if channels * height * width != features or window > min(height, width):
        raise PolicyError(f"{entry.where} takes another image than one of {features} numbers")
    weight = _weight(entry, window**2 * channels, outputs)
    bias = entry.floats("bias", outputs)
    relu = entry.flag("relu")
    return Conv(weight, bias, channels, height, width, outputs, window, stride, relu)


def _weight(layer: Entry, inputs: int, outputs: int) -> Weight:
    """Read the weight of a layer, and check that its lists stay inside."""
    weight = _stored(layer.table("weight"), inputs, outputs)
    try:
        if not isinstance(weight, Dense):
            check_lists(weight, inputs, outputs)
    except ValueError as error:
        raise PolicyError(f"the weight of {layer.where} is wrong: {error}") from None
    return weight


def _stored(entry: Entry, inputs: int, outputs: int) -> Weight:
    match entry.choice("kind", STORAGES):
        case "dense":
            return Dense(entry.floats("values", inputs, outputs))
        case "packed":
            values = entry.floats("values")
            starts = entry.array("starts", np.int32, blocks(inputs) * outputs + 1)
            return Packed(values, starts, entry.array("sources", np.uint16, values.size))
        case _:
            values = entry.floats("values", None, None, None)
            groups, kept, size = values.shape
            if size not in GROUP_SIZES or groups != math.ceil(outputs / size):
                raise PolicyError(f"{entry.where} has groups that do not fit {outputs} outputs")
            return Grouped(values, entry.array("sources", np.int32, groups, kept))


def _name(names: Mapping[str, type], value: object) -> str:
    return next(name for name, kind in names.items() if type(value) is kind)
