"""Pruning and probes inside trainers of other JAX libraries; imported only when asked for."""
