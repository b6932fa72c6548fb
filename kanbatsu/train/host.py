"""The loop on the host: decide, step simulators, learn; for one run or several side by side.

Members differ in their seeds, and may differ in which of their weights exist. One compiled program
acts for all of them and one learns; each is the run that it would be alone: its draws, simulators
and replay are its own. Only rounding may differ, because a product of many members is another
program than that of one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import jax
import numpy as np

from kanbatsu.agents.schedule import (
    ImageTrainConfig,
    RolloutTrainConfig,
    Schedule,
    StreamTrainConfig,
    TrainConfig,
)
from kanbatsu.envs.vector import EnvironmentFault, VectorEnvironment, VectorStep
from kanbatsu.replay import Replay
from kanbatsu.train import checkpoint
from kanbatsu.train.replay_learner import ReplayLearner
from kanbatsu.train.rollout_learner import RolloutLearner
from kanbatsu.train.stacking import shape_of
from kanbatsu.train.stream_learner import StreamLearner
from kanbatsu.train.threads import Threads
from kanbatsu.train.turn import Position, Stopwatch, Turn, not_finite
from kanbatsu.types import Transition
from kanbatsu.windows import WindowReplay

LEARNERS: Mapping[type, Any] = {
    TrainConfig: ReplayLearner,
    ImageTrainConfig: ReplayLearner,
    StreamTrainConfig: StreamLearner,
    RolloutTrainConfig: RolloutLearner,
}
"""Learner that stands between the loop and an agent, by the schedule that the agent runs by."""


class HostMember:
    """One run's own parts: an agent's state, simulators on the host, and past transitions.

    Args:
        agent: What acts and learns.
        schedule: How it spends its time.
        environments: Its simulators.
        seed: Seed of networks, exploration and batches.
        watch: Books the run's time.
    """

    def __init__(
        self,
        agent: Any,
        schedule: Schedule,
        environments: VectorEnvironment,
        seed: int,
        watch: Stopwatch,
    ) -> None:
        self.agent, self.schedule, self.environments = agent, schedule, environments
        self.seed, self.watch, self.position = seed, watch, Position()
        self.obs = environments.reset()
        self.metrics: Mapping[str, jax.Array] | None = None
        self.past = _past(agent, schedule, environments)
        """Past transitions, to learn from or, without a replay, only to probe with."""
        self.state, self.action = LEARNERS[type(schedule)].start(agent, self.obs, seed)

    def shape(self) -> Any:
        """Say what members have in common that can be trained side by side."""
        return shape_of(self.state)

    def arrays(self, last: bool) -> dict[str, Mapping[str, np.ndarray]]:
        """Return what a checkpoint holds; a finished run needs no way to continue."""
        arrays: dict[str, Mapping[str, np.ndarray]] = {"agent": checkpoint.to_arrays(self.state)}
        if not last:
            arrays |= {"past": self.past.arrays(), "environments": self.environments.snapshot()}
            arrays["action"] = {"action": self.action}
        return arrays

    def load(self, arrays: Mapping[str, Mapping[str, np.ndarray]], position: Position) -> None:
        """Take over what `arrays` returned at a position."""
        self.state = checkpoint.from_arrays(self.state, arrays["agent"])
        self.action = arrays["action"]["action"]
        self.past.load(arrays["past"])
        self.obs = self.environments.restore(arrays["environments"])
        self.position = position


def _past(agent: Any, schedule: Schedule, environments: VectorEnvironment) -> Replay | WindowReplay:
    """Make room for past transitions: for windows of several, where an agent learns from these."""
    window = getattr(agent, "window", None)
    if window is None:
        return Replay(schedule.remembers, environments.spec)
    return WindowReplay(
        schedule.remembers,
        environments.spec,
        environments=len(environments),
        frames=environments.frames,
        steps=window,
        discount=agent.discount,
    )


def train_on_host(members: Sequence[HostMember], env_steps: int) -> Iterator[Turn]:
    """Train until `env_steps`, one turn at a time: an interaction in every environment.

    Every draw is a function of a member's seed and of the position, so that a run continued from a
    checkpoint draws what the uninterrupted one would have drawn.

    Args:
        members: equal in `shape` and position, of one agent and schedule.
        env_steps: simulator steps (before action repeat) at which to stop.

    Yields:
        A `Turn` after each. A member whose environment failed, or whose actions or metrics are no
        longer finite, is stepped no more; when none is left, the loop ends.
    """
    environments = [member.environments for member in members]
    repeat, n = environments[0].action_repeat, len(environments[0])
    faults: list[Exception | None] = [None] * len(members)
    steps = [_nothing(environment) for environment in environments]
    seen, position = np.stack([member.obs for member in members]), members[0].position
    with Threads(len(members)) as stepping, Threads(len(members)) as drawing:
        learner = LEARNERS[type(members[0].schedule)](members, env_steps, drawing)
        while position.interactions * repeat < env_steps:
            actions = learner.act(seen)
            at = (position.interactions + n) * repeat
            if not np.isfinite(actions).all():
                for index in np.flatnonzero(~np.isfinite(actions).all(axis=(1, 2))):
                    faults[index] = faults[index] or not_finite("the action", at)
            started = time.perf_counter()
            stepping.map(partial(_step, environments, actions, steps, faults))
            stepped = time.perf_counter()
            seen_next, *outcome = map(_stack, list(zip(*steps, strict=True))[:-1])
            next_obs, reward, terminated, truncated = outcome
            transition = Transition(seen, actions, reward, terminated, truncated, next_obs)
            seen, before = seen_next, position
            position = learner.learn(transition, seen, faults)
            learned = time.perf_counter()
            for member, step in zip(members, steps, strict=True):
                member.obs = step.obs
                member.watch.book("environment", stepped - started)
                if position.updates > before.updates:
                    member.watch.book_updates(learned - stepped, position.updates - before.updates)
            yield Turn(
                env_steps=at,
                stride=n * repeat,
                position=position,
                episodes=tuple(
                    () if fault else tuple((at, episode) for episode in step.episodes)
                    for step, fault in zip(steps, faults, strict=True)
                ),
                faults=tuple(faults),
                settle=cache(learner.settle),  # once a turn, however many members ask
            )
            if all(faults):
                return


def _step(
    environments: Sequence[VectorEnvironment],
    actions: np.ndarray,
    steps: list[VectorStep],
    faults: list[Exception | None],
    index: int,
) -> None:
    """Step one member's simulators; what it showed last stays where it fails."""
    if faults[index] is None:
        try:
            steps[index] = environments[index].step(actions[index])
        except EnvironmentFault as fault:
            faults[index] = fault


def _nothing(environment: VectorEnvironment) -> VectorStep:
    """Return what stands for a step that never came: nobody learns from it."""
    n, spec = len(environment), environment.spec
    obs, no = np.zeros((n, *spec.obs_shape), spec.obs_dtype), np.zeros(n, np.bool_)
    return VectorStep(obs, obs, np.zeros(n, np.float32), no, no, ())


def _stack(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Lay arrays along a new first axis; of one, without a copy."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)
