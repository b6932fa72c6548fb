"""What takes part in a race, on networks of which sizes, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass

SIZES = {"4.4M": (128, 512), "17M": (256, 1024), "109M": (640, 2560)}
"""Width of the actor (one block) and of the critic (two blocks), by dense weights on humanoid."""
OBS_DIM, ACTION_DIM, EPISODE_LENGTH = 67, 21, 500
"""dmc/humanoid-*, in interactions of two simulator steps."""
BATCH = 256
UPDATES_PER_CALL = 2


@dataclass(frozen=True)
class Entrant:
    """Participant of a race."""

    what: str
    """`update` or `inference`."""
    size: str
    sparsity: float
    pattern: str
    """`dense`, `element` or `grouped`."""
    compute: str
    """`dense`, `masked`, `packed`, or the name of a library."""


@dataclass(frozen=True)
class Facts:
    """Facts that a contender states once it is ready."""

    weights: int
    """Kernel weights that exist."""
    operations: float
    """Floating-point operations per unit of work, on weights that exist."""
    state_bytes: int
    """Bytes of weights, their places, targets and optimizer moments; of an inference, of the
    weights and their places."""
