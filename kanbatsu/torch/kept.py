"""Linear layers whose parameter is what they keep, and nothing else.

As the other pruned layers, such a layer is the user's own under another class, and its parameter
the user's own object: it has become smaller, and whoever holds it, as an optimizer does, goes on.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from kanbatsu.torch import foreign
from kanbatsu.torch.choosing import LEAST, Product, is_faster_packed
from kanbatsu.torch.kept_products import kept_linear, kernels_take_kept
from kanbatsu.torch.names import BITS, KEPT, MASK, PRINT, SHAPE
from kanbatsu.torch.places import Places
from kanbatsu.torch.pruned import Pruned
from kanbatsu.torch.stored import places_in
from kanbatsu.torch.view import REFUSED, DenseView

OTHERS = "weight", "weight_orig", "weight_g", "weight_v"
"""Names of parameters that a weight is replaced by, or computed from."""


class KeptLinear(Pruned, nn.Linear):
    """A linear layer whose parameter, `weight_kept`, is the values that it keeps.

    Example:
        >>> import kanbatsu.torch
        >>> layer = kanbatsu.torch.prune(nn.Linear(8, 4), 0.75, storage="kept")
        >>> layer
        KeptLinear(in_features=8, out_features=4, bias=True, kept=8 of 32)
        >>> layer.weight_kept.shape, layer.weight.shape
        (torch.Size([8]), torch.Size([4, 8]))
    """

    dense: ClassVar[type[nn.Module]] = nn.Linear
    weight_kept: Tensor
    weight_print: Tensor
    places: Places

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        """Map `[..., inputs]` to `[..., outputs]`."""
        if not torch.compiler.is_compiling():
            self._look_now_and_then()
        values, bias, places = self.weight_kept, self.bias, self.places
        if self.takes_packed(input):
            return kept_linear(input, values, bias, places)
        return functional.linear(input, places.dense(values), bias)

    def takes_packed(self, x: Tensor) -> bool:
        """Tell whether such a batch is multiplied by kept values."""
        places = self.places
        takes = kernels_take_kept(x, self.weight_kept, self.bias, places)
        if self.compute == "masked" or not takes:
            return False
        if self.compute == "packed" or places.outputs * places.inputs < LEAST:
            return self.compute == "packed"
        layer = ("kept", places.inputs, places.outputs, places.shape)
        rows = x.numel() // places.inputs
        return is_faster_packed(layer, places.inputs, rows, lambda: _products(places))

    def masked_weight(self) -> Tensor:
        """Return the dense weight; its gradient flows to the kept values."""
        return self.places.dense(self.weight_kept)

    @property
    def weight(self) -> Tensor:
        """The dense weight, for reading: what is written into it is refused."""
        return self.masked_weight().as_subclass(DenseView)

    @weight.setter
    def weight(self, value: Any) -> None:
        raise ValueError(REFUSED)

    @property
    def weight_mask(self) -> Tensor:  # type: ignore[override]
        """The `[outputs, inputs]` mask, True = kept."""
        return self.places.mask().to(self.weight_kept.device)

    @torch.no_grad()
    def zero_pruned(self) -> None:
        """Set what fills up the last group to zero: it is no weight."""
        self.places.clear_padding(self.weight_kept.data)

    def take_mask(self) -> None:
        """Become a plain layer again, whose parameter is dense and holds zeros."""
        replace(self, KEPT, "weight", self.places.dense)
        foreign.strike(self)
        del self.weight_print
        for own in ("places", "compute", "seed", "calls", "has_warned"):
            vars(self).pop(own, None)
        self.__class__ = nn.Linear  # type: ignore[assignment]

    def extra_repr(self) -> str:
        """Describe the layer as torch does, and say what it keeps."""
        kept, total = self.places.count, self.places.outputs * self.places.inputs
        return f"{nn.Linear.extra_repr(self)}, kept={kept:,} of {total:,}"

    def register_parameter(self, name: str, param: Any) -> None:
        """Take another parameter, unless it stands for the weight."""
        if name in OTHERS:
            raise ValueError(
                f"{name} would stand for the weight of this pruned layer, which stores its kept "
                'values alone (storage="kept"): weight_norm, spectral_norm, torch.nn.utils.prune '
                'and a new weight need storage="dense". Turn the module back first, by '
                "kanbatsu.torch.unprune(module)"
            )
        nn.Linear.register_parameter(self, name, param)

    def __prepare_scriptable__(self) -> Any:
        raise ValueError(
            'torch.jit.script cannot compile a layer with storage="kept": turn a copy of the '
            "module back first, by kanbatsu.torch.unprune(copy.deepcopy(module))"
        )

    def _look_now_and_then(self) -> None:
        """Look at the mask and at other layers' values at the 1st, 2nd, 4th, 8th call and so on."""
        self.calls += 1
        values = self._parameters.get(KEPT)
        if self.calls & (self.calls - 1) or values is None or not foreign.can_be_seen(values):
            return
        own = self._buffers.get(PRINT)
        if own is not None and float(own) != float(self._fingerprint().to(own.dtype)):
            raise ValueError(
                "the mask of this layer is not that of the layer whose buffers it was given, by "
                "another rank of DistributedDataParallel say, or by an average: prune with one "
                'seed everywhere, copy the module (copy.deepcopy), or choose storage="dense"'
            )
        foreign.warn_if_copied(self, values)

    def _fingerprint(self) -> Tensor:
        return torch.tensor(self.places.fingerprint, dtype=torch.float32)

    def adopt(self, places: Places) -> None:
        """Take another mask, and of the values what it keeps too."""
        if places == self.places:
            return
        values = self._parameters[KEPT]
        assert values is not None
        with torch.no_grad():
            kept = places.gather(self.places.dense(values.detach()))
        values.grad, values.data = None, kept
        self.places, self.has_warned = places, False
        self.weight_print.fill_(places.fingerprint)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self.zero_pruned()
        nn.Linear._save_to_state_dict(self, destination, prefix, keep_vars)
        destination.update({f"{prefix}weight_{k}": x for k, x in self.places.record().items()})

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # Torch hands over a copy of the user's dictionary, made to be edited here.
        places = places_in(state_dict, prefix)
        mask, weight = state_dict.pop(prefix + MASK, None), state_dict.pop(prefix + "weight", None)
        if mask is not None:
            foreign.warn_if_averaged(self, mask)
            places = Places((mask != 0).cpu().numpy())
        elif weight is not None and places is None:
            foreign.warn_if_foreign(self, weight.detach().to(self.weight_kept.device))
        if places is not None:
            self.adopt(places)
        if weight is not None:
            state_dict[prefix + KEPT] = self.places.gather(weight.detach())
        for name in (BITS, SHAPE):
            state_dict.pop(prefix + name, None)
        nn.Linear._load_from_state_dict(self, state_dict, prefix, *rest)
        self.zero_pruned()


def _products(places: Places) -> tuple[Product, Product]:
    """Both products of a layer, to be timed."""
    trains = torch.is_grad_enabled()
    values = torch.full(places.shape, 0.01, dtype=torch.float32, device="cpu", requires_grad=trains)
    return (
        lambda x: kept_linear(x, values, None, places),
        lambda x: functional.linear(x, places.dense(values)),
    )


def put_kept(
    layer: nn.Module, places: Places, compute: str = "auto", seed: int | None = None
) -> None:
    """Turn a linear layer into one that stores what a mask keeps, in place.

    Args:
        layer: an `nn.Linear`; of layers that share a weight, each in turn.
        places: what it keeps.
        compute: as in `put_mask`.
        seed: seed that the mask was drawn with; None for one that was given.
    """
    replace(layer, "weight", KEPT, places.gather)
    layer.__class__ = KeptLinear
    assert isinstance(layer, KeptLinear)
    layer.places, layer.compute, layer.seed = places, compute, seed
    own = layer._fingerprint().to(layer.weight_kept)
    layer.register_buffer(PRINT, own, persistent=False)
    foreign.enlist(layer)


@torch.no_grad()
def replace(layer: nn.Module, old: str, new: str, change: Any) -> None:
    """Give a parameter another name, in its place, and other values, unless it has them already."""
    parameter = layer._parameters[old]
    assert parameter is not None
    is_dense = parameter.ndim == 2
    if is_dense == (new == KEPT):
        gradient, parameter.grad = parameter.grad, None
        parameter.data = change(parameter.data)
        parameter.grad = None if gradient is None else change(gradient)
    parameters = [(new if name == old else name, x) for name, x in layer._parameters.items()]
    layer._parameters.clear()
    layer._parameters.update(parameters)
