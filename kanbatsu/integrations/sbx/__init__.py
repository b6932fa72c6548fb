"""SBX (Stable-Baselines in JAX): prune a model's networks once, before `learn`, and look inside."""

from kanbatsu.integrations.sbx.health import probe
from kanbatsu.integrations.sbx.networks import count
from kanbatsu.integrations.sbx.policy import prune_policy

__all__ = ["count", "probe", "prune_policy"]
