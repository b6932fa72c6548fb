"""The layers of a torch module, read from its graph: what `kanbatsu.torch.deploy` can export."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from kanbatsu.deploy.layers import (
    Activate,
    Add,
    ChannelsLast,
    Clip,
    Conv,
    Layer,
    LayerNorm,
    Linear,
    Normalise,
    Product,
    Remember,
)
from kanbatsu.torch.activations import ACTIVATIONS, FUNCTIONS, PARAMETERS, is_activation
from kanbatsu.torch.constants import (
    CLAMPS,
    STEPS,
    UNMOVED,
    clip_of,
    constants_of,
    moved,
    scaled,
)
from kanbatsu.torch.evaluating import evaluating
from kanbatsu.torch.kernels import CannotExport, conv_of, linear_of, to_numpy

PASSED = (nn.Identity, nn.Dropout, nn.Flatten)
"""Modules that change nothing of a vector when nothing is trained."""
SHAPES = (torch.reshape, "reshape", "view")
"""Functions that lay a vector out anew, `[batch, inputs]` as before."""
SUMS = (operator.add, operator.iadd, torch.add, "add")


class _Tracer(fx.Tracer):
    """Looks into sequences and modules of the user's, and not into layers."""

    proxy_buffer_attributes = True  # what is computed of buffers is written down, as all else

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Sequential):
            return False
        return isinstance(m, nn.Linear | nn.Conv2d) or m.__module__.startswith("torch.nn")


def layers_of(module: nn.Module, image: tuple[int, int, int] | None = None) -> list[Layer]:
    """Read the layers of a module, in order.

    Args:
        module: a module of one tensor `[batch, inputs]`, or `[batch, channels, height, width]`.
        image: channels, height and width, where it takes images.

    Raises:
        CannotExport: it computes something else than the layers of a policy can.

    Example:
        >>> [type(layer).__name__ for layer in layers_of(nn.Sequential(nn.Linear(3, 8), nn.ELU()))]
        ['Linear', 'Activate']
    """
    try:
        with evaluating(module):
            graph = _Tracer().trace(module)
    except Exception as error:  # whatever a forward of the user's does with what is no tensor
        raise CannotExport(f"its forward cannot be traced ({error})") from error
    walk = _Walk(dict(module.named_modules()), constants_of(graph, module), image)
    for node in graph.nodes:
        walk.step(node)
    return _spread(walk.layers)


def _spread(layers: list[Layer]) -> list[Layer]:
    """Give what comes before the first weight its width, where one number stands for all."""
    first = next((i for i, layer in enumerate(layers) if isinstance(layer, Product)), 0)
    width = getattr(layers[first], "inputs", 1) if layers else 1
    wide: list[Layer] = []
    for layer in layers[:first]:
        if isinstance(layer, Normalise | Clip):
            try:
                ends = (np.broadcast_to(np.float32(x), width).copy() for x in layer)
                layer = type(layer)(*ends)
            except ValueError:
                raise CannotExport(f"it takes {width} numbers and normalises others") from None
        wide.append(layer)
    return [*wide, *layers[first:]]


class _Walk:
    """Goes along a graph that is a chain with branches that are added again, one at a time."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        constants: Mapping[Any, Any],
        image: tuple[int, int, int] | None,
    ) -> None:
        self.layers: list[Layer] = []
        self._modules = modules
        self._constants = constants
        self._image = image
        """Channels, height and width of what was computed last; None of a vector."""
        if image is not None:
            self.layers.append(ChannelsLast(image[0], image[1] * image[2]))
        self._now: fx.Node | None = None
        self._kept: fx.Node | None = None
        self._same: dict[fx.Node, fx.Node] = {}
        self._scaling: Any = ()
        """The last layer that only moves and scales, and what it computes."""

    def step(self, node: fx.Node) -> None:
        """Take one node in."""
        if node in self._constants:
            return
        if node.op == "output":
            if self._named(node.args[0]) is not self._now:
                raise CannotExport("its output is not one tensor, the last that is computed")
            return
        if node.op == "placeholder":
            if self._now is not None:
                if node.users:
                    raise CannotExport("its forward takes more than one input")
                return
        else:
            self._compute(node)
        self._now = self._named(node)
        if len(node.users) > 1:
            if self._kept is not None:
                raise CannotExport("a branch begins inside of another")
            self._kept = self._now
            self.layers.append(Remember())

    def _named(self, value: Any) -> Any:
        return self._same.get(value, value) if isinstance(value, fx.Node) else value

    def _compute(self, node: fx.Node) -> None:
        nodes = [value for value in node.args if isinstance(value, fx.Node)]
        inputs = [self._named(value) for value in nodes if value not in self._constants]
        adds = node.target in SUMS and not node.kwargs
        if adds and len(inputs) == 2 and set(inputs) == {self._now, self._kept}:
            self.layers.append(Add())
            self._kept = None
            return
        if inputs != [self._now]:
            raise CannotExport(f"{node.target} reads something else than what came before it")
        if node.op == "call_module":
            added = self._module(self._modules[str(node.target)])
        elif node.target in STEPS or node.target in CLAMPS:
            added = self._with_constants(node)
        else:
            added = self._function(node)
        if added is None:
            self._same[node] = inputs[0]
        else:
            self._append(added)

    def _with_constants(self, node: fx.Node) -> Layer | None:
        """A step of a normaliser, which comes before all layers, or a clip."""
        settings = {name: self._constants.get(x, x) for name, x in node.kwargs.items()}
        values = [self._constants.get(x, x) for x in node.args]
        if node.target in CLAMPS:
            low, high = [*values[1:], None, None][:2]
            return self._clip(settings.get("min", low), settings.get("max", high))
        step, first = STEPS[node.target], isinstance(values[0], fx.Node)
        begin = self.layers[-1] if self.layers else UNMOVED
        known = first or step in ("plus", "times")
        if settings or not known:
            raise CannotExport(f"its forward computes a number {step} something")
        value = values[1 if first else 0]
        widths = [layer.outputs for layer in self.layers if isinstance(layer, Linear)]
        if widths and self._image is None:
            follows = bool(self._scaling) and self.layers[-1] is self._scaling[0]
            scaling = moved(self._scaling[1] if follows else UNMOVED, step, value)
            if follows:
                self.layers.pop()
            layer = scaled(widths[-1], scaling)
            self._scaling = () if layer is None else (layer, scaling)
            return layer
        if len(self.layers) > 1 or not isinstance(begin, Normalise):
            raise CannotExport(f"its forward computes {step} a number between its start and layers")
        self.layers.clear()
        return moved(begin, step, value)

    def _clip(self, low: Any, high: Any) -> Layer:
        """A clip as wide as what it clips; before the first layer, nobody knows yet how wide."""
        clip = clip_of(low, high)
        widths = [layer.outputs for layer in self.layers if isinstance(layer, Linear)]
        if not widths:
            return clip
        try:
            return Clip(*(np.broadcast_to(end, widths[-1]).copy() for end in clip))
        except ValueError:
            raise CannotExport(f"it clips {widths[-1]} numbers to bounds of others") from None

    def _append(self, layer: Layer) -> None:
        last = self.layers[-1] if self.layers else None
        if isinstance(last, Linear | Conv) and not last.relu and is_activation(layer, "relu"):
            self.layers[-1] = last._replace(relu=True)
        else:
            self.layers.append(layer)

    def _module(self, module: nn.Module) -> Layer | None:
        if isinstance(module, nn.Linear):
            image, self._image = self._image, None
            return linear_of(module, image)
        if isinstance(module, nn.Conv2d) and self._image is not None:
            layer = conv_of(module, self._image)
            self._image = (layer.outputs, layer.rows, layer.columns)
            return layer
        if isinstance(module, nn.LayerNorm) and self._image is None:
            return _norm(module)
        if isinstance(module, nn.Hardtanh):
            return self._clip(module.min_val, module.max_val)
        for kind, make in ACTIVATIONS.items():
            if type(module) is kind:
                return make(module)
        if isinstance(module, PASSED):
            return None
        raise CannotExport(f"it holds {type(module).__name__}")

    def _function(self, node: fx.Node) -> Layer | None:
        if node.target in (torch.flatten, "flatten"):
            return None
        if node.target in SHAPES and self._image is None and all(map(_is_size, node.args[1:])):
            return None
        name = FUNCTIONS.get(node.target)
        if name is None:
            what = getattr(node.target, "__name__", node.target)
            raise CannotExport(f"its forward calls {what}")
        settings = dict(node.kwargs)
        alpha = 1.0
        if name in PARAMETERS:
            parameter, default = PARAMETERS[name]
            given = node.args[1] if len(node.args) > 1 else settings.pop(parameter, default)
            alpha = float(given)  # type: ignore[arg-type]
        if name == "gelu" and settings.pop("approximate", "none") == "tanh":
            name = "gelu_tanh"
        settings.pop("inplace", None)
        if settings or len(node.args) > 1 + (name in PARAMETERS):
            raise CannotExport(f"its forward calls {name} with {settings or node.args[1:]}")
        return Activate(name, alpha)


def _is_size(size: Any) -> bool:
    return isinstance(size, int | tuple | list)


def _norm(layer: nn.LayerNorm) -> LayerNorm:
    if len(layer.normalized_shape) != 1:
        raise CannotExport("it holds LayerNorm over more than the features")
    width = layer.normalized_shape[0]
    scale = np.ones(width, np.float32) if layer.weight is None else to_numpy(layer.weight)
    shift = np.zeros(width, np.float32) if layer.bias is None else to_numpy(layer.bias)
    return LayerNorm(scale, shift, float(layer.eps))
