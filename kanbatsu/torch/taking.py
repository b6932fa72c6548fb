"""Which tensors the compiled kernels can be given: they check nothing themselves."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter


def kernels_take(x: Tensor, weight: Tensor, mask: Tensor, bias: Tensor | None) -> bool:
    """Tell whether these lie in memory as the kernels read them, and nothing rewrites the call.

    The kernels check nothing: what they must not be given is turned away here.
    """
    shape = weight.shape
    return (
        nothing_rewrites()
        and is_plain(x)
        and is_plain(weight)
        and is_plain(mask)
        and x.shape[-1:] == shape[1:]
        and mask.shape == shape
        and weight.is_contiguous()
        and not mask.requires_grad
        and (bias is None or is_plain_bias(bias, shape[:1]))
    )


def nothing_rewrites() -> bool:
    """Tell whether tensors have memory of their own now, and keep their types.

    They have not in transforms of torch.func, modes that see every operation, and forward-mode
    differentiation.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and not torch.is_autocast_enabled("cpu")
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and torch.autograd.forward_ad._current_level < 0
    )


def is_plain(t: Tensor) -> bool:
    """Tell whether a tensor holds float32 numbers in this machine's memory, as they are."""
    return (
        type(t) in (Tensor, Parameter)
        and t.layout == torch.strided
        and t.dtype == torch.float32
        and t.is_cpu
        and not t.is_neg()
    )


def is_plain_bias(bias: Tensor, shape: tuple[int, ...]) -> bool:
    """Tell the same of a contiguous bias of that shape."""
    return is_plain(bias) and bias.shape == shape and bias.is_contiguous()
