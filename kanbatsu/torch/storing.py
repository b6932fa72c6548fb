"""Layers that come to store their kept values alone, and the optimizers that hold them.

A parameter stays the user's own object and changes its size, so that an optimizer goes on with it.
What an optimizer remembers of it, its moments, is brought to that size too, where the optimizer is
given; one that is not, and remembers something, is found and refused.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from kanbatsu.sparsity.config import check_choice
from kanbatsu.torch.kept import KeptLinear, put_kept
from kanbatsu.torch.places import Places
from kanbatsu.torch.pruned import parameter_of

STORAGE = ("dense", "kept")
"""What the parameter of a pruned layer may be."""
Optimizers = Optimizer | Sequence[Optimizer] | None
Change = Callable[[Tensor], Tensor]


def check_storage(storage: str) -> str:
    """Return the name of a storage.

    Raises:
        ValueError: if there is none of that name.
    """
    check_choice("storage", storage, STORAGE)
    return storage


def storage_of(layer: Any) -> str:
    """Return how a pruned layer is stored.

    Example:
        >>> from kanbatsu.torch import prune
        >>> storage_of(prune(nn.Linear(8, 4), 0.5, storage="kept"))
        'kept'
    """
    return "kept" if isinstance(layer, KeptLinear) else "dense"


def check_can_be_kept(module: nn.Module, layers: Mapping[str, Any]) -> None:
    """Refuse what cannot store its kept values alone, before anything is changed.

    Args:
        module: what holds the layers.
        layers: those that are meant, by path of the weight.

    Raises:
        ValueError: for a layer that is not linear, or a module that counts on its parameters'
            sizes.
    """
    others = [path for path, layer in layers.items() if not isinstance(layer, nn.Linear)]
    if others:
        raise ValueError(
            f'storage="kept" is for linear layers, and nothing was pruned: {", ".join(others)} '
            'can be pruned with storage="dense" only. Name them in exclude and, to prune them too, '
            "prune a second time with include"
        )
    if any(isinstance(part, DistributedDataParallel) for part in module.modules()):
        raise ValueError(
            'DistributedDataParallel has laid out its parameters already: prune with storage="kept"'
            " before the module is wrapped"
        )


def resized(
    layers: Iterable[tuple[nn.Parameter, Change]], optimizer: Optimizers
) -> Callable[[], None]:
    """Check the optimizers of parameters that are about to change their sizes.

    Args:
        layers: each parameter, and the function that brings a tensor of its size to the new one.
        optimizer: those whose moments are to follow.

    Returns:
        The function that brings the moments to the new sizes, to be called in the end.

    Raises:
        ValueError: if an optimizer that was not given holds moments of one of them, or one that was
            given holds none of them, or moments of another size.
    """
    given = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer or ())
    changes = {id(parameter): (parameter, change) for parameter, change in layers}
    for one in given:
        groups = one.param_groups
        if not any(id(x) in changes for group in groups for x in group["params"]):
            raise ValueError(
                f"this {type(one).__name__} holds no parameter of the layers that are to be "
                "stored otherwise, and nothing was changed: give the one that trains the module"
            )
    known = {id(one) for one in given}
    for one in _optimizers() if changes else ():
        if id(one) not in known and any(id(x) in changes for x in one.state):
            raise ValueError(
                f"an optimizer ({type(one).__name__}) has moments of this module already, of the "
                "size of its weights, and nothing was changed: pass it (optimizer=...), and they "
                "follow; or make the optimizer anew after pruning"
            )
    moved = [
        (one.state[parameter], name, value, change)
        for one in given
        for parameter, change in changes.values()
        for name, value in one.state.get(parameter, {}).items()
        if isinstance(value, Tensor) and value.ndim
    ]
    shapes = {id(one.state[p]): p.shape for one in given for p in one.state}
    for state, name, value, _ in moved:
        if value.shape != shapes[id(state)]:
            raise ValueError(
                f"the optimizer's {name} is {tuple(value.shape)} for a weight of "
                f"{tuple(shapes[id(state)])}, and what that would be for kept values alone is not "
                "known; nothing was changed. Make the optimizer anew after pruning"
            )

    def move() -> None:
        for state, name, value, change in moved:
            state[name] = change(value)

    return move


def _optimizers() -> list[Optimizer]:
    """All optimizers of this process."""
    return [one for one in gc.get_objects() if issubclass(type(one), Optimizer)]


def store_kept(
    layers: Sequence[tuple[Any, Tensor]],
    compute: str,
    seed: int | None,
    optimizer: Optimizers,
) -> None:
    """Turn linear layers into ones that store what their masks keep, or none of them.

    Args:
        layers: each layer with its mask; ones that share a weight too.
        compute: as in `prune`.
        seed: seed that the masks were drawn with; None for ones that were given.
        optimizer: those whose moments are to follow.

    Raises:
        ValueError: as `resized` does.
    """
    places = [Places(mask.cpu().numpy()) for _, mask in layers]
    both = list(zip(layers, places, strict=True))
    changes = [(layer._parameters["weight"], p.gather) for (layer, _), p in both]
    move = resized(changes, optimizer)
    for (layer, _), p in both:
        put_kept(layer, p, compute, seed)
    move()


def kept_layers(module: nn.Module) -> list[tuple[nn.Parameter, Change]]:
    """Return the parameters of kept values in a module, and what makes them dense."""
    return [
        (parameter_of(layer), layer.places.dense)
        for layer in module.modules()
        if isinstance(layer, KeptLinear)
    ]
