"""A run in progress: its parts, what it writes, and where it goes on from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kanbatsu.agents import AGENTS
from kanbatsu.agents.remedied import Pace, remedied
from kanbatsu.agents.schedule import over_training
from kanbatsu.envs.functional import functional_of
from kanbatsu.envs.residual import residual_of
from kanbatsu.envs.spec import Environment
from kanbatsu.envs.vector import VectorEnvironment
from kanbatsu.files.store import RunFolder
from kanbatsu.run.check import environment_of
from kanbatsu.run.log import Log
from kanbatsu.run.record import Run, refuse_seed
from kanbatsu.train import checkpoint
from kanbatsu.train.device import DeviceMember
from kanbatsu.train.host import HostMember
from kanbatsu.train.turn import Position, Stopwatch, Turn


class RunInProgress:
    """One run: what it trains, what it writes, where it goes on from.

    Where its environment is functional, it trains on the device; else simulators step on the host.

    Args:
        run: What to do.
        files: Where its files go; lines later than the newest checkpoint are cut off.
    """

    def __init__(self, run: Run, files: RunFolder) -> None:
        refuse_seed(run.seed)
        self.run, self.files = run, files
        schedule: Any = run.train
        self._arena, self.watch = environment_of(run), Stopwatch()
        files.write_environment(
            {"task": run.task, "time": getattr(run.config, "time", False)}
            | _corrects(run, self._arena)
            | {"action_repeat": self._arena.action_repeat}
            | asdict(self._arena.spec)
        )
        config = over_training(run.config, -(-run.env_steps // self._arena.action_repeat))
        agent = AGENTS[run.agent].agent(self._arena.spec, config)
        if run.remedy:
            pace = Pace.of(schedule, self._arena.action_repeat, run.env_steps)
            agent = remedied(agent, run.remedy, pace)
        functional = functional_of(self._arena)
        if functional is None:
            environments = [environment_of(run) for _ in range(schedule.environments)]
            vector = VectorEnvironment(environments, seed=run.seed)
            self.member: Any = HostMember(agent, schedule, vector, run.seed, self.watch)
        else:
            self.member = DeviceMember(
                agent, schedule, functional, run.seed, self.watch, run.env_steps
            )
        self._log = Log(files, run, self.member, self._arena)

        saved = checkpoint.load_latest(files.checkpoint)
        if saved is None:
            files.truncate(dict.fromkeys(files.sizes(), 0))
            self._log.networks(0)
            self._log.evaluation(0)
            self._log.begin()
        else:
            self.member.load(saved.arrays, Position(*saved.facts["position"]))
            self.watch.seconds.update(saved.facts["seconds"])
            files.truncate(saved.facts["sizes"], saved.facts.get("results"))
            self._log.resume()

    def write(self, turn: Turn, index: int) -> None:
        """Write down what a turn did, and evaluate, probe and save where that is due.

        Args:
            turn: What all members did.
            index: Place of this run among them.

        Raises:
            Exception: why the run has stopped, if it has.
        """
        fault = turn.faults[index]
        if fault is not None:
            raise fault
        log, at, config = self._log, turn.env_steps, self.run.train
        last = at >= self.run.env_steps

        def due(every: int) -> bool:
            return every > 0 and (last or at % every < turn.stride)

        log.episodes(turn.episodes[index])
        logs, probes, evaluates, saves = map(
            due,
            (config.log_every, config.probe_every, config.evaluate_every, config.checkpoint_every),
        )
        if not (logs or probes or evaluates or saves):
            return
        turn.settle()
        learned = self.member.metrics is not None
        if logs and learned:
            log.update(at)
        if probes and learned:
            log.probe(at)
        if evaluates:
            log.evaluation(at)
        if logs:
            log.timing(at)
        if saves:
            log.save(at, last)


def _corrects(run: Run, environment: Environment) -> dict[str, Any]:
    """Return what is stored of the rule that an agent corrects; nothing where it corrects none."""
    corrected = residual_of(environment)
    if run.residual is None or corrected is None:
        return {}
    return {"residual": asdict(run.residual) | corrected.record()}
