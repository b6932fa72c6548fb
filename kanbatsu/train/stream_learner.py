"""How an agent without a replay meets the loop on the host: one sample, learned from once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.agents.schedule import stretch
from kanbatsu.agents.streaming import Outcome, StreamingAgent
from kanbatsu.train.scan import first_action
from kanbatsu.train.stacking import SideBySide, lift
from kanbatsu.train.threads import Threads
from kanbatsu.train.turn import Position, stop_unfit
from kanbatsu.types import Key, Transition, all_finite


@lru_cache(maxsize=8)
def _programs(agent: StreamingAgent, structure: Any, members: int) -> tuple[Any, Any]:
    """Compile the draws of a stretch, and one interaction on the leaves of a state."""

    @partial(jax.jit, static_argnums=2)
    def draw(key: Key, begin: jax.Array, interactions: int) -> Any:
        each = lift(lambda k: agent.noise(jax.random.fold_in(k, begin), interactions), members)(key)
        # Interactions first.
        return each if members == 1 else jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), each)

    def decide(state: Any, outcome: Outcome, noise: Any) -> tuple[Any, jax.Array, jax.Array]:
        state, action = agent.step(state, outcome, noise)
        return state, action, all_finite(agent.metrics(state))

    @partial(jax.jit, donate_argnums=0)
    def learn(leaves: list[jax.Array], outcome: Outcome, noise: Any) -> tuple[Any, ...]:
        state, action, finite = lift(decide, members)(
            jax.tree.unflatten(structure, leaves), outcome, noise
        )
        return jax.tree.leaves(state), action, finite

    return draw, learn


class StreamLearner:
    """Members that learn from every sample once, side by side; each has one simulator.

    One compiled call per interaction learns, normalises and acts. What is random is drawn
    beforehand, a stretch of interactions at a time.

    Args:
        members: Their parts.
        env_steps: At which they stop.
        drawing: Threads; not needed.
    """

    def __init__(self, members: Sequence[Any], env_steps: int, drawing: Threads) -> None:
        self._members, self.position = members, members[0].position
        self._agent = members[0].agent
        repeat = members[0].environments.action_repeat
        self._stretch = stretch(members[0].schedule, repeat)
        self._interactions = -(-env_steps // repeat)
        # Copied, because each call gives its buffers away, and none may be given twice.
        self._side = SideBySide([jax.tree.map(jnp.copy, member.state) for member in members])
        # Flat, because taking modules apart in Python would cost more than many an update.
        self._leaves, self._structure = jax.tree.flatten(self._side.tree)
        self._key = self._side.join([jax.random.key(member.seed) for member in members])
        self._draw, self._learn = _programs(self._agent, self._structure, len(members))
        self._action = np.stack([member.action for member in members])
        self._noise: list[np.ndarray] = []
        self._rows: Any = None
        self._begin = -1
        self._unstored: list[Transition] = []

    @staticmethod
    def start(agent: StreamingAgent, obs: np.ndarray, seed: int) -> tuple[Any, np.ndarray]:
        """Initialise an agent and let it choose its first action for `obs`, `[1, *obs]`."""
        init_key, noise_key = jax.random.split(jax.random.key(seed))
        state, action = first_action(agent, agent.init(init_key), jnp.asarray(obs[0]), noise_key)
        return state, np.asarray(action)

    def act(self, seen: np.ndarray) -> np.ndarray:
        """Return the actions that were chosen for `seen`, `[members, 1, action_dim]`."""
        return self._action[:, None]

    def learn(
        self, transition: Transition, obs: np.ndarray, faults: list[Exception | None]
    ) -> Position:
        """Learn from what the last actions led to, once, and choose the next ones.

        Args:
            transition: `[members, 1, ...]`.
            obs: what to act on next, `[members, 1, *obs]`.
            faults: of members that have stopped; those that diverge are added.
        """
        at = self.position.interactions
        begin = at - at % self._stretch
        if begin != self._begin:
            interactions = min(self._stretch, self._interactions - begin)
            drawn = self._draw(self._key, np.int32(begin), interactions)
            self._noise, self._rows = jax.tree.flatten(jax.tree.map(np.asarray, drawn))
            self._begin = begin
        _, _, *ends = transition
        sample: Any = [self._side.take(x[:, 0]) for x in (*ends, obs)]
        outcome = Outcome(*sample)
        noise = jax.tree.unflatten(self._rows, [x[at - begin] for x in self._noise])
        self._leaves, chosen, finite = self._learn(self._leaves, outcome, noise)
        self._action = self._side.give(np.asarray(chosen))
        self._unstored.append(transition)
        if len(self._unstored) >= self._members[0].past.capacity:
            self._store()
        self.position = Position(at + 1, at + 1)
        if not np.asarray(finite).all():
            self.settle()
            at = self.position.interactions * self._members[0].environments.action_repeat
            stop_unfit([member.metrics for member in self._members], faults, at)
        return self.position

    def settle(self) -> None:
        """Hand every member its state, its next action, metrics and past transitions."""
        self._store()
        self._side.tree = jax.tree.unflatten(self._structure, self._leaves)
        for index, state in enumerate(self._side.apart()):
            member = self._members[index]
            member.state, member.position = state, self.position
            member.action, member.metrics = self._action[index], self._agent.metrics(state)

    def _store(self) -> None:
        """Write down the transitions that were kept back, all at once."""
        for index, member in enumerate(self._members if self._unstored else ()):
            rows = zip(*self._unstored, strict=True)
            member.past.add(Transition(*(np.concatenate([x[index] for x in row]) for row in rows)))
        self._unstored = []
