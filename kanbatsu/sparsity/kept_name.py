"""The name of an array of kept values in a tree of parameters: it says what the values are of."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

FORM = re.compile(r"(.+)_(\d+(?:x\d+)*)(?:by(\d+))?_([0-9a-f]{8})")


@dataclass(frozen=True)
class KeptName:
    """The name of the values that a weight keeps, in the place of the weight's own name.

    A tree of another pruning has other names, so that a checkpoint of it is refused by whatever
    compares the names of two trees, and by what multiplies.

    Example:
        >>> name = KeptName("kernel", (88, 256), 16, "1a2b3c4d")
        >>> str(name), KeptName.read(str(name)) == name, KeptName.read("kernel")
        ('kernel_88x256by16_1a2b3c4d', True, None)
    """

    weight: str
    """The name of the weight: `kernel`, mostly."""
    shape: tuple[int, ...]
    """The shape of the dense weight, members of an ensemble included."""
    group_size: int
    """Outputs per group; 1 where the values are a vector."""
    digest: str
    """Digest of the mask: eight hexadecimal digits."""

    def __str__(self) -> str:
        groups = f"by{self.group_size}" if self.group_size > 1 else ""
        return f"{self.weight}_{'x'.join(map(str, self.shape))}{groups}_{self.digest}"

    @classmethod
    def read(cls, name: object) -> KeptName | None:
        """Return what a name says, or None if it is no name of kept values."""
        found = FORM.fullmatch(name) if isinstance(name, str) else None
        if found is None:
            return None
        weight, shape, group_size, digest = found.groups()
        return cls(weight, tuple(map(int, shape.split("x"))), int(group_size or 1), digest)

    def kept(self, values: tuple[int, ...]) -> int:
        """Return how many weights exist, of all members.

        Args:
            values: the shape of the array of kept values; a last group that is not full is padded.
        """
        if self.group_size == 1:
            return math.prod(values)
        *members, _, inputs, _ = values
        return math.prod(members) * inputs * self.shape[-1]


def is_kept(path: str) -> bool:
    """Return whether a path with slashes names kept values.

    Example:
        >>> is_kept("params/Dense_0/kernel_88x256by16_1a2b3c4d"), is_kept("params/Dense_0/kernel")
        (True, False)
    """
    return KeptName.read(path.rpartition("/")[2]) is not None
