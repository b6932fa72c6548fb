"""What benchmarks/update.py times: SAC here, SAC elsewhere, and bare matrix products."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.replay import Replay
from kanbatsu.sparsity.count import count, parameters
from kanbatsu.types import Spec, Transition

OBS_DIM, ACTION_DIM = 67, 21  # humanoid
BATCH, UPDATES_PER_CALL = 256, 2  # the defaults here; the rivals are called with the same
TRANSITIONS = 10_000
SPARSITY = 0.8
PRODUCT = (256, 1024, 1024)  # rows, inner, columns: the typical product of a wide network
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


class RandomEnvironment(gymnasium.Env[np.ndarray, np.ndarray]):
    """Gives the rivals the shapes that they ask an environment for; it is never stepped."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32)


def random_transitions() -> Transition:
    """Make as much random experience as every replay holds."""
    rng = np.random.default_rng(0)
    never = np.zeros(TRANSITIONS, np.bool_)
    return Transition(
        obs=rng.standard_normal((TRANSITIONS, OBS_DIM), np.float32),
        action=rng.uniform(-1.0, 1.0, (TRANSITIONS, ACTION_DIM)).astype(np.float32),
        reward=rng.random(TRANSITIONS, np.float32),
        terminated=never,
        truncated=never,
        next_obs=rng.standard_normal((TRANSITIONS, OBS_DIM), np.float32),
    )


def operations(actor_weights: int, critic_weights: int) -> int:
    """Multiplications and additions of one update, pruned weights included."""
    passes = SAC.passes["actor"] * actor_weights + SAC.passes["critic"] * critic_weights
    return 2 * BATCH * passes


def kanbatsu_sac(actor: NetworkConfig, critic: CriticConfig) -> Contender:
    """Draw batches and learn from them as `kanbatsu.train.host` does after every decision."""
    spec = Spec(OBS_DIM, ACTION_DIM, episode_length=500)
    agent = SAC(spec, SACConfig(actor, critic))
    replay, rng = Replay(TRANSITIONS, spec), np.random.default_rng(0)
    replay.add(random_transitions())
    state, key = agent.init(jax.random.key(0)), jax.random.key(1)
    update = jax.jit(agent.update, donate_argnums=0)
    networks = agent.networks(state)
    weights = {name: count(network).total for name, network in networks.items()}

    def call() -> None:
        nonlocal state
        batches = replay.sample(rng, UPDATES_PER_CALL, BATCH)
        state, metrics = update(state, batches, key)
        jax.block_until_ready((state, metrics))

    return Contender(
        call,
        UPDATES_PER_CALL,
        operations(weights["actor"], weights["critic"]),
        sum(parameters(network) for network in networks.values()),
    )


def simba(actor: int, critic: int, sparsity: float) -> Contender:
    """SAC with SimBa and one critic."""
    return kanbatsu_sac(
        NetworkConfig(width=actor, blocks=1, sparsity=sparsity, compute="masked"),
        CriticConfig(width=critic, blocks=2, sparsity=sparsity, compute="masked"),
    )


def mlp(sparsity: float) -> Contender:
    """SAC as the rivals have it: two critics, plain networks of two layers of 1024."""
    return kanbatsu_sac(
        NetworkConfig("mlp", width=1024, blocks=2, sparsity=sparsity, compute="masked"),
        CriticConfig("mlp", width=1024, blocks=2, sparsity=sparsity, compute="masked", members=2),
    )


def stable_baselines3() -> Contender:
    """SAC in PyTorch."""
    import stable_baselines3

    model = rival(stable_baselines3.SAC)
    actor, critic = list(model.actor.parameters()), list(model.critic.parameters())
    weights = [sum(p.numel() for p in trained if p.ndim == 2) for trained in (actor, critic)]
    return Contender(
        partial(model.train, gradient_steps=UPDATES_PER_CALL, batch_size=BATCH),
        UPDATES_PER_CALL,
        operations(*weights),
        sum(p.numel() for p in actor + critic),
    )


def sbx() -> Contender:
    """SAC in Flax."""
    import sbx

    model = rival(sbx.SAC)
    actor, critic = (
        jax.tree_util.tree_leaves_with_path(state.params)
        for state in (model.policy.actor_state, model.policy.qf_state)
    )
    weights = [
        sum(leaf.size for path, leaf in trained if "kernel" in jax.tree_util.keystr(path))
        for trained in (actor, critic)
    ]
    return Contender(
        partial(model.train, gradient_steps=UPDATES_PER_CALL, batch_size=BATCH),
        UPDATES_PER_CALL,
        operations(*weights),
        sum(leaf.size for _, leaf in actor + critic),
    )


def rival(algorithm: Any) -> Any:
    """Build an algorithm with Stable-Baselines3's interface and fill its replay."""
    import torch
    from stable_baselines3.common.logger import Logger

    torch.set_num_threads(CORES)
    model = algorithm(
        "MlpPolicy",
        RandomEnvironment(),
        policy_kwargs={"net_arch": {"pi": [1024, 1024], "qf": [1024, 1024]}},
        buffer_size=TRANSITIONS,
        device="cpu",
        seed=0,
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    data = random_transitions()
    for index in range(TRANSITIONS):
        one = Transition(*(field[index : index + 1] for field in data))
        model.replay_buffer.add(one.obs, one.next_obs, one.action, one.reward, one.terminated, [{}])
    return model


def product(library: str) -> Contender:
    """One matrix product: the most that a library gets out of this machine."""
    rows, inner, columns = PRODUCT
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, inner), np.float32)
    w = rng.standard_normal((inner, columns), np.float32)
    return Contender(PRODUCTS[library](x, w), 1, 2 * rows * inner * columns)


def xla_product(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    """Multiply in JAX."""
    multiply, arguments = jax.jit(jnp.matmul), jax.device_put((x, w))
    return lambda: multiply(*arguments).block_until_ready()


def numpy_product(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    """Multiply in NumPy."""
    return partial(np.matmul, x, w)


def torch_product(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    """Multiply in PyTorch."""
    import torch

    torch.set_num_threads(CORES)
    return partial(torch.matmul, torch.from_numpy(x), torch.from_numpy(w))


PRODUCTS = {"xla": xla_product, "numpy": numpy_product, "torch": torch_product}

CONTENDERS: Mapping[str, Callable[[], Contender]] = {
    "simba 4.4M": partial(simba, 128, 512, 0.0),
    "simba 4.4M masked": partial(simba, 128, 512, SPARSITY),
    "simba 17M": partial(simba, 256, 1024, 0.0),
    "simba 17M masked": partial(simba, 256, 1024, SPARSITY),
    "mlp 1024x2": partial(mlp, 0.0),
    "mlp 1024x2 masked": partial(mlp, SPARSITY),
    "sb3 mlp 1024x2": stable_baselines3,
    "sbx mlp 1024x2": sbx,
    "product xla": partial(product, "xla"),
    "product numpy": partial(product, "numpy"),
    "product torch": partial(product, "torch"),
}
"""Name to maker; a maker raises ModuleNotFoundError where its library is not installed."""

RATIOS = (
    ("simba 4.4M masked", "simba 4.4M"),
    ("simba 17M masked", "simba 17M"),
    ("mlp 1024x2 masked", "mlp 1024x2"),
    ("mlp 1024x2", "sb3 mlp 1024x2"),
    ("mlp 1024x2", "sbx mlp 1024x2"),
    ("mlp 1024x2 masked", "sb3 mlp 1024x2"),
    ("mlp 1024x2 masked", "sbx mlp 1024x2"),
)
"""Pairs of names: whose time is divided by whose."""
