"""One run: one configuration, one task, one seed, from an empty folder to a finished one.

A run is a function of its record alone. Everything that it did is in its folder, and a run that
was killed continues from its last checkpoint with the numbers that it would have had.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kanbatsu.agents import AGENTS, STREAMING, AgentConfig
from kanbatsu.agents.sac import SACConfig
from kanbatsu.envs.functional import HostedEnvironment
from kanbatsu.envs.make import make
from kanbatsu.envs.spec import Environment
from kanbatsu.envs.timed import add_time
from kanbatsu.envs.vector import VectorEnvironment
from kanbatsu.machine import machine_facts
from kanbatsu.replay import Replay
from kanbatsu.study.log import Log
from kanbatsu.study.record import to_dict
from kanbatsu.study.store import RunFolder
from kanbatsu.train import checkpoint
from kanbatsu.train.config import Schedule, TrainConfig
from kanbatsu.train.loop import Position, Stopwatch, Turn, interact
from kanbatsu.train.scan import start
from kanbatsu.train.stream import (
    StreamTurn,
    start_host,
    stream_compiled,
    stream_host,
    stretch_of,
)


@dataclass(frozen=True)
class Run:
    """Everything that decides what a run does."""

    task: str
    """`dmc/<domain>-<task>`, `gym/<id>`, `jax/<name>`, `inventory/<name>`, or a factory."""
    agent: str = "sac"
    """Name of the algorithm: sac, ddpg, stream_ac or stream_q."""
    seed: int = 0
    """Of everything random in the run."""
    env_steps: int = 200_000
    """Simulator steps, before action repeat, at which the run ends."""
    config: AgentConfig = field(default_factory=SACConfig)
    """The algorithm's own configuration."""
    train: Schedule = field(default_factory=TrainConfig)
    """The schedule; `kanbatsu.train.config.schedule_of` says which kind an agent wants."""


def run_one(
    run: Run, folder: Path, on_progress: Callable[[int], None] = lambda env_steps: None
) -> None:
    """Train, evaluate and probe; continue from a checkpoint; return at once if finished.

    Args:
        run: what to do; `kanbatsu.study.check.check` refuses what cannot work.
        folder: the run's own; everything that it does is written there.
        on_progress: called with the env steps done, after every turn of the loop.

    Raises:
        Exception: whatever went wrong, after it was stored in the folder with its traceback.
    """
    files = RunFolder(folder)
    if not files.finished:
        files.write_config(to_dict(run))
        files.write_status("running")
        files.write_machine(machine_facts())
        try:
            work = _stream if run.agent in STREAMING else _train
            work(run, files, on_progress)
        except Exception as error:
            files.write_status("failed", f"{type(error).__name__}: {error}", traceback.format_exc())
            raise
    files.write_status("finished")


class ReplayRun:
    """One run that learns from a replay: what it trains, what it writes, where it goes on from.

    Args:
        run: What to do.
        files: Where its files go; lines later than the newest checkpoint are cut off.
    """

    def __init__(self, run: Run, files: RunFolder) -> None:
        config: Any = run.train
        self.run, self.files, self.config = run, files, config
        self.environments = VectorEnvironment(
            [make(run.task, config.action_repeat) for _ in range(config.environments)],
            seed=run.seed,
        )
        self._arena = make(run.task, config.action_repeat)
        spec = self.environments.spec
        self.agent = AGENTS[run.agent].agent(spec, run.config)
        self.state = self.agent.init(jax.random.key(run.seed))
        self.replay = Replay(config.replay_capacity, spec)
        self.watch = Stopwatch()
        self._log = Log(
            files,
            self.agent,
            self.replay,
            self.watch,
            seed=run.seed,
            evaluation_episodes=config.evaluation_episodes,
            probe_batch=config.probe_batch,
            samples=config.batch_size,
        )

        saved = checkpoint.load_latest(files.checkpoint)
        if saved is None:
            files.truncate(dict.fromkeys(files.sizes(), 0))
            self.position, self.obs = Position(), self.environments.reset()
            self._log.networks(self.state)
            self._log.evaluation(self.state, self._arena, 0, self.position)
        else:
            self.state = checkpoint.from_arrays(self.state, saved.arrays["agent"])
            self.replay.load(saved.arrays["replay"])
            self.obs = self.environments.restore(saved.arrays["environments"])
            self.position = Position(*saved.facts["position"])
            self.watch.seconds.update(saved.facts["seconds"])
            files.truncate(saved.facts["sizes"])

    def wants(self, env_steps: int) -> bool:
        """Whether anything of the agent is to be written down at this moment."""
        every = (
            self.config.log_every,
            self.config.probe_every,
            self.config.evaluate_every,
            self.config.checkpoint_every,
        )
        return any(self._due(env_steps, each) for each in every)

    def _due(self, env_steps: int, every: int) -> bool:
        last = env_steps >= self.run.env_steps
        per_turn = self.environments.action_repeat * len(self.environments)
        return every > 0 and (last or env_steps % every < per_turn)

    def write(self, turn: Turn) -> None:
        """Write down what a turn did, and evaluate, probe and save where that is due."""
        config, log, at, where = self.config, self._log, turn.env_steps, turn.position
        log.episodes((at, episode) for episode in turn.episodes)
        if turn.metrics is not None and self._due(at, config.log_every):
            log.update(at, where, turn.metrics)
        if turn.metrics is not None and self._due(at, config.probe_every):
            log.probe(turn.state, at, where)
        if self._due(at, config.evaluate_every):
            log.evaluation(turn.state, self._arena, at, where)
        if self._due(at, config.log_every):
            log.timing(at, where)
        if self._due(at, config.checkpoint_every):
            self._save(turn)

    def _save(self, turn: Turn) -> None:
        last = turn.env_steps >= self.run.env_steps
        arrays = {"agent": checkpoint.to_arrays(turn.state)}
        if not last:  # a finished run needs no way to continue
            arrays["replay"] = self.replay.arrays()
            arrays["environments"] = self.environments.snapshot()
        facts = {
            "position": turn.position,
            "sizes": self.files.sizes(),
            "seconds": self.watch.seconds,
        }
        checkpoint.save(
            self.files.checkpoint,
            f"{turn.env_steps:012d}",
            checkpoint.Checkpoint(arrays, facts),
            keep=1 if last else checkpoint.KEEP,
        )


def _train(run: Run, files: RunFolder, on_progress: Callable[[int], None]) -> None:
    work = ReplayRun(run, files)
    for turn in interact(
        work.agent,
        work.environments,
        work.replay,
        work.config,
        env_steps=run.env_steps,
        seed=run.seed,
        state=work.state,
        obs=work.obs,
        position=work.position,
        watch=work.watch,
    ):
        work.write(turn)
        on_progress(turn.env_steps)


class StreamRun:
    """One run that learns from a stream: what it trains, what it writes, where it goes on from.

    Args:
        run: What to do.
        files: Where its files go; lines later than the newest checkpoint are cut off.
    """

    def __init__(self, run: Run, files: RunFolder) -> None:
        config: Any = run.train
        settings: Any = run.config
        entry = STREAMING[run.agent]

        def build() -> Environment:
            environment = make(run.task, config.action_repeat, discrete=entry.discrete)
            return add_time(environment) if settings.time else environment

        self.run, self.files, self._config = run, files, config
        self.arena = build()
        self.agent = entry.agent(self.arena.spec, settings)
        self.stretch = stretch_of(config, self.arena.action_repeat)
        self.watch = Stopwatch()
        # For probes: the agent never sees it.
        self._recent = Replay(config.probe_batch, self.arena.spec)
        self._log = Log(
            files,
            self.agent,
            self._recent,
            self.watch,
            seed=run.seed,
            evaluation_episodes=config.evaluation_episodes,
            probe_batch=config.probe_batch,
            samples=1,
        )
        self.host: VectorEnvironment | None = None
        self.obs: np.ndarray | None = None
        if isinstance(self.arena, HostedEnvironment):
            self.carry: Any = start(self.agent, self.arena.functional, jax.random.key(run.seed))
        else:
            self.host = VectorEnvironment([build()], seed=run.seed)
            self.obs = self.host.reset()
            self.carry = start_host(self.agent, self.obs, run.seed)

        saved = checkpoint.load_latest(files.checkpoint)
        if saved is None:
            files.truncate(dict.fromkeys(files.sizes(), 0))
            self.position = Position()
            self._log.networks(self.carry.state)
            self._log.evaluation(self.carry.state, self.arena, 0, self.position)
        else:
            self.carry = checkpoint.from_arrays(self.carry, saved.arrays["agent"])
            self._recent.load(saved.arrays["recent"])
            if self.host is not None:
                self.obs = self.host.restore(saved.arrays["environments"])
            self.position = Position(*saved.facts["position"])
            self.watch.seconds.update(saved.facts["seconds"])
            files.truncate(saved.facts["sizes"])

    def write(self, turn: StreamTurn) -> None:
        """Write down what a stretch did, and evaluate, probe and save where that is due."""
        config, log = self._config, self._log
        at, where, state = turn.env_steps, turn.position, turn.carry.state
        last = at >= self.run.env_steps

        def due(every: int) -> bool:
            return every > 0 and (last or at % every < self.stretch * self.arena.action_repeat)

        log.episodes(turn.episodes)
        self._recent.add(jax.tree.map(lambda x: x[-self._recent.capacity :], turn.transitions))
        if due(config.log_every):
            log.update(at, where, turn.metrics)
        if due(config.probe_every):
            log.probe(state, at, where)
        if due(config.evaluate_every):
            log.evaluation(state, self.arena, at, where)
        if due(config.log_every):
            log.timing(at, where)
        if due(config.checkpoint_every):
            self._save(turn, last)

    def _save(self, turn: StreamTurn, last: bool) -> None:
        arrays = {"agent": checkpoint.to_arrays(turn.carry)}
        if not last:  # a finished run needs no way to continue
            arrays["recent"] = self._recent.arrays()
            if self.host is not None:
                arrays["environments"] = self.host.snapshot()
        facts = {
            "position": turn.position,
            "sizes": self.files.sizes(),
            "seconds": self.watch.seconds,
        }
        checkpoint.save(
            self.files.checkpoint,
            f"{turn.env_steps:012d}",
            checkpoint.Checkpoint(arrays, facts),
            keep=1 if last else checkpoint.KEEP,
        )


def _stream(run: Run, files: RunFolder, on_progress: Callable[[int], None]) -> None:
    work = StreamRun(run, files)
    told: dict[str, Any] = {
        "env_steps": run.env_steps,
        "stretch": work.stretch,
        "seed": run.seed,
        "carry": work.carry,
        "position": work.position,
        "watch": work.watch,
    }
    if isinstance(work.arena, HostedEnvironment):
        turns = stream_compiled(work.agent, work.arena.functional, **told)
    else:
        assert work.host is not None
        assert work.obs is not None
        turns = stream_host(work.agent, work.host, obs=work.obs, **told)
    for turn in turns:
        work.write(turn)
        on_progress(turn.env_steps)
