"""rejax: an algorithm whose networks prune themselves."""

from kanbatsu.integrations.rejax.algorithm import prune_networks

__all__ = ["prune_networks"]
