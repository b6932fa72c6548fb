"""Which layers of a torch module can be pruned, which are meant, and which must be refused."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from kanbatsu.sparsity.allocate import Shape
from kanbatsu.torch.layers import KINDS, MASK, PRUNED, Pruned

Paths = str | Sequence[str] | None


@dataclass(frozen=True)
class Found:
    """One weight, and the layer or layers that multiply by it."""

    paths: tuple[str, ...]
    """Its names, such as `actor.0.weight`; several where layers share it."""
    layers: tuple[nn.Module, ...]

    @property
    def path(self) -> str:
        """The first of its names, under which it is counted."""
        return self.paths[0]

    @property
    def shape(self) -> Shape:
        """The shape as allocation and patterns count it: `(*window, inputs, outputs)`."""
        first, second, *window = self.weight.shape
        groups = self._transposed_groups
        return (*window, first // groups, groups * second) if groups else (*window, second, first)

    def to_layout(self, mask: np.ndarray) -> np.ndarray:
        """Bring a mask of that shape to the layout in which torch stores the weight."""
        groups = self._transposed_groups
        if not groups:
            return np.moveaxis(mask, (-1, -2), (0, 1))
        split = mask.reshape(*mask.shape[:-1], groups, -1)
        return np.moveaxis(split, (-2, -3, -1), (0, 1, 2)).reshape(self.weight.shape)

    @property
    def weight(self) -> nn.Parameter:
        """The parameter itself, `[outputs, inputs, *window]` (transposed: inputs first)."""
        weight = self.layers[0].weight
        assert isinstance(weight, nn.Parameter)
        return weight

    @property
    def _transposed_groups(self) -> int:
        """Groups of a transposed convolution, whose inputs come first; 0 for other layers."""
        layer = self.layers[0]
        is_transposed = getattr(layer, "transposed", False)
        return int(layer.groups) if is_transposed else 0  # type: ignore[arg-type]


def find_layers(module: nn.Module, include: Paths = (), exclude: Paths = ()) -> list[Found]:
    """Find the weights that are meant, in the order in which the module registers its layers.

    Args:
        module: any torch module.
        include: path patterns (`*` and `?`) of layers or of their weights; all by default.
        exclude: path patterns of what to leave out.

    Raises:
        ValueError: if there is nothing to prune, a pattern matches nothing (the message lists the
            paths), or something that is meant cannot be kept pruned (the message says why).

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> [(found.path, found.shape) for found in find_layers(network, exclude="2")]
        [('0.weight', (3, 8))]
    """
    layers = kernels(module)
    if not layers:
        raise ValueError(
            "there is nothing to prune: the module has no linear or convolution layer (an "
            "Embedding, a recurrent layer or a Parameter of its own is never pruned)"
        )
    included = select(layers, include) if include else set(layers)
    meant = [path for path in layers if path in included - select(layers, exclude)]
    if not meant:
        raise ValueError("there is nothing to prune: exclude takes out all that include names")
    if any(isinstance(layers[path], Pruned) for path in meant):
        raise ValueError(
            "this module is already pruned; prune a fresh one (see kanbatsu.torch.count for what "
            "it keeps), or undo it with kanbatsu.torch.unprune"
        )
    refused = [f"{path} ({why})" for path in meant if (why := _why_not(layers[path]))]
    refused += list(_shared_elsewhere(module, [layers[path] for path in meant]))
    if refused:
        raise ValueError(
            f"these cannot be kept pruned, and nothing was changed: {'; '.join(refused)}. To leave "
            "a layer dense, name it in exclude"
        )
    by_weight: dict[int, list[str]] = {}
    for path in meant:
        by_weight.setdefault(id(layers[path].weight), []).append(path)
    return [
        Found(tuple(paths), tuple(layers[path] for path in paths)) for paths in by_weight.values()
    ]


def kernels(module: nn.Module) -> dict[str, nn.Module]:
    """Return every linear and convolution layer by the path of its weight, as registered.

    Example:
        >>> kernels(nn.Linear(3, 2))
        {'weight': Linear(in_features=3, out_features=2, bias=True)}
    """
    return {
        f"{name}.weight".removeprefix("."): layer
        for name, layer in module.named_modules()
        if isinstance(layer, KINDS)
    }


def select(paths: Iterable[str], patterns: Paths) -> set[str]:
    """Return the paths of weights that a pattern matches, by their own name or their layer's.

    Raises:
        ValueError: if a pattern matches nothing; the message lists the paths.

    Example:
        >>> sorted(select(["actor.0.weight", "critic.0.weight"], ["actor.*"]))
        ['actor.0.weight']
    """
    selected = set()
    for pattern in (patterns,) if isinstance(patterns, str) else patterns or ():
        matches = {
            path
            for path in paths
            if fnmatch.fnmatchcase(path, pattern)
            or fnmatch.fnmatchcase(path.removesuffix("weight").removesuffix("."), pattern)
        }
        if not matches:
            raise ValueError(
                f"the pattern {pattern!r} matches no prunable weight; the paths are: "
                f"{', '.join(paths)}"
            )
        selected |= matches
    return selected


def _why_not(layer: nn.Module) -> str:
    """Say why a layer cannot be pruned; empty where it can."""
    if isinstance(layer, LazyModuleMixin):
        return "its shape is unknown until the module was called on a first batch: call it once"
    if "weight" not in layer._parameters or hasattr(layer, MASK):
        return (
            "its weight is computed from others, by weight_norm or torch.nn.utils.prune say: "
            "remove that first"
        )
    if type(layer) not in PRUNED or "forward" in vars(layer):
        return f"{type(layer).__name__} may use its weight in a way of its own"
    if layer.weight.is_meta:
        return "it has no values yet: move it off the meta device first"
    return ""


def _shared_elsewhere(module: nn.Module, meant: Sequence[nn.Module]) -> Iterator[str]:
    """Name every weight that something else than the layers that are meant multiplies by too."""
    kind = {id(layer.weight): type(layer) for layer in reversed(meant)}
    ours = {id(layer) for layer in meant}
    for name, owner in module.named_modules():
        for attribute, value in owner._parameters.items():
            tied = value is not None and id(value) in kind
            if tied and (id(owner) not in ours or type(owner) is not kind[id(value)]):
                path = f"{name}.{attribute}".removeprefix(".")
                yield f"{path} (shares its values with a layer that is to be pruned)"
