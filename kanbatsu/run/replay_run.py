"""A run that learns from a replay: its parts, its files, and its loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from kanbatsu.agents import AGENTS
from kanbatsu.envs.make import make
from kanbatsu.envs.vector import VectorEnvironment
from kanbatsu.files.store import RunFolder
from kanbatsu.replay import Replay
from kanbatsu.run.log import Log
from kanbatsu.run.record import Run
from kanbatsu.train import checkpoint
from kanbatsu.train.loop import Position, Stopwatch, Turn, interact


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
        self._log.save(turn.env_steps, turn.position, arrays, last)


def train(run: Run, files: RunFolder, on_progress: Callable[[int], None]) -> None:
    """Train until the end; `kanbatsu.run.run_one.run_one` says more."""
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
