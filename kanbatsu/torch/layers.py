"""Torch layers whose weight is pruned: the layer itself, with a mask between weight and product.

A pruned layer is the user's own layer object under another class, so that every reference to it,
and to its parameters, stays valid. The classes inherit from those of torch and override methods,
which this project does nowhere else: it is how torch is told how a layer computes and is stored.
Annotations are evaluated here, because `torch.jit.script` reads them.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kanbatsu.torch.choosing import LEAST, Product, is_faster_packed
from kanbatsu.torch.foreign import enlist, look_now_and_then
from kanbatsu.torch.names import MASK
from kanbatsu.torch.products import Layout, layout_of, linear
from kanbatsu.torch.pruned import Pruned
from kanbatsu.torch.taking import kernels_take


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

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        """Map `[..., inputs]` to `[..., outputs]`."""
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            layout = self._layout_for(input)
            if layout is not None:
                look_now_and_then(self)
                weight: Any = self._parameters["weight"]
                return linear(input, weight, self.weight_mask, self.bias, layout)
        return functional.linear(input, self.masked_weight(), self.bias)

    def _layout_for(self, x: Tensor) -> Layout | None:
        """Return where the kept values lie if this product is to be packed, else None."""
        weight = self._parameters.get("weight")
        if self.compute == "masked" or weight is None:
            return None
        if not kernels_take(x, weight, self.weight_mask, self.bias):
            return None
        layout = self._layout()
        if layout is None or self.compute == "packed":
            return layout
        sizes = ("dense", layout.inputs, layout.outputs, layout.values_shape)
        rows = x.numel() // layout.inputs
        is_faster = is_faster_packed(sizes, layout.inputs, rows, lambda: self._products(layout))
        return layout if is_faster else None

    def takes_packed(self, x: Tensor) -> bool:
        """Tell whether such a batch is multiplied by kept values."""
        return self._layout_for(x) is not None

    def _products(self, layout: Layout) -> tuple[Product, Product]:
        """Both products of the layer, to be timed."""
        mask, trains = self.weight_mask, torch.is_grad_enabled()
        weight = (mask * 0.01).requires_grad_(trains)
        return (
            lambda x: linear(x, weight, mask, None, layout),
            lambda x: functional.linear(x, weight * mask),
        )

    def _layout(self) -> Layout | None:
        mask, known = self.weight_mask, vars(self).get("_known")
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
        # What is too small to be measured is told apart before its layout is looked for.
        return layout_of(mask) if self.compute == "packed" or mask.size >= LEAST else None


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


def put_mask(
    layer: nn.Module, mask: Tensor, compute: str = "auto", seed: int | None = None
) -> None:
    """Turn a layer of one of `KINDS` into a pruned one, in place.

    Args:
        layer: its class must be a key of `PRUNED`.
        mask: the shape of its weight, True = kept; the same for layers that share a weight.
        compute: `auto`, `masked`, `mixed` or `packed`; `mixed` is `auto`.
        seed: seed that the mask was drawn with; None for one that was given.
    """
    # In the order of the weight in memory: a product over two orders is ten times slower.
    buffer = torch.empty_like(layer.weight, requires_grad=False).copy_(mask)  # type: ignore
    layer.__class__ = PRUNED[type(layer)]
    assert isinstance(layer, Pruned)
    layer.compute, layer.seed = compute, seed
    layer.register_buffer(MASK, buffer)
    layer.zero_pruned()
    enlist(layer)
