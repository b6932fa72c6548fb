"""The replay: what happened, kept in a ring, drawn from uniformly with an explicit generator."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kanbatsu.types import Spec, Transition


class Replay:
    """The last `capacity` transitions, as plain arrays.

    Memory is asked for at once but used only as transitions come: the operating system hands out
    a page when it is first written.

    Args:
        capacity: Transitions kept; the oldest go first.
        spec: Sizes of observation and action.

    Raises:
        ValueError: `capacity` is not positive.

    Example:
        >>> replay = Replay(capacity=100, spec=Spec((3,), action_dim=1, episode_length=None))
        >>> obs, no = np.zeros((2, 3), np.float32), np.zeros(2, np.bool_)
        >>> replay.add(Transition(obs, obs[:, :1], obs[:, 0], no, no, obs + 1))
        >>> replay.size
        2
        >>> replay.sample(np.random.default_rng(0), batches=4, batch_size=8).next_obs.shape
        (4, 8, 3)
    """

    def __init__(self, capacity: int, spec: Spec) -> None:
        if capacity < 1:
            raise ValueError(f"the capacity of a replay must be at least 1, not {capacity}")
        self.capacity = capacity
        self._storage = Transition(
            obs=np.empty((capacity, *spec.obs_shape), spec.obs_dtype),
            action=np.empty((capacity, spec.action_dim), np.float32),
            reward=np.empty(capacity, np.float32),
            terminated=np.empty(capacity, np.bool_),
            truncated=np.empty(capacity, np.bool_),
            next_obs=np.empty((capacity, *spec.obs_shape), spec.obs_dtype),
        )
        self._added = 0

    @property
    def size(self) -> int:
        """Transitions that are there to be drawn."""
        return min(self._added, self.capacity)

    def add(self, transition: Transition) -> None:
        """Write `n` transitions over the oldest ones.

        Args:
            transition: Arrays `[n, ...]`, float32 and bool, with this replay's sizes.

        Raises:
            ValueError: A shape or a type differs, or `n` exceeds the capacity. Nothing is written.
        """
        n = len(transition.reward)
        if n > self.capacity:
            raise ValueError(f"{n} transitions do not fit into a replay of {self.capacity}")
        self._check(transition, n)
        rows = (self._added + np.arange(n)) % self.capacity
        for stored, new in zip(self._storage, transition, strict=True):
            stored[rows] = new
        self._added += n

    def sample(self, rng: np.random.Generator, batches: int, batch_size: int) -> Transition:
        """Draw uniformly and with replacement.

        Args:
            rng: Moves on by one draw of `batches * batch_size` integers.
            batches: How many batches.
            batch_size: Transitions per batch.

        Returns:
            Arrays `[batches, batch_size, ...]`, copied.

        Raises:
            ValueError: The replay is empty.
        """
        if not self._added:
            raise ValueError("the replay is empty: add transitions before sampling")
        rows = rng.integers(self.size, size=(batches, batch_size))
        return Transition(*(stored.take(rows, axis=0) for stored in self._storage))

    def latest(self, n: int) -> Transition:
        """Return the last `n` transitions in the order in which they came, copied.

        Raises:
            ValueError: So many are not there.
        """
        if n > self.size:
            raise ValueError(f"the replay holds {self.size} transitions, not {n}")
        rows = (self._added - n + np.arange(n)) % self.capacity
        return Transition(*(stored.take(rows, axis=0) for stored in self._storage))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what is there, for a checkpoint.

        Returns:
            The filled part of every field in the order of the ring, not copied, and `added`, the
            transitions ever added, which says where the ring stands.
        """
        filled = {name: stored[: self.size] for name, stored in self._storage._asdict().items()}
        return filled | {"added": np.array(self._added, np.int64)}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what `arrays` returned; every later draw is then as it would have been.

        Args:
            arrays: From a replay with the same capacity and sizes.

        Raises:
            ValueError: A shape, a type or the capacity differs. Nothing is written.
        """
        added = int(arrays["added"])
        filled = Transition(*(arrays[name] for name in Transition._fields))
        if len(filled.reward) != min(added, self.capacity):
            raise ValueError(
                f"{len(filled.reward)} of {added} transitions are stored, which a replay of "
                f"capacity {self.capacity} cannot continue: use the capacity that they were "
                "written with"
            )
        self._check(filled, len(filled.reward))
        for stored, new in zip(self._storage, filled, strict=True):
            stored[: len(new)] = new
        self._added = added

    def _check(self, transition: Transition, n: int) -> None:
        """Refuse what does not fit: NumPy would cast or broadcast it silently."""
        for name, stored, new in zip(Transition._fields, self._storage, transition, strict=True):
            shape = (n, *stored.shape[1:])
            if new.shape != shape or new.dtype != stored.dtype:
                raise ValueError(
                    f"{name} is {new.dtype}{list(new.shape)}, but this replay holds "
                    f"{stored.dtype}{list(shape)}: all transitions must come from one task"
                )
