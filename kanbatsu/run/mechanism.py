"""The probes of mechanism of one run: refused where they cannot be, made, and timed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.agents import AGENTS
from kanbatsu.agents.common import one_of_each, with_dense_networks
from kanbatsu.envs.spec import Environment
from kanbatsu.envs.vector import VectorEnvironment
from kanbatsu.files.tables import did_you_mean
from kanbatsu.probes.mechanism import MEASURES, MECHANISMS, First, like, measure
from kanbatsu.probes.overestimation import overestimation, returns_that_followed
from kanbatsu.run.record import Run
from kanbatsu.types import Transition, Window

MECHANISM = 0x3EC4
"""Mixed into the seeds of what these probes draw and play, apart from all others."""

INTERACTIONS = 1_000
"""Greedy interactions whose values are compared with the returns that followed."""


def refuse_probes(agent: str, probes: Iterable[str]) -> None:
    """Refuse probes that there are not, that are named twice, or that an agent cannot have.

    Raises:
        ValueError: if there is one.

    Example:
        >>> refuse_probes("sac", ["interferense"])
        Traceback (most recent call last):
        ...
        ValueError: train.probes: there is no probe 'interferense'. Did you mean 'interference'?
    """
    probes = list(probes)
    for name in probes:
        if name not in MECHANISMS:
            hint = did_you_mean(name, MECHANISMS)
            raise ValueError(f"train.probes: there is no probe {name!r}. {hint}")
        if probes.count(name) > 1:
            raise ValueError(f"train.probes: {name!r} is there more than once; name it once")
        if name == "overestimation" and not hasattr(AGENTS[agent].agent, "value"):
            raise ValueError(
                f"train.probes: 'overestimation' compares the value of the greedy action with the "
                f"return that followed, and {agent} learns no such value: remove it, or name it "
                "in the arms of other agents alone"
            )


class MechanismProbes:
    """Makes what a run's `train.probes` names; nothing where it names nothing.

    Args:
        run: What the run is.
        member: What it trains: agent, state, watch.
        arena: An environment that training does not touch.
    """

    def __init__(self, run: Run, member: Any, arena: Environment) -> None:
        self._run, self._member, self._arena = run, member, arena
        self._dense: dict[str, Any] | None = None

    def begin(self) -> dict[str, float]:
        """Measure what is a matter of the first weights alone."""
        names = [name for name in self._run.train.probes if name == "simplicity"]
        agent = self._member.agent
        obs = np.zeros((1, *agent.spec.obs_shape), agent.spec.obs_dtype)
        action, reward = np.zeros((1, agent.spec.action_dim), np.float32), np.zeros(1, np.float32)
        batch: Transition | Window = Transition(
            obs, action, reward, np.zeros(1, np.bool_), np.zeros(1, np.bool_), obs
        )
        if getattr(agent, "window", None) is not None:
            batch = Window(obs, action, reward, reward, obs)
        return self._measure(names, batch, 0)

    def later(self, batch: Transition | Window, env_steps: int) -> dict[str, float]:
        """Measure what changes with training.

        Args:
            batch: Past transitions.
            env_steps: Env steps so far.
        """
        names = [name for name in self._run.train.probes if name != "simplicity"]
        return self._measure(names, batch, env_steps)

    def _measure(
        self, names: Iterable[str], batch: Transition | Window, env_steps: int
    ) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for name in names:
            started = time.perf_counter()
            if name == "overestimation":
                own: Mapping[str, Any] = self._overestimation(env_steps)
            else:
                most = MEASURES[name].samples
                key = jax.random.fold_in(jax.random.key(MECHANISM), env_steps)
                few = jax.tree.map(lambda x, most=most: x[:most], batch)
                program = _program(self._member.agent, name)
                first = self._first_networks() if MEASURES[name].wants_first else {}
                own = program(self._member.state, first, few, key)
            numbers |= {probe: float(value) for probe, value in own.items()}
            self._member.watch.add(f"{name}_probe", started)
        return numbers

    def _first_networks(self) -> dict[str, First]:
        """Return the networks at first weights drawn from the run's seed, under today's masks."""
        agent, config = self._member.agent, self._run.config
        if self._dense is None:
            plain = AGENTS[self._run.agent].agent(agent.spec, with_dense_networks(config))
            state = plain.init(jax.random.key(self._run.seed))
            self._dense = one_of_each(plain.networks(state))
        networks = one_of_each(agent.networks(self._member.state))
        return {
            name: First(dense, like(networks[name], dense, rescale=getattr(config, name).rescale))
            for name, dense in self._dense.items()
        }

    def _overestimation(self, env_steps: int) -> dict[str, Any]:
        """Play greedily and compare values with the returns that followed."""
        agent, state = self._member.agent, self._member.state
        act_greedy, value = _playing(agent)
        seed = np.random.SeedSequence([self._run.seed, env_steps, MECHANISM]).generate_state(1)
        game = play(lambda obs: act_greedy(state, obs), self._arena, int(seed[0]), INTERACTIONS)
        # What an agent takes for the end of an episode is one.
        ends = not getattr(self._run.config, "bootstrap_truncated", True)
        returns, tails = returns_that_followed(
            game.reward,
            game.terminated | game.truncated if ends else game.terminated,
            game.truncated,
            value(state, game.next_obs),
            discount=agent.discount,
        )
        numbers = overestimation(value(state, game.obs), returns, tails)
        return {f"critic/{name}": number for name, number in numbers.items()}


class Game(NamedTuple):
    """Interactions in the order in which they happened."""

    obs: Any
    reward: Any
    terminated: Any
    truncated: Any
    next_obs: Any
    """The true successors."""


def play(act: Any, arena: Environment, seed: int, interactions: int) -> Game:
    """Play a number of interactions, episode after episode.

    Args:
        act: from observations `[1, *obs]` to actions.
        arena: an environment that training does not touch.
        seed: decides the episodes.
        interactions: how many.
    """
    environment, steps = VectorEnvironment([arena], seed), []
    obs = environment.reset()
    for _ in range(interactions):
        step = environment.step(np.asarray(act(obs)))
        steps.append(Game(obs, step.reward, step.terminated, step.truncated, step.next_obs))
        obs = step.obs
    return Game(*(jnp.concatenate(column) for column in zip(*steps, strict=True)))


@lru_cache(maxsize=32)  # runs of one agent in one process compile once
def _program(agent: Any, name: str) -> Any:
    @jax.jit
    def program(state: Any, first: Mapping[str, Any], batch: Any, key: jax.Array) -> Any:
        return measure(name, agent.subjects(state, batch, key), first, key)

    return program


@lru_cache(maxsize=8)
def _playing(agent: Any) -> tuple[Any, Any]:
    return jax.jit(agent.act_greedy), jax.jit(agent.value)
