"""skrl: prune an agent's models before its trainer starts, targets follow; export its policy."""

from kanbatsu.integrations.skrl.agent import prune_agent
from kanbatsu.integrations.skrl.export import export_policy

__all__ = ["export_policy", "prune_agent"]
