"""Brax, and MuJoCo Playground's PPO: networks that prune themselves, for `network_factory`."""

try:
    import brax as _brax  # noqa: F401  (so that its absence is said plainly)
except ModuleNotFoundError as error:
    if error.name != "brax":
        raise
    raise ModuleNotFoundError(
        "kanbatsu.integrations.brax needs Brax: pip install 'kanbatsu[brax]'", name="brax"
    ) from error

from kanbatsu.integrations.brax.networks import count, prune_networks

__all__ = ["count", "prune_networks"]
