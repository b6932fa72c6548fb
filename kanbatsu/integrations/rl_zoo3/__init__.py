"""RL Baselines3 Zoo: an entry of its hyperparameter files that prunes the model it trains."""

from kanbatsu.integrations.rl_zoo3.callback import PruneCallback

__all__ = ["PruneCallback"]
