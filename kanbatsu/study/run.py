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
from kanbatsu.train.stream import start_host, stream_compiled, stream_host, stretch_of


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


def _train(run: Run, files: RunFolder, on_progress: Callable[[int], None]) -> None:
    config: Any = run.train
    environments = VectorEnvironment(
        [make(run.task, config.action_repeat) for _ in range(config.environments)], seed=run.seed
    )
    arena = make(run.task, config.action_repeat)
    spec = environments.spec
    agent = AGENTS[run.agent].agent(spec, run.config)
    state = agent.init(jax.random.key(run.seed))
    replay = Replay(config.replay_capacity, spec)
    watch = Stopwatch()
    log = Log(
        files,
        agent,
        replay,
        watch,
        seed=run.seed,
        evaluation_episodes=config.evaluation_episodes,
        probe_batch=config.probe_batch,
        samples=config.batch_size,
    )

    saved = checkpoint.load_latest(files.checkpoint)
    if saved is None:
        files.truncate(dict.fromkeys(files.sizes(), 0))
        position, obs = Position(), environments.reset()
        log.networks(state)
        log.evaluation(state, arena, 0, position)
    else:
        state = checkpoint.from_arrays(state, saved.arrays["agent"])
        replay.load(saved.arrays["replay"])
        obs = environments.restore(saved.arrays["environments"])
        position = Position(*saved.facts["position"])
        watch.seconds.update(saved.facts["seconds"])
        files.truncate(saved.facts["sizes"])

    per_turn = environments.action_repeat * len(environments)

    def due(turn: Turn, every: int) -> bool:
        return every > 0 and turn.env_steps % every < per_turn

    for turn in interact(
        agent,
        environments,
        replay,
        config,
        env_steps=run.env_steps,
        seed=run.seed,
        state=state,
        obs=obs,
        position=position,
        watch=watch,
    ):
        last = turn.env_steps >= run.env_steps
        log.episodes((turn.env_steps, episode) for episode in turn.episodes)
        if turn.metrics is not None and (last or due(turn, config.log_every)):
            log.update(turn.env_steps, turn.position, turn.metrics)
        if turn.metrics is not None and (last or due(turn, config.probe_every)):
            log.probe(turn.state, turn.env_steps, turn.position)
        if last or due(turn, config.evaluate_every):
            log.evaluation(turn.state, arena, turn.env_steps, turn.position)
        if last or due(turn, config.log_every):
            log.timing(turn.env_steps, turn.position)
        if config.checkpoint_every and (last or due(turn, config.checkpoint_every)):
            arrays = {"agent": checkpoint.to_arrays(turn.state)}
            if not last:  # a finished run needs no way to continue
                arrays |= {"replay": replay.arrays(), "environments": environments.snapshot()}
            facts = {
                "position": turn.position,
                "sizes": files.sizes(),
                "seconds": watch.seconds,
            }
            checkpoint.save(
                files.checkpoint,
                f"{turn.env_steps:012d}",
                checkpoint.Checkpoint(arrays, facts),
                keep=1 if last else checkpoint.KEEP,
            )
        on_progress(turn.env_steps)


def _stream(run: Run, files: RunFolder, on_progress: Callable[[int], None]) -> None:
    config: Any = run.train
    entry = STREAMING[run.agent]
    settings: Any = run.config

    def build() -> Environment:
        environment = make(run.task, config.action_repeat, discrete=entry.discrete)
        return add_time(environment) if settings.time else environment

    arena = build()
    agent = entry.agent(arena.spec, settings)
    recent = Replay(config.probe_batch, arena.spec)  # for probes: the agent never sees it
    watch = Stopwatch()
    log = Log(
        files,
        agent,
        recent,
        watch,
        seed=run.seed,
        evaluation_episodes=config.evaluation_episodes,
        probe_batch=config.probe_batch,
        samples=1,
    )
    host = None
    if isinstance(arena, HostedEnvironment):
        carry: Any = start(agent, arena.functional, jax.random.key(run.seed))
    else:
        host = VectorEnvironment([build()], seed=run.seed)
        obs = host.reset()
        carry = start_host(agent, obs, run.seed)

    saved = checkpoint.load_latest(files.checkpoint)
    if saved is None:
        files.truncate(dict.fromkeys(files.sizes(), 0))
        position = Position()
        log.networks(carry.state)
        log.evaluation(carry.state, arena, 0, position)
    else:
        carry = checkpoint.from_arrays(carry, saved.arrays["agent"])
        recent.load(saved.arrays["recent"])
        if host is not None:
            obs = host.restore(saved.arrays["environments"])
        position = Position(*saved.facts["position"])
        watch.seconds.update(saved.facts["seconds"])
        files.truncate(saved.facts["sizes"])

    stretch = stretch_of(config, arena.action_repeat)
    told: dict[str, Any] = {
        "env_steps": run.env_steps,
        "stretch": stretch,
        "seed": run.seed,
        "carry": carry,
        "position": position,
        "watch": watch,
    }
    if isinstance(arena, HostedEnvironment):
        turns = stream_compiled(agent, arena.functional, **told)
    else:
        assert host is not None
        turns = stream_host(agent, host, obs=obs, **told)
    for turn in turns:
        at, where, state = turn.env_steps, turn.position, turn.carry.state
        last = at >= run.env_steps

        def due(every: int, at: int = at, last: bool = last) -> bool:
            return every > 0 and (last or at % every < stretch * arena.action_repeat)

        log.episodes(turn.episodes)
        recent.add(jax.tree.map(lambda x: x[-recent.capacity :], turn.transitions))
        if due(config.log_every):
            log.update(at, where, turn.metrics)
        if due(config.probe_every):
            log.probe(state, at, where)
        if due(config.evaluate_every):
            log.evaluation(state, arena, at, where)
        if due(config.log_every):
            log.timing(at, where)
        if due(config.checkpoint_every):
            arrays = {"agent": checkpoint.to_arrays(turn.carry)}
            if not last:  # a finished run needs no way to continue
                arrays["recent"] = recent.arrays()
            if host is not None and not last:
                arrays["environments"] = host.snapshot()
            facts = {"position": where, "sizes": files.sizes(), "seconds": watch.seconds}
            checkpoint.save(
                files.checkpoint,
                f"{at:012d}",
                checkpoint.Checkpoint(arrays, facts),
                keep=1 if last else checkpoint.KEEP,
            )
        on_progress(at)
