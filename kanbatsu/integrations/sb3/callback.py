"""A callback that logs the health of the networks while Stable-Baselines3 trains them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from kanbatsu.integrations.sb3.health import health, measure_of


class ProbeCallback(BaseCallback):
    """Measures actor and critic now and then, and logs what it finds.

    Stable-Baselines3's logger, and so TensorBoard, gets `probes/actor/dormant_0.1`,
    `dormant_0.025`, `srank`, `gradient_norm`, `weight_norm` and `feature_norm`, the same under
    `probes/critic/`, and the dormant ratio of each layer, `probes/actor/dormant_0.1/<layer>`, which
    is left out of printed tables. Of several critics, the first is measured; DQN has only a critic.

    A batch is drawn from the replay buffer, or from the rollout that PPO is about to learn from.
    Training does not notice: every random number that it draws is the same as without.

    Pruned or not, any model of `kanbatsu.integrations.sb3.prune_policy` can be watched.

    Args:
        every: env steps between two measurements; the first comes when so many have passed and
            learning has begun.
        batch: transitions to measure on; fewer where the buffer holds fewer. Take more than the
            networks are wide, or srank measures the batch.
        dormant_warning: warn, once for each network, when more than this share of its units is
            dormant (tau 0.1).
        seed: of the batches and of the noise in the losses.
        verbose: as in every callback.

    Raises:
        ValueError: for numbers that make no sense; when learning begins, for another algorithm; at
            the first measurement, for a network without a hidden layer.

    Example:
        >>> from stable_baselines3 import SAC
        >>> kwargs = {"net_arch": [8]}
        >>> model = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, batch_size=4, seed=0)
        >>> callback = ProbeCallback(every=100, batch=32)
        >>> _ = model.learn(200, callback=callback)
        >>> sorted(name for name in callback.latest["critic"] if "/" not in name)[:3]
        ['dormant_0.025', 'dormant_0.1', 'feature_norm']

    Reference:
        docs/probes has the equations.
    """

    def __init__(
        self,
        every: int = 10_000,
        batch: int = 2048,
        dormant_warning: float = 0.5,
        seed: int = 0,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        if every < 1 or batch < 1:
            raise ValueError(f"every and batch must be at least 1: got {every} and {batch}")
        if not 0.0 <= dormant_warning <= 1.0:
            raise ValueError(f"dormant_warning is a share, in [0, 1]: got {dormant_warning}")
        self.every = every
        self.batch = batch
        self.dormant_warning = dormant_warning
        self.seed = seed
        self.latest: dict[str, dict[str, float]] = {}
        """The latest measurement, by network and name."""
        self._periods = 0
        self._warned: set[str] = set()

    def _init_callback(self) -> None:
        measure_of(self.model)  # refuses another algorithm before it has learned for hours

    def _on_training_start(self) -> None:
        self._periods = self.num_timesteps // self.every

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.num_timesteps = self.model.num_timesteps
        periods = self.num_timesteps // self.every
        if periods == self._periods or self._is_before_learning():
            return
        self._periods = periods
        with _own_randomness((self.seed, self.num_timesteps), self.model.device):
            self.latest = health(self.model, self._draw_batch())
        for network, found in self.latest.items():
            for name, value in found.items():
                of_layer = "/" in name
                self.logger.record(
                    f"probes/{network}/{name}", value, exclude=("stdout",) if of_layer else None
                )
            self._warn(network, found)
        self.logger.dump(self.num_timesteps)

    def _is_before_learning(self) -> bool:
        model = self.model
        if not isinstance(model, OffPolicyAlgorithm):
            return False
        return model.num_timesteps <= model.learning_starts

    def _draw_batch(self) -> Any:
        """Draw as the algorithm draws its own batches."""
        model: Any = self.model
        if isinstance(model, OffPolicyAlgorithm):
            buffer: Any = model.replay_buffer
            size = min(self.batch, buffer.size() * buffer.n_envs)
            return buffer.sample(size, env=model._vec_normalize_env)
        return next(model.rollout_buffer.get(self.batch))

    def _warn(self, network: str, found: dict[str, float]) -> None:
        if found["dormant_0.1"] > self.dormant_warning and network not in self._warned:
            self._warned.add(network)
            warnings.warn(
                f"{found['dormant_0.1']:.0%} of the {network}'s units are dormant after "
                f"{self.num_timesteps:,} env steps: it may have stopped learning. See which layers "
                f"(probes/{network}/dormant_0.1/...); a lower sparsity, a lower learning rate or "
                "LayerNorm may help",
                stacklevel=2,
            )


@contextmanager
def _own_randomness(seed: tuple[int, int], device: torch.device) -> Iterator[None]:
    """Draw from other streams than training does, which finds its own as they were."""
    numpy_state = np.random.get_state()  # noqa: NPY002 (what Stable-Baselines3 draws from)
    first, second = np.random.SeedSequence(seed).generate_state(2)
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            np.random.seed(first)  # noqa: NPY002
            torch.manual_seed(int(second))
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
