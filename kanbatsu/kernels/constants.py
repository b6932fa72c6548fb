"""What the kernels take for granted of a layout. `csrc/layers.h` says the same; a test compares."""

from __future__ import annotations

BLOCK = 1024
"""Inputs that a packed weight lists together: a tile of their activations stays in the second
cache."""
GROUP_SIZES = (8, 16, 32)
"""Outputs per group of a grouped weight: whole vector registers."""
MOST_FEATURES = 1 << 16
"""Inputs or outputs that a packed weight can name in 16 bits."""
