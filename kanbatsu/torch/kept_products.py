"""Products with a weight of which only the kept values are stored: no gather, and no scatter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kanbatsu.torch.places import Places
from kanbatsu.torch.taking import is_plain, is_plain_bias, nothing_rewrites


class KeptProduct(torch.autograd.Function):
    """`x W^T + bias` by the values that W keeps, with its gradients.

    It takes contiguous `[batch, inputs]`, contiguous values, a bias or None, and their places.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, places: Places) -> Tensor:
        """Map `[batch, inputs]` to `[batch, outputs]`."""
        tiles = places.layout.tiles(x)
        wants_x, wants_values, *_ = ctx.needs_input_grad
        # As torch's own: what no gradient needs may be changed in place before backward.
        ctx.save_for_backward(
            *((x, tiles) if wants_values else (None, None)), values if wants_x else None
        )
        ctx.places = places
        return places.layout.product(values, bias, tiles, len(x))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients that are wanted of what `forward` was given."""
        x, tiles, values = ctx.saved_tensors
        places: Places = ctx.places
        wants_x, wants_values, wants_bias, _ = ctx.needs_input_grad
        dbias = dy.sum(0) if wants_bias else None
        dx = dvalues = None
        # Whoever differentiates again, or many gradients at once, gets operations of torch.
        if torch.is_grad_enabled() or not torch._C._has_storage(dy) or not is_plain(dy):
            dx = dy @ places.dense(values) if wants_x else None
            dvalues = places.gather(dy.T @ x) if wants_values else None
            return dx, dvalues, dbias, None
        layout, errors, batch = places.layout, places.layout.tiles(dy.contiguous()), len(dy)
        if wants_x and layout.back is not None:
            by_input = values.index_select(0, places.order)
            dx = layout.back.product(by_input, None, errors, batch)
        elif wants_x:
            dx = layout.input_gradient(values, values, errors, batch)
        if wants_values:
            dvalues = layout.weight_gradient(tiles, errors, batch)
        return dx, dvalues, dbias, None


def kept_linear(x: Tensor, values: Tensor, bias: Tensor | None, places: Places) -> Tensor:
    """Return what `torch.nn.functional.linear` returns for the dense weight.

    Args:
        x: `[..., inputs]`; like the others, such that `kernels_take_kept` it.
        values: the kept values.
        bias: `[outputs]`, or None.
        places: where the values belong.
    """
    rows = x if x.ndim == 2 else x.reshape(-1, places.inputs)
    rows = rows.contiguous()
    if torch.is_grad_enabled():
        y = KeptProduct.apply(rows, values, bias, places)
    else:
        seen = rows if len(rows) == 1 else places.layout.tiles(rows)
        y = places.layout.product(values, bias, seen, len(rows))
    return y if x.ndim == 2 else y.view(*x.shape[:-1], places.outputs)


def kernels_take_kept(x: Tensor, values: Tensor, bias: Tensor | None, places: Places) -> bool:
    """Tell whether these lie in memory as the kernels read them, and nothing rewrites the call."""
    return (
        nothing_rewrites()
        and places.has_kernels
        and is_plain(x)
        and is_plain(values)
        and x.shape[-1:] == (places.inputs,)
        and values.shape == places.shape
        and values.is_contiguous()
        and (bias is None or is_plain_bias(bias, (places.outputs,)))
    )
