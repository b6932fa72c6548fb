"""Loads a policy and runs it: numpy and the compiled kernels, no JAX."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.deploy.bundle import AGAIN
from kanbatsu.deploy.compute import run
from kanbatsu.deploy.entry import GREATEST, PolicyError
from kanbatsu.deploy.files import read
from kanbatsu.deploy.golden import check_golden
from kanbatsu.deploy.layers import Choose, End, Layer, Normalise, with_dense_weights
from kanbatsu.deploy.native import Program, has_images, knows
from kanbatsu.deploy.seal import Key
from kanbatsu.kernels.shared import shared_library

log = logging.getLogger(__name__)

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
        assert isinstance(begin, Normalise)
        assert isinstance(end, End)
        self.obs_dim: int = begin.mean.size
        """Length of an observation."""
        seen = contract.get("observation") or {}
        self._shape = tuple(seen.get("shape") or (self.obs_dim,))
        low, high = bounds_of(end)
        self.action_dim: int = low.size
        """Length of an action; 1 of one that is a number."""
        self.low: np.ndarray = low
        """Lowest value of each entry of an action, or -inf."""
        self.high: np.ndarray = high
        """Highest value of each entry of an action, or inf."""
        self._turned = bool(seen.get("channels_first"))
        self._parts = seen.get("parts")
        self._act, self._act_one = _functions_of(layers)
        if isinstance(end, Choose):
            self._act, self._act_one = _numbered(end, self._act), _numbered(end, self._act_one)

    def __call__(self, observation: np.ndarray | Mapping[str, Any]) -> Any:
        """Return the greedy action of an observation, or those of a batch.

        Args:
            observation: numbers `[obs_dim]` or `[batch, obs_dim]`, as the environment gives them:
                the policy normalises them itself. Where the contract names `parts`, a dictionary
                of arrays as well; where its `shape` is that of an image, an image, or
                `[batch, ...]`, whether channels come first or last.

        Returns:
            float32 `[action_dim]` or `[batch, action_dim]`, between `low` and `high`. Choices are
            int64; of one choice alone, a number, or `[batch]`.

        Raises:
            ValueError: for another shape.
        """
        if isinstance(observation, np.ndarray) and observation.shape == self._shape:
            return self._act_one(observation)
        if isinstance(observation, Mapping):
            observation = self._laid_out(observation)
        obs = np.asarray(observation, np.float32, order="C")
        if len(self._shape) > 1:
            obs = self._laid_flat(obs)
        if obs.ndim not in (1, 2) or obs.shape[-1] != self.obs_dim:
            sizes = ", ".join(map(str, self._shape))
            raise ValueError(
                f"an observation of this policy is [{sizes}], or [batch, {sizes}]: got "
                f"{list(np.shape(observation))}"
            )
        return self._act(obs) if obs.ndim == 2 else self._act_one(obs)

    def _laid_flat(self, images: np.ndarray) -> np.ndarray:
        """Lay images flat; those with channels last are turned where channels come first."""
        axes = len(self._shape)
        if self._turned and images.shape[-axes:] == (*self._shape[1:], self._shape[0]):
            images = np.moveaxis(images, -1, -axes)
        if images.shape[-axes:] != self._shape:
            return images
        return images.reshape(*images.shape[:-axes], self.obs_dim)

    def _laid_out(self, observation: Mapping[str, Any]) -> np.ndarray:
        """Lay the arrays of a dictionary end to end, as the contract orders them."""
        parts: Sequence[Any] = self._parts or ()
        names = [name for name, _ in parts]
        if sorted(observation) != sorted(names):
            raise ValueError(
                f"an observation of this policy has the parts {', '.join(names) or 'none'}: got "
                f"{', '.join(sorted(observation))}"
            )
        arrays = [np.asarray(observation[name], np.float32) for name in names]
        single = all(a.size == size for a, (_, size) in zip(arrays, parts, strict=True))
        batch = () if single else (len(arrays[0]),)
        return np.concatenate([array.reshape(*batch, -1) for array in arrays], axis=-1)

    def __repr__(self) -> str:
        return f"Policy(obs_dim={self.obs_dim}, action_dim={self.action_dim})"


def _functions_of(layers: Sequence[Layer]) -> tuple[Function, Function]:
    """What maps a batch of observations, and what maps one."""
    library = shared_library()
    if has_images(layers):
        library = None
    elif library is not None and not knows(library, layers):
        log.warning(
            "the compiled kernels are older than this kanbatsu and do not know every layer of this "
            "policy: numpy computes it; build them again to be faster"
        )
        library = None
    if library is not None:
        program = Program(library, layers)
        return program, program.one
    dense = with_dense_weights(layers)
    return (
        lambda obs: run(dense, obs),
        lambda obs: run(dense, np.asarray(obs, np.float32).reshape(1, -1))[0],
    )


def bounds_of(end: End) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest action, infinite where there is no bound.

    Example:
        >>> bounds_of(Choose(np.array([3], np.int32), np.array([1], np.int32), True))
        (array([1.], dtype=float32), array([3.], dtype=float32))
    """
    if isinstance(end, Choose):
        low = end.starts.astype(np.float32)
        return low, low + end.sizes.astype(np.float32) - 1
    most = np.float32(GREATEST)
    low = np.where(end.low <= -most, np.float32(-np.inf), end.low)
    return low, np.where(end.high >= most, np.float32(np.inf), end.high)


def _numbered(end: Choose, act: Function) -> Function:
    """Give choices as the numbers that an environment knows them by."""

    def choices(obs: np.ndarray) -> np.ndarray:
        numbers = act(obs).astype(np.int64) + end.starts
        return numbers[..., 0] if end.scalar else numbers

    return choices


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
