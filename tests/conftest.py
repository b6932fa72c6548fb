"""Every test runs on the CPU, with shapes and types checked and strict dtype promotion."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_dtype_promotion", "strict")
install_import_hook("kanbatsu", "beartype.beartype")
