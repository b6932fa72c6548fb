"""How a pruned weight multiplies: C++ kernels on plain arrays, and their place in JAX."""
