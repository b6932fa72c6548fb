"""How far exported policies are from what they were exported from: the runtime, ONNX and C.

    .venv/bin/python benchmarks/export_parity.py

Untrained policies of each kind, with half of their weights removed where that is possible, are
exported in every form. The errors are those that the exporter writes into the contract: the largest
difference on the golden pairs, in halves of an action's range. It writes
benchmarks/results/export_parity.json after each kind, and leaves out those that are in it: delete
the file to begin anew.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import stable_baselines3 as sb3
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn
from update import commit

from kanbatsu.agents import AGENTS
from kanbatsu.agents.pqn import PQNConfig
from kanbatsu.agents.stream_ac import StreamACConfig
from kanbatsu.agents.stream_q import StreamQConfig
from kanbatsu.deploy import export_policy, load
from kanbatsu.deploy.families import Known, acting_of
from kanbatsu.deploy.write import Export, Original, write_policy
from kanbatsu.integrations.sb3 import SimbaPolicy, prune_policy
from kanbatsu.integrations.sb3 import export_policy as export_model
from kanbatsu.machine import machine_facts, versions
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.nn.normed import NormedNetworkConfig
from kanbatsu.nn.stream import StreamNetworkConfig
from kanbatsu.torch.deploy import export_policy as export_module
from kanbatsu.torch.pruning import prune
from kanbatsu.train.checkpoint import to_arrays
from kanbatsu.types import Spec

RESULT = Path(__file__).parent / "results" / "export_parity.json"
STREAM = StreamNetworkConfig(width=32, sparsity=0.5, initial_sparsity=0.0)
NORMED = NormedNetworkConfig(width=32, sparsity=0.5)
VECTOR, IMAGE = Spec((11,), 3, discrete=True), Spec((10, 10, 4), 3, None, "uint8", discrete=True)
REACH, PIXELS = Box(-2, 2, (3,)), Box(0, 255, (36, 36, 2), np.uint8)
SEEN, PARTS = Box(-np.inf, np.inf, (11,)), Dict({"a": Box(-1, 1, (4,)), "b": Box(-1, 1, (2, 3))})


def replay(agent: str, **actor: Any) -> Callable[[Path], None]:
    """Return what exports SAC or DDPG of ours."""

    def write(folder: Path) -> None:
        config = AGENTS[agent].config(
            actor=NetworkConfig(sparsity=0.5, **actor), critic=CriticConfig(width=8, blocks=1)
        )
        state = AGENTS[agent].agent(Spec((11,), 3, 100), config).init(jax.random.key(0))
        export_policy(state.actor, state.normaliser, folder, low=-2.0, high=2.0, c=True, onnx=True)

    return write


def of_agent(agent: str, config: Any, spec: Spec) -> Callable[[Path], None]:
    """Return what exports another agent of ours."""

    def write(folder: Path) -> None:
        made = AGENTS[agent].agent(spec, config)
        state = made.init(jax.random.key(0))
        shape = {"obs_shape": spec.obs_shape, "obs_dtype": spec.obs_dtype}
        acting = acting_of(agent, to_arrays(state), Known(config, shape, -1.0, 1.0))

        def act(obs: np.ndarray) -> np.ndarray:
            seen = obs.reshape(-1, *spec.obs_shape).astype(spec.obs_dtype)
            action = np.asarray(made.act_greedy(state, jax.numpy.asarray(seen)))
            return action.argmax(axis=-1) if spec.discrete else action

        how, original = Export(onnx=True, c=True), Original(act, "act_greedy")
        write_policy(acting.layers, folder, original, how, image=acting.image)

    return write


class Rooms(gymnasium.Env):
    """An environment of two spaces that nobody steps."""

    def __init__(self, observations: gymnasium.Space, actions: gymnasium.Space) -> None:
        self.observation_space, self.action_space = observations, actions


def model(algorithm: Any, actions: Any, seen: Any = SEEN, policy: str = "MlpPolicy") -> Any:
    """Return what exports a model of Stable-Baselines3."""

    def write(folder: Path) -> None:
        env: Any = DummyVecEnv([lambda: Rooms(seen, actions)])
        if seen is SEEN:
            env = VecNormalize(env)
            env.obs_rms.update(np.random.default_rng(0).normal(2, 3, (50, 11)))
        short = {} if algorithm in (sb3.PPO, sb3.A2C) else {"buffer_size": 10}
        made = algorithm(policy, env, device="cpu", seed=0, **short)
        export_model(prune_policy(made), folder, onnx=True, c=True)

    return write


def module(layers: Callable[[], nn.Module], **settings: Any) -> Callable[[Path], None]:
    """Return what exports a module."""

    def write(folder: Path) -> None:
        torch.manual_seed(0)
        export_module(prune(layers(), 0.5), folder, onnx=True, c=True, **settings)

    return write


def activations() -> nn.Module:
    """Return a network with every activation."""
    kinds = (nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus)
    hidden = [layer for kind in kinds for layer in (nn.Linear(32, 32), nn.LayerNorm(32), kind())]
    return nn.Sequential(nn.Linear(11, 32), *hidden, nn.Linear(32, 3))


KINDS = {
    "kanbatsu SAC, SimBa": replay("sac", width=64, blocks=1),
    "kanbatsu DDPG, MLP": replay("ddpg", network="mlp", width=64, blocks=2),
    "kanbatsu Stream AC": of_agent("stream_ac", StreamACConfig(STREAM, STREAM), Spec((11,), 3, 99)),
    "kanbatsu Stream Q": of_agent("stream_q", StreamQConfig(STREAM), VECTOR),
    "kanbatsu PQN, vectors": of_agent("pqn", PQNConfig(NORMED), VECTOR),
    "kanbatsu PQN, images": of_agent("pqn", PQNConfig(NORMED), IMAGE),
    "SB3 SAC": model(sb3.SAC, REACH),
    "SB3 SAC, SimbaPolicy": model(sb3.SAC, REACH, policy=SimbaPolicy),
    "SB3 TD3": model(sb3.TD3, REACH),
    "SB3 PPO, Gaussian": model(sb3.PPO, REACH),
    "SB3 PPO, MultiDiscrete": model(sb3.PPO, MultiDiscrete([3, 4])),
    "SB3 A2C, dictionary": model(sb3.A2C, REACH, PARTS, "MultiInputPolicy"),
    "SB3 DQN": model(sb3.DQN, Discrete(4)),
    "SB3 PPO, CnnPolicy": model(sb3.PPO, Discrete(4), PIXELS, "CnnPolicy"),
    "SB3 SAC, CnnPolicy": model(sb3.SAC, REACH, PIXELS, "CnnPolicy"),
    "PyTorch, every activation": module(activations, actions="clip", low=-9.0, high=9.0),
}


def main() -> None:
    """Export every kind, print its errors and write them all."""
    facts = machine_facts()
    facts["versions"] |= versions(("stable-baselines3", "torch", "onnx", "onnxruntime"))
    rows = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else {}
    for name, write in KINDS.items():
        if name in rows:
            continue
        with tempfile.TemporaryDirectory() as place:
            write(Path(place) / "policy")
            golden = load(Path(place) / "policy").contract["golden"]
        errors = {form: golden[f"{form}parity_error"] for form in ("", "onnx_", "c_")}
        rows[name] = errors | {"commit": commit()}
        print(name, rows[name], golden["onnx_by"], flush=True)
        RESULT.write_text(json.dumps({"rows": rows, "machine": facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
