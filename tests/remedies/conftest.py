"""Small states that remedies are tried on."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.remedies.parts import mirrored, parts_of, trainable, with_parts
from kanbatsu.types import Spec, Transition

SPEC = Spec((3,), action_dim=2, episode_length=100)
SPARSE = SACConfig(
    actor=NetworkConfig(width=8, blocks=1, network="mlp"),
    critic=CriticConfig(width=8, blocks=1, sparsity=0.5, compute="masked", members=2),
)


@pytest.fixture(scope="session")
def batches() -> Transition:
    """Return random transitions for two runs: `[2, batches, samples, ...]`."""
    shape = (2, 1, 16)
    obs, action, reward = (
        jax.random.normal(k, (*shape, n))
        for k, n in zip(jax.random.split(jax.random.key(1), 3), (3, 2, 1), strict=True)
    )
    no = jnp.zeros(shape, bool)
    return Transition(obs, action, reward[..., 0], no, no, obs + 0.1)


@pytest.fixture(scope="session")
def agent() -> SAC:
    """Return SAC with a dense actor and two sparse critics."""
    return SAC(SPEC, SPARSE)


@pytest.fixture(scope="session")
def trained(agent):
    """Return a state in which all weights, biases, moments and counts have moved."""
    state = agent.init(jax.random.key(0))

    def moved(leaf: jax.Array) -> jax.Array:
        return leaf * 1.5 if leaf.ndim == 2 else leaf + 1  # pruned weights stay zero

    arrays, masks = eqx.partition(state, lambda leaf: leaf.dtype != bool)
    state = eqx.combine(jax.tree.map(moved, arrays), masks)
    parts = {
        name: part._replace(
            moments=mirrored(part.moments, part.network, lambda tree, n=part.network: trainable(n))
        )
        for name, part in parts_of(state).items()
    }
    return with_parts(state, parts)
