"""The dense weight of a layer that stores its kept values alone: for reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

ASSIGNMENTS = frozenset(
    f"__{name}__"
    for name in (
        *("setitem", "set", "iadd", "isub", "imul", "itruediv", "ifloordiv", "ipow", "imod"),
        *("iand", "ior", "ixor", "ilshift", "irshift", "imatmul"),
    )
)
"""Methods that write into their first argument and do not end in one underscore."""
REFUSED = (
    "this weight is a view for reading: the layer stores its kept values alone, and what is "
    "written here would reach nothing. Write into layer.weight_kept, load a dense state_dict, or "
    "turn the module back first, by kanbatsu.torch.unprune(module)"
)


class DenseView(Tensor):
    """A dense weight that was built to be looked at, and refuses to be written into.

    Gradients flow back to the kept values; whatever is computed from it is a plain tensor.
    """

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute as torch does, and refuse what writes."""
        settings = dict(kwargs or {})
        written = [settings.get("out"), args[0] if args and writes(func) else None]
        views = [x for x in written for x in (x if isinstance(x, list | tuple) else (x,))]
        if any(isinstance(x, cls) for x in views):
            raise ValueError(REFUSED)
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **settings)
            if not isinstance(result, Tensor) or not args or not isinstance(args[0], cls):
                return result
            same = _memory(result) == _memory(args[0])
            return result.as_subclass(cls) if same else result


def writes(function: Callable[..., Any]) -> bool:
    """Tell whether a function of torch changes its first argument.

    Example:
        >>> writes(Tensor.mul_), writes(Tensor.mul), writes(Tensor.__setitem__)
        (True, False, True)
    """
    name = getattr(function, "__name__", "")
    return name in ASSIGNMENTS or (name.endswith("_") and not name.endswith("__"))


def _memory(tensor: Tensor) -> int | None:
    has = torch._C._has_storage(tensor)
    return tensor.untyped_storage().data_ptr() if has else None
