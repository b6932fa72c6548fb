"""The replay of images: single frames, from which stacks and windows of steps are rebuilt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kanbatsu.types import Spec, Transition, Window


class WindowReplay:
    """The last transitions, single frames in place of stacks, drawn as windows of several.

    Each environment has a ring of its own, in which every frame stands once: an observation of
    `frames` frames takes the place of one, and the successor of the last interaction of an episode
    that of one more. What is drawn is what was added, to the bit.

    Args:
        capacity: Transitions kept, over all environments; the oldest go first, a few before their
            time where episodes are short and their last frames need room.
        spec: Sizes of observation and action.
        environments: Environments that add a transition each time.
        frames: Frames along the last axis of an observation, the oldest first. An episode begins
            with its first one `frames` times, and each interaction adds one at the end.
        steps: Interactions of a window.
        discount: Discount per interaction.

    Raises:
        ValueError: The capacity does not hold a transition of each environment, or the last axis
            is no multiple of `frames`.

    Example:
        >>> spec = Spec((1, 1, 2), action_dim=1, obs_dtype="uint8")
        >>> replay = WindowReplay(10, spec, environments=1, frames=2, steps=3, discount=0.5)
        >>> action, no = np.zeros((1, 1), np.float32), np.zeros(1, np.bool_)
        >>> for last in (0, 1, 2):
        ...     stacks = np.array([[max(last - 1, 0), last], [last, last + 1]], np.uint8)
        ...     obs, next_obs = stacks.reshape(2, 1, 1, 1, 2)
        ...     reward = np.ones(1, np.float32)
        ...     replay.add(Transition(obs, action, reward, no, no, next_obs))
        >>> window = replay.sample(np.random.default_rng(0), batches=1, batch_size=1)
        >>> window.obs.ravel().tolist(), window.next_obs.ravel().tolist(), window.reward.item()
        ([1, 2], [2, 3], 1.0)
    """

    def __init__(
        self,
        capacity: int,
        spec: Spec,
        *,
        environments: int,
        frames: int,
        steps: int,
        discount: float,
    ) -> None:
        rows = capacity // environments
        if rows < 1:
            raise ValueError(
                f"a replay of {capacity} cannot hold a transition of each of {environments} "
                "environments"
            )
        *space, channels = spec.obs_shape
        if channels % frames:
            raise ValueError(f"observations {spec.obs_shape} do not hold {frames} frames")
        self.capacity, self._frames, self._steps = capacity, frames, steps
        self._discount, self._channels, self._obs_shape = discount, channels // frames, (*space, -1)
        self._room = rows + rows // 64 + frames + 2
        n = environments
        self._stored: dict[str, Any] = {
            "frames": np.empty((n, self._room, *space, self._channels), spec.obs_dtype),
            "action": np.empty((n, rows, spec.action_dim), np.float32),
            "reward": np.empty((n, rows), np.float32),
            "terminated": np.empty((n, rows), np.bool_),
            "truncated": np.empty((n, rows), np.bool_),
            "at": np.empty((n, rows), np.int64),  # number of the newest frame of `obs`
            "first": np.empty((n, rows), np.int64),  # number of the first frame of its episode
        }
        self._counts: dict[str, Any] = {
            "added": np.zeros(n, np.int64),  # transitions ever
            "oldest": np.zeros(n, np.int64),  # number of the first that can be drawn
            "drawn": np.zeros(n, np.int64),  # frames ever
            "open": np.zeros(n, np.bool_),  # whether an episode is under way
        }

    @property
    def size(self) -> int:
        """Transitions at which a drawn window may begin."""
        return int((self._counts["added"] - self._counts["oldest"]).sum())

    def add(self, transition: Transition) -> None:
        """Write a transition of each environment over the oldest ones.

        Args:
            transition: Arrays `[environments, ...]`, with this replay's sizes.

        Raises:
            ValueError: A shape or a type differs, or an observation does not hold the frames that
                the one before it held. Nothing is written.
        """
        self._check(transition)
        stored, counts = self._stored, self._counts
        rows = stored["reward"].shape[1]
        for one in range(len(transition.reward)):
            if not counts["open"][one]:
                self._push(one, transition.obs[one])
            at, slot = counts["drawn"][one] - 1, counts["added"][one] % rows
            before = stored["first"][one, slot - 1]
            stored["first"][one, slot] = before if counts["open"][one] else at
            stored["at"][one, slot] = at
            for name in ("action", "reward", "terminated", "truncated"):
                stored[name][one, slot] = getattr(transition, name)[one]
            self._push(one, transition.next_obs[one])
            counts["added"][one] += 1
            counts["open"][one] = not (transition.terminated[one] or transition.truncated[one])
            self._forget(one)

    def sample(self, rng: np.random.Generator, batches: int, batch_size: int) -> Window:
        """Draw windows uniformly and with replacement.

        Args:
            rng: Moves on by one draw of `batches * batch_size` integers.
            batches: How many batches.
            batch_size: Windows per batch.

        Returns:
            Arrays `[batches, batch_size, ...]`, copied.

        Raises:
            ValueError: The replay is empty.
        """
        if not self.size:
            raise ValueError("the replay is empty: add transitions before sampling")
        counts, stored = self._counts, self._stored
        ends = np.cumsum(counts["added"] - counts["oldest"])
        drawn = rng.integers(self.size, size=(batches, batch_size))
        one = np.searchsorted(ends, drawn, side="right")
        number = counts["added"][one] - ends[one] + drawn
        rows, begin = stored["reward"].shape[1], number % stored["reward"].shape[1]
        reward, discount = np.zeros(drawn.shape), np.ones(drawn.shape)
        last, going = number, np.ones(drawn.shape, np.bool_)
        for step in range(self._steps):
            going = going & (number + step < counts["added"][one])
            slot = (number + step) % rows
            reward += np.where(going, discount * stored["reward"][one, slot], 0.0)
            discount = np.where(going, discount * self._discount, discount)
            last = np.where(going, number + step, last)
            going = going & ~stored["terminated"][one, slot] & ~stored["truncated"][one, slot]
        end = last % rows
        alive = ~stored["terminated"][one, end]
        return Window(
            obs=self._stack(one, stored["at"][one, begin], stored["first"][one, begin]),
            action=stored["action"][one, begin],
            reward=reward.astype(np.float32),
            discount=(alive * discount).astype(np.float32),
            next_obs=self._stack(one, stored["at"][one, end] + 1, stored["first"][one, end]),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what is there, for a checkpoint: the filled part of every ring, not copied."""
        rows, frames = self._counts["added"].max(), self._counts["drawn"].max()
        filled = {
            name: array[:, : frames if name == "frames" else rows]
            for name, array in self._stored.items()
        }
        return {name: np.ascontiguousarray(array) for name, array in filled.items()} | self._counts

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what `arrays` returned; every later draw is then as it would have been.

        Args:
            arrays: From a replay with the same arguments.

        Raises:
            ValueError: A shape or a type differs. Nothing is written.
        """
        rows, frames = arrays["added"].max(), arrays["drawn"].max()
        for name, stored in self._stored.items():
            shape = stored[:, : frames if name == "frames" else rows].shape
            if arrays[name].shape != shape or arrays[name].dtype != stored.dtype:
                raise ValueError(
                    f"{name} is {arrays[name].dtype}{list(arrays[name].shape)}, but this replay "
                    f"holds {stored.dtype}{list(shape)}: use the capacity, task and environments "
                    "that it was written with"
                )
        for name, stored in self._stored.items():
            stored[:, : arrays[name].shape[1]] = arrays[name]
        self._counts = {name: np.array(arrays[name]) for name in self._counts}

    def _push(self, one: int, stack: np.ndarray) -> None:
        """Write the newest frame of a stack."""
        slot = self._counts["drawn"][one] % self._room
        self._stored["frames"][one, slot] = stack[..., -self._channels :]
        self._counts["drawn"][one] += 1

    def _forget(self, one: int) -> None:
        """Let go of the transitions that were written over, and of those without their frames."""
        stored, counts = self._stored, self._counts
        rows = stored["reward"].shape[1]
        oldest = max(counts["oldest"][one], counts["added"][one] - rows)
        lost = counts["drawn"][one] - self._room
        while oldest < counts["added"][one]:
            at, first = stored["at"][one, oldest % rows], stored["first"][one, oldest % rows]
            if max(first, at - self._frames + 1) >= lost:
                break
            oldest += 1
        counts["oldest"][one] = oldest

    def _stack(self, one: np.ndarray, newest: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Rebuild the observations that end with frames of these numbers."""
        back = np.arange(self._frames - 1, -1, -1)
        numbers = np.maximum(newest[..., None] - back, first[..., None])
        frames = self._stored["frames"][one[..., None], numbers % self._room]
        stacks = np.moveaxis(frames, newest.ndim, -2)
        return stacks.reshape(*newest.shape, *self._obs_shape)

    def _check(self, transition: Transition) -> None:
        """Refuse what does not fit, or would not be rebuilt as it is."""
        stored, counts, n = self._stored, self._counts, len(self._counts["added"])
        space, channels = stored["frames"].shape[2:-1], self._channels
        obs_shape = (n, *space, channels * self._frames)
        for name, new in transition._asdict().items():
            kind = stored["frames" if name.endswith("obs") else name]
            shape = obs_shape if name.endswith("obs") else (n, *kind.shape[2:])
            if new.shape != shape or new.dtype != kind.dtype:
                raise ValueError(
                    f"{name} is {new.dtype}{list(new.shape)}, but this replay holds "
                    f"{kind.dtype}{list(shape)}: all transitions must come from one task"
                )
        rows = stored["reward"].shape[1]
        for one, obs in enumerate(transition.obs):
            seen, where = np.tile(obs[..., -channels:], self._frames), "its episode begins with"
            if counts["open"][one]:
                first = stored["first"][one, (counts["added"][one] - 1) % rows]
                newest = counts["drawn"][one] - 1
                seen = self._stack(np.array(one), np.array(newest), np.array(first))
                where = "the one before it led to"
            after = transition.next_obs[one][..., :-channels]
            if not np.array_equal(obs, seen) or not np.array_equal(after, obs[..., channels:]):
                raise ValueError(
                    f"an observation of environment {one} does not hold the {self._frames} frames "
                    f"that {where}, each of which the next one shifts by one: an environment "
                    "without such stacks must not say that it has frames"
                )
