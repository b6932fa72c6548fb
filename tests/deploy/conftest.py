"""What the tests of policies share: an agent that has seen something, and its exported files."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents import AGENTS
from kanbatsu.deploy import export_policy, policy
from kanbatsu.kernels.shared import shared_library
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.types import Spec

SPEC = Spec((17,), action_dim=3, episode_length=100)
STORED = {
    "dense": {},
    "element": {"sparsity": 0.8, "compute": "packed"},
    "grouped": {"sparsity": 0.7, "pattern": "grouped", "compute": "packed", "group_size": 8},
    "masked": {"sparsity": 0.8, "compute": "masked"},
    "masked groups": {"sparsity": 0.7, "pattern": "grouped", "compute": "masked"},
}


def make_policy(agent="sac", network="simba", stored="dense"):
    """An agent whose normaliser has seen something, and its state."""
    entry = AGENTS[agent]
    actor = NetworkConfig(network=network, width=40, blocks=2, **STORED[stored])
    critic = CriticConfig(network="mlp", width=4, blocks=1)
    made = entry.agent(SPEC, entry.config(actor=actor, critic=critic))
    state = made.init(jax.random.key(0))
    obs = np.random.default_rng(1).normal(3.0, 2.0, (50, SPEC.obs_dim))
    normaliser = state.normaliser.observe(jnp.asarray(obs, jnp.float32))
    return made, eqx.tree_at(lambda s: s.normaliser, state, normaliser)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of an element-sparse SimBa policy."""
    folder = tmp_path_factory.mktemp("policy")
    _, state = make_policy(stored="element")
    export_policy(state.actor, state.normaliser, folder)
    return folder


@pytest.fixture(params=["kernels", "numpy"])
def path(request, monkeypatch):
    """Both ways to run a policy."""
    if request.param == "numpy":
        monkeypatch.setattr(policy, "shared_library", lambda: None)
    elif shared_library() is None:
        pytest.skip("there are no kernels")
    return request.param


@pytest.fixture(scope="session")
def make():
    """The function that makes an agent whose normaliser has seen something, and its state."""
    return make_policy
