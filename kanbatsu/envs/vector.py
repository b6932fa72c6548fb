"""Several environments side by side in this process: seeds, resets, checks, and exact resume."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Num

from kanbatsu.envs.spec import Environment, Timestep

FLOAT32_MAX = float(np.finfo(np.float32).max)


class EnvironmentFault(RuntimeError):
    """An environment broke its word: it crashed, or returned NaN or the wrong shape."""


class Episode(NamedTuple):
    """An episode that has just ended."""

    return_: float
    """Undiscounted sum of rewards."""
    length: int
    """Decisions."""
    success: bool | None
    """Success that the last interaction reported; None where the environment does not report it."""


class VectorStep(NamedTuple):
    """Outcome of one interaction in each of `n` environments.

    `obs` is what to act on next: the first observation of a new episode where the old one ended.
    `next_obs` is always the true successor, which belongs into the replay.
    """

    obs: Num[np.ndarray, "n *obs"]
    next_obs: Num[np.ndarray, "n *obs"]
    reward: Float32[np.ndarray, " n"]
    terminated: Bool[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]
    episodes: tuple[Episode, ...]


class VectorEnvironment:
    """Steps `n` environments in turn and starts a new episode wherever one ends.

    Every episode has its own seed, a function of `seed`, the environment's index and the episode's
    number alone. Everything that an environment returns is checked.

    Args:
        environments: at least one, all of the same task; they are closed with this object.
        seed: not negative.

    Raises:
        ValueError: no environments, different ones, or a negative seed.

    Example:
        >>> from kanbatsu.envs.make import make
        >>> vector = VectorEnvironment([make("gym/Pendulum-v1") for _ in range(2)], seed=0)
        >>> vector.reset().shape
        (2, 3)
        >>> vector.step(np.zeros((2, 1), np.float32)).reward.shape
        (2,)
    """

    def __init__(self, environments: Sequence[Environment], seed: int) -> None:
        if not environments:
            raise ValueError("VectorEnvironment needs at least one environment")
        kinds = {(environment.spec, environment.action_repeat) for environment in environments}
        if len(kinds) > 1:
            raise ValueError(f"environments side by side must be of one task, not of {kinds}")
        if seed < 0:
            raise ValueError(f"the seed must not be negative, not {seed}")
        self._environments = tuple(environments)
        self._seed = seed
        self.spec = environments[0].spec
        self.action_repeat = environments[0].action_repeat
        self.frames: int = getattr(environments[0], "frames", 1)
        self._interactions = 0
        self._episode = np.zeros(len(environments), np.int64)
        self._return = np.zeros(len(environments))
        self._actions: list[list[np.ndarray]] = [[] for _ in environments]
        self._obs = np.empty((len(environments), *self.spec.obs_shape), self.spec.obs_dtype)

    def __len__(self) -> int:
        return len(self._environments)

    def reset(self) -> Num[np.ndarray, "n *obs"]:
        """Start over, with episode 0 of every environment: the same episodes each time.

        Returns:
            The first observations.

        Raises:
            EnvironmentFault: an environment crashed or returned something unusable.
        """
        self._interactions = 0
        for index in range(len(self)):
            self._begin(index, episode=0)
        return self._obs.copy()

    def step(self, actions: Float32[np.ndarray, "n action_dim"]) -> VectorStep:
        """Act once in every environment; `reset` or `restore` comes first.

        Args:
            actions: in [-1, 1].

        Returns:
            The transitions, what to act on next, and the episodes that ended.

        Raises:
            EnvironmentFault: an environment crashed or returned something unusable.
        """
        next_obs = np.empty_like(self._obs)
        reward = np.empty(len(self), np.float32)
        terminated, truncated = np.empty(len(self), np.bool_), np.empty(len(self), np.bool_)
        episodes = []
        for index, action in enumerate(np.array(actions)):
            self._interactions += 1
            timestep = self._step_one(index, action)
            next_obs[index], reward[index] = timestep.obs, timestep.reward
            terminated[index], truncated[index] = timestep.terminated, timestep.truncated
            self._obs[index] = timestep.obs
            self._return[index] += timestep.reward
            self._actions[index].append(action)
            if timestep.terminated or timestep.truncated:
                length = len(self._actions[index])
                episodes.append(Episode(float(self._return[index]), length, timestep.success))
                self._begin(index, episode=int(self._episode[index]) + 1)
        return VectorStep(
            self._obs.copy(), next_obs, reward, terminated, truncated, tuple(episodes)
        )

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return all that is needed to continue from here, as flat arrays.

        Simulators do not hand out their state; the episodes under way are stored as their seeds
        and the actions taken so far.

        Returns:
            Arrays for a checkpoint; they share no memory with this object.
        """
        taken = [np.stack(actions) for actions in self._actions if actions]
        return {
            "seed": np.array(self._seed, np.int64),
            "interactions": np.array(self._interactions, np.int64),
            "episode": self._episode.copy(),
            "return": self._return.copy(),
            "length": np.array([len(actions) for actions in self._actions], np.int64),
            "actions": np.concatenate(
                [np.empty((0, self.spec.action_dim), np.float32), *taken], dtype=np.float32
            ),
            "obs": self._obs.copy(),
        }

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> Num[np.ndarray, "n *obs"]:
        """Continue where `snapshot` was taken, by playing the episodes under way again.

        An environment that does not repeat itself starts a fresh episode, with a warning.

        Args:
            snapshot: from `snapshot` of an object with the same task, length and seed.

        Returns:
            What to act on next.

        Raises:
            ValueError: the snapshot belongs to other environments or another seed.
            EnvironmentFault: an environment crashed or returned something unusable.
        """
        if snapshot["obs"].shape != self._obs.shape or int(snapshot["seed"]) != self._seed:
            raise ValueError(
                f"this snapshot is of environments with observations {snapshot['obs'].shape} and "
                f"seed {int(snapshot['seed'])}, not {self._obs.shape} and seed {self._seed}"
            )
        self._interactions = int(snapshot["interactions"])
        taken = np.split(np.array(snapshot["actions"]), np.cumsum(snapshot["length"])[:-1])
        for index, actions in enumerate(taken):
            episode = int(snapshot["episode"][index])
            self._replay(index, episode, actions)
            if not (
                np.array_equal(self._obs[index], snapshot["obs"][index])
                and self._return[index] == snapshot["return"][index]
                and len(self._actions[index]) == len(actions)
            ):
                warnings.warn(
                    f"environment {index} did not repeat episode {episode} from its seed and its "
                    "actions, so a new episode begins here: this run goes on, but not exactly as "
                    "it would have without the interruption",
                    RuntimeWarning,
                    stacklevel=2,
                )
                self._begin(index, episode + 1)
        return self._obs.copy()

    def close(self) -> None:
        """Close every environment."""
        for environment in self._environments:
            environment.close()

    def _begin(self, index: int, episode: int) -> None:
        """Start an episode: the only place that resets an environment."""
        self._episode[index] = episode
        self._return[index] = 0.0
        self._actions[index] = []
        try:
            obs = self._environments[index].reset(episode_seed(self._seed, index, episode))
        except Exception as error:
            raise self._fault(index, f"crashed in reset: {error!r}") from error
        self._obs[index] = self._checked(index, obs)

    def _step_one(self, index: int, action: np.ndarray) -> Timestep:
        """Step one environment and check what it returns."""
        try:
            timestep = self._environments[index].step(action)
        except Exception as error:
            raise self._fault(index, f"crashed in step: {error!r}") from error
        # Said this way round, NaN fails too.
        if not abs(timestep.reward) <= FLOAT32_MAX:
            raise self._fault(index, f"returned the reward {timestep.reward}")
        return timestep._replace(obs=self._checked(index, timestep.obs))

    def _replay(self, index: int, episode: int, actions: np.ndarray) -> None:
        """Play an episode again, up to where its actions or the episode itself end."""
        self._begin(index, episode)
        for action in actions:
            timestep = self._step_one(index, action)
            if timestep.terminated or timestep.truncated:
                break
            self._obs[index] = timestep.obs
            self._return[index] += timestep.reward
            self._actions[index].append(action)

    def _checked(self, index: int, obs: Any) -> Num[np.ndarray, "*obs"]:
        """Return the observation in the type of the spec, or say what is wrong with it."""
        spec = self.spec
        if np.shape(obs) != spec.obs_shape:
            raise self._fault(
                index,
                f"returned an observation of shape {np.shape(obs)} instead of {spec.obs_shape}",
            )
        if spec.obs_dtype == "uint8":
            if np.asarray(obs).dtype != np.uint8:
                raise self._fault(index, f"returned an image of {np.asarray(obs).dtype}, not uint8")
            return np.asarray(obs)
        if isinstance(obs, np.ndarray) and obs.dtype == np.float32:
            checked = obs
        else:
            with np.errstate(over="ignore"):
                checked = np.asarray(obs, np.float32)
        if not np.isfinite(checked).all():
            entry = int(np.argmin(np.isfinite(checked)))
            raise self._fault(
                index, f"returned an observation whose entry {entry} is {checked.ravel()[entry]}"
            )
        return checked

    def _fault(self, index: int, what: str) -> EnvironmentFault:
        """Build the error that says which environment, when, and what to do."""
        env_steps = self._interactions * self.action_repeat
        return EnvironmentFault(
            f"environment {index} {what} at env step {env_steps} (interaction "
            f"{self._interactions}; number {len(self._actions[index]) + 1} of its episode "
            f"{int(self._episode[index])}, seed "
            f"{episode_seed(self._seed, index, int(self._episode[index]))}). Fix the environment, "
            "or wrap it so that it ends such an episode."
        )


def episode_seed(seed: int, environment: int, episode: int) -> int:
    """Mix three numbers into the 32-bit seed of one episode.

    Args:
        seed: the vector's own, not negative.
        environment: index of the environment.
        episode: number of the episode in that environment.

    Returns:
        A seed that differs, for all that is known, from that of every other episode.

    Example:
        >>> episode_seed(0, 0, 0), episode_seed(0, 0, 1)
        (2968811710, 3831201730)
    """
    return int(np.random.SeedSequence([seed, environment, episode]).generate_state(1)[0])
