"""TorchRL: prune networks before a loss takes them, and export the actor."""

from kanbatsu.integrations.torchrl.export import export_policy
from kanbatsu.integrations.torchrl.networks import prune_networks

__all__ = ["export_policy", "prune_networks"]
