"""What happens in a run's loop, as lines of its files and as checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from kanbatsu.agents.streaming import StreamingAgent
from kanbatsu.envs.functional import HostedEnvironment
from kanbatsu.envs.spec import Environment
from kanbatsu.envs.vector import Episode
from kanbatsu.files.store import RunFolder
from kanbatsu.machine import peak_resident_bytes
from kanbatsu.replay import Replay
from kanbatsu.run.operations import Operations, operations
from kanbatsu.sparsity.count import count, parameters
from kanbatsu.train import checkpoint
from kanbatsu.train.evaluate import evaluate, evaluate_compiled
from kanbatsu.train.loop import Position, Stopwatch
from kanbatsu.types import Agent

EVALUATION, PROBE = 0xE7A1, 0x9806E
"""Mixed into the seeds of evaluation episodes and probe batches, apart from all others."""

ACTIONS = 30
"""Timed after each evaluation; their median is what one action takes."""


@lru_cache(maxsize=8)  # runs of one agent in one process compile once
def _programs(agent: Agent | StreamingAgent) -> tuple[Any, Any]:
    return jax.jit(agent.act_greedy), jax.jit(agent.probe)


class Log:
    """Writes the lines and the checkpoints of one run.

    Args:
        files: Where they go.
        agent: What acts and learns.
        replay: Where probes draw their transitions from.
        watch: What the run's time was spent on.
        seed: The run's.
        evaluation_episodes: Greedy episodes per evaluation.
        probe_batch: Transitions per probe.
        samples: That every network learns from in one update.
    """

    def __init__(
        self,
        files: RunFolder,
        agent: Agent | StreamingAgent,
        replay: Replay,
        watch: Stopwatch,
        *,
        seed: int,
        evaluation_episodes: int,
        probe_batch: int,
        samples: int,
    ) -> None:
        self.files, self.agent, self.replay, self.watch = files, agent, replay, watch
        self._seed, self._samples = seed, samples
        self._evaluation_episodes, self._probe_batch = evaluation_episodes, probe_batch
        self._act_milliseconds: float | None = None
        self._act_greedy, self._probe = _programs(agent)  # type: ignore[arg-type]

    def networks(self, state: Any) -> None:
        """Say what every network keeps."""
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
            per_weight = 2 * self.agent.passes[name] * self._samples
            dense += per_weight * counted.total
            sparse += per_weight * counted.kept
        counted_operations = self._operations(state)
        self.files.append(
            {
                "kind": "networks",
                "env_steps": 0,
                "networks": networks,
                "flops_per_update": {
                    "dense": dense,
                    "sparse": sparse,
                    "computed": counted_operations.update,
                },
                "flops_per_interaction": counted_operations.decision,
            }
        )

    def episodes(self, ended: Iterable[tuple[int, Episode]]) -> None:
        """Write down training episodes, each with the env steps at its end."""
        for env_steps, episode in ended:
            self.files.append(
                {
                    "kind": "episode",
                    "env_steps": env_steps,
                    "return": episode.return_,
                    "length": episode.length,
                    "success": episode.success,
                }
            )

    def update(self, env_steps: int, position: Position, metrics: Any) -> None:
        """Write down what the agent says of its learning."""
        self._append_metrics("update", env_steps, position, metrics)

    def probe(self, state: Any, env_steps: int, position: Position) -> None:
        """Measure the networks."""
        started = time.perf_counter()
        seeds = [self._seed, env_steps, PROBE]
        size = self._probe_batch
        if size > self.replay.size:  # a power of two, so that few sizes are ever compiled
            size = 1 << (self.replay.size.bit_length() - 1)
        batches = self.replay.sample(np.random.default_rng(seeds), 1, size)
        batch = jax.tree.map(lambda x: x[0], batches)
        key = jax.random.fold_in(jax.random.key(PROBE), env_steps)
        self._append_metrics("probe", env_steps, position, self._probe(state, batch, key))
        self.watch.add("probe", started)

    def evaluation(
        self, state: Any, arena: Environment, env_steps: int, position: Position
    ) -> None:
        """Play greedily, on an environment that training does not touch."""
        started = time.perf_counter()
        seed = np.random.SeedSequence([self._seed, env_steps, EVALUATION]).generate_state(1)
        told: dict[str, Any] = {"seed": int(seed[0]), "episodes": self._evaluation_episodes}
        if isinstance(arena, HostedEnvironment):
            result = evaluate_compiled(self._act_greedy, state, arena.functional, **told)
        else:
            result = evaluate(self._act_greedy, state, arena, **told)
        self.files.append(
            {
                "kind": "evaluation",
                "env_steps": env_steps,
                "interactions": position.interactions,
                "updates": position.updates,
                "flops": self._operations(state).total(*position),
                "returns": result.returns,
                "mean_return": float(np.mean(result.returns)),
                "lengths": result.lengths,
                "success_rate": result.success_rate,
            }
        )
        self._time_an_action(state)
        self.watch.add("evaluation", started)

    def timing(self, env_steps: int, position: Position) -> None:
        """Write down where the time went."""
        updates = self.watch.update_milliseconds
        self.files.append_timing(
            {
                "env_steps": env_steps,
                "updates": position.updates,
                "seconds": self.watch.total(),  # of all sessions that this run took
                "update_milliseconds": float(np.median(updates)) if updates else None,
                "act_milliseconds": self._act_milliseconds,
                "peak_resident_bytes": peak_resident_bytes(),
            }
            | {
                f"{kind}_seconds": spent
                for kind, spent in self.watch.seconds.items()
                if kind != "total"
            }
        )
        updates.clear()

    def save(
        self,
        env_steps: int,
        position: Position,
        arrays: Mapping[str, Mapping[str, np.ndarray]],
        last: bool,
    ) -> None:
        """Save what the run continues from; of the last checkpoint no older one is kept."""
        facts = {"position": position, "sizes": self.files.sizes(), "seconds": self.watch.seconds}
        checkpoint.save(
            self.files.checkpoint,
            f"{env_steps:012d}",
            checkpoint.Checkpoint(arrays, facts),
            keep=1 if last else checkpoint.KEEP,
        )

    def _time_an_action(self, state: Any) -> None:
        """Time the greedy choice of one action, which the evaluation has compiled."""
        obs = np.zeros((1, self.agent.spec.obs_dim), np.float32)
        times = []
        for _ in range(ACTIONS):
            started = time.perf_counter()
            jax.block_until_ready(self._act_greedy(state, obs))
            times.append(1e3 * (time.perf_counter() - started))
        self._act_milliseconds = float(np.median(times))

    def _operations(self, state: Any) -> Operations:
        return operations(self.agent, self.agent.networks(state), self._samples)

    def _append_metrics(self, kind: str, env_steps: int, position: Position, metrics: Any) -> None:
        self.files.append(
            {
                "kind": kind,
                "env_steps": env_steps,
                "updates": position.updates,
                "metrics": {name: float(value) for name, value in metrics.items()},
            }
        )
