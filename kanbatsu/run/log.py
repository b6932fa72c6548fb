"""What happens in a run's loop, as lines of its files and as checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from kanbatsu.envs.spec import Environment
from kanbatsu.envs.vector import Episode
from kanbatsu.files.store import METRICS, RunFolder
from kanbatsu.machine import peak_resident_bytes
from kanbatsu.run.incumbent import evaluation_seed
from kanbatsu.run.measures import MeasuredEnvironment
from kanbatsu.run.mechanism import MechanismProbes
from kanbatsu.run.operations import Operations, operations
from kanbatsu.run.record import Run
from kanbatsu.sparsity.count import count, parameters
from kanbatsu.train import checkpoint
from kanbatsu.train.evaluate import evaluate

PROBE = 0x9806E
"""Mixed into the seeds of probe batches, apart from all others."""

ACTIONS = 30
"""Timed after each evaluation; their median is what one action takes."""


@lru_cache(maxsize=8)  # runs of one agent in one process compile once
def _programs(agent: Any) -> tuple[Any, Any]:
    return jax.jit(agent.act_greedy), jax.jit(agent.probe)


class Log:
    """Writes the lines and the checkpoints of one run.

    Args:
        files: Where they go.
        run: What the run is.
        member: What it trains: agent, state, past transitions, position, watch.
        arena: An environment that training does not touch.
    """

    def __init__(self, files: RunFolder, run: Run, member: Any, arena: Environment) -> None:
        self.files, self._run, self._member = files, run, member
        self._measured = MeasuredEnvironment(arena, run.measures) if run.measures else None
        self._arena = arena if self._measured is None else self._measured
        self._agent, self._watch = member.agent, member.watch
        self._samples = run.train.batch_size
        self._act_milliseconds: float | None = None
        self._kept: dict[str, int] = {}
        self._act_greedy, self._probe = _programs(self._agent)
        self._mechanism = MechanismProbes(run, member, arena)

    def networks(self, env_steps: int) -> None:
        """Say what every network keeps; nothing where it keeps as many weights as it did."""
        counts = {n: count(network) for n, network in self._networks().items()}
        if self._kept == (kept := {name: counted.kept for name, counted in counts.items()}):
            return
        self._kept = kept
        # A product of one sample with a kernel is one multiplication and one addition a weight.
        each = {name: 2 * self._agent.passes[name] * self._samples for name in counts}
        operations = self._operations()
        self.files.append(
            {
                "kind": "networks",
                "env_steps": env_steps,
                "networks": {
                    name: {
                        "kept": counted.kept,
                        "total": counted.total,
                        "parameters": parameters(self._networks()[name]),
                        "layers": [
                            {"path": x.path, "shape": x.shape, "kept": x.kept, "total": x.total}
                            for x in counted.layers
                        ],
                    }
                    for name, counted in counts.items()
                },
                "flops_per_update": {
                    "dense": sum(each[name] * counts[name].total for name in counts),
                    "sparse": sum(each[name] * counts[name].kept for name in counts),
                    "computed": operations.update,
                },
                "flops_per_interaction": operations.decision,
            }
        )

    def resume(self) -> None:
        """Remember what every network keeps, as the run that continues wrote it down last."""
        *_, last = (record for record in self.files.metrics() if record["kind"] == "networks")
        self._kept = {name: network["kept"] for name, network in last["networks"].items()}

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

    def update(self, env_steps: int) -> None:
        """Write down what the agent says of its learning."""
        self._append_metrics("update", env_steps, self._member.metrics)

    def begin(self) -> None:
        """Measure what is a matter of the first weights, where that is asked for."""
        if numbers := self._mechanism.begin():
            self._append_metrics("probe", 0, numbers)

    def probe(self, env_steps: int) -> None:
        """Measure the networks."""
        started = time.perf_counter()
        size, past = self._run.train.probe_batch, self._member.past
        if size > past.size:  # a power of two, so that few sizes are ever compiled
            size = 1 << (int(past.size).bit_length() - 1)
        rng = np.random.default_rng([self._run.seed, env_steps, PROBE])
        batch = jax.tree.map(lambda x: x[0], past.sample(rng, 1, size))
        key = jax.random.fold_in(jax.random.key(PROBE), env_steps)
        health = self._probe(self._member.state, batch, key)
        self._append_metrics("probe", env_steps, health | self._mechanism.later(batch, env_steps))
        self._watch.add("probe", started)

    def evaluation(self, env_steps: int) -> None:
        """Play greedily, on an environment that training does not touch."""
        started = time.perf_counter()
        position = self._member.position
        episodes = self._run.train.evaluation_episodes
        result = evaluate(
            self._act_greedy,
            self._member.state,
            self._arena,
            seed=evaluation_seed(self._run.seed, env_steps),
            episodes=episodes,
        )
        measured = self._measured.take(episodes) if self._measured is not None else {}
        self.networks(env_steps)
        self.files.append(
            {
                "kind": "evaluation",
                "env_steps": env_steps,
                "interactions": position.interactions,
                "updates": position.updates,
                "flops": self._operations().total(*position),
                "returns": result.returns,
                "mean_return": float(np.mean(result.returns)),
                "lengths": result.lengths,
                "success_rate": result.success_rate,
            }
            | ({"measures": measured} if measured else {})
        )
        self._time_an_action()
        self._watch.add("evaluation", started)

    def timing(self, env_steps: int) -> None:
        """Write down where the time went."""
        updates = self._watch.update_milliseconds
        self.files.append_timing(
            {
                "env_steps": env_steps,
                "updates": self._member.position.updates,
                "seconds": self._watch.total(),  # of all sessions that this run took
                "update_milliseconds": float(np.median(updates)) if updates else None,
                "act_milliseconds": self._act_milliseconds,
                "peak_resident_bytes": peak_resident_bytes(),
            }
            | {
                f"{kind}_seconds": spent
                for kind, spent in self._watch.seconds.items()
                if kind != "total"
            }
        )
        updates.clear()

    def save(self, env_steps: int, last: bool) -> None:
        """Save what the run continues from; of the last checkpoint no older one is kept."""
        sizes = self.files.sizes()
        facts = {
            "position": self._member.position,
            "sizes": sizes,
            "results": self.files.digest(sizes[METRICS]),
            "seconds": self._watch.seconds,
        }
        checkpoint.save(
            self.files.checkpoint,
            f"{env_steps:012d}",
            checkpoint.Checkpoint(self._member.arrays(last), facts),
            keep=1 if last else checkpoint.KEEP,
        )

    def _networks(self) -> Mapping[str, Any]:
        networks: Mapping[str, Any] = self._agent.networks(self._member.state)
        return networks

    def _time_an_action(self) -> None:
        """Time the greedy choice of one action, which the evaluation has compiled."""
        spec = self._agent.spec
        obs = np.zeros((1, *spec.obs_shape), spec.obs_dtype)
        times = []
        for _ in range(ACTIONS):
            started = time.perf_counter()
            jax.block_until_ready(self._act_greedy(self._member.state, obs))
            times.append(1e3 * (time.perf_counter() - started))
        self._act_milliseconds = float(np.median(times))

    def _operations(self) -> Operations:
        apart = self._run.train.acts_apart
        return operations(self._agent, self._networks(), self._samples, apart)

    def _append_metrics(self, kind: str, env_steps: int, metrics: Mapping[str, Any]) -> None:
        self.files.append(
            {
                "kind": kind,
                "env_steps": env_steps,
                "updates": self._member.position.updates,
                "metrics": {name: float(value) for name, value in metrics.items()},
            }
        )
