"""rsl_rl, and Isaac Lab through it: prune a runner's models, and export its actor."""

from kanbatsu.integrations.rsl_rl.export import export_policy
from kanbatsu.integrations.rsl_rl.runner import prune_runner

__all__ = ["export_policy", "prune_runner"]
