"""Torch layers whose weight is pruned: the layer itself, with a mask between weight and product.

A pruned layer is the user's own layer object under another class, so that every reference to it,
and to its parameters, stays valid. The classes inherit from those of torch and override methods,
which this project does nowhere else: it is how torch is told how a layer computes and is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kanbatsu.sparsity.compute import MOST_KEPT_TORCH, SMALLEST, is_worth_packing
from kanbatsu.torch.products import Layout, kernels_take, layout_of, linear

MASK = "weight_mask"
"""The name of the mask beside its weight, as `torch.nn.utils.prune` calls it too."""


class Pruned(nn.Module):
    """What all pruned layers share: `weight`, which holds zeros, and `weight_mask`.

    The product is that with `weight * weight_mask`. Autograd then masks the gradient before
    anything sees it, and a weight that somebody overwrites has no say where it is pruned. On CPUs
    a linear layer multiplies by its kept weights only, where that is faster (`compute`).

    While the module lives the mask is a buffer of the weight's own type: it moves to devices and
    types with the weight, and a product of floats is six times faster than one with booleans. In a
    state_dict it is boolean.
    """

    dense: ClassVar[type[nn.Module]]
    """The class of the layer before pruning, and after `unprune`."""

    weight: Tensor
    weight_mask: Tensor
    compute: str = "auto"
    """`auto`, `masked`, `mixed` or `packed`; only linear layers can be anything but masked."""

    def masked_weight(self) -> Tensor:
        """Return the weight that the layer computes with; its gradient is zero where pruned."""
        return self.weight * self.weight_mask

    @torch.no_grad()
    def zero_pruned(self) -> None:
        """Set the stored values of pruned weights to zero, should anybody have moved them."""
        self.weight.masked_fill_(self.weight_mask == 0, 0)

    def take_mask(self) -> None:
        """Become a plain layer again, which holds zeros."""
        self.zero_pruned()
        del self.weight_mask
        for own in ("compute", "_known"):
            vars(self).pop(own, None)
        self.__class__ = self.dense  # type: ignore[assignment]

    def extra_repr(self) -> str:
        """Describe the layer as torch does, and say what it keeps."""
        kept = int(self.weight_mask.count_nonzero())
        return f"{super().extra_repr()}, kept={kept:,} of {self.weight.numel():,}"

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        # An optimizer that mixes the elements of a matrix (Muon) may have written where nothing is.
        self.zero_pruned()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + MASK] = self.weight_mask != 0

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # Torch hands over a copy of the user's dictionary, made to be edited here. A dense one
        # keeps the mask that is there; a pruned one brings its own.
        weight = state_dict.get(prefix + "weight", self.weight)
        mask = state_dict.get(prefix + MASK, self.weight_mask) != 0
        state_dict[prefix + MASK] = mask.to(weight.dtype)
        if prefix + "weight" in state_dict and mask.shape == weight.shape:
            pruned = ~mask.to(weight.device)
            state_dict[prefix + "weight"] = weight.detach().masked_fill(pruned, 0)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.zero_pruned()


class _Known(NamedTuple):
    """A mask, and what was found for it."""

    mask: Tensor
    place: tuple[int, int | None]
    """Its address and version."""
    values: np.ndarray
    layout: Layout | None


class PrunedLinear(Pruned, nn.Linear):
    """A linear layer whose weight is pruned.

    Example:
        >>> import kanbatsu.torch
        >>> kanbatsu.torch.prune(nn.Linear(8, 4), 0.75)
        PrunedLinear(in_features=8, out_features=4, bias=True, kept=8 of 32)
    """

    dense = nn.Linear
    _known: _Known | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        """Map `[..., inputs]` to `[..., outputs]`."""
        if self.compute != "masked":
            tensors = (input, self.weight, self.weight_mask, self.bias)
            if kernels_take(*tensors) and (layout := self._layout()) is not None:
                return linear(*tensors, layout)
        return functional.linear(input, self.masked_weight(), self.bias)

    def _layout(self) -> Layout | None:
        """Return where the kept values lie if products are to be packed, else None."""
        mask, known = self.weight_mask, self._known
        place = (mask.data_ptr(), None if mask.is_inference() else mask._version)
        if known is None or known.mask is not mask or known.place != place:
            # It was loaded, averaged, or put here by a functional call: mostly it is the same.
            values = mask.numpy()
            if known is None or not np.array_equal(known.values, values):
                known = _Known(mask, place, values != 0, self._find_layout(values))
            self._known = known = known._replace(mask=mask, place=place)
        return known.layout

    def _find_layout(self, values: np.ndarray) -> Layout | None:
        mask = values != 0
        if (values != mask).any():
            return None
        if self.compute == "packed":
            return layout_of(mask)
        # What is too small for any layout is told apart before one is looked for.
        layout = layout_of(mask) if mask.size >= SMALLEST else None
        size = layout.size or None if layout is not None else None
        worth = layout is not None and is_worth_packing(mask, size, MOST_KEPT_TORCH)
        return layout if worth else None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is found again when it is asked for."""
        return {name: value for name, value in vars(self).items() if name != "_known"}


class _PrunedConv(Pruned):
    _conv_forward: Callable[..., Tensor]

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        """Convolve `[batch, channels, *space]`."""
        return self._conv_forward(input, self.masked_weight(), self.bias)


class PrunedConv1d(_PrunedConv, nn.Conv1d):
    """A convolution over one axis whose kernel is pruned."""

    dense = nn.Conv1d


class PrunedConv2d(_PrunedConv, nn.Conv2d):
    """A convolution over two axes whose kernel is pruned."""

    dense = nn.Conv2d


class PrunedConv3d(_PrunedConv, nn.Conv3d):
    """A convolution over three axes whose kernel is pruned."""

    dense = nn.Conv3d


class _PrunedConvTranspose(Pruned):
    convolve: ClassVar[Callable[..., Tensor]]
    _output_padding: Callable[..., list[int]]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    kernel_size: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def forward(
        self,
        input: Tensor,  # noqa: A002 (torch's own name)
        output_size: list[int] | None = None,
    ) -> Tensor:
        """Convolve `[batch, channels, *space]`, transposed."""
        output_padding = self._output_padding(
            input,
            output_size,
            self.stride,
            self.padding,
            self.kernel_size,
            len(self.kernel_size),
            self.dilation,
        )
        return self.convolve(
            input,
            self.masked_weight(),
            self.bias,
            self.stride,
            self.padding,
            output_padding,
            self.groups,
            self.dilation,
        )


class PrunedConvTranspose1d(_PrunedConvTranspose, nn.ConvTranspose1d):
    """A transposed convolution over one axis whose kernel is pruned."""

    dense = nn.ConvTranspose1d
    convolve = staticmethod(functional.conv_transpose1d)


class PrunedConvTranspose2d(_PrunedConvTranspose, nn.ConvTranspose2d):
    """A transposed convolution over two axes whose kernel is pruned."""

    dense = nn.ConvTranspose2d
    convolve = staticmethod(functional.conv_transpose2d)


class PrunedConvTranspose3d(_PrunedConvTranspose, nn.ConvTranspose3d):
    """A transposed convolution over three axes whose kernel is pruned."""

    dense = nn.ConvTranspose3d
    convolve = staticmethod(functional.conv_transpose3d)


_CLASSES: tuple[type[Pruned], ...] = (
    PrunedLinear,
    *(PrunedConv1d, PrunedConv2d, PrunedConv3d),
    *(PrunedConvTranspose1d, PrunedConvTranspose2d, PrunedConvTranspose3d),
)
PRUNED = {pruned.dense: pruned for pruned in _CLASSES}
"""The pruned class of each class of torch that can be pruned."""
KINDS = tuple(PRUNED)


def put_mask(layer: nn.Module, mask: Tensor, compute: str = "auto") -> None:
    """Turn a layer of one of `KINDS` into a pruned one, in place.

    Args:
        layer: its class must be a key of `PRUNED`.
        mask: the shape of its weight, True = kept; the same for layers that share a weight.
        compute: `auto`, `masked`, `mixed` or `packed`; `mixed` is `auto`.
    """
    layer.__class__ = PRUNED[type(layer)]
    assert isinstance(layer, Pruned)
    # In the order of the weight in memory: a product over two orders is ten times slower.
    layer.compute = compute
    layer.register_buffer(MASK, torch.empty_like(layer.weight, requires_grad=False).copy_(mask))
    layer.zero_pruned()
