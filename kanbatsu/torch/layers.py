"""Torch layers whose weight is pruned: the layer itself, with a mask between weight and product.

A pruned layer is the user's own layer object under another class, so that every reference to it,
and to its parameters, stays valid. The classes inherit from those of torch and override methods,
which this project does nowhere else: it is how torch is told how a layer computes and is stored.
Annotations are evaluated here, because `torch.jit.script` reads them.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kanbatsu.sparsity.compute import MOST_KEPT_TORCH, is_worth_packing
from kanbatsu.torch.products import Layout, kernels_take, layout_of, linear

MASK = "weight_mask"
"""The name of the mask beside its weight, as `torch.nn.utils.prune` calls it too."""
SMALLEST, SMALLEST_GROUPED = 1 << 18, 1 << 16
"""Weights of a layer, before pruning, from which `auto` packs it. On a machine with AVX-512 whose
dense products are fast, a gradient step of SAC with nine tenths removed took as long as dense with
layers of 256 x 256 drawn one by one, and less with groups, or from 512 x 512 on
(benchmarks/torch_step.py; docs/sparse-compute.md)."""
FEWEST = 128
"""Samples of a training batch from which `auto` packs: with 64 a step took up to 1.2 times as long
as dense."""


class _EqualToDense(type):
    """Makes the class of a pruned layer equal that of the dense one, but not the same.

    Code that goes by exact type (`type(layer) == nn.Linear`, `type(layer) in table`, as torch's own
    quantization does) then treats a pruned layer as what it is.
    """

    def __eq__(cls, other: object) -> bool:
        return other is cls or (other is not None and other is vars(cls).get("dense"))

    def __hash__(cls) -> int:
        return type.__hash__(vars(cls).get("dense", cls))


class Pruned(nn.Module, metaclass=_EqualToDense):
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
    __jit_ignored_attributes__: ClassVar[list[str]] = ["compute", "_known"]
    __jit_unused_properties__: ClassVar[list[str]] = ["qconfig"]

    weight: Tensor
    weight_mask: Tensor
    compute: str = "auto"
    """`auto`, `masked`, `mixed` or `packed`; only linear layers can be anything but masked."""

    def masked_weight(self) -> Tensor:
        """Return the weight that the layer computes with; its gradient is zero where pruned."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self.weight * self.weight_mask
        else:  # noqa: RET505 (what comes after a return is compiled too)
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
        del self.weight_mask
        for own in ("compute", "_known"):
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

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        # An optimizer that mixes the elements of a matrix (Muon) may have written where nothing is.
        self.zero_pruned()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + MASK] = self.weight_mask != 0

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # Torch hands over a copy of the user's dictionary, made to be edited here. A dense one
        # keeps the mask that is there; a pruned one brings its own.
        weight = state_dict.get(prefix + "weight", self.weight_mask)
        mask = state_dict.get(prefix + MASK, self.weight_mask) != 0
        state_dict[prefix + MASK] = mask.to(weight.dtype)
        if prefix + "weight" in state_dict and mask.shape == weight.shape:
            pruned = ~mask.to(weight.device)
            state_dict[prefix + "weight"] = weight.detach().masked_fill(pruned, 0)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.zero_pruned()


def _zero_before(layer: Pruned, _: Any) -> None:
    layer.zero_pruned()


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
        is_few = torch.is_grad_enabled() and x.numel() < FEWEST * self.in_features
        return None if is_few and self.compute != "packed" else self._layout()

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
        if self.compute == "packed":
            return layout_of(mask)
        # What is too small for any layout is told apart before one is looked for.
        layout = layout_of(mask) if mask.size >= SMALLEST_GROUPED else None
        if layout is None or (not layout.size and mask.size < SMALLEST):
            return None
        return layout if is_worth_packing(mask, layout.size or None, MOST_KEPT_TORCH) else None

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


def is_computed(layer: nn.Module) -> bool:
    """Tell whether a layer's weight is computed from other parameters, as by `weight_norm`."""
    return "weight" not in layer._parameters


def put_mask(layer: nn.Module, mask: Tensor, compute: str = "auto") -> None:
    """Turn a layer of one of `KINDS` into a pruned one, in place.

    Args:
        layer: its class must be a key of `PRUNED`.
        mask: the shape of its weight, True = kept; the same for layers that share a weight.
        compute: `auto`, `masked`, `mixed` or `packed`; `mixed` is `auto`.
    """
    # In the order of the weight in memory: a product over two orders is ten times slower.
    buffer = torch.empty_like(layer.weight, requires_grad=False).copy_(mask)  # type: ignore
    layer.__class__ = PRUNED[type(layer)]
    assert isinstance(layer, Pruned)
    layer.compute = compute
    layer.register_buffer(MASK, buffer)
    layer.zero_pruned()
