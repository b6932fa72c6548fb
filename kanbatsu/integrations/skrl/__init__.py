"""skrl: prune an agent's models before its trainer starts; targets follow."""

from kanbatsu.integrations.skrl.agent import prune_agent

__all__ = ["prune_agent"]
