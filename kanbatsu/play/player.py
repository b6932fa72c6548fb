"""Who plays: the agent of a run's newest checkpoint, or the rule that is in use today."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Num

from kanbatsu.agents import AGENTS
from kanbatsu.agents.remedied import Pace, remedied
from kanbatsu.agents.schedule import over_training
from kanbatsu.envs.spec import Environment
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import RecordError
from kanbatsu.probes.dormant import dormant_ratio
from kanbatsu.run.check import environment_of
from kanbatsu.run.external import ExternalConfig
from kanbatsu.run.incumbent import IncumbentConfig, load_policy, to_unit
from kanbatsu.run.record import Run, run_from_dict
from kanbatsu.run.trial import build
from kanbatsu.train.checkpoint import from_arrays, load_latest
from kanbatsu.types import Transition

WINDOW = 128
"""Latest transitions of an episode that dormant units are judged by; a convention."""
TAU = 0.1
"""Threshold on a unit's share of its layer's activity (Sokar et al. 2023), as in the report."""


@dataclass(frozen=True)
class Player:
    """Somebody who acts in a run's task."""

    name: str
    """Name of the arm, or of the run where there is no study."""
    run: Run
    """Record of the run."""
    act: Callable[[Any], Float32[np.ndarray, " action_dim"]]
    """Greedy action of an observation, in [-1, 1] or one-hot, as environments take it."""
    begin: Callable[[], None] = lambda: None
    """Called when an episode begins."""
    dormant: Callable[[Sequence[Transition]], Mapping[str, float]] = lambda past: {}
    """Share of dormant units of each network on the latest transitions; nothing of a rule."""

    def environment(self) -> Environment:
        """Build its task, ready to be drawn; the caller closes it.

        Raises:
            TaskError: it cannot be had.
        """
        if isinstance(self.run.config, IncumbentConfig):
            train: Any = self.run.train
            discrete = self.run.config.discrete
            return build(self.run.task, train.action_repeat, discrete, False, False, drawn=True)
        return environment_of(self.run, drawn=True)


def player_of(folder: RunFolder, name: str) -> Player:
    """Return who acts in a run.

    Args:
        folder: files of the run.
        name: what the player is called.

    Raises:
        RecordError: the folder holds no run, the run has no checkpoint, or somebody else's function
            trained it.
        TaskError: its task or its rule cannot be had.
    """
    if folder.archived is None and not (folder.path / "config.json").exists():
        raise RecordError(f"{folder.path} is not the folder of a run: config.json is missing")
    table = {key: x for key, x in folder.read_config().items() if key != "checksum"}
    run = run_from_dict(table)
    if isinstance(run.config, IncumbentConfig):
        return _rule(run, name)
    if isinstance(run.config, ExternalConfig):
        raise RecordError(
            f"{name} was trained by {run.config.function}, which kanbatsu cannot act for: play it "
            "with the library that trained it"
        )
    saved = load_latest(folder.checkpoint)
    if saved is None:
        raise RecordError(
            f"{name} ({folder.path}) holds no checkpoint: it was trained with "
            "--train.checkpoint-every 0, has not reached its first one, or is an archive, which "
            "keeps none. Play from the folder that it was trained in, or train it again"
        )
    return _trained(run, name, saved.arrays["agent"])


def _trained(run: Run, name: str, arrays: Mapping[str, np.ndarray]) -> Player:
    """Return the agent of a checkpoint."""
    environment = environment_of(run)
    environment.close()
    repeat, schedule = environment.action_repeat, run.train
    config = over_training(run.config, -(-run.env_steps // repeat))
    agent: Any = AGENTS[run.agent].agent(environment.spec, config)
    if run.remedy:
        pace: Any = schedule
        agent = remedied(agent, run.remedy, Pace.of(pace, repeat, run.env_steps))
    state = from_arrays(agent.init(jax.random.key(0)), arrays)
    greedy = jax.jit(agent.act_greedy)

    def act(obs: Num[np.ndarray, "*obs"]) -> Float32[np.ndarray, " action_dim"]:
        return np.asarray(greedy(state, obs[None]))[0]

    @jax.jit
    def shares(batch: Transition) -> Mapping[str, Any]:
        subjects = agent.subjects(state, batch, jax.random.key(0))
        return {
            network: dormant_ratio(subject.network.encode(*subject.inputs)[1], TAU)[""]
            for network, subject in subjects.items()
        }

    def dormant(past: Sequence[Transition]) -> Mapping[str, float]:
        latest = past[-WINDOW:]
        full = [latest[at % len(latest)] for at in range(WINDOW)]  # one size, compiled once
        batch = Transition(*(jnp.asarray(np.stack(part)) for part in zip(*full, strict=True)))
        return {network: float(share) for network, share in shares(batch).items()}

    return Player(name, run, act, dormant=dormant)


def _rule(run: Run, name: str) -> Player:
    """Return the rule that is in use."""
    config: Any = run.config
    rule = load_policy(config.policy)
    spec = Player(name, run, rule).environment().spec

    def act(obs: Num[np.ndarray, "*obs"]) -> Float32[np.ndarray, " action_dim"]:
        return to_unit(rule.name, rule(obs), spec)

    return Player(name, run, act, begin=rule.reset)
