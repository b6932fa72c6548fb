"""One table of a policy's JSON, whose values are checked as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

MOST = 2**31 - 1
"""Largest size that a policy can have, that of an int32."""
LEAST, GREATEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
"""Positive numbers that float32 can hold lie between these."""


class PolicyError(ValueError):
    """A file that holds no policy, or not the one that was written."""


class Entry:
    """One table and the arrays that it names.

    Every method raises `PolicyError` where a value is missing or does not fit; the message names
    the value and its layer.

    Example:
        >>> Entry("layer 3", {"inputs": 0}, {}).integer("inputs")
        Traceback (most recent call last):
        ...
        kanbatsu.deploy.entry.PolicyError: inputs of layer 3 is 0; it must be at least 1
    """

    def __init__(self, where: str, table: Any, arrays: Mapping[str, np.ndarray]) -> None:
        if not isinstance(table, dict):
            raise PolicyError(f"{where} is no table")
        self.where, self._table, self._arrays = where, table, arrays

    def _get(self, name: str, *types: type) -> Any:
        value = self._table.get(name)
        if type(value) not in types:
            raise PolicyError(f"{name} of {self.where} is missing, or of a wrong type")
        return value

    def choice(self, name: str, choices: Mapping[str, Any]) -> str:
        """Return one of the names in `choices`."""
        value: str = self._get(name, str)
        if value not in choices:
            raise PolicyError(
                f"{name} of {self.where} is {value!r}; this kanbatsu knows {', '.join(choices)}"
            )
        return value

    def integer(self, name: str) -> int:
        """Return a whole number of at least 1."""
        value: int = self._get(name, int)
        if value < 1:
            raise PolicyError(f"{name} of {self.where} is {value}; it must be at least 1")
        if value > MOST:
            raise PolicyError(f"{name} of {self.where} is larger than {MOST}")
        return value

    def flag(self, name: str) -> bool:
        """Return true or false."""
        return bool(self._get(name, bool))

    def number(self, name: str) -> float:
        """Return a number above 0 that float32 can hold."""
        value: float = self._get(name, float)
        if not LEAST <= value <= GREATEST:
            raise PolicyError(
                f"{name} of {self.where} is {value}; it must be above 0, and a number of float32"
            )
        return value

    def table(self, name: str) -> Entry:
        """Return a nested table."""
        return Entry(f"{name} of {self.where}", self._get(name, dict), self._arrays)

    def listed(self, name: str, size: int | None) -> np.ndarray:
        """Return a list of `size` finite numbers, as float32."""
        value = self._get(name, list)
        if len(value) != size or not all(type(v) is float and abs(v) <= GREATEST for v in value):
            raise PolicyError(f"{name} of {self.where} is not a list of {size} finite numbers")
        return np.array(value, np.float32)

    def rows(self, name: str, width: int) -> np.ndarray:
        """Return a list of lists of `width` finite numbers, as float32."""
        value = self._get(name, list)
        if not value:
            raise PolicyError(f"{name} of {self.where} is empty")
        lines = {str(index): line for index, line in enumerate(value)}
        entry = Entry(f"{name} of {self.where}", lines, {})
        return np.stack([entry.listed(index, width) for index in lines])

    def array(self, name: str, dtype: Any, *shape: int | None) -> np.ndarray:
        """Return the array that is named here; a size of None may be any."""
        key = self._get(name, str)
        if key not in self._arrays:
            raise PolicyError(f"the array {key} of {self.where} is missing")
        array = self._arrays[key]
        wanted = tuple("any" if size is None else size for size in shape)
        fits = len(shape) == array.ndim and all(
            size in (None, actual) for size, actual in zip(shape, array.shape, strict=True)
        )
        if array.dtype != dtype or not fits:
            raise PolicyError(
                f"the array {key} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {wanted}"
            )
        return array

    def floats(self, name: str, *shape: int | None, positive: bool = False) -> np.ndarray:
        """Return a float32 array of finite numbers; of one axis, if no shape is given."""
        array = self.array(name, np.float32, *(shape or (None,)))
        if not np.isfinite(array).all():
            raise PolicyError(
                f"{name} of {self.where} holds numbers that are not finite: the training "
                "diverged; choose an earlier run or checkpoint"
            )
        if (array.size == 0 and positive) or (positive and array.min() <= 0):
            raise PolicyError(f"{name} of {self.where} must be above 0")
        return array
