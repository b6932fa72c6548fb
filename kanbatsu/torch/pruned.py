"""A torch layer whose weight is pruned: what linear layers and convolutions have in common.

Annotations are evaluated here, because `torch.jit.script` reads them.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kanbatsu.torch import foreign
from kanbatsu.torch.names import KEPT, MASK
from kanbatsu.torch.stored import put_dense

_OWN = ("compute", "seed")
"""What a pruned layer was told; a plain layer is told nothing."""
_NOT_COPIED = ("_known", "calls", "has_warned")
"""What a pruned layer has found out, and a copy of it, or a plain layer, does not know."""


SHARDED = (
    "FSDP shards the parameters of a pruned layer, and masks do not follow shards: train with "
    "torch.nn.parallel.DistributedDataParallel"
)
"""What is said where parameters are no longer whole."""


def is_sharded(kind: type) -> bool:
    """Tell whether FSDP made a class: wrapped around a module, or in the place of its own.

    Example:
        >>> is_sharded(nn.Linear)
        False
    """
    return any(base.__module__.startswith("torch.distributed.fsdp") for base in kind.__mro__)


def is_computed(layer: Any) -> bool:
    """Tell whether a layer's weight is computed from other parameters, as by `weight_norm`."""
    return not {"weight", KEPT} & set(layer._parameters)


def parameter_of(layer: Any) -> Any:
    """Return the parameter of a layer that is no computed one: its weight, or its kept values."""
    kept = layer._parameters.get(KEPT)
    return layer.weight if kept is None else kept


class EqualToDense(type):
    """Makes the class of a pruned layer equal that of the dense one, but not the same.

    Code that goes by exact type (`type(layer) == nn.Linear`, `type(layer) in table`, as torch's own
    quantization does) then treats a pruned layer as what it is.
    """

    def __eq__(cls, other: object) -> bool:
        return other is cls or (other is not None and other is vars(cls).get("dense"))

    def __hash__(cls) -> int:
        return type.__hash__(vars(cls).get("dense", cls))


class Pruned(nn.Module, metaclass=EqualToDense):
    """What all pruned layers share: `weight`, which holds zeros, and `weight_mask`.

    The product is that with `weight * weight_mask`. Autograd then masks the gradient before
    anything sees it, and a weight that somebody overwrites has no say where it is pruned. Whoever
    reads `weight` from the layer, as fused kernels do, finds zeros there too. On CPUs a linear
    layer multiplies by its kept weights only, where that is faster (`compute`).

    A weight that is computed from others since, by `weight_norm` or another parametrization, is
    masked in the same way, and so is what it is computed from.

    While the module lives the mask is a buffer of the weight's own type: it moves to devices and
    types with the weight, and a product of floats is six times faster than one with booleans. In a
    state_dict it is boolean.
    """

    dense: ClassVar[type[nn.Module]]
    """The class of the layer before pruning, and after `unprune`."""
    __jit_ignored_attributes__: ClassVar[list[str]] = [*_OWN, *_NOT_COPIED]
    __jit_unused_properties__: ClassVar[list[str]] = ["qconfig"]

    weight: Tensor
    weight_mask: Tensor
    compute: str = "auto"
    """`auto`, `masked`, `mixed` or `packed`; only linear layers can be anything but masked."""
    seed: int | None = None
    """Seed that the mask was drawn with; None for one that was given."""
    calls: int = 0
    """Times that the layer was called: now and then it looks for copies with other masks."""
    has_warned: bool = False
    """True once it has found one."""

    def __init_subclass__(cls, **how: Any) -> None:
        """Refuse the class that FSDP would put in the place of this one."""
        if is_sharded(cls):
            raise ValueError(SHARDED)
        super().__init_subclass__(**how)

    def masked_weight(self) -> Tensor:
        """Return the weight that the layer computes with; its gradient is zero where pruned."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self.weight * self.weight_mask
        else:  # noqa: RET505 (what comes after a return is compiled too)
            foreign.look_now_and_then(self)
            weight = self._parameters.get("weight")
            if weight is not None:
                return weight * self.weight_mask
            self.zero_pruned()
            return torch.where(self.weight_mask != 0, self.weight, 0.0)

    @torch.no_grad()
    def zero_pruned(self) -> None:
        """Set the stored values of pruned weights to zero, should anybody have moved them."""
        gone = self.weight_mask == 0
        weight = self._parameters.get("weight")
        # `data`, because backward may wait for a weight, and does not read what is pruned.
        if weight is not None:
            if hasattr(weight, "device_mesh"):
                raise ValueError(SHARDED)
            weight.data.masked_fill_(gone, 0)
            return
        for value in self._computed_from():
            # Next to nothing: what is normalised must have a norm, even without any input.
            least = max(torch.finfo(value.dtype).tiny, 1e-18)
            value.data.masked_fill_(gone, least)

    def _computed_from(self) -> Iterator[Tensor]:
        """The parameters of the weight's shape that it is computed from."""
        lists = self._modules.get("parametrizations")
        ours = {name: value for name, value in self._parameters.items() if name != "bias"}
        if lists is not None and "weight" in lists:  # type: ignore[operator]
            ours |= lists["weight"]._parameters  # type: ignore[index]
        return (x for x in ours.values() if x is not None and x.shape == self.weight_mask.shape)

    def take_mask(self) -> None:
        """Become a plain layer again, which holds zeros."""
        self.zero_pruned()
        foreign.strike(self)
        del self.weight_mask
        for own in (*_OWN, *_NOT_COPIED):
            vars(self).pop(own, None)
        hooks = self._forward_pre_hooks
        for key in [key for key, hook in hooks.items() if hook is _zero_before]:
            del hooks[key]
        self.__class__ = self.dense  # type: ignore[assignment]

    def extra_repr(self) -> str:
        """Describe the layer as torch does, and say what it keeps."""
        kept = int(self.weight_mask.count_nonzero())
        return f"{super().extra_repr()}, kept={kept:,} of {self.weight_mask.numel():,}"

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Take another parameter, as torch does; refuse what would take the mask's name."""
        if name == "weight_orig" and not is_computed(self):
            raise ValueError(
                "torch.nn.utils.prune cannot prune this layer: kanbatsu has pruned it, and its "
                "mask would be overwritten. Take kanbatsu's masks off first, by "
                "kanbatsu.torch.unprune(module), which leaves zeros"
            )
        super().register_parameter(name, param)
        if is_computed(self) and name in ("weight_orig", "weight_v"):
            self.zero_pruned()
            # Those of torch.nn.utils compute the weight before forward is called.
            self.register_forward_pre_hook(_zero_before, prepend=True)

    @property
    def qconfig(self) -> Any:
        """How torch's quantization is to treat the layer, if it was told."""
        try:
            return vars(self)["qconfig"]
        except KeyError:
            raise AttributeError("qconfig") from None

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        if value is not None and self.training:
            raise ValueError(
                "quantization-aware training would replace this pruned layer by one without a "
                "mask: quantize after training, in evaluation mode (module.eval())"
            )
        vars(self)["qconfig"] = value

    def __getattr__(self, name: str) -> Any:
        """Return a parameter, buffer or module; the weight holds zeros where it is pruned."""
        value = super().__getattr__(name)
        is_read = name == "weight" and type(value) is nn.Parameter and not value.is_inference()
        if is_read and not torch.compiler.is_compiling():
            self.zero_pruned()
        return value

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what a copy finds out for itself."""
        return {name: value for name, value in vars(self).items() if name not in _NOT_COPIED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        foreign.enlist(self)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        # An optimizer that mixes the elements of a matrix (Muon) may have written where nothing is.
        self.zero_pruned()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + MASK] = self.weight_mask != 0

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # Torch hands over a copy of the user's dictionary, made to be edited here. A dense one
        # keeps the mask that is there; a pruned one brings its own.
        put_dense(state_dict, prefix)
        weight = state_dict.get(prefix + "weight", self.weight_mask)
        mask = state_dict.get(prefix + MASK, self.weight_mask)
        foreign.warn_if_averaged(self, mask)
        mask = mask != 0
        given = set(state_dict)
        state_dict[prefix + MASK] = mask.to(weight.dtype)
        if prefix + "weight" in state_dict and mask.shape == weight.shape:
            pruned = ~mask.to(weight.device)
            if prefix + MASK not in given:
                foreign.warn_if_foreign(self, weight.detach().to(self.weight_mask.device))
            state_dict[prefix + "weight"] = weight.detach().masked_fill(pruned, 0)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.zero_pruned()


def _zero_before(layer: Pruned, _: Any) -> None:
    layer.zero_pruned()
