"""TorchRL: prune networks before a loss takes them, each critic with masks of its own."""

from kanbatsu.integrations.torchrl.networks import prune_networks

__all__ = ["prune_networks"]
