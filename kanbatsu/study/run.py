"""One run: one configuration, one task, one seed, from an empty folder to a finished one.

A run is a function of its record alone. Everything that it did is in its folder, and a run that
was killed continues from its last checkpoint with the numbers that it would have had.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kanbatsu.agents import AGENTS, AgentConfig
from kanbatsu.agents.sac import SACConfig
from kanbatsu.envs.make import make
from kanbatsu.envs.spec import Environment
from kanbatsu.envs.vector import VectorEnvironment
from kanbatsu.machine import machine_facts
from kanbatsu.replay import Replay
from kanbatsu.sparsity.count import count, parameters
from kanbatsu.study.record import to_dict
from kanbatsu.study.store import RunFolder
from kanbatsu.train import checkpoint
from kanbatsu.train.config import TrainConfig
from kanbatsu.train.evaluate import evaluate
from kanbatsu.train.loop import Position, Stopwatch, Turn, interact
from kanbatsu.types import Agent

EVALUATION, PROBE = 0xE7A1, 0x9806E
"""Mixed into the seeds of evaluation episodes and probe batches, apart from all others."""


@dataclass(frozen=True)
class Run:
    """Everything that decides what a run does."""

    task: str
    """`dmc/<domain>-<task>`, `gym/<id>`, or `package.module:factory`."""
    agent: str = "sac"
    """Name of the algorithm: sac or ddpg."""
    seed: int = 0
    """Of everything random in the run."""
    env_steps: int = 200_000
    """Simulator steps, before action repeat, at which the run ends."""
    config: AgentConfig = field(default_factory=SACConfig)
    """The algorithm's own configuration."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The schedule."""


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
            _train(run, files, on_progress)
        except Exception as error:
            files.write_status("failed", f"{type(error).__name__}: {error}", traceback.format_exc())
            raise
    files.write_status("finished")


def _train(run: Run, files: RunFolder, on_progress: Callable[[int], None]) -> None:
    config = run.train
    environments = VectorEnvironment(
        [make(run.task, config.action_repeat) for _ in range(config.environments)], seed=run.seed
    )
    arena = make(run.task, config.action_repeat)
    spec = environments.spec
    agent = AGENTS[run.agent].agent(spec, run.config)
    state = agent.init(jax.random.key(run.seed))
    replay = Replay(config.replay_capacity, spec)
    watch = Stopwatch()
    log = _Log(run, files, agent, replay, watch)

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
        log.episodes(turn)
        if turn.metrics is not None and (last or due(turn, config.log_every)):
            log.update(turn)
        if turn.metrics is not None and (last or due(turn, config.probe_every)):
            log.probe(turn)
        if last or due(turn, config.evaluate_every):
            log.evaluation(turn.state, arena, turn.env_steps, turn.position)
        if last or due(turn, config.log_every):
            log.timing(turn)
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


class _Log:
    """Turns what happens in the loop into the lines of the run's files."""

    def __init__(
        self, run: Run, files: RunFolder, agent: Agent, replay: Replay, watch: Stopwatch
    ) -> None:
        self.run, self.files, self.agent, self.replay, self.watch = run, files, agent, replay, watch
        self._act_greedy = jax.jit(agent.act_greedy)
        self._probe = jax.jit(agent.probe)

    def networks(self, state: Any) -> None:
        networks, dense, sparse = {}, 0, 0
        for name, network in self.agent.networks(state).items():
            counted = count(network)
            networks[name] = {
                "kept": counted.kept,
                "total": counted.total,
                "parameters": parameters(network),
                "layers": [
                    {"path": row.path, "shape": row.shape, "kept": row.kept, "total": row.total}
                    for row in counted.layers
                ],
            }
            # A product of one sample with a kernel is one multiplication and one addition a weight.
            per_weight = 2 * self.agent.passes[name] * self.run.train.batch_size
            dense += per_weight * counted.total
            sparse += per_weight * counted.kept
        self.files.append(
            {
                "kind": "networks",
                "env_steps": 0,
                "networks": networks,
                "flops_per_update": {"dense": dense, "sparse": sparse},
            }
        )

    def episodes(self, turn: Turn) -> None:
        for episode in turn.episodes:
            self.files.append(
                {
                    "kind": "episode",
                    "env_steps": turn.env_steps,
                    "return": episode.return_,
                    "length": episode.length,
                    "success": episode.success,
                }
            )

    def update(self, turn: Turn) -> None:
        self._append_metrics("update", turn, turn.metrics)

    def probe(self, turn: Turn) -> None:
        started = time.perf_counter()
        seeds = [self.run.seed, turn.env_steps, PROBE]
        size = self.run.train.probe_batch
        if size > self.replay.size:  # a power of two, so that few sizes are ever compiled
            size = 1 << (self.replay.size.bit_length() - 1)
        batches = self.replay.sample(np.random.default_rng(seeds), 1, size)
        batch = jax.tree.map(lambda x: x[0], batches)
        key = jax.random.fold_in(jax.random.key(PROBE), turn.env_steps)
        self._append_metrics("probe", turn, self._probe(turn.state, batch, key))
        self.watch.add("probe", started)

    def evaluation(
        self, state: Any, arena: Environment, env_steps: int, position: Position
    ) -> None:
        started = time.perf_counter()
        seed = np.random.SeedSequence([self.run.seed, env_steps, EVALUATION]).generate_state(1)
        result = evaluate(
            self._act_greedy,
            state,
            arena,
            seed=int(seed[0]),
            episodes=self.run.train.evaluation_episodes,
        )
        self.files.append(
            {
                "kind": "evaluation",
                "env_steps": env_steps,
                "interactions": position.interactions,
                "updates": position.updates,
                "returns": result.returns,
                "mean_return": float(np.mean(result.returns)),
                "lengths": result.lengths,
                "success_rate": result.success_rate,
            }
        )
        self.watch.add("evaluation", started)

    def timing(self, turn: Turn) -> None:
        updates = self.watch.update_milliseconds
        self.files.append_timing(
            {
                "env_steps": turn.env_steps,
                "updates": turn.position.updates,
                "seconds": self.watch.total(),  # of all sessions that this run took
                "update_milliseconds": float(np.median(updates)) if updates else None,
            }
            | {
                f"{kind}_seconds": spent
                for kind, spent in self.watch.seconds.items()
                if kind != "total"
            }
        )
        updates.clear()

    def _append_metrics(self, kind: str, turn: Turn, metrics: Any) -> None:
        self.files.append(
            {
                "kind": kind,
                "env_steps": turn.env_steps,
                "updates": turn.position.updates,
                "metrics": {name: float(value) for name, value in metrics.items()},
            }
        )
