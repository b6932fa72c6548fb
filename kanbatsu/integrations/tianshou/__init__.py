"""tianshou: prune an algorithm before it is trained, its targets follow; export its policy."""

from kanbatsu.integrations.tianshou.algorithm import prune_algorithm
from kanbatsu.integrations.tianshou.export import export_policy

__all__ = ["export_policy", "prune_algorithm"]
