"""Numbers of SimBa that exported policies and PyTorch modules need too, without JAX."""

from __future__ import annotations

LAYER_NORM_EPSILON = 1e-6
"""Number added to the variance by `LayerNorm`: Flax's default, which SimBa was published with."""
OBSERVATION_EPSILON = 1e-8
"""Number added to the variance of observations under the root (SimBa's published code)."""
LOG_STD_RANGE = (-10.0, 2.0)
"""SimBa's published code: the log standard deviation is squashed into this range by tanh."""
