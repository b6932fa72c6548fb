"""An agent with remedies: what it has learned is treated when a remedy's moment has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kanbatsu.agents.around import Around
from kanbatsu.agents.common import gradients_of, normalised
from kanbatsu.agents.schedule import RolloutTrainConfig, Schedule
from kanbatsu.remedies.parts import (
    NETWORKS,
    masked_weights,
    networks_in,
    parts_of,
    unmasked,
    with_parts,
)
from kanbatsu.remedies.records import MASKS, Remedy, changes_masks, samples_of
from kanbatsu.remedies.rewire import kept_weights
from kanbatsu.remedies.spectral import settled
from kanbatsu.remedies.treat import Clock, Tally, Tools, added, empty_tally, treat
from kanbatsu.sparsity.config import Pruning
from kanbatsu.types import Key, Transition


@dataclass(frozen=True)
class Pace:
    """How calls of `update`, or of a stream's `step`, follow the env steps of a run.

    Example:
        >>> from kanbatsu.agents.schedule import TrainConfig
        >>> pace = Pace.of(TrainConfig(warmup_interactions=5), action_repeat=2, env_steps=100)
        >>> [int(pace.env_steps(jnp.int32(calls))) for calls in (1, 2)]
        [10, 12]
    """

    before: int
    """Env steps before the first call."""
    each: int
    """Env steps of a call."""
    samples: int
    """Samples that a call learns from."""
    total: int
    """Env steps of the whole run."""

    @classmethod
    def of(cls, schedule: Schedule, action_repeat: int, env_steps: int) -> Pace:
        """Return the pace of a run.

        Args:
            schedule: how it spends its time.
            action_repeat: env steps of an interaction.
            env_steps: of the whole run.
        """
        n, turns, samples = schedule.environments, 1, schedule.batch_size
        if isinstance(schedule, RolloutTrainConfig):
            turns = schedule.rollout
        else:
            samples *= n * schedule.updates_per_interaction
        before = max(-(-schedule.warmup_interactions // n) - 1, 0) * n
        return cls(before * action_repeat, turns * n * action_repeat, samples, env_steps)

    def env_steps(self, calls: Int[Array, ""]) -> Int[Array, ""]:
        """Return the env steps after that many calls."""
        return self.before + calls * self.each


class RemediedState(NamedTuple):
    """An agent's state, and what its remedies remember."""

    inner: Any
    """State of the agent itself."""
    calls: Int[Array, ""]
    """Calls of `update`, or of a stream's `step`."""
    recent: Transition | None
    """Latest samples that were learned from, `[calls, samples, ...]`; None where none are kept."""
    tally: Tally
    """Counts of what was done."""
    kept: dict[str, Float[Array, ""]]
    """Kept weights of each network's masked layers, as a mean over the calls so far."""


@dataclass(frozen=True)
class Remedied(Around):
    """An agent of any kind whose networks are treated by remedies; itself such an agent.

    Args:
        agent: with a replay, learning from rollouts, or from a stream.
        remedies: at most one of each kind, checked by `kanbatsu.remedies.check`.
        pace: how calls follow env steps, in which remedies count.

    Example:
        >>> from kanbatsu.agents.schedule import StreamTrainConfig
        >>> from kanbatsu.agents.stream_q import StreamQ, StreamQConfig
        >>> from kanbatsu.envs.classic import CartPole
        >>> from kanbatsu.remedies.records import Reset
        >>> agent = StreamQ(CartPole.spec, StreamQConfig(time=False))
        >>> pace = Pace.of(StreamTrainConfig(), action_repeat=1, env_steps=1_000)
        >>> list(Remedied(agent, (Reset(every=100),), pace).init(jax.random.key(0)).tally)
        ['reset/times']
    """

    remedies: tuple[Remedy, ...]
    pace: Pace

    def init(self, key: Key, masks: Any = None) -> RemediedState:
        """Initialise the agent; where masks will change, all its weights are masked ones."""
        if masks is None and changes_masks(self.remedies):
            masks = self.agent.masks(key)
        inner = self.agent.init(key, masks)
        inner = with_parts(inner, {name: settled(part) for name, part in parts_of(inner).items()})
        return RemediedState(
            inner, jnp.int32(0), self._empty(), empty_tally(self.remedies), self._kept(inner)
        )

    def update(
        self, state: RemediedState, batches: Transition, key: Key
    ) -> tuple[RemediedState, Mapping[str, Array]]:
        """Learn from `k` batches in turn, or from a rollout, and treat the state."""
        recent, latest = self._remembered(state, batches)
        state = self._treated(state._replace(recent=recent), latest, key, shocks=True)
        inner, metrics = self.agent.update(state.inner, batches, key)
        state = self._treated(self._after(state, inner), latest, key, shocks=False)
        return state, {**metrics, **self._counts(state)}

    def step(self, state: RemediedState, outcome: Any, noise: Any) -> tuple[RemediedState, Array]:
        """Learn from one sample, choose the next action, and treat the state."""
        state = self._treated(state, None, noise[1], shocks=True)
        inner, action = self.agent.step(state.inner, outcome, noise[0])
        return self._treated(self._after(state, inner), None, noise[1], shocks=False), action

    def metrics(self, state: RemediedState) -> Any:
        """Return what the agent tells of its learning, and counts of what was done."""
        return {**super().metrics(state), **self._counts(state)}

    def _treated(
        self, state: RemediedState, latest: Transition | None, key: Key, shocks: bool
    ) -> RemediedState:
        """Carry out what is due before a call (shocks), or after it.

        Args:
            state: before the call, or counted as after it.
            latest: samples that can be looked at.
            key: of the call.
            shocks: which remedies.
        """
        inner, calls, pace = state.inner, state.calls, self.pace
        before = jnp.maximum(calls - 1, 0)
        sees = calls + int(shocks) >= self._slots()
        clock = Clock(pace.env_steps(before), pace.env_steps(calls), pace.total, sees)
        key = jax.random.fold_in(key, 0x2E3ED1)
        tools = Tools(
            self._draw,
            lambda parts: self._activations(with_parts(inner, parts), latest),
            lambda parts: self._gradients(with_parts(inner, parts), latest, key),
        )
        parts, tally = treat(self.remedies, parts_of(inner), tools, clock, key, shocks)
        return state._replace(inner=with_parts(inner, parts), tally=added(state.tally, tally))

    def _after(self, state: RemediedState, inner: Any) -> RemediedState:
        """Count a call, and the weights that it had."""
        calls = state.calls + 1
        share, now = 1.0 / calls.astype(jnp.float32), self._kept(inner)
        kept = {name: mean + share * (now[name] - mean) for name, mean in state.kept.items()}
        return state._replace(inner=inner, calls=calls, kept=kept)

    def _draw(self, key: Key) -> dict[str, Any]:
        """Draw all parts as `init` does, without pruning."""
        config = self.agent.config
        dense = {
            item.name: replace(network, sparsity=0.0, pattern="element")
            for item in fields(config)
            if isinstance(network := getattr(config, item.name), Pruning)
        }
        agent = replace(self.agent, config=replace(config, **dense))
        return {name: part.network for name, part in parts_of(agent.init(key)).items()}

    def _activations(self, inner: Any, batch: Any) -> dict[str, Any]:
        """Return the activations of all networks on the latest samples."""
        if hasattr(inner, "normaliser"):
            batch = normalised(inner.normaliser, batch)
        inputs = {
            "actor": (batch.obs,),
            "critic": (batch.obs, batch.action) if hasattr(inner, "critics") else (batch.obs,),
        }
        return {
            name: [network.encode(*inputs[name])[1] for network in networks_in(part.network)]
            for name, part in parts_of(inner).items()
            if name in NETWORKS
        }

    def _gradients(self, inner: Any, batch: Any, key: Key) -> Any:
        """Return the gradients of all losses on the latest samples, with all masks lifted."""
        lifted = {
            name: part._replace(network=unmasked(part.network))
            for name, part in parts_of(inner).items()
        }
        inner = with_parts(inner, lifted)
        return gradients_of(self.agent.networks(inner), self.agent.losses(inner, batch, key))

    def _slots(self) -> int:
        """Return how many calls hold as many samples as remedies want to look at."""
        return -(-samples_of(self.remedies) // self.pace.samples)

    def _empty(self) -> Transition | None:
        """Make room for the samples of several calls; one alone is at hand as it is."""
        if (slots := self._slots()) < 2:
            return None
        rows, spec = (slots, self.pace.samples), self.agent.spec
        obs = jnp.zeros((*rows, *spec.obs_shape), spec.obs_dtype)
        action, no = jnp.zeros((*rows, spec.action_dim)), jnp.zeros(rows, bool)
        return Transition(obs, action, jnp.zeros(rows), no, no, obs)

    def _remembered(
        self, state: RemediedState, batches: Transition | None
    ) -> tuple[Transition | None, Transition | None]:
        """Return what is remembered after a call, and all samples that can be looked at."""
        if batches is None or not self._slots():
            return state.recent, None
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)
        if state.recent is None:
            return None, flat
        at = state.calls % self._slots()
        recent = jax.tree.map(lambda old, new: old.at[at].set(new), state.recent, flat)
        return recent, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), recent)

    def _kept(self, inner: Any) -> dict[str, Float[Array, ""]]:
        """Count what each network keeps, where a remedy makes it more or less."""
        if not any(isinstance(remedy, MASKS) for remedy in self.remedies):
            return {}
        return {
            name: kept_weights(part.network).astype(jnp.float32)
            for name, part in parts_of(inner).items()
            if name in NETWORKS and masked_weights(part.network)
        }

    def _counts(self, state: RemediedState) -> dict[str, Array]:
        """Return what was done, and what was kept on average, under the names of metrics."""
        counts = {f"remedy/{n}": x.astype(jnp.float32) for n, x in state.tally.items()}
        return counts | {f"remedy/mean_kept/{name}": mean for name, mean in state.kept.items()}


def remedied(agent: Any, remedies: tuple[Remedy, ...], pace: Pace) -> Remedied:
    """Return an agent with remedies: terms in its optimizers, treatment around it.

    Args:
        agent: any; one with an optimizer has the field `remedies`.
        remedies: of the run.
        pace: how its calls follow env steps.
    """
    if hasattr(agent, "remedies"):
        agent = replace(agent, remedies=remedies)
    return Remedied(agent, remedies, pace)
