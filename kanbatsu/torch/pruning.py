"""Prune a torch module once, in place, with masks that are drawn or given."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kanbatsu.sparsity.config import COMPUTE, Pruning, check_choice, pruning_of
from kanbatsu.sparsity.draw import (
    EVERYWHERE,
    Scope,
    Sparsity,
    check_shares,
    draw_masks,
    kept_by_path,
    split,
)
from kanbatsu.sparsity.kernel import Paths
from kanbatsu.sparsity.threefry import Threefry
from kanbatsu.torch.again import MESSAGE, is_pruned_so
from kanbatsu.torch.find import find_kernels, layers_by_path
from kanbatsu.torch.pruned import Pruned
from kanbatsu.torch.reading import masks
from kanbatsu.torch.storing import Optimizers, check_storage, storage_of
from kanbatsu.torch.tensors import parts_by_path
from kanbatsu.torch.thinning import thin

Module = TypeVar("Module", bound=nn.Module)


def prune(
    module: Module,
    sparsity: Sparsity,
    seed: int = 0,
    distribution: str = "erk",
    pattern: str = "element",
    group_size: int = 16,
    include: Paths | None = None,
    exclude: Paths | None = None,
    compute: str = "auto",
    also: Paths | None = None,
    storage: str = "dense",
    optimizer: Optimizers = None,
) -> Module:
    """Remove a share of a torch module's weights, once, at random, in place, for good.

    Linear and convolution layers (transposed ones too) become pruned ones: their weights hold
    zeros, and no gradient reaches what is pruned. Whatever happens next keeps it so: any
    optimizer, gradient clipping, target networks (copies, or averages of two pruned modules),
    `load_state_dict`, `deepcopy`, `.to(...)`, `torch.compile`, saving and loading. A layer that
    loses nothing stays as it was, so sparsity 0 changes nothing. Surviving weights are not
    rescaled.

    The masks are those that `kanbatsu.make_masks` draws with `key=jax.random.key(seed)` for the
    same layers in the same order, bit for bit. A module that is pruned already, to this sparsity
    and with this seed, stays as it is, with a warning.

    Prune before the first training step, and before you copy the module into a target network. One
    that the module holds already is pruned as what it is a copy of, with the same masks, unless it
    is excluded: layers whose weights are equal share a mask, and one share of the sparsity. To one
    beside the module, `prune_like` gives the masks.
    On a CPU give Adam `fused=True`: PyTorch's other implementation is slow where moments are zero
    (measured in benchmarks/torch_step.py).

    Args:
        module: any torch module.
        sparsity: share of the weights to remove, in [0, 1); or one share for each glob,
            such as `{"actor.*": 0.8, "critic.*": 0.9}`: each glob's layers share out their own
            sparsity, and layers that no glob names stay dense.
        seed: decides which weights go; a whole number below 2**32.
        distribution: how the sparsity is spread over layers: `uniform`, `er` or `erk`.
        pattern: `element` (any weight), `grouped` (`group_size` neighbouring outputs lose the
            same inputs), or `bernoulli` (any weight, counts exact on average only).
        group_size: outputs per group, for `grouped`.
        include: globs (`*` and `?`) of the only layers to prune; all of them by default. A glob
            matches a layer's name (`actor.mu`) or its weight's (`actor.mu.weight`).
        exclude: globs of layers to leave dense.
        compute: how pruned linear layers multiply. `packed`: on CPUs by kept weights only, in
            kanbatsu's kernels; `masked`: as dense layers, on any device; `auto` and `mixed`: the
            faster of the two, which is measured at a layer's first call with a batch of that size,
            once in a process. All are the same function up to rounding; name one of the first two
            for results that are the same bit for bit in every run. Whatever the kernels cannot take
            (other types and devices, autocast, `torch.compile`, `torch.func`) is multiplied masked.
        also: globs of recurrent layers, attention and embeddings to prune too, such as `lstm` or
            `*`; they stay dense by default. Each gate of an LSTM or GRU, and each of the query, key
            and value of an attention, loses the same share. They are multiplied masked.
        storage: what the parameter of a pruned layer is. `dense`: the weight, with zeros; `kept`,
            for linear layers: `weight_kept`, the values that it keeps, so that gradients, moments,
            target networks, averages and checkpoints are as small as the network is sparse, and
            `weight` is a view for reading. state_dicts of both can be loaded into either.
        optimizer: with storage `kept`, the optimizer of the module, or several, if it has taken
            steps already: its moments become those of the kept values. One that has not goes on as
            it is, because a parameter stays the same object and changes its size.

    Returns:
        The same module.

    Raises:
        ValueError: for a sparsity outside [0, 1) or too high to leave every layer a weight, a seed
            outside [0, 2**32), a module that is pruned otherwise or has nothing to prune, a glob
            that matches nothing, an unknown `compute` or `storage`, a layer that cannot be kept
            pruned or stored so, or an optimizer that has moments and was not given. The module is
            then as it was.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
        >>> from kanbatsu.torch import count
        >>> print(count(prune(network, 0.5)))
        layer     shape           kept        total  sparsity
        0.weight  (4, 64)           97          256    0.6211
        2.weight  (64, 2)           95          128    0.2578
        all                        192          384    0.5000

    Reference:
        "Network Sparsity Unlocks the Scaling Potential of Deep RL", ICML 2025, section 3.
    """
    share, shares = split(sparsity)
    pruning = pruning_of(share, distribution, pattern, group_size, compute)
    scope = Scope(include, exclude, shares=shares)
    check_storage(storage)
    if is_pruned_so(module, sparsity, seed, scope, also, storage):
        warnings.warn(MESSAGE, stacklevel=2)
        return module
    return prune_as(module, pruning, seed, scope, also, storage=storage, optimizer=optimizer)


def prune_as(
    module: Module,
    pruning: Pruning,
    seed: int,
    scope: Scope = EVERYWHERE,
    also: Paths | None = None,
    with_copies: bool = True,
    storage: str = "dense",
    optimizer: Optimizers = None,
) -> Module:
    """Prune a torch module in place as a record says: see `prune`.

    Without copies, weights that are equal get masks of their own: critics that began as copies.
    """
    kernels = find_kernels(module, scope.included, scope.exclude, with_copies, also=also)
    if scope.shares is not None:
        kernels = check_shares(kernels, scope.shares)
    kept = kept_by_path(kernels, pruning, scope.shares)
    drawn = draw_masks(kernels, kept, pruning, Threefry.of(_checked(seed)))
    masks = [(kernel, _tensor(drawn[kernel.path])) for kernel in kernels]
    return thin(module, masks, pruning.compute, seed, lambda _: storage, optimizer)


def _checked(seed: int) -> int:
    """Refuse a seed that would draw what another one draws."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise ValueError(f"seed must be a whole number: got {seed!r}")
    if not 0 <= seed < 1 << 32:
        raise ValueError(
            f"seed must lie in [0, 2**32), or it would draw the masks of another one: got {seed}"
        )
    return int(seed)


def apply_masks(
    module: Module,
    masks: Mapping[str, Any],
    compute: str = "auto",
    storage: str = "dense",
    optimizer: Optimizers = None,
) -> Module:
    """Prune a torch module in place with masks that exist already.

    They come from another pruned module, from a checkpoint or from JAX. To load a pruned
    checkpoint into a fresh module, `apply_masks(module, masks(checkpoint))` goes before
    `module.load_state_dict(checkpoint)`.

    Args:
        module: any torch module.
        masks: by path of the weight, as `masks` returns them: arrays or tensors of the weights'
            shapes, True = kept. Layers that none is given for stay dense.
        compute: as in `prune`.
        storage: as in `prune`.
        optimizer: as in `prune`.

    Returns:
        The same module.

    Raises:
        ValueError: for a path that is no prunable weight, a mask of another shape, an unknown
            `compute` or `storage`, or a module that `prune` would refuse. The module is then as it
            was.

    Example:
        >>> actor = prune(nn.Sequential(nn.Linear(4, 8)), 0.5)
        >>> twin = apply_masks(nn.Sequential(nn.Linear(4, 8)), masks(actor))
        >>> _ = twin.load_state_dict(actor.state_dict())
    """
    check_storage(storage)
    return _apply(module, masks, compute, lambda _: storage, optimizer)


def _apply(
    module: Module,
    masks: Mapping[str, Any],
    compute: str,
    storage: Callable[[str], str],
    optimizer: Optimizers = None,
) -> Module:
    """Apply masks to layers whose storage goes by their paths."""
    check_choice("compute", compute, COMPUTE)
    given = {path: _tensor(mask) for path, mask in masks.items()}
    if not given:
        raise ValueError("there are no masks to apply: did they come from a pruned module?")
    chosen = []
    also = [glob.escape(path) for path in given if path in parts_by_path(module)]
    layers = layers_by_path(module, also)
    for kernel in find_kernels(module, [glob.escape(path) for path in given], also=also):
        mask, *others = (given[path] for path in kernel.paths)
        shape = tuple(layers[kernel.path].weight.shape)
        if mask.shape != shape:
            raise ValueError(
                f"the mask {tuple(mask.shape)} for {kernel.path} must have its weight's shape "
                f"{shape}: inputs and outputs lie as torch stores them"
            )
        if not all(torch.equal(mask, other) for other in others):
            raise ValueError(f"{' and '.join(kernel.paths)} are one weight: give them one mask")
        chosen.append((kernel, mask))
    return thin(module, chosen, compute, None, storage, optimizer)


def prune_like(target: Module, source: nn.Module) -> Module:
    """Prune a torch module in place with the masks of another one, as target networks need.

    A target network that draws masks of its own is another function than the network it follows,
    even right after it was updated.

    Args:
        target: a module of the same layers as the source, not pruned yet. Its values stay.
        source: a pruned module.

    Returns:
        The target.

    Raises:
        ValueError: if the source is not pruned, or the target is already, or lacks one of the
            source's pruned layers. The target is then as it was.

    Example:
        >>> critic = prune(nn.Linear(8, 4), 0.75)
        >>> target = prune_like(nn.Linear(8, 4), critic)
        >>> bool((target.weight_mask == critic.weight_mask).all())
        True
    """
    given = masks(source)
    if not given:
        raise ValueError("the source is not pruned: prune it first, then give the target its masks")
    computes = (layer.compute for layer in source.modules() if isinstance(layer, Pruned))
    stored = {path: storage_of(layer) for path, layer in layers_by_path(source).items()}
    return _apply(target, given, next(computes, "auto"), lambda path: stored.get(path, "dense"))


def _tensor(mask: Any) -> Tensor:
    """A boolean tensor from a tensor or from an array of any library; JAX's cannot be shared."""
    return mask != 0 if isinstance(mask, Tensor) else torch.from_numpy(np.array(mask, dtype=bool))
