"""Steps from a run to full service, for rollout_way.py: train, begin, advance, watch."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kanbatsu.deploy.layers import Dense, Linear, Normalise, Squash
from kanbatsu.deploy.write import Export, Original, write_policy
from kanbatsu.envs.correction import corrected
from kanbatsu.envs.incumbent import load_incumbent
from kanbatsu.envs.make import make
from kanbatsu.envs.residual import ResidualConfig, correct, unscale
from kanbatsu.rollout import Rollout, Service
from kanbatsu.rollout.journal import Journal
from kanbatsu.rollout.template import write_template
from kanbatsu.rollout.watch.held_out import calibrate_rollout
from kanbatsu.rollout.watch.stored_watch import StoredWatch

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
        # Too few samples for thresholds come together here: they are simulated instead.
        "record = true": "record = false\nroll_back = true",
        "horizon = 100_000": "horizon = 20_000",
        'isolation = "process"': 'isolation = "process"\nqueue = 200',
    }
    text = path.read_text()
    for old, new in settings.items():
        assert text.count(f"\n{old}\n") == 1, old
        text = text.replace(f"\n{old}\n", f"\n{new}\n")
    path.write_text(text)
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
    _, seen, acted = simulate(way, policy, range(5_000, 5_000 + episodes))
    log = folder / "log.npz"
    np.savez(log, observations=seen, actions=acted)
    stored, notes = calibrate_rollout(folder, [log])  # kanbatsu rollout calibrate FOLDER --logs LOG
    print(f"watch: {stored.claim()}")
    print("".join(f"    note: {note}\n" for note in notes), end="")
    return stored
