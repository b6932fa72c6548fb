"""Milliseconds per SAC update: dense and masked, and beside Stable-Baselines3 and SBX.

    make bench                                        # with the rivals, in an environment of its own
    python benchmarks/update.py --only mlp --rounds 5 # a part of it, with what is installed

benchmarks/README.md says what is counted and how the contenders are kept comparable.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.replay import Replay
from kanbatsu.sparsity.prune import count, parameters
from kanbatsu.study.machine import machine_facts, versions
from kanbatsu.types import Spec, Transition

OBS_DIM, ACTION_DIM = 67, 21  # humanoid
BATCH, UPDATES_PER_CALL = 256, 2  # kanbatsu's defaults; the rivals are called with the same
TRANSITIONS = 10_000
SPARSITY = 0.8
PRODUCT = (256, 1024, 1024)  # rows, inner, columns: the typical product of a wide network
WARM_UP_CALLS = 3
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
RIVALS = ("torch", "stable_baselines3", "sbx-rl", "flax")


@dataclass(frozen=True)
class Arguments:
    """Time SAC updates of all contenders in turn and append one line to a file."""

    rounds: int = 20
    """How often each contender has its turn."""
    calls: int = 3
    """Timed calls per turn; one more before them is not timed."""
    only: tuple[str, ...] = ()
    """Time only contenders whose name contains one of these words."""
    json_out: Path = Path(__file__).parent / "results" / "update.jsonl"
    """The file that the line goes to."""


@dataclass(frozen=True)
class Contender:
    """Something to time."""

    call: Callable[[], object]
    """Does all its work before it returns."""
    units: int
    """Updates, or products, per call."""
    operations: int
    """Floating-point operations per unit."""
    parameters: int | None = None
    """Numbers that are trained, pruned ones included."""


@dataclass(frozen=True)
class Row:
    """What one contender took."""

    milliseconds: float
    """Median per unit over all timed calls."""
    quartiles: tuple[float, float]
    """Of the same."""
    compile_seconds: float
    """What the first calls took beyond the median: compilation, mostly."""
    operations: int
    gflops: float
    """Billions of operations per second."""
    parameters: int | None


class RandomEnvironment(gymnasium.Env[np.ndarray, np.ndarray]):
    """Random numbers of the right shapes; the rivals learn nothing from it, at the usual pace."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode."""
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> Any:
        """Ignore the action."""
        return self._observe(), float(self.np_random.normal()), False, False, {}

    def _observe(self) -> np.ndarray:
        return self.np_random.standard_normal(OBS_DIM, np.float32)


def random_transitions() -> Transition:
    """Fill a replay with what looks like experience."""
    rng = np.random.default_rng(0)
    none = np.zeros(TRANSITIONS, np.bool_)
    return Transition(
        obs=rng.standard_normal((TRANSITIONS, OBS_DIM), np.float32),
        action=rng.uniform(-1.0, 1.0, (TRANSITIONS, ACTION_DIM)).astype(np.float32),
        reward=rng.random(TRANSITIONS, np.float32),
        terminated=none,
        truncated=none,
        next_obs=rng.standard_normal((TRANSITIONS, OBS_DIM), np.float32),
    )


def kanbatsu_sac(actor: NetworkConfig, critic: CriticConfig) -> Contender:
    """Draw, convert and learn as `kanbatsu.train.loop` does between two decisions."""
    spec = Spec(OBS_DIM, ACTION_DIM, episode_length=500)
    agent = SAC(spec, SACConfig(actor, critic))
    replay, rng = Replay(TRANSITIONS, spec), np.random.default_rng(0)
    replay.add(random_transitions())
    state, key = agent.init(jax.random.key(0)), jax.random.key(1)
    update = jax.jit(agent.update, donate_argnums=0)
    networks = agent.networks(state)

    def call() -> None:
        nonlocal state
        batches = replay.sample(rng, UPDATES_PER_CALL, BATCH)
        state, metrics = update(state, batches, key)
        jax.block_until_ready((state, metrics))

    return Contender(
        call,
        UPDATES_PER_CALL,
        sum(2 * agent.passes[name] * BATCH * count(net).total for name, net in networks.items()),
        sum(parameters(network) for network in networks.values()),
    )


def simba(actor: int, critic: int, sparsity: float) -> Contender:
    """SAC with SimBa, one critic."""
    return kanbatsu_sac(
        NetworkConfig(width=actor, blocks=1, sparsity=sparsity),
        CriticConfig(width=critic, blocks=2, sparsity=sparsity),
    )


def mlp(sparsity: float) -> Contender:
    """SAC as the rivals have it: two critics, plain networks of two layers of 1024."""
    return kanbatsu_sac(
        NetworkConfig("mlp", width=1024, blocks=2, sparsity=sparsity),
        CriticConfig("mlp", width=1024, blocks=2, sparsity=sparsity, members=2),
    )


def stable_baselines3() -> Contender:
    """Stable-Baselines3's SAC (PyTorch) through its own `train`."""
    import stable_baselines3

    model = rival(stable_baselines3.SAC)
    networks = (model.actor, model.critic)
    return rival_contender(model, sum(p.numel() for net in networks for p in net.parameters()))


def sbx() -> Contender:
    """SBX's SAC (Flax) through its own `train`."""
    import sbx

    model = rival(sbx.SAC)
    trained = (model.policy.actor_state.params, model.policy.qf_state.params)
    return rival_contender(model, sum(leaf.size for leaf in jax.tree.leaves(trained)))


def rival(algorithm: Any) -> Any:
    """Build a rival that shares Stable-Baselines3's interface, and fill its replay."""
    import torch
    from stable_baselines3.common.logger import Logger

    torch.set_num_threads(CORES)
    model = algorithm(
        "MlpPolicy",
        RandomEnvironment(),
        policy_kwargs={"net_arch": {"pi": [1024, 1024], "qf": [1024, 1024]}},
        batch_size=BATCH,
        buffer_size=TRANSITIONS,
        device="cpu",
        seed=0,
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    data = random_transitions()
    for index in range(TRANSITIONS):
        item = Transition(*(field[index : index + 1] for field in data))
        model.replay_buffer.add(
            item.obs, item.next_obs, item.action, item.reward, item.terminated, [{}]
        )
    return model


def rival_contender(model: Any, parameters: int) -> Contender:
    """The operations are those of the algorithm, so that all three stand over the same number."""
    call = partial(model.train, gradient_steps=UPDATES_PER_CALL, batch_size=BATCH)
    return Contender(call, UPDATES_PER_CALL, mlp(0.0).operations, parameters)


def product(library: str) -> Contender:
    """One matrix product: what this machine can do at best, by each library."""
    rows, inner, columns = PRODUCT
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, inner), np.float32)
    w = rng.standard_normal((inner, columns), np.float32)
    if library == "numpy":
        call: Callable[[], object] = partial(np.matmul, x, w)
    elif library == "torch":
        import torch

        torch.set_num_threads(CORES)
        call = partial(torch.matmul, torch.from_numpy(x), torch.from_numpy(w))
    else:
        multiply, on_device = jax.jit(jnp.matmul), jax.device_put((x, w))

        def call() -> object:
            return multiply(*on_device).block_until_ready()

    return Contender(call, 1, 2 * rows * inner * columns)


CONTENDERS: Mapping[str, Callable[[], Contender]] = {
    "simba 128x1 / 512x2": partial(simba, 128, 512, 0.0),
    "simba 128x1 / 512x2 masked": partial(simba, 128, 512, SPARSITY),
    "simba 256x1 / 1024x2": partial(simba, 256, 1024, 0.0),
    "simba 256x1 / 1024x2 masked": partial(simba, 256, 1024, SPARSITY),
    "mlp 1024x2": partial(mlp, 0.0),
    "mlp 1024x2 masked": partial(mlp, SPARSITY),
    "stable-baselines3 mlp 1024x2": stable_baselines3,
    "sbx mlp 1024x2": sbx,
    "product xla": partial(product, "xla"),
    "product numpy": partial(product, "numpy"),
    "product torch": partial(product, "torch"),
}
RATIOS = (
    ("simba 128x1 / 512x2 masked", "simba 128x1 / 512x2"),
    ("simba 256x1 / 1024x2 masked", "simba 256x1 / 1024x2"),
    ("mlp 1024x2 masked", "mlp 1024x2"),
    ("mlp 1024x2", "stable-baselines3 mlp 1024x2"),
    ("mlp 1024x2", "sbx mlp 1024x2"),
)


def time_call(contender: Contender) -> float:
    """Return the milliseconds per unit of one call."""
    started = time.perf_counter()
    contender.call()
    return 1e3 * (time.perf_counter() - started) / contender.units


def time_all(
    contenders: Mapping[str, Contender], rounds: int, calls: int
) -> tuple[dict[str, Row], dict[str, np.ndarray]]:
    """Give every contender a turn in every round, so that all meet the same noise.

    Returns:
        The rows, and the times in milliseconds, `[rounds, calls]`, by name.
    """
    first = {
        name: [time_call(contender) for _ in range(WARM_UP_CALLS)]
        for name, contender in contenders.items()
    }
    times = {name: np.empty((rounds, calls)) for name in contenders}
    rng = np.random.default_rng(0)
    for turn in range(rounds):
        for name in rng.permutation(list(contenders)):
            time_call(contenders[name])  # brings its data back into the caches
            times[name][turn] = [time_call(contenders[name]) for _ in range(calls)]
    rows = {}
    for name, contender in contenders.items():
        low, median, high = np.quantile(times[name], (0.25, 0.5, 0.75)).tolist()
        beyond = (np.array(first[name]) - median).sum() * contender.units
        rows[name] = Row(
            milliseconds=median,
            quartiles=(low, high),
            compile_seconds=max(0.0, float(beyond) / 1e3),
            operations=contender.operations,
            gflops=contender.operations / median / 1e6,
            parameters=contender.parameters,
        )
    return rows, times


def compare(times: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Median over the rounds of the ratio within a round: drift of the machine cancels."""
    return {
        f"{one} : {other}": float(
            np.median(np.median(times[one], axis=1) / np.median(times[other], axis=1))
        )
        for one, other in RATIOS
        if one in times and other in times
    }


def commit() -> str:
    """Return the commit that is checked out, marked where files differ from it."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def show(console: Console, rows: Mapping[str, Row], missing: Mapping[str, str]) -> None:
    """Print the table."""
    table = Table(title=f"SAC, batch {BATCH}, {UPDATES_PER_CALL} updates per call, {CORES} cores")
    table.add_column("")
    for heading in ("ms / update", "quartiles", "parameters", "GFLOP", "GFLOP/s", "compile s"):
        table.add_column(heading, justify="right")
    for name in CONTENDERS:
        if name in rows:
            row = rows[name]
            table.add_row(
                name,
                f"{row.milliseconds:.2f}",
                "{:.2f} - {:.2f}".format(*row.quartiles),
                "" if row.parameters is None else f"{row.parameters:,}",
                f"{row.operations / 1e9:.2f}",
                f"{row.gflops:.0f}",
                f"{row.compile_seconds:.1f}",
            )
        elif name in missing:
            table.add_row(name, "not installed", missing[name])
    console.print(table)


def main(arguments: Arguments) -> None:
    """Time, print, and append."""
    console = Console()
    load = os.getloadavg()[0]
    contenders, missing = {}, {}
    for name, build in CONTENDERS.items():
        if arguments.only and not any(word in name for word in arguments.only):
            continue
        try:
            contenders[name] = build()
        except ModuleNotFoundError as error:
            missing[name] = f"no {error.name}; make bench installs it"
    rows, times = time_all(contenders, arguments.rounds, arguments.calls)
    ratios = compare(times)

    show(console, rows, missing)
    for pair, ratio in ratios.items():
        console.print(f"{pair}  [bold]{ratio:.3f}")
    console.print(f"load of the machine before: {load:.1f}")

    facts = machine_facts()
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": facts | {"versions": facts["versions"] | versions(RIVALS)},
        "load_before": load,
        "rounds": arguments.rounds,
        "calls": arguments.calls,
        "updates_per_call": UPDATES_PER_CALL,
        "batch": BATCH,
        "sparsity_of_masked": SPARSITY,
        "rows": {name: asdict(row) for name, row in rows.items()},
        "ratios": ratios,
        "not_installed": sorted(missing),
    }
    arguments.json_out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.json_out.open("a") as file:
        file.write(json.dumps(record, sort_keys=True) + "\n")
    console.print(f"appended to {arguments.json_out}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
