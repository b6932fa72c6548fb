"""Where the kept values of a weight belong: what a layer holds that stores nothing else."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanbatsu.kernels.constants import BLOCK, MOST_FEATURES
from kanbatsu.torch.products import Layout, layout_of, lists_of


class Places:
    """The places of a `[outputs, inputs]` weight's kept values, in the order of the kernels.

    It never changes, and copies of a layer share it. Values are `[kept]`, listed by block of
    inputs, then by output, then by input; or, where the mask is made of groups of outputs,
    `[groups, kept inputs, outputs per group]`, zero beyond the last output.

    Example:
        >>> places = Places(np.array([[True, False], [True, True]]))
        >>> places.gather(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([1., 3., 4.])
        >>> places.dense(torch.tensor([1.0, 3.0, 4.0]))
        tensor([[1., 0.],
                [3., 4.]])
    """

    def __init__(self, mask: np.ndarray) -> None:
        layout = lists_of(mask)
        if layout is None:
            raise ValueError(
                f"a layer of {mask.shape[1]:,} inputs and {mask.shape[0]:,} outputs cannot store "
                f"its kept values alone: it may have {MOST_FEATURES:,} of each, or lose groups of "
                'outputs (pattern="grouped"). Leave its storage dense'
            )
        self.outputs, self.inputs = mask.shape
        self.layout: Layout = layout
        self.bits = np.packbits(mask)
        """The mask, row by row, eight weights in a byte."""
        self.count = int(mask.sum())
        """Number of weights that are kept."""
        self._indices: dict[torch.device, Tensor] = {}

    @classmethod
    def of_bits(cls, bits: bytes | np.ndarray, outputs: int, inputs: int) -> Places:
        """Read the places from the bits of a mask."""
        flat = np.unpackbits(np.frombuffer(bits, np.uint8), count=outputs * inputs)
        return cls(flat.reshape(outputs, inputs).astype(bool))

    def __deepcopy__(self, _: Any) -> Places:
        return self

    def __reduce__(self) -> tuple[Callable[..., Places], tuple[Any, ...]]:
        return Places.of_bits, (self.bits.tobytes(), self.outputs, self.inputs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places) and (
            (self.outputs, self.inputs) == (other.outputs, other.inputs)
            and np.array_equal(self.bits, other.bits)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the kept values."""
        return self.layout.values_shape

    @functools.cached_property
    def has_kernels(self) -> bool:
        """True where the kernels can multiply by these values."""
        return layout_of(np.ones((1, 1), bool)) is not None

    @functools.cached_property
    def fingerprint(self) -> float:
        """A number in [0, 1) that tells masks apart."""
        return float(np.float32((zlib.crc32(self.bits.tobytes()) >> 8) / (1 << 24)))

    def mask(self) -> Tensor:
        """Return the `[outputs, inputs]` mask, True = kept."""
        flat = np.unpackbits(self.bits, count=self.outputs * self.inputs)
        return torch.from_numpy(flat.reshape(self.outputs, self.inputs)).bool()

    @property
    def padded(self) -> int:
        """Outputs, filled up to whole groups."""
        return max(self.layout.groups * self.layout.size, self.outputs)

    def index(self, device: torch.device | str = "cpu") -> Tensor:
        """Return the place of each value in the flat `[padded, inputs]` weight, `[values]`."""
        device = torch.device(device)
        if device in self._indices:
            return self._indices[device]
        return torch.from_numpy(self._flat_places()).to(device)

    def _flat_places(self) -> np.ndarray:
        layout = self.layout
        sources = layout.sources.numpy()
        if layout.size:
            outputs = np.arange(self.padded).reshape(layout.groups, 1, layout.size)
            return (outputs * self.inputs + sources[:, :, None]).ravel().astype(np.int64)
        cells = np.repeat(np.arange(len(layout.starts) - 1), np.diff(layout.starts.numpy()))
        return cells % self.outputs * self.inputs + sources.view(np.uint16).astype(np.int64)

    @functools.cached_property
    def order(self) -> Tensor:
        """The position in the values of each value of `layout.back`."""
        back = self.layout.back
        assert back is not None
        cells = np.repeat(np.arange(len(back.starts) - 1), np.diff(back.starts.numpy()))
        outputs = back.sources.numpy().view(np.uint16).astype(np.int64)
        position = np.empty(self.outputs * self.inputs, np.int32)
        position[self._flat_places()] = np.arange(self.count, dtype=np.int32)
        return torch.from_numpy(position[outputs * self.inputs + cells % self.inputs])

    def gather(self, weight: Tensor) -> Tensor:
        """Return the kept values of a dense `[outputs, inputs]` tensor."""
        flat = weight.reshape(-1)
        if self.padded > self.outputs:
            flat = torch.nn.functional.pad(flat, (0, (self.padded - self.outputs) * self.inputs))
        return flat[self.index(weight.device)].view(self.shape)

    def dense(self, values: Tensor) -> Tensor:
        """Return the dense tensor that holds the values, and zeros elsewhere."""
        index = self._indices.setdefault(values.device, self.index(values.device))
        zeros = values.new_zeros(self.padded * self.inputs)
        flat = zeros.index_copy(0, index, values.reshape(-1))
        weight = flat.view(self.padded, self.inputs)
        return weight if self.padded == self.outputs else weight[: self.outputs]

    def clear_padding(self, values: Tensor) -> None:
        """Set what belongs to no output to zero, in place."""
        if self.padded > self.outputs:
            beyond = self.outputs - self.padded
            values[-1, :, beyond:] = 0

    def record(self) -> dict[str, Tensor]:
        """Return what a state_dict says of them: the mask's bits, sizes, inputs in a block."""
        sizes = (self.outputs, self.inputs, BLOCK)
        return {"bits": torch.from_numpy(self.bits.copy()), "shape": torch.tensor(sizes)}
