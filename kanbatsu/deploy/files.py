"""A policy as JSON and named arrays: layers to entries, and back with every check.

What `read` returns needs no further check.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.deploy.arrays import parse
from kanbatsu.deploy.entry import GREATEST, Entry, PolicyError
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
    blocks,
    check_lists,
)
from kanbatsu.kernels.constants import GROUP_SIZES

FORMAT, VERSION = "kanbatsu-policy", 1
DESCRIPTION, ARRAYS = "policy.json", "policy.safetensors"
ENVIRONMENT = "environment"
"""The part of the description on the environment, which has a checksum of its own."""
AGAIN = "export it again with kanbatsu.deploy.export(run, out_dir)"

KINDS: dict[str, type[Layer]] = {
    "normalise": Normalise,
    "remember": Remember,
    "add": Add,
    "layer_norm": LayerNorm,
    "linear": Linear,
    "squash": Squash,
}
STORAGES: dict[str, type[Weight]] = {"dense": Dense, "packed": Packed, "grouped": Grouped}
IN_JSON = ("low", "high")
"""Arrays that people read: they stand in the JSON."""


def digest(content: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def canonical(entries: Any) -> bytes:
    """Return JSON that is equal, byte for byte, for equal layers."""
    return json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()


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
            if isinstance(field, np.ndarray) and name in IN_JSON:
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
    width, remembered = None, None
    if not isinstance(entries, list) or not entries:
        raise PolicyError("there are no layers")
    for index, written in enumerate(entries):
        entry = Entry(f"layer {index}", written, arrays)
        kind = entry.choice("kind", KINDS)
        if (kind == "normalise") != (index == 0) or (kind == "squash") != (written is entries[-1]):
            raise PolicyError("a policy begins with one normalise and ends with one squash")
        layer = _layer(kind, entry, width)
        if isinstance(layer, Remember):
            remembered = width
        if isinstance(layer, Add) and remembered != width:
            raise PolicyError(f"layer {index} adds {remembered} features to {width}")
        if isinstance(layer, Normalise | Linear):
            width = layer.outputs if isinstance(layer, Linear) else layer.mean.size
        layers.append(layer)
    return layers


def read(folder: Path) -> tuple[list[Layer], dict[str, Any]]:
    """Read and check the policy in a folder.

    Returns:
        The layers, and what is known of the environment that they act in.

    Raises:
        FileNotFoundError: if there is none.
        PolicyError: if it is damaged, or something else; the message says what to do.
    """
    for name in (DESCRIPTION, ARRAYS):
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder} holds no policy: {name} is missing; {AGAIN}")
    try:
        description = json.loads(_content(folder / DESCRIPTION))
    except (ValueError, RecursionError) as error:
        if isinstance(error, PolicyError):
            raise
        raise PolicyError(f"{folder / DESCRIPTION} is not valid JSON ({error}); {AGAIN}") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise PolicyError(f"{folder / DESCRIPTION} is not of the format {FORMAT}; {AGAIN}")
    if description.get("version") != VERSION:
        raise PolicyError(
            f"{folder} has version {description.get('version')} of the format, and this kanbatsu "
            f"reads version {VERSION}: {AGAIN} by this kanbatsu, or install the one that wrote it"
        )
    content, entries = _content(folder / ARRAYS), description.get("layers")
    environment = description.get("environment", {})
    written = {DESCRIPTION: canonical(entries), ARRAYS: content}
    if environment != {}:  # policies of earlier versions do not say it
        written[ENVIRONMENT] = canonical(environment)
    for name, whole in written.items():
        digests = description.get("sha256")
        if not isinstance(digests, dict) or digests.get(name) != digest(whole):
            damaged = folder / (DESCRIPTION if name == ENVIRONMENT else name)
            raise PolicyError(
                f"{damaged} does not match its checksum: it was damaged or "
                f"edited; copy both files anew, or {AGAIN}"
            )
    try:
        if not isinstance(environment, dict):
            raise PolicyError("the environment is no table")
        return decode(entries, parse(content)), environment
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{folder} does not describe a policy: {error}; {AGAIN}") from None


def _content(path: Path) -> bytes:
    """Read a file that is one: a pipe would be waited for, and a device read without end."""
    try:
        if not path.is_file():
            raise PolicyError(f"{path} is not a regular file; {AGAIN}")
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path} cannot be read ({error.strerror}); {AGAIN}") from None


def _layer(kind: str, entry: Entry, width: int | None) -> Layer:
    match kind:
        case "normalise":
            scale = entry.floats("scale", positive=True)
            return Normalise(entry.floats("mean", scale.size), scale)
        case "layer_norm":
            scale, shift = entry.floats("scale", width), entry.floats("shift", width)
            return LayerNorm(scale, shift, entry.number("epsilon"))
        case "linear":
            inputs, outputs = entry.integer("inputs"), entry.integer("outputs")
            if inputs != width:
                raise PolicyError(f"{entry.where} takes {inputs} features and is given {width}")
            weight = _weight(entry.table("weight"), inputs, outputs)
            try:
                if not isinstance(weight, Dense):
                    check_lists(weight, inputs, outputs)
            except ValueError as error:
                raise PolicyError(f"the weight of {entry.where} is wrong: {error}") from None
            bias = entry.floats("bias", outputs)
            return Linear(weight, bias, inputs, outputs, entry.flag("relu"))
        case "squash":
            low, high = entry.listed("low", width), entry.listed("high", width)
            if not (low < high).all():
                raise PolicyError(f"{entry.where} has a low bound that is not below the high one")
            if not (high / 2 - low / 2 <= GREATEST / 2).all():
                raise PolicyError(f"{entry.where} has bounds too far apart for float32")
            return Squash(low, high)
        case "remember":
            return Remember()
        case _:
            return Add()


def _weight(entry: Entry, inputs: int, outputs: int) -> Weight:
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
