"""Modules of torch with several weights, or with one that is no kernel, of which some are pruned.

Recurrent layers, attention and embeddings multiply by their parameters in code of torch's own. The
module stays the user's object under another class. While it is called, whoever reads a pruned
parameter gets it multiplied by its mask; at any other time the parameter itself, with zeros.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from kanbatsu.torch.pruned import EqualToDense

_CALLED = threading.local()


class PrunedTensors(nn.Module, metaclass=EqualToDense):
    """What these modules share: a buffer `<name>_mask` beside each pruned parameter."""

    dense: ClassVar[type[nn.Module]]
    """The class of the module before pruning, and after `unprune`."""

    @torch._compile._disable_dynamo  # torch.compiler.disable would import the compiler now
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the module does, with every pruned weight times its mask."""
        with self.called():
            return super().forward(*args, **kwargs)

    @contextmanager
    def called(self) -> Iterator[None]:
        """Have parameters read with their masks, in this thread."""
        of_all = vars(_CALLED).setdefault("read", {})
        before = of_all.get(id(self))
        of_all[id(self)] = {}
        try:
            yield
        finally:
            of_all.pop(id(self))
            if before is not None:
                of_all[id(self)] = before

    def pruned_names(self) -> list[str]:
        """Return the names of the parameters that have masks."""
        return [name for name in self._parameters if f"{name}_mask" in self._buffers]

    def __getattr__(self, name: str) -> Any:
        """Return a parameter, buffer or module; a pruned parameter as its readers need it."""
        value = super().__getattr__(name)
        mask = vars(self)["_buffers"].get(f"{name}_mask")
        if mask is None or not isinstance(value, Tensor):
            return value
        read = vars(_CALLED).get("read", {}).get(id(self))
        if read is None:
            with torch.no_grad():
                value.data.masked_fill_(mask == 0, 0)
            return value
        if name not in read:
            read[name] = value * mask
        return read[name]

    def __delattr__(self, name: str) -> None:
        """Delete what is not pruned: a parametrization would take the parameter from its mask."""
        self._refuse(name)
        super().__delattr__(name)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Take another parameter, unless it stands for a pruned one that is to be computed."""
        base, _, ending = name.rpartition("_")
        if ending in ("orig", "g", "v"):
            self._refuse(base)
        super().register_parameter(name, param)

    def _refuse(self, name: str) -> None:
        if f"{name}_mask" in self._buffers:
            raise ValueError(
                f"{name} is pruned, and in a {self.dense.__name__} it cannot be computed too, by "
                "weight_norm, spectral_norm or torch.nn.utils.prune. Take the masks off first, by "
                "kanbatsu.torch.unprune(module), which leaves zeros"
            )

    def take_mask(self) -> None:
        """Become a plain module again, which holds zeros."""
        for name in self.pruned_names():
            getattr(self, name)
            delattr(self, f"{name}_mask")
        vars(self).pop("seed", None)
        self.__class__ = self.dense  # type: ignore[assignment]

    def extra_repr(self) -> str:
        """Describe the module as torch does, and say what it keeps."""
        masks = [self._buffers[f"{name}_mask"] for name in self.pruned_names()]
        kept = sum(int(mask.count_nonzero()) for mask in masks if mask is not None)
        total = sum(mask.numel() for mask in masks if mask is not None)
        own = super().extra_repr()
        return f"{own}{', ' if own else ''}kept={kept:,} of {total:,}"

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name in self.pruned_names():
            getattr(self, name)
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.pruned_names():
            destination[f"{prefix}{name}_mask"] = getattr(self, f"{name}_mask") != 0

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name in self.pruned_names():
            own = getattr(self, f"{name}_mask")
            mask = state_dict.get(f"{prefix}{name}_mask", own)
            state_dict[f"{prefix}{name}_mask"] = (mask != 0).to(own.dtype)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        for name in self.pruned_names():
            getattr(self, name)


class _PrunedRecurrent(PrunedTensors):
    _init_flat_weights: Callable[[], None]

    def flatten_parameters(self) -> None:
        """Lay the parameters in one block for cuDNN; what is read in a call is none of them."""
        if id(self) not in vars(_CALLED).get("read", {}):
            nn.RNNBase.flatten_parameters(self)  # type: ignore[arg-type]

    @torch._compile._disable_dynamo  # torch.compiler.disable would import the compiler now
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Go along a sequence; torch reads the weights from a list, which is made anew."""
        try:
            return super().forward(*args, **kwargs)
        finally:
            self._init_flat_weights()


class PrunedLSTM(_PrunedRecurrent, nn.LSTM):
    """An LSTM with pruned weights."""

    dense = nn.LSTM


class PrunedGRU(_PrunedRecurrent, nn.GRU):
    """A GRU with pruned weights."""

    dense = nn.GRU


class PrunedRNN(_PrunedRecurrent, nn.RNN):
    """An Elman network with pruned weights."""

    dense = nn.RNN


class PrunedLSTMCell(PrunedTensors, nn.LSTMCell):
    """One step of an LSTM with pruned weights."""

    dense = nn.LSTMCell


class PrunedGRUCell(PrunedTensors, nn.GRUCell):
    """One step of a GRU with pruned weights."""

    dense = nn.GRUCell


class PrunedRNNCell(PrunedTensors, nn.RNNCell):
    """One step of an Elman network with pruned weights."""

    dense = nn.RNNCell


class PrunedEmbedding(PrunedTensors, nn.Embedding):
    """A table whose rows are pruned."""

    dense = nn.Embedding


class PrunedOutProjection(PrunedTensors, NonDynamicallyQuantizableLinear):
    """The last product of an attention, which reads its weight and never calls it."""

    dense = NonDynamicallyQuantizableLinear


class PrunedAttention(PrunedTensors, nn.MultiheadAttention):
    """An attention with pruned projections."""

    dense = nn.MultiheadAttention

    @contextmanager
    def called(self) -> Iterator[None]:
        """Have the weight of the last product read with its mask too."""
        last = self.out_proj
        with super().called():
            if not isinstance(last, PrunedTensors):
                yield
                return
            with last.called():
                yield


OWNERS: dict[type[nn.Module], type[PrunedTensors]] = {
    pruned.dense: pruned
    for pruned in (
        *(PrunedLSTM, PrunedGRU, PrunedRNN),
        *(PrunedLSTMCell, PrunedGRUCell, PrunedRNNCell),
        *(PrunedEmbedding, PrunedAttention, PrunedOutProjection),
    )
}
"""The pruned class of each class of torch with weights that are pruned by request."""
GATES = {nn.LSTM: 4, nn.GRU: 3, nn.LSTMCell: 4, nn.GRUCell: 3}
"""Matrices that lie below each other in a weight."""


@dataclass(frozen=True)
class Part:
    """One weight of such a module, with the names that a layer has for its only one."""

    owner: nn.Module
    """The module that holds it."""
    name: str
    """The name of the parameter."""
    reader: nn.Module
    """The module that multiplies by it: the attention, where it is of its last product."""

    @property
    def weight(self) -> Any:
        """The parameter."""
        return getattr(self.owner, self.name)

    @property
    def _parameters(self) -> Mapping[str, Any]:
        own = self.owner._parameters
        return {"weight": own[self.name]} if self.name in own else {}

    @property
    def weight_mask(self) -> Any:
        """The mask, 1 = kept; None where it is not pruned."""
        return self.owner._buffers.get(f"{self.name}_mask")

    @property
    def seed(self) -> int | None:
        """The seed that the masks of its module were drawn with."""
        return vars(self.owner).get("seed")

    @property
    def gates(self) -> int:
        """Number of matrices in it, each of which is a layer's weight to the masks."""
        if self.name == "in_proj_weight":
            return 3
        return GATES.get(type(self.owner), 1) if self.name[:9] in ("weight_ih", "weight_hh") else 1

    def put_mask(self, mask: Tensor, seed: int | None = None) -> None:
        """Prune it, in place."""
        buffer = torch.empty_like(self.weight, requires_grad=False).copy_(mask)
        for module in {id(module): module for module in (self.owner, self.reader)}.values():
            module.__class__ = OWNERS[type(module)]
            vars(module)["seed"] = seed
        self.owner.register_buffer(f"{self.name}_mask", buffer)
        getattr(self.owner, self.name)  # zeros where it is pruned

    def why_not(self) -> str:
        """Say why it cannot be pruned; empty where it can."""
        if self.name not in self.owner._parameters:
            return "its weight is computed from others, by weight_norm say: remove that first"
        if any("forward" in vars(module) for module in (self.owner, self.reader)):
            return f"{type(self.reader).__name__} has a forward of its own"
        if self.weight.is_meta:
            return "it has no values yet: move it off the meta device first"
        own: Any = self.owner
        if isinstance(own, nn.Embedding) and (own.sparse or own.max_norm is not None):
            return "an Embedding with sparse=True or max_norm writes its weight by itself"
        return ""


def parts_by_path(module: nn.Module) -> dict[str, Part]:
    """Return the weights of a module that can be pruned by request, by path.

    Example:
        >>> list(parts_by_path(nn.ModuleDict({"lstm": nn.LSTM(3, 4)})))
        ['lstm.weight_ih_l0', 'lstm.weight_hh_l0']
    """
    found: dict[str, Part] = {}
    for path, owner in module.named_modules():
        if type(owner) not in OWNERS or isinstance(owner, NonDynamicallyQuantizableLinear):
            continue
        names = [name for name in _names(owner) if name in owner._parameters]
        for name in names:
            if owner._parameters[name] is not None:
                found[f"{path}.{name}".removeprefix(".")] = Part(owner, name, owner)
        if isinstance(owner, nn.MultiheadAttention):
            last = f"{path}.out_proj.weight".removeprefix(".")
            found[last] = Part(owner.out_proj, "weight", owner)
    return found


def _names(owner: nn.Module) -> list[str]:
    return [name for name in vars(owner)["_parameters"] if "weight" in name]
