"""What one forward pass of a torch module shows: its hidden activations and its last features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from kanbatsu.torch.layers import KINDS

Activations = Sequence[str] | Mapping[str, Callable[[Tensor], Tensor]]

_NAMES = (
    *("relu", "relu6", "rrelu", "leaky_relu", "prelu", "elu", "celu", "selu", "gelu", "silu"),
    *("mish", "softplus", "softsign", "sigmoid", "tanh", "hardsigmoid", "hardswish", "hardtanh"),
)
ACTIVATION_FUNCTIONS = {
    getattr(home, spelling)
    for name in _NAMES
    for spelling in (name, f"{name}_")
    for home in (torch, Tensor, functional)
    if hasattr(home, spelling)
}
"""Modules such as `nn.ReLU` call these. Softmax is none of them: it weighs, it does not fire."""


class Tape(TorchFunctionMode):
    """Watches a forward pass and keeps copies, without gradients, of what the probes read."""

    def __init__(self) -> None:
        super().__init__()
        self._layer, self._window = "", 0
        self._fired: list[tuple[str, Tensor]] = []
        self._hidden = 0
        self._read: Tensor | None = None
        self._named: dict[str, Tensor] = {}
        self._features: Tensor | None = None

    @property
    def activations(self) -> dict[str, Tensor]:
        """`[batch, units]`, by name: of the modules that were named, else of what was found.

        What was found bears the name of the layer whose units they are, with `#2` where a layer
        fires for the second time. It counts only if another layer reads it: an action that is
        squashed by tanh is no hidden unit.
        """
        if self._named:
            return self._named
        found: dict[str, Tensor] = {}
        for name, units in self._fired[: self._hidden]:
            times = sum(key.split("#")[0] == name for key in found)
            found[f"{name}#{times + 1}" if times else name] = units
        return found

    @property
    def features(self) -> Tensor | None:
        """`[batch, width]`: what the module that was named returned, or the last layer read."""
        return self._read if self._features is None else self._features

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        y = func(*args, **(kwargs or {}))
        if func in ACTIVATION_FUNCTIONS and self._layer:
            self._fired.append((self._layer, self._units(y)))
        return y

    def enter(self, name: str, layer: nn.Module, args: Any, kwargs: Any) -> None:
        """A linear or convolution layer is about to read its input."""
        self._layer, self._window = name, len(getattr(layer, "kernel_size", ()))
        self._hidden = len(self._fired)
        self._read = _rows(args[0] if args else kwargs["input"])

    def leave(self, name: str, function: Callable[[Tensor], Tensor], *call: Any) -> None:
        """A module that was named for its activations has returned."""
        self._named[name] = self._units(function(_tensor(name, call[-1])))

    def keep(self, name: str, *call: Any) -> None:
        """The module that was named for its features has returned."""
        self._features = _rows(_tensor(name, call[-1]))

    def _units(self, y: Tensor) -> Tensor:
        """One column per channel after a convolution, else per entry of the last axis."""
        y = y.detach()
        if self._window and y.ndim == self._window + 2:
            y = y.movedim(1, -1)
        # Dormancy asks for the mean magnitude: over places first is the same as over all at once.
        return y.abs().flatten(1, -2).mean(1) if y.ndim > 2 else y.clone()


@contextmanager
def recording(
    module: nn.Module, activations: Activations = (), features: str = ""
) -> Iterator[Tape]:
    """Watch what a module computes until the end of the block; a compiled one runs uncompiled.

    Args:
        module: any torch module.
        activations: names of modules whose outputs are activations, or a mapping of names to the
            functions that their outputs go through.
        features: the name of the module whose output is the features.

    Raises:
        ValueError: for a name of no module, or of a layer without its activation function.

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> with recording(network) as tape:
        ...     _ = network(torch.ones(5, 3))
        >>> {name: units.shape for name, units in tape.activations.items()}
        {'0': torch.Size([5, 8])}
    """
    parts = dict(module.named_modules())
    functions = activations if isinstance(activations, Mapping) else dict.fromkeys(activations)
    for name in (*functions, *([features] if features else [])):
        if name not in parts:
            raise ValueError(
                f"there is no module {name!r}; the names are: {', '.join(filter(None, parts))}"
            )
    for name, function in functions.items():
        if function is None and isinstance(parts[name], KINDS):
            raise ValueError(
                f"what {name} returns has not been through its activation function yet: give the "
                f"function too, as in activations={{{name!r}: torch.relu}}"
            )
    tape = Tape()
    with ExitStack() as stack:
        for name, part in parts.items():
            if isinstance(part, KINDS):
                hook = part.register_forward_pre_hook(partial(tape.enter, name), with_kwargs=True)
                stack.callback(hook.remove)
        for name, function in functions.items():
            leave = partial(tape.leave, name, function or torch.detach)
            stack.callback(parts[name].register_forward_hook(leave).remove)
        if features:
            hook = parts[features].register_forward_hook(partial(tape.keep, features))
            stack.callback(hook.remove)
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(tape)
        yield tape


def _rows(x: Tensor) -> Tensor:
    """One row per sample."""
    if x.ndim < 2:
        raise ValueError("the inputs must be a batch: their first axis counts samples")
    return x.detach().flatten(1).clone()


def _tensor(name: str, output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        raise ValueError(f"{name} returns a {type(output).__name__}; name a module of one tensor")
    return output
