"""A run that learns from a stream: its parts, its files, and its loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kanbatsu.agents import STREAMING
from kanbatsu.envs.functional import HostedEnvironment
from kanbatsu.envs.make import make
from kanbatsu.envs.spec import Environment
from kanbatsu.envs.timed import add_time
from kanbatsu.envs.vector import VectorEnvironment
from kanbatsu.files.store import RunFolder
from kanbatsu.replay import Replay
from kanbatsu.run.log import Log
from kanbatsu.run.record import Run
from kanbatsu.train import checkpoint
from kanbatsu.train.loop import Position, Stopwatch
from kanbatsu.train.stream import StreamTurn, start_host, stream_compiled, stream_host, stretch_of
from kanbatsu.train.stream_scan import start


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
        self._log.save(turn.env_steps, turn.position, arrays, last)


def train(run: Run, files: RunFolder, on_progress: Callable[[int], None]) -> None:
    """Train until the end; `kanbatsu.run.run_one.run_one` says more."""
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
