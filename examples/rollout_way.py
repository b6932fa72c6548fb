"""The way from a run to full service, shared by rollout_inventory.py and rollout_plant.py."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kanbatsu.deploy import export, load
from kanbatsu.deploy.layers import Dense, Linear, Normalise, Squash
from kanbatsu.deploy.write import Export, Original, write_policy
from kanbatsu.envs.correction import corrected
from kanbatsu.envs.incumbent import load_incumbent
from kanbatsu.envs.make import make
from kanbatsu.envs.residual import ResidualConfig, correct, unscale
from kanbatsu.rollout import Rollout, Service
from kanbatsu.rollout.journal import Journal
from kanbatsu.rollout.moments import Moments
from kanbatsu.rollout.stored_watch import FILE, StoredWatch
from kanbatsu.rollout.template import write_template

Tamper = Callable[[int, np.ndarray], np.ndarray]
"""What happens to an observation on its way to the policy, by the number of the action."""


@dataclass(frozen=True)
class Way:
    """What is put into service, and by which rules."""

    task: str
    incumbent: str
    share: float
    safe_action: list[float]
    returns: tuple[float, float]
    """Returns beyond these count as these."""
    worse_by: float
    sensor: int
    """Entry of the observation that faults are injected into."""
    env_steps: int = 3_000


class Caught(NamedTuple):
    """One fault, and what became of it."""

    fault: str
    injected: str
    by: str
    after: int
    """Actions from the fault to the moment at which it was found."""
    then: str


def train(way: Way, out: Path) -> Path:
    """Train a correction of the incumbent, too short to be any good; return the run's folder."""
    from kanbatsu.agents.sac import SACConfig
    from kanbatsu.agents.schedule import TrainConfig
    from kanbatsu.nn.config import CriticConfig, NetworkConfig
    from kanbatsu.run.carry import run_one
    from kanbatsu.run.check import check
    from kanbatsu.run.record import Run

    run = Run(
        way.task,
        env_steps=way.env_steps,
        config=SACConfig(
            actor=NetworkConfig(width=32, blocks=1, sparsity=0.5),
            critic=CriticConfig(width=64, blocks=1),
            learning_rate=1e-3,
            tau=0.02,
        ),
        train=TrainConfig(
            batch_size=64,
            updates_per_interaction=1,
            warmup_interactions=500,
            evaluate_every=100_000,
            evaluation_episodes=1,
            probe_every=100_000,
            probe_batch=64,
        ),
        residual=ResidualConfig(way.incumbent, way.share),
    )
    check(run)
    folder = out / "run"
    run_one(run, folder)
    return folder


def untrained(way: Way, folder: Path) -> None:
    """Write a small policy without training, where there is no time: a random correction."""
    residual, environment = ResidualConfig(way.incumbent, way.share), make(way.task)
    spec, record = environment.spec, correct(environment, residual, way.task).record()
    bound = np.array(record["correction"], np.float32)
    size = spec.obs_dim, spec.action_dim
    weights = np.random.default_rng(0).normal(0.0, 0.02, size).astype(np.float32)
    nothing, one = np.zeros(size[0], np.float32), np.ones(size[0], np.float32)
    linear = Linear(Dense(weights), np.zeros(size[1], np.float32), *size, relu=False)
    layers = [Normalise(nothing, one), linear, Squash(-bound, bound)]
    original = Original(lambda obs: bound * np.tanh(obs @ weights), "a formula")
    known = {"task": way.task, "residual": asdict(residual) | record}
    write_policy(layers, folder, original, Export(), environment=known)


class Plant:
    """The simulated plant: actions in the actuators' units."""

    def __init__(self, task: str) -> None:
        self._environment = make(task)
        spec = self._environment.spec
        self.low, self.high = np.array(spec.low), np.array(spec.high)

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode."""
        return self._environment.reset(seed)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """Act once: observation, reward, and whether the episode is over."""
        step = self._environment.step(unscale(action, self.low, self.high))
        return step.obs, step.reward, step.terminated or step.truncated


def simulate(way: Way, policy: Callable | None, seeds: range) -> tuple[np.ndarray, ...]:
    """Play episodes without a service: returns, observations and actions."""
    plant, incumbent = Plant(way.task), load_incumbent(way.incumbent)
    bound = way.share * (plant.high - plant.low)
    returns, seen, acted = [], [], []
    for seed in seeds:
        obs, total, over = plant.reset(seed), 0.0, False
        incumbent.reset()
        while not over:
            action = np.asarray(incumbent(obs), np.float64)
            if policy is not None:
                action = corrected(action, policy(obs), bound, plant.low, plant.high)
            seen.append(obs)
            acted.append(action)
            obs, reward, over = plant.step(action)
            total += reward
        returns.append(total)
    return np.array(returns), np.array(seen), np.array(acted)


def begin(way: Way, out: Path, quick: bool) -> Path:
    """Begin the rollout of an exported policy in shadow."""
    folder = out / "rollout"
    path = folder / "rollout.toml"
    write_template(path, str(out / "policy"), "")  # knows limits, incumbent and correction
    rules = "violation_share = 0.01\nlate_share = 0.01\ndropped_share = 0.05"
    settings = {
        "# ! safe_action = [0.0]": f"safe_action = {json.dumps(way.safe_action)}",
        "# ! return_low = -200.0": f"return_low = {way.returns[0]}",
        "# ! return_high = 0.0": f"return_high = {way.returns[1]}",
        "# ! worse_by = 5.0": f"worse_by = {way.worse_by * (3 if quick else 1)}\n"
        f"more_violations = {0.5 if quick else 0.2}",
        "share = 0.1": "share = 0.5",
        "episodes = 50": f"episodes = {5 if quick else 30}",
        "answers = 10_000": f"answers = {150 if quick else 2_000}\n{rules}",
        # The control period is seconds here, or days; a busy machine may take its time.
        "deadline_s = 0.01": "deadline_s = 0.25",
        'isolation = "process"': 'isolation = "process"\nqueue = 200',
    }
    text = path.read_text()
    for old, new in settings.items():
        assert text.count(f"\n{old}\n") == 1, old
        text = text.replace(f"\n{old}\n", f"\n{new}\n")
    path.write_text(f"{text}\n[drift]\nroll_back = true\nhorizon = 20_000\n")
    Rollout.begin(folder, by="Aoi", reason="the verdict was adopt")
    return folder


def play(
    service: Service,
    plant: Plant,
    seed: int,
    tamper: Tamper = lambda at, obs: obs,
    after: Callable[[int], None] = lambda at: None,
    period_s: float = 0.0,
) -> float:
    """Play one episode in service."""
    service.begin_episode()
    obs, total, over, at = plant.reset(seed), 0.0, False, 0
    while not over:
        action = service.act(tamper(at, np.array(obs)))
        assert np.isfinite(action).all()
        assert (action >= plant.low).all()
        assert (action <= plant.high).all()
        after(at)
        obs, reward, over = plant.step(action)
        total, at = total + reward, at + 1
        time.sleep(period_s)
    service.end_episode(total)
    return total


def advance(way: Way, folder: Path, stage: str, most: int) -> None:
    """Play episodes until the gate of a stage is passed; then a person advances."""
    plant, rollout = Plant(way.task), Rollout(folder)
    began, period_s = time.perf_counter(), 0.001 if stage == "shadow" else 0.0
    with Journal(folder / "journal") as journal, Service(folder, sink=journal) as service:
        for episode in range(most):
            play(service, plant, seed=episode, period_s=period_s)
            gate = rollout.gate()
            if gate is None or gate.passed or service.stage != stage:
                break
    assert gate is not None
    assert gate.passed, (*gate.missing, gate.harm)
    change = rollout.advance("Aoi", f"{episode + 1} episodes, and the gate is passed")
    print(f"{stage} -> {change['to']}: {episode + 1} episodes, {time.perf_counter() - began:.0f} s")
    for name, value in gate.numbers.items():
        print(f"    {name:<26} {value:,.4g}")


def watch(way: Way, folder: Path, policy: Callable, episodes: int) -> StoredWatch:
    """Calibrate a watch over drift on logs of the policy, and let the service have it."""
    moments = Moments.of(simulate(way, policy, range(5_000, 5_000 + episodes // 3))[1])
    _, seen, acted = simulate(way, policy, range(6_000, 6_000 + episodes))
    stored = StoredWatch.made(Rollout(folder).settings, moments, seen, acted, ["simulation"])
    stored.store(folder / FILE)
    print(f"watch: {stored.claim()}")
    return stored


def candidate_process() -> int:
    """Return the id of the candidate's process: a child of this one."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(words[1]) == os.getpid() and "kanbatsu.rollout.worker" in command:
            return int(stat.parent.name)
    raise RuntimeError("the candidate has no process")


def inject_nan(way: Way, folder: Path) -> Caught:
    """Let one sensor give NaN for five actions."""
    plant, counts, at_fault = Plant(way.task), [], 30

    def tamper(at: int, obs: np.ndarray) -> np.ndarray:
        if at_fault <= at < at_fault + 5:
            obs[way.sensor] = np.nan
        return obs

    with Service(folder) as service:
        found = service.guard.counts
        play(service, plant, 0)
        play(service, plant, 1, tamper, lambda _: counts.append(found["observation_not_finite"]))
        stage = service.stage
    assert counts[at_fault - 1 : at_fault + 6] == [0, 1, 2, 3, 4, 5, 5]
    assert stage == "full"
    after = counts.index(1) - at_fault
    then = "last action, then safe action; candidate goes on"
    return Caught("NaN in a sensor", "actions 30 to 34", "observation_not_finite", after, then)


def inject_slow(way: Way, folder: Path) -> Caught:
    """Stop the candidate's process for three actions, in three episodes."""
    plant, counts, at_fault = Plant(way.task), [], 20

    def tamper(at: int, obs: np.ndarray) -> np.ndarray:
        if at in (at_fault, at_fault + 3):  # as a machine without a free core would
            number = signal.SIGSTOP if at == at_fault else signal.SIGCONT
            os.kill(candidate_process(), number)
        return obs

    with Service(folder) as service:
        found = service.guard.counts
        for episode in range(3):
            assert service.stage == "full"
            play(service, plant, episode, tamper, lambda _: counts.append(found["deadline"]))
        stage = service.stage
    assert stage == "rolled_back"
    after = counts.index(counts[at_fault - 1] + 1) - at_fault
    assert after == 0
    then = "last action, then incumbent; rolled back after 3 episodes"
    return Caught("slow inference", "actions 20 to 22, 3 times", "deadline", after, then)


def inject_shift(way: Way, folder: Path, stored: StoredWatch, most: int) -> Caught:
    """Let one sensor read three standard deviations too high, after episodes without a fault."""
    plant, sd = Plant(way.task), stored.windows.moments.sd[way.sensor]
    actions = 0

    def count(_: int) -> None:
        nonlocal actions
        actions += service.stage == "full"

    def tamper(_: int, obs: np.ndarray) -> np.ndarray:
        obs[way.sensor] += 3.0 * sd
        return obs

    with Service(folder) as service:
        for episode in range(5):
            play(service, plant, episode)
        assert service.stage == "full"
        for episode in range(most):
            play(service, plant, 5 + episode, tamper, count)
            if service.stage == "rolled_back":
                break
        assert service.stage == "rolled_back"
    (*_, last) = Rollout(folder).read().changes
    fault, then = f"a sensor reads {3 * sd:.2g} too high", "rolled back"
    return Caught(fault, "every action", last["reason"], actions, then)


def go(way: Way, out: Path, quick: bool) -> None:
    """Go the whole way, and print what happened."""
    shutil.rmtree(out, ignore_errors=True)
    if quick:
        untrained(way, out / "policy")
    else:
        export(train(way, out), out / "policy")
    folder = begin(way, out, quick)
    policy = load(out / "policy")
    judged = range(10_000, 10_004 if quick else 10_100)
    before, after = (simulate(way, each, judged)[0] for each in (None, policy))
    gain = after - before
    error = 1.96 * gain.std(ddof=1) / np.sqrt(gain.size)
    print(f"returns: incumbent {before.mean():.1f}, corrected {after.mean():.1f}")
    print(f"    difference {gain.mean():+.2f} +- {error:.2f} (95 %, {gain.size} same episodes)")
    advance(way, folder, "shadow", most=60)
    advance(way, folder, "canary", most=600)
    stored = watch(way, folder, policy, episodes=120 if quick else 300)
    caught = []
    for inject in (inject_nan, inject_slow, lambda way, copy: inject_shift(way, copy, stored, 60)):
        copy = out / f"fault-{len(caught)}"
        shutil.copytree(folder, copy)  # each fault on a rollout in full service of its own
        caught.append(inject(way, copy))
    print(f"\n{'fault':<28} {'injected':<25} {'caught by':<42} {'actions':>7}  then")
    for fault, injected, by, actions, then in caught:
        print(f"{fault:<28} {injected:<25} {by:<42} {actions:>7,}  {then}")
