"""Products with a pruned weight that touch what it keeps and nothing else, on CPUs.

The parameter stays the dense one that the user's optimizer holds. Its kept values are gathered for
a product, kanbatsu's kernels multiply by them, and their gradients are scattered into zeros.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import c_bool, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanbatsu.kernels.constants import MOST_FEATURES
from kanbatsu.kernels.shared import shared_library
from kanbatsu.sparsity.lists import list_kept
from kanbatsu.sparsity.pattern import group_size_of
from kanbatsu.torch.taking import is_plain

GROUPED_LANES, LISTED_LANES = 16, 32
"""`kGroupedLanes` and `kPackedLanes` in kernels/csrc/layers.h: samples in a tile."""


class Plain(ctypes.Structure):
    """`Plain` in kernels/csrc/plain.cc."""

    _fields_ = (
        *((name, c_int64) for name in ("inputs", "outputs", "groups", "kept", "size")),
        *((name, c_int64) for name in ("output_step", "input_step")),
        *((name, c_void_p) for name in ("starts", "sources")),
    )


@dataclass(frozen=True)
class Layout:
    """The values that a `[outputs, inputs]` weight keeps, in the order of the kernels.

    Products take activations in tiles, `[tiles, features, lanes]`, and return `[batch, features]`.
    """

    inputs: int
    outputs: int
    groups: int
    kept: int
    """Inputs of each group; without groups, weights in all."""
    size: int
    """Outputs per group; 0 where there are no groups."""
    steps: tuple[int, int]
    """Strides of the dense weight: from output to output, and from input to input."""
    starts: Tensor
    sources: Tensor
    back: Layout | None
    """Layout of the transposed weight, by which the input gradient is a product; a grouped weight
    needs none."""

    def gather(self, weight: Tensor) -> Tensor:
        """Return the kept values of a contiguous weight."""
        values = _empty(self.values_shape)
        self._call("gather", weight, values)
        return values

    def scatter(self, values: Tensor) -> Tensor:
        """Return the `[outputs, inputs]` tensor that holds the values, and zeros elsewhere."""
        weight = _empty((self.outputs, self.inputs)).zero_()
        self._call("scatter", values, weight)
        return weight

    def tiles(self, x: Tensor) -> Tensor:
        """Turn contiguous `[batch, features]` into tiles, padded with zeros."""
        batch, features = x.shape
        lanes = GROUPED_LANES if self.size else LISTED_LANES
        tiles = _empty((-(-batch // lanes), features, lanes))
        _kernel("tiles", 2, 4)(
            *(x.data_ptr(), tiles.data_ptr()), features, lanes, batch, torch.get_num_threads()
        )
        return tiles

    def product(self, values: Tensor, bias: Tensor | None, x: Tensor, batch: int) -> Tensor:
        """Map tiles, or one sample `[1, inputs]`, to `[batch, outputs]`."""
        y = _empty((batch, self.outputs))
        self._call("product", values, bias, x, y, sizes=(batch, x.ndim == 3))
        return y

    def input_gradient(self, values: Tensor, weight: Tensor, dy: Tensor, batch: int) -> Tensor:
        """Map tiles of outputs to `[batch, inputs]`."""
        if self.back is not None:
            return self.back.product(self.back.gather(weight), None, dy, batch)
        dx = _empty((batch, self.inputs))
        self._call("input_gradient", values, dy, dx, sizes=(batch,))
        return dx

    def weight_gradient(self, x: Tensor, dy: Tensor, batch: int) -> Tensor:
        """Return the gradient of each value; both activations in tiles."""
        dvalues = _empty(self.values_shape)
        self._call("weight_gradient", x, dy, dvalues, sizes=(batch,))
        return dvalues

    @property
    def values_shape(self) -> tuple[int, ...]:
        """Shape of the kept values; the last group may hold some that are none."""
        return (self.groups, self.kept, self.size) if self.size else (self.kept,)

    @functools.cached_property
    def _plain(self) -> Plain:
        return Plain(
            *(self.inputs, self.outputs, self.groups, self.kept, self.size, *self.steps),
            *(self.starts.data_ptr(), self.sources.data_ptr()),
        )

    def _call(self, name: str, *tensors: Tensor | None, sizes: tuple[int, ...] = ()) -> None:
        pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
        call = _kernel(name, 1 + len(pointers), len(sizes) + 1)
        plain = ctypes.addressof(self._plain)
        if not call(plain, *pointers, *sizes, torch.get_num_threads()):
            raise MemoryError("there is no memory for a product with a packed weight")


def _empty(shape: tuple[int, ...]) -> Tensor:
    """Return memory as the kernels want it, whatever the user's defaults are."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")


@functools.cache
def _kernel(name: str, pointers: int, sizes: int) -> Any:
    function = getattr(_library(), f"kanbatsu_plain_{name}")
    function.argtypes = (c_void_p,) * pointers + (c_int64,) * sizes
    function.restype = c_bool
    return function


@functools.cache
def _library() -> ctypes.CDLL:
    """Load the kernels, and share their work among the threads of torch, where those are GNU's."""
    library = shared_library()
    assert library is not None
    parallel = getattr(ctypes.CDLL(torch._C.__file__), "GOMP_parallel", None)
    if parallel is not None:
        library.kanbatsu_plain_use_threads(parallel)
    return library


def layout_of(mask: np.ndarray) -> Layout | None:
    """Find the layout of a mask: grouped where it is of that pattern, else weight by weight.

    Args:
        mask: `[outputs, inputs]`, True = kept.

    Returns:
        None where the kernels cannot hold it, or there are none.
    """
    return None if shared_library() is None else lists_of(mask)


def lists_of(mask: np.ndarray) -> Layout | None:
    """Find the layout of a mask, whether there are kernels or not; None where it has too many."""
    size = group_size_of(mask.T)
    if size is not None:
        return _grouped(mask.shape, mask[::size], size)
    if max(mask.shape) > MOST_FEATURES:
        return None
    steps = (mask.shape[1], 1)
    return _listed(mask, steps, _listed(mask.T, steps[::-1], None))


def _grouped(shape: tuple[int, ...], lists: np.ndarray, size: int) -> Layout:
    outputs, inputs = shape
    sources = np.nonzero(lists)[1].reshape(len(lists), -1).astype(np.int32)
    return Layout(
        *(inputs, outputs, len(lists), sources.shape[1], size),
        steps=(inputs, 1),
        starts=torch.from_numpy(np.empty(0, np.int32)),
        sources=torch.from_numpy(sources),
        back=None,
    )


def _listed(mask: np.ndarray, steps: tuple[int, int], back: Layout | None) -> Layout:
    outputs, inputs = mask.shape
    starts, sources, _ = list_kept(mask.T)
    return Layout(
        *(inputs, outputs, 0, sources.size, 0),
        steps=steps,
        starts=torch.from_numpy(starts.astype(np.int32)),
        sources=torch.from_numpy(sources.astype(np.uint16).view(np.int16)),
        back=back,
    )


class Product(torch.autograd.Function):
    """`x W^T + bias` of a pruned weight, with its gradients.

    It takes `[batch, inputs]`, the weight `[outputs, inputs]`, both contiguous, the mask, a bias or
    None, and the layout of the mask.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, mask: Tensor, bias: Tensor | None, layout: Layout
    ) -> Tensor:
        """Map `[batch, inputs]` to `[batch, outputs]`."""
        values, tiles = layout.gather(weight), layout.tiles(x)
        wants_x, wants_weight, *_ = ctx.needs_input_grad
        # As torch's own: what no gradient needs may be changed in place before backward.
        ctx.save_for_backward(
            *((x, tiles) if wants_weight else (None, None)),
            *((weight, values) if wants_x else (None, None)),
            mask,
        )
        ctx.layout = layout
        return layout.product(values, bias, tiles, len(x))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients that are wanted of what `forward` was given."""
        x, tiles, weight, values, mask = ctx.saved_tensors
        wants_x, wants_weight, _, wants_bias, _ = ctx.needs_input_grad
        dbias = dy.sum(0) if wants_bias else None
        dx = dweight = None
        # Whoever differentiates again, or many gradients at once, gets operations of torch.
        if torch.is_grad_enabled() or not torch._C._has_storage(dy) or not is_plain(dy):
            dx = dy @ (weight * mask) if wants_x else None
            dweight = (dy.T @ x) * mask if wants_weight else None
            return dx, dweight, None, dbias, None
        layout, errors, batch = ctx.layout, ctx.layout.tiles(dy.contiguous()), len(dy)
        if wants_x:
            dx = layout.input_gradient(values.contiguous(), weight, errors, batch)
        if wants_weight:
            dweight = layout.scatter(layout.weight_gradient(tiles.contiguous(), errors, batch))
        return dx, dweight, None, dbias, None


def linear(x: Tensor, weight: Tensor, mask: Tensor, bias: Tensor | None, layout: Layout) -> Tensor:
    """Return what `torch.nn.functional.linear` returns for `weight * mask`.

    Args:
        x: `[..., inputs]`; like the others, such that `kernels_take` it.
        weight: `[outputs, inputs]`.
        mask: the same, 1 = kept.
        bias: `[outputs]`, or None.
        layout: that of the mask.
    """
    rows = x if x.ndim == 2 else x.reshape(-1, layout.inputs)
    rows = rows.contiguous()
    if torch.is_grad_enabled():
        y = Product.apply(rows, weight, mask, bias, layout)
    else:
        seen = rows if len(rows) == 1 else layout.tiles(rows)
        y = layout.product(layout.gather(weight), bias, seen, len(rows))
    return y if x.ndim == 2 else y.view(*x.shape[:-1], layout.outputs)
