"""The loop on the device: stretches of the scan, for one run or several side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from operator import itemgetter
from typing import Any

import jax
import numpy as np

from kanbatsu.agents.schedule import Schedule, stretch
from kanbatsu.envs.functional import FunctionalEnvironment
from kanbatsu.envs.vector import Episode
from kanbatsu.replay import Replay
from kanbatsu.train import checkpoint
from kanbatsu.train.ring import RingLearner
from kanbatsu.train.rollout_learner import Rollouts
from kanbatsu.train.scan import Carry, Steps, advance, learner_of, start, trained
from kanbatsu.train.stacking import SideBySide, lift, shape_of
from kanbatsu.train.turn import Position, Stopwatch, Turn, stop_unfit
from kanbatsu.types import Transition


class DeviceMember:
    """One run's own parts where simulators, replay and learning are one program.

    Args:
        agent: What acts and learns.
        schedule: How it spends its time.
        environment: Pure functions.
        seed: Seed of networks, exploration, batches and episodes.
        watch: Books the run's time.
        env_steps: At which the run ends: no replay holds more transitions.
    """

    def __init__(
        self,
        agent: Any,
        schedule: Schedule,
        environment: FunctionalEnvironment,
        seed: int,
        watch: Stopwatch,
        env_steps: int,
    ) -> None:
        self.agent, self.schedule, self.seed, self.watch = agent, schedule, seed, watch
        self.learner, self.world = learner_of(agent, environment, schedule, env_steps)
        self.carry = start(self.learner, self.world, jax.random.key(seed))
        self.position = Position()
        self.metrics: Mapping[str, jax.Array] | None = None
        self.recent = Replay(schedule.probe_batch, agent.spec)
        """The latest transitions of an agent without a replay, to probe with."""

    @property
    def state(self) -> Any:
        """State of the agent."""
        return trained(self.learner, self.carry.state)

    @property
    def past(self) -> Any:
        """Past transitions, to probe with."""
        return self.carry.state.ring if self.remembers else self.recent

    @property
    def remembers(self) -> bool:
        """True where the program itself keeps past transitions."""
        return isinstance(self.learner, RingLearner | Rollouts)

    def shape(self) -> Any:
        """Say what members have in common that can be trained side by side."""
        return shape_of(self.carry)

    def arrays(self, last: bool) -> dict[str, Mapping[str, np.ndarray]]:
        """Return what a checkpoint holds; a finished run needs no way to continue."""
        if last:
            return {"agent": checkpoint.to_arrays(self.state)}
        return {"agent": checkpoint.to_arrays(self.carry), "past": self.recent.arrays()}

    def load(self, arrays: Mapping[str, Mapping[str, np.ndarray]], position: Position) -> None:
        """Take over what `arrays` returned at a position."""
        self.carry = checkpoint.from_arrays(self.carry, arrays["agent"])
        self.recent.load(arrays["past"])
        self.position = position


@partial(jax.jit, static_argnums=(0, 1, 4, 5, 6), donate_argnums=2)
def _advance(
    learner: Any, world: Any, carry: Carry, key: jax.Array, turns: int, keep: bool, members: int
) -> tuple[Carry, Steps]:
    return lift(lambda own, k: advance(learner, world, own, k, turns, keep), members)(carry, key)


def train_on_device(members: Sequence[DeviceMember], env_steps: int) -> Iterator[Turn]:
    """Train until `env_steps`, one compiled call per stretch of interactions.

    Args:
        members: equal in `shape` and position, of one agent, schedule and environment.
        env_steps: interactions, over all simulators of a member, at which to stop.

    Yields:
        A `Turn` after each stretch. A member whose metrics are no longer finite has stopped.
    """
    first = members[0]
    n, position = first.schedule.environments, first.position
    keys = [jax.random.key(member.seed) for member in members]
    # Copied, because each call gives the buffers away.
    side = SideBySide([jax.tree.map(jax.numpy.copy, member.carry) for member in members])
    faults: list[Exception | None] = [None] * len(members)
    turns, end = position.interactions // n, -(-env_steps // n)
    length, per_update = stretch(first.schedule, n), getattr(first.schedule, "rollout", 1)

    def hand_back() -> None:
        for member, carry in zip(members, side.apart(), strict=True):
            member.carry, member.position = carry, position
            member.metrics = member.learner.metrics(carry.state) if position.updates else None

    while turns < end and not all(faults):
        done = min(length, end - turns)
        started = time.perf_counter()
        now = side.join([jax.random.fold_in(key, turns * n) for key in keys])
        side.tree, steps = _advance(
            first.learner, first.world, side.tree, now, done, not first.remembers, len(members)
        )
        host = jax.tree.map(np.asarray, jax.device_get(steps))
        spent = time.perf_counter() - started
        begin, turns = turns, turns + done
        position = Position(*first.schedule.counts(turns))
        settle = cache(hand_back)  # once a turn, however many members ask
        settle()
        stop_unfit([member.metrics for member in members], faults, turns * n)
        episodes = []
        for index, member in enumerate(members):
            member.watch.book_updates(spent, max(done // per_update, 1))
            own = jax.tree.map(itemgetter(index), jax.tree.map(side.give, host))
            episodes.append(() if faults[index] else _episodes(own, begin, n))
            if own.transition is not None:
                latest = slice(-member.recent.capacity, None)
                member.recent.add(Transition(*(x[latest] for x in own.transition)))
        yield Turn(turns * n, done * n, position, tuple(episodes), tuple(faults), settle)


def _episodes(steps: Steps, begin: int, n: int) -> tuple[tuple[int, Episode], ...]:
    """Return the episodes that ended, each with the env steps at its end."""
    ended = steps.ended.reshape(len(steps.ended), -1)
    returns, lengths = (x.reshape(ended.shape) for x in (steps.return_, steps.length))
    return tuple(
        ((begin + int(at) + 1) * n, Episode(float(returns[at, i]), int(lengths[at, i]), None))
        for at, i in np.argwhere(ended)
    )
