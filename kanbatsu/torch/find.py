"""Which layers of a torch module can be pruned, which are meant, and which must be refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from kanbatsu.sparsity.kernel import Kernel, Paths, check_globs, choose
from kanbatsu.torch.layers import KINDS, MASK, PRUNED, Pruned


def find_kernels(
    module: nn.Module, include: Paths | None = None, exclude: Paths | None = None
) -> list[Kernel]:
    """Find the weights that are meant, in the order in which the module registers its layers.

    Args:
        module: any torch module.
        include: globs (`*` and `?`) of layers or of their weights; all by default.
        exclude: globs of what to leave out.

    Returns:
        One kernel for each weight, with several paths where layers share it.

    Raises:
        ValueError: if there is nothing to prune, a glob matches nothing (the message lists the
            paths), or something that is meant cannot be kept pruned (the message says why).

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> [(kernel.path, kernel.shape) for kernel in find_kernels(network, exclude="2")]
        [('0.weight', (3, 8))]
    """
    layers = layers_by_path(module)
    if not layers:
        raise ValueError(
            "there is nothing to prune: the module has no linear or convolution layer (an "
            "Embedding, a recurrent layer or a Parameter of its own is never pruned)"
        )
    every = [_named(path) for path in layers]
    for paths in (include, exclude):
        check_globs(paths, every)
    meant = [kernel.path for kernel in choose(every, include, exclude)]
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
        replace(kernel_of(paths[0], layers[paths[0]]), paths=tuple(paths))
        for paths in by_weight.values()
    ]


def kernel_of(path: str, layer: nn.Module) -> Kernel:
    """Say how the axes of a layer's weight read: `[outputs, inputs, *window]`, or transposed."""
    groups = int(layer.groups) if getattr(layer, "transposed", False) else 0  # type: ignore[arg-type]
    return replace(
        _named(path),
        stored=tuple(layer.weight.shape),  # type: ignore[arg-type]
        outputs_first=True,
        transposed_groups=groups,
    )


def _named(path: str) -> Kernel:
    """A kernel of which only the name is known: a lazy layer has no shape yet."""
    return Kernel((path,), stored=(), separator=".")


def layers_by_path(module: nn.Module) -> dict[str, nn.Module]:
    """Return every linear and convolution layer by the path of its weight, as registered.

    Example:
        >>> layers_by_path(nn.Linear(3, 2))
        {'weight': Linear(in_features=3, out_features=2, bias=True)}
    """
    return {
        f"{name}.weight".removeprefix("."): layer
        for name, layer in module.named_modules()
        if isinstance(layer, KINDS)
    }


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
