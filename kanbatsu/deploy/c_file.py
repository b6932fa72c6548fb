"""A policy as one file of C99: kept weights, no allocation, and of libm tanhf and expf alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kanbatsu.deploy.c_check import self_test
from kanbatsu.deploy.c_functions import OF_C, WITH_PARAMETER, helpers
from kanbatsu.deploy.c_products import product, room_of
from kanbatsu.deploy.c_text import comment, floats, indented, literal
from kanbatsu.deploy.layers import (
    Activate,
    Add,
    ChannelsLast,
    Choose,
    Clip,
    Conv,
    End,
    Layer,
    LayerNorm,
    Linear,
    Normalise,
    Remember,
    Squash,
    width_after,
)

PIXEL, NUMBER, CHOICE = "uint8_t", "float", "int32_t"
"""Types of entries of observations and actions."""


def to_c(layers: Sequence[Layer], contract: Mapping[str, Any]) -> str:
    """Return the file: `void kanbatsu_act(const float *observation, float *action)`.

    Observations of images are `uint8_t`, actions that are choices `int32_t`. The function uses
    static arrays, so that one thread at a time may call it. Compiled with `KANBATSU_MAIN` defined,
    the file is a program that computes the golden pairs, and returns 1 where one is not met.

    Args:
        layers: the policy.
        contract: what its users must know, with its golden pairs and checksums.
    """
    return _Writer(layers, contract).text()


def entry_types(contract: Mapping[str, Any]) -> tuple[str, str]:
    """Return the types in C of an entry of an observation, and of an action.

    Example:
        >>> entry_types({"observation": {"dtype": "uint8"}, "action": {"dtype": "float32"}})
        ('uint8_t', 'float')
    """
    given = PIXEL if contract["observation"]["dtype"] == "uint8" else NUMBER
    return given, CHOICE if contract["action"]["dtype"] == "int64" else NUMBER


class _Writer:
    """Goes through the layers once; features lie in x or y, whichever was written last."""

    def __init__(self, layers: Sequence[Layer], contract: Mapping[str, Any]) -> None:
        self._layers, self._contract = layers, contract
        self._given, self._taken = entry_types(contract)
        self._used: set[str] = set()
        self._parts: list[str] = []
        self._rooms = {"x": width_after(layers[0], 0), "y": 0, "kept": 0}
        self._now = "x"

    def text(self) -> str:
        """Return the whole file."""
        width, body, end = self._rooms["x"], [], self._layers[-1]
        assert isinstance(end, End)
        for index, layer in enumerate(self._layers):
            body += self._layer(layer, f"layer{index}", width)
            width = width_after(layer, width)
        rooms = [f"static float {name}[{room}];" for name, room in self._rooms.items() if room]
        takes = f"const {self._given} *observation, {self._taken} *action"
        act = [f"void KANBATSU_ACT({takes}) {{", *indented([*rooms, *body]), "}"]
        obs_dim = width_after(self._layers[0], 0)
        parts = [
            comment(_header(self._contract, f"void kanbatsu_act({takes})")),
            "#include <math.h>\n#include <stdint.h>",
            f"#define KANBATSU_OBSERVATION {obs_dim}\n#define KANBATSU_ACTION {width}",
            "#ifndef KANBATSU_ACT /* define it where several policies are linked together */\n"
            "#define KANBATSU_ACT kanbatsu_act\n#endif",
            f"void KANBATSU_ACT({takes});",
            *helpers(self._used),
            *self._parts,
            "\n".join(act),
            self_test(self._contract, end, self._given, self._taken),
        ]
        return "\n\n".join(parts) + "\n"

    def _layer(self, layer: Layer, name: str, width: int) -> list[str]:
        """Return the lines of a layer of `width` features."""
        x = self._now
        match layer:
            case Normalise(mean, scale):
                value = "observation[i]" if self._given == NUMBER else "(float)observation[i]"
                less, by = (
                    self._numbers(f"{name}_mean", mean),
                    self._numbers(f"{name}_scale", scale),
                )
                same = not mean.any() and (scale == 1).all()
                value = value if same else f"({value} - {less('i')}) / {by('i')}"
                return [_each(width, f"{x}[i] = {value};")]
            case ChannelsLast(channels, pixels):
                y = self._other(width)
                moved = f"{y}[i] = {x}[i % {channels} * {pixels} + i / {channels}];"
                return [_each(width, moved)]
            case Linear() | Conv():
                y = self._other(room_of(layer))
                self._parts += product(layer, name)
                return [f"{name}({x}, {y});"]
            case Remember():
                self._rooms["kept"] = max(self._rooms["kept"], width)
                return [_each(width, f"kept[i] = {x}[i];")]
            case Add():
                return [_each(width, f"{x}[i] += kept[i];")]
            case LayerNorm(scale, shift, epsilon):
                self._used |= {"centre", "inverse_root"}
                size = scale.size
                by, plus = (
                    self._numbers(f"{name}_{part}", array)
                    for part, array in (("scale", scale), ("shift", shift))
                )
                at = "i" if size == width else f"i % {size}"
                centre = f"centre({x} + place, {size}, {literal(epsilon)});"
                return [
                    f"for (int32_t place = 0; place < {width}; place += {size}) {centre}",
                    _each(width, f"{x}[i] = {x}[i] * {by(at)} + {plus(at)};"),
                ]
            case Activate(function, alpha):
                self._used |= {function} - OF_C.keys()
                parameter = f", {literal(alpha)}" if function in WITH_PARAMETER else ""
                called = f"{OF_C.get(function, function)}({x}[i]{parameter})"
                return [_each(width, f"{x}[i] = {called};")]
            case Clip(low, high):
                to = "action" if layer is self._layers[-1] else x
                least = self._numbers(f"{name}_low", low)("i")
                most = self._numbers(f"{name}_high", high)("i")
                inner = f"{x}[i] > {most} ? {most} : {x}[i]"
                return [_each(width, f"{to}[i] = {x}[i] < {least} ? {least} : {inner};")]
            case Squash():
                middle = self._numbers(f"{name}_centre", layer.centre)("i")
                half = self._numbers(f"{name}_half", layer.half)("i")
                return [_each(width, f"action[i] = {middle} + {half} * tanhf({x}[i]);")]
            case Choose(sizes, starts):
                return list(_choices(x, sizes, starts))

    def _other(self, room: int) -> str:
        """Go on in the other array, which gets room for so many features."""
        self._now = "y" if self._now == "x" else "x"
        self._rooms[self._now] = max(self._rooms[self._now], room)
        return self._now

    def _numbers(self, name: str, values: np.ndarray) -> Callable[[str], str]:
        """Return what says a number by its index: of numbers that are all alike, the number."""
        if (values == values[0]).all():
            return lambda at: literal(float(values[0]))
        self._parts.append(floats(name, values))
        return lambda at: f"{name}[{at}]"


def _each(width: int, statement: str) -> str:
    return f"for (int32_t i = 0; i < {width}; ++i) {statement}"


def _choices(x: str, sizes: np.ndarray, starts: np.ndarray) -> Iterator[str]:
    """The number of the largest score, for one choice after the other."""
    first = 0
    for index, (size, start) in enumerate(zip(sizes.tolist(), starts.tolist(), strict=True)):
        yield "{"
        yield "  int32_t best = 0;"
        yield f"  const float *scores = {x} + {first};"
        yield f"  for (int32_t i = 1; i < {size}; ++i) if (scores[i] > scores[best]) best = i;"
        yield f"  action[{index}] = best + INT32_C({start});"
        yield "}"
        first += size


def _header(contract: Mapping[str, Any], signature: str) -> Iterator[str]:
    """Say what whoever calls the function must know."""
    provenance, golden = contract["provenance"], contract["golden"]
    yield f"{signature}; of a policy that kanbatsu exported."
    yield ""
    yield f"run {provenance['run_id']}, licence {provenance['licence']}"
    yield f"policy.safetensors has the SHA-256 {contract['sha256']['policy.safetensors']}"
    period = contract["control_period_seconds"]
    yield f"seconds from one action to the next: {period}"
    for side in ("observation", "action"):
        of = contract[side]
        yield ""
        yield f"{side}: {of['dtype']}, shape {of['shape']}"
        lists = [of[key] or [None] * of["size"] for key in ("names", "units", "low", "high")]
        entries = zip(*lists, strict=True)
        for index, (name, unit, low, high) in enumerate(entries):
            if (name, unit, low, high) != (None,) * 4:
                yield f"  [{index}] {name or ''} unit {unit or '-'}, from {low} to {high}"
    yield ""
    yield "The function uses static arrays: call it from one thread at a time. Float has 32 bits."
    pairs = len(golden["observations"])
    yield f"Compiled with -DKANBATSU_MAIN it is a program that checks {pairs} golden pairs."
