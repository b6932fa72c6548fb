"""Stable-Baselines3: prune a model before `learn`, and watch its networks while it learns."""

try:
    import stable_baselines3 as _stable_baselines3  # noqa: F401  (so that its absence is said plainly)
except ModuleNotFoundError as error:
    if error.name != "stable_baselines3":
        raise
    raise ModuleNotFoundError(
        "kanbatsu.integrations.sb3 needs Stable-Baselines3: pip install 'kanbatsu[sb3]'",
        name=error.name,
    ) from error

from kanbatsu.integrations.sb3.callback import ProbeCallback
from kanbatsu.integrations.sb3.export import export_policy
from kanbatsu.integrations.sb3.policy import prune_policy
from kanbatsu.integrations.sb3.simba import SimbaPolicy, register

register()

__all__ = ["ProbeCallback", "SimbaPolicy", "export_policy", "prune_policy"]
