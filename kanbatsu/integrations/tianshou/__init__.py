"""tianshou: prune an algorithm's networks before it is trained; its target networks follow."""

from kanbatsu.integrations.tianshou.algorithm import prune_algorithm

__all__ = ["prune_algorithm"]
