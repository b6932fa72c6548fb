"""Loads a policy and runs it: numpy and the compiled kernels, no JAX."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.deploy.bundle import AGAIN
from kanbatsu.deploy.entry import PolicyError
from kanbatsu.deploy.files import read
from kanbatsu.deploy.golden import check_golden
from kanbatsu.deploy.layers import Layer, Normalise, Squash, run, with_dense_weights
from kanbatsu.deploy.native import Program
from kanbatsu.deploy.seal import Key
from kanbatsu.kernels.shared import shared_library

Function = Callable[[np.ndarray], np.ndarray]


class Policy:
    """A function from observations to greedy actions; `load` returns one.

    It holds no state: calls do not depend on each other, and may come from several threads.
    """

    def __init__(self, layers: Sequence[Layer], contract: Mapping[str, Any]) -> None:
        self.contract = contract
        """What `contract.json` says: names, units and ranges of observations and actions, the
        normaliser, the training data, where the policy comes from, and its golden pairs."""
        self.environment: Mapping[str, Any] = contract.get("environment", {})
        """What the run knew of its environment: `task`, `action_repeat`, `time` and the fields of
        its spec; empty where a policy was not exported from a run."""
        begin, end = layers[0], layers[-1]
        assert isinstance(begin, Normalise) and isinstance(end, Squash)  # noqa: PT018
        self.obs_dim: int = begin.mean.size
        """Length of an observation."""
        self._shape = (self.obs_dim,)
        self.action_dim: int = end.low.size
        """Length of an action."""
        self.low: np.ndarray = end.low
        """Lowest value of each entry of an action."""
        self.high: np.ndarray = end.high
        """Highest value of each entry of an action."""
        self._act, self._act_one = _functions_of(layers)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Return the greedy action of an observation, or those of a batch.

        Args:
            observation: numbers `[obs_dim]` or `[batch, obs_dim]`, as the environment gives them:
                the policy normalises them itself.

        Returns:
            float32 `[action_dim]` or `[batch, action_dim]`, between `low` and `high`.

        Raises:
            ValueError: for another shape.
        """
        if isinstance(observation, np.ndarray) and observation.shape == self._shape:
            return self._act_one(observation)
        obs = np.asarray(observation, np.float32, order="C")
        if obs.ndim not in (1, 2) or obs.shape[-1] != self.obs_dim:
            raise ValueError(
                f"an observation of this policy is [{self.obs_dim}], or [batch, {self.obs_dim}]: "
                f"got {list(obs.shape)}"
            )
        return self._act(obs) if obs.ndim == 2 else self._act_one(obs)

    def __repr__(self) -> str:
        return f"Policy(obs_dim={self.obs_dim}, action_dim={self.action_dim})"


def _functions_of(layers: Sequence[Layer]) -> tuple[Function, Function]:
    """What maps a batch of observations, and what maps one."""
    library = shared_library()
    if library is not None:
        program = Program(library, layers)
        return program, program.one
    dense = with_dense_weights(layers)
    return (
        lambda obs: run(dense, obs),
        lambda obs: run(dense, np.asarray(obs, np.float32)[None])[0],
    )


def load(path: str | os.PathLike[str], *, key: Key | None = None) -> Policy:
    """Load a policy; all that can be wrong with its files is found here.

    The checksum of every file is compared and the golden pairs are computed again, on this machine.

    Args:
        path: the folder that `export` wrote.
        key: path of the key file that it was signed with; that of the environment variable
            `KANBATSU_POLICY_KEY` by default.

    Returns:
        A function of observations. With the compiled kernels it runs on the caller's thread alone;
        without them (said once, in the log) the weights are dense and numpy multiplies them.

    Raises:
        FileNotFoundError: if the folder holds no policy.
        PolicyError: if a file is damaged, missing or foreign, the golden pairs are not met, or the
            signature is not that of the key.

    Example:
        >>> import jax, tempfile
        >>> from kanbatsu.agents.sac import SAC, SACConfig
        >>> from kanbatsu.deploy import export_policy
        >>> from kanbatsu.nn.config import CriticConfig, NetworkConfig
        >>> config = SACConfig(NetworkConfig(width=8, blocks=1), CriticConfig(width=8, blocks=1))
        >>> from kanbatsu.types import Spec
        >>> state = SAC(Spec((3,), 2, episode_length=100), config).init(jax.random.key(0))
        >>> folder = tempfile.mkdtemp()
        >>> export_policy(state.actor, state.normaliser, folder)
        >>> policy = load(folder)
        >>> policy
        Policy(obs_dim=3, action_dim=2)
        >>> policy(np.ones(3)).shape, policy(np.ones((7, 3))).shape
        ((2,), (7, 2))
    """
    folder = Path(path)
    policy = Policy(*read(folder, key))
    try:
        check_golden(policy.contract, policy, policy.low, policy.high)
    except PolicyError as error:
        raise PolicyError(f"{folder} does not act as it was exported: {error}; {AGAIN}") from None
    return policy
