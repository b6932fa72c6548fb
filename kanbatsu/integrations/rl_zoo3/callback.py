"""A callback that prunes a Stable-Baselines3 model as its training begins."""

from __future__ import annotations

from typing import Unpack

from stable_baselines3.common.callbacks import BaseCallback

from kanbatsu.integrations.networks import Choices
from kanbatsu.integrations.sb3.policy import prune_policy
from kanbatsu.torch.reading import masks


class PruneCallback(BaseCallback):
    """Prune the model when `learn` begins, before anything is learned.

    For programs that build the model inside and take callbacks by name, as RL Baselines3 Zoo's
    hyperparameter files do. A model that is pruned already, because it was loaded to go on
    learning, stays as it is.

    Args:
        actor: share of the actor's weights to remove, as in `prune_policy`.
        critic: the same for all critics, as in `prune_policy`.
        features: the same for the feature extractors.
        **choices: `seed`, `distribution`, `pattern`, `group_size`, `include`, `exclude` and
            `compute`, as for `prune_policy`.

    Raises:
        ValueError: from `learn`, for whatever `prune_policy` refuses. The model is then as it was.

    Example:
        >>> from stable_baselines3 import PPO
        >>> model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, n_epochs=1)
        >>> _ = model.learn(8, callback=PruneCallback(actor=0.5, critic=0.8))
        >>> from kanbatsu.torch import count
        >>> count(model.policy.mlp_extractor.policy_net).layers[1].kept
        1856
    """

    def __init__(
        self,
        actor: float | None = None,
        critic: float | None = None,
        features: float = 0.0,
        **choices: Unpack[Choices],
    ):
        super().__init__()
        self.shares = (actor, critic, features)
        self.choices = choices

    def _init_callback(self) -> None:
        if not masks(self.model.policy):
            prune_policy(self.model, *self.shares, **self.choices)

    def _on_step(self) -> bool:
        return True
