"""Bounds of numbers, stated beside the fields that they bound, and the check that reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints


@dataclass(frozen=True)
class AtLeast:
    """The lowest value that a number may have."""

    lowest: int

    def __str__(self) -> str:
        return f"be at least {self.lowest}"

    def holds(self, value: int | float) -> bool:
        """Whether a value is within the bound."""
        return value >= self.lowest


@dataclass(frozen=True)
class Above:
    """The value that a number must exceed."""

    bound: int

    def __str__(self) -> str:
        return f"be greater than {self.bound}"

    def holds(self, value: int | float) -> bool:
        """Whether a value is within the bound."""
        return value > self.bound


@dataclass(frozen=True)
class Within:
    """The lowest and the highest value that a number may have."""

    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"lie in [{self.lowest}, {self.highest}]"

    def holds(self, value: int | float) -> bool:
        """Whether a value is within the bounds."""
        return self.lowest <= value <= self.highest


Natural = Annotated[int, Above(0)]
Whole = Annotated[int, AtLeast(0)]
Positive = Annotated[float, Above(0)]
NotNegative = Annotated[float, AtLeast(0)]
Share = Annotated[float, Within(0.0, 1.0)]


def check_ranges(record: Any, prefix: str = "") -> None:
    """Refuse a dataclass, or one inside it, that holds a number outside the field's bounds.

    Args:
        record: a dataclass; a field such as `width: Natural` states its bounds, and None passes.
        prefix: what goes before the field's name in the message.

    Raises:
        ValueError: for the first such number, by the name that a user types.

    Example:
        >>> from kanbatsu.agents.schedule import TrainConfig
        >>> check_ranges(TrainConfig(batch_size=0), "train.")
        Traceback (most recent call last):
        ...
        ValueError: train.batch_size must be greater than 0: got 0
    """
    hints = get_type_hints(type(record), include_extras=True)
    for item in dataclasses.fields(record):
        name, value = prefix + item.name, getattr(record, item.name)
        if dataclasses.is_dataclass(value):
            check_ranges(value, f"{name}.")
        elif value is not None:
            for bound in _bounds(hints[item.name]):
                if not bound.holds(value):
                    raise ValueError(f"{name} must {bound}: got {value}")


def _bounds(hint: Any) -> Iterator[AtLeast | Above | Within]:
    """Yield the bounds in an annotation, also where it is one of a union."""
    for part in (hint, *get_args(hint)):
        for extra in getattr(part, "__metadata__", ()):
            if isinstance(extra, AtLeast | Above | Within):
                yield extra
