"""Which layers of a torch module can be pruned, which are meant, and which must be refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from kanbatsu.sparsity.kernel import Kernel, Paths, check_globs, choose, globs
from kanbatsu.torch.layers import KINDS, PRUNED
from kanbatsu.torch.names import MASK
from kanbatsu.torch.pruned import SHARDED, Pruned, is_sharded
from kanbatsu.torch.tensors import Part, parts_by_path


def find_kernels(
    module: nn.Module,
    include: Paths | None = None,
    exclude: Paths | None = None,
    with_copies: bool = False,
    also: Paths | None = None,
) -> list[Kernel]:
    """Find the weights that are meant, in the order in which the module registers its layers.

    Args:
        module: any torch module.
        include: globs (`*` and `?`) of layers or of their weights; all by default.
        exclude: globs of what to leave out.
        with_copies: take copies of a weight that is meant, such as those in a target network, for
            the same kernel, unless they are excluded.
        also: globs of weights to take beside those of linear and convolution layers: of recurrent
            layers, attention and embeddings.

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
    if any(is_sharded(type(part)) for part in module.modules()):
        raise ValueError(f"nothing was pruned: {SHARDED}, and prune before that")
    _check_named(module, also, [_named(path) for path in parts_by_path(module)])
    layers = layers_by_path(module, also)
    if not layers:
        raise ValueError(
            "there is nothing to prune: the module has no linear or convolution layer. Recurrent "
            'layers, attention and embeddings are pruned where `also` names them (also="*"); a '
            "Parameter of its own never is"
        )
    every = [_named(path) for path in layers]
    _check_named(module, include, every)
    check_globs(exclude, every)
    meant = [kernel.path for kernel in choose(every, include, exclude)]
    if not meant:
        raise ValueError("there is nothing to prune: exclude takes out all that include names")
    if any(is_pruned(layers[path]) for path in meant):
        raise ValueError(
            "this module is already pruned; prune a fresh one (see kanbatsu.torch.count for what "
            "it keeps), or undo it with kanbatsu.torch.unprune"
        )
    originals: dict[str, str] = {}
    if with_copies:
        free = [kernel.path for kernel in choose(every, None, exclude)]
        free = [p for p in free if not is_pruned(layers[p]) and not _why_not(layers[p])]
        originals = copies({path: layers[path].weight for path in free})
        followed = {originals.get(path, path) for path in meant}
        meant = [p for p in layers if p in meant or originals.get(p) in followed or p in followed]
    refused = [f"{path} ({why})" for path in meant if (why := _why_not(layers[path]))]
    refused += list(_shared_elsewhere(module, [layers[path] for path in meant]))
    if refused:
        raise ValueError(
            f"these cannot be kept pruned, and nothing was changed: {'; '.join(refused)}. To leave "
            "a layer dense, name it in exclude"
        )
    by_weight: dict[int, list[str]] = {}
    for path in meant:
        weight = layers[originals.get(path, path)].weight
        by_weight.setdefault(id(weight), []).append(path)
    return [
        replace(kernel_of(paths[0], layers[paths[0]]), paths=tuple(paths))
        for paths in by_weight.values()
    ]


def _check_named(module: nn.Module, paths: Paths | None, kernels: Sequence[Kernel]) -> None:
    """Refuse globs that name no weight that can be pruned, and say why where they name another."""
    for wanted in globs(paths):
        if any(kernel.matches(wanted) for kernel in kernels):
            continue
        for path, _ in module.named_parameters():
            owner = type(module.get_submodule(path.rpartition(".")[0])).__name__
            if _named(path).matches(wanted):
                raise ValueError(
                    f"{path} cannot be pruned: {owner} uses it in a way of its own. Linear and "
                    "convolution layers can be and, where `also` names them, recurrent layers, "
                    "attention and embeddings"
                )
    check_globs(paths, kernels)


def copies(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Find weights that are, or are copies of, others, such as those of a target network.

    Equal weights are copies. A weight of one value throughout, such as zeros, says nothing by
    itself: it is a copy where other weights of the two parts of the module are.

    Args:
        weights: by path, in order.

    Returns:
        For each such weight the path of the first that is equal.

    Example:
        >>> copies({"q.0": torch.eye(2), "target.0": torch.eye(2), "actor.0": torch.ones(2, 2)})
        {'target.0': 'q.0'}
    """
    found: dict[str, str] = {}
    first: dict[tuple[Any, ...], list[str]] = {}
    constant: list[str] = []
    parts: set[tuple[str, str]] = set()
    for path, weight in weights.items():
        value = weight.detach()
        alike = first.setdefault((value.shape, value.dtype, float(value.sum())), [])
        same = (p for p in alike if weights[p] is weight or torch.equal(weights[p], value))
        source = next(same, None)
        if source is None:
            alike.append(path)
        elif weights[source] is weight or bool((value != value.flatten()[0]).any()):
            found[path] = source
            parts |= _parts(source, path)
        else:
            constant.append(path)
    for path in constant:
        for source, copy in parts:
            behind = path.removeprefix(copy)
            original = weights.get(source + behind) if path.startswith(copy) else None
            if original is not None and torch.equal(original, weights[path]):
                found[path] = source + behind
    return {path: found.get(source, source) for path, source in found.items()}


def _parts(source: str, copy: str) -> set[tuple[str, str]]:
    """Say which part of the module is a copy of which other: what stands before a common end."""
    ours, theirs = source.split("."), copy.split(".")
    while ours and theirs and ours[-1] == theirs[-1]:
        ours.pop()
        theirs.pop()
    return {(".".join([*ours, ""]) if ours else "", ".".join([*theirs, ""]) if theirs else "")}


def kernel_of(path: str, layer: Any) -> Kernel:
    """Say how the axes of a layer's weight read: `[outputs, inputs, *window]`, or transposed."""
    weight: Any = layer.weight_mask if is_pruned(layer) else layer.weight
    if isinstance(layer, Part):
        gates = layer.gates
        stored = (gates, len(weight) // gates, *weight.shape[1:]) if gates > 1 else weight.shape
        return replace(
            _named(path),
            stored=tuple(stored),
            outputs_first=not isinstance(layer.owner, nn.Embedding),
            leading=int(gates > 1),
        )
    groups = int(layer.groups) if getattr(layer, "transposed", False) else 0
    return replace(
        _named(path),
        stored=tuple(weight.shape),
        outputs_first=True,
        transposed_groups=groups,
    )


def _named(path: str) -> Kernel:
    """A kernel of which only the name is known: a lazy layer has no shape yet."""
    return Kernel((path,), stored=(), separator=".")


def is_pruned(layer: Any) -> bool:
    """Tell whether a layer, or a part of a module, has a mask.

    Example:
        >>> is_pruned(nn.Linear(3, 2))
        False
    """
    return isinstance(layer, Pruned) or (isinstance(layer, Part) and layer.weight_mask is not None)


def layers_by_path(module: nn.Module, also: Paths | None = None) -> dict[str, Any]:
    """Return every linear and convolution layer by the path of its weight, as registered.

    Behind them stand the weights of other modules that are pruned, or that `also` names.

    Example:
        >>> layers_by_path(nn.Linear(3, 2))
        {'weight': Linear(in_features=3, out_features=2, bias=True)}
    """
    layers = {
        f"{name}.weight".removeprefix("."): layer
        for name, layer in module.named_modules()
        if isinstance(layer, KINDS)
    }
    return layers | {
        path: part
        for path, part in parts_by_path(module).items()
        if part.weight_mask is not None or _named(path).matches(also)
    }


def _why_not(layer: Any) -> str:
    """Say why a layer cannot be pruned; empty where it can."""
    if isinstance(layer, Part):
        return layer.why_not()
    if isinstance(layer, NonDynamicallyQuantizableLinear):
        return "its attention reads it: prune them together, by their names in `also`"
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


def _shared_elsewhere(module: nn.Module, meant: Sequence[Any]) -> Iterator[str]:
    """Name every weight that something else than the layers that are meant multiplies by too."""
    holders = [layer.owner if isinstance(layer, Part) else layer for layer in meant]
    both = list(zip(meant, holders, strict=True))
    kind = {id(layer.weight): type(holder) for layer, holder in reversed(both)}
    ours = {id(holder) for holder in holders}
    for name, owner in module.named_modules():
        for attribute, value in owner._parameters.items():
            tied = value is not None and id(value) in kind
            if tied and (id(owner) not in ours or type(owner) is not kind[id(value)]):
                path = f"{name}.{attribute}".removeprefix(".")
                yield f"{path} (shares its values with a layer that is to be pruned)"
