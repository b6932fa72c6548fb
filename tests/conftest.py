"""Every test runs on the CPU, with shapes and types checked and strict dtype promotion."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile many programs and run each for a moment: compile fast rather than run fast.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_dtype_promotion", "strict")
install_import_hook("kanbatsu", "beartype.beartype")
