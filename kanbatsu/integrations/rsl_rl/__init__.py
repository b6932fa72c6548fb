"""rsl_rl, and Isaac Lab through it: prune a runner's models before it learns."""

from kanbatsu.integrations.rsl_rl.runner import prune_runner

__all__ = ["prune_runner"]
