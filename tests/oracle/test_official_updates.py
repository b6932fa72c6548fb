"""Three updates of the paper's public code, reproduced from its recorded inputs and noise.

The files hold results of SparseNetwork4DRL's first release on tiny networks: initial and final
parameters, masks, batches, the noise that was drawn, and the scalars it logged.
"""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents import AGENTS, ddpg, sac
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.probes.norms import tree_norm
from kanbatsu.sparsity.weight import Masked, to_dense
from kanbatsu.types import Spec, Transition

FILES = sorted((Path(__file__).parent / "official_updates").glob("*.npz"))
SPEC = Spec((5,), action_dim=2, episode_length=500)  # gives the recorded discount of 0.99
SCALARS = {
    "actor_loss": "actor_loss",
    "actor_gnorm": "actor_gradient_norm",
    "actor_action": "action_magnitude",
    "entropy": "entropy",
    "temperature": "temperature",
    "temperature_loss": "temperature_loss",
    "temperature_gnorm": "temperature_gradient_norm",
    "critic_loss": "critic_loss",
    "critic_gnorm": "critic_gradient_norm",
    "q1_mean": "q1_mean",
    "q2_mean": "q2_mean",
    "rew_mean": "reward_mean",
}


def assert_close(ours, theirs, what):
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-4, atol=1e-5 * scale, err_msg=what)


def locations(heads, blocks):
    """Where each of the public code's parameters lives in our networks."""
    yield "encoder/Dense_0", lambda n: n.encoder.embed
    yield "encoder/LayerNorm_0", lambda n: n.encoder.norm
    for i in range(blocks):
        block = f"encoder/ResidualBlock_{i}"
        yield f"{block}/LayerNorm_0", lambda n, i=i: n.encoder.blocks[i].norm
        yield f"{block}/Dense_0", lambda n, i=i: n.encoder.blocks[i].up
        yield f"{block}/Dense_1", lambda n, i=i: n.encoder.blocks[i].down
    for i, head in enumerate(heads):
        yield f"predictor/Dense_{i}", lambda n, head=head: getattr(n.head, head)


def load(network, arrays, prefix, heads, member=None):
    """Fill a network with recorded parameters and masks."""

    def recorded(name):
        return arrays[name] if member is None else arrays[name][member]

    for name, layer in locations(heads, len(network.encoder.blocks)):
        if "LayerNorm" in name:
            network = eqx.tree_at(
                lambda n, layer=layer: (layer(n).scale, layer(n).shift),
                network,
                tuple(
                    jnp.asarray(recorded(f"init/{prefix}/{name}/{x}")) for x in ("scale", "bias")
                ),
            )
            continue
        weight = jnp.asarray(recorded(f"init/{prefix}/{name}/kernel"))
        mask = f"mask/{prefix}/{name}/kernel"
        if mask in arrays:
            weight = Masked.of(weight, jnp.asarray(arrays[mask]))
        network = eqx.tree_at(
            lambda n, layer=layer: (layer(n).weight, layer(n).bias),
            network,
            (weight, jnp.asarray(recorded(f"init/{prefix}/{name}/bias"))),
        )
    return network


def compare(network, arrays, prefix, heads, member=None):
    for name, layer in locations(heads, len(network.encoder.blocks)):
        ours = layer(network)
        pairs = (
            {"scale": ours.scale, "bias": ours.shift}
            if "LayerNorm" in name
            else {"kernel": to_dense(ours.weight), "bias": ours.bias}
        )
        for field, value in pairs.items():
            theirs = arrays[f"final/{prefix}/{name}/{field}"]
            assert_close(value, theirs if member is None else theirs[member], f"{prefix}/{name}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_three_updates_reproduce_the_public_code(path):
    arrays = dict(np.load(path))
    name, members, _ = path.stem.split("_")
    members = {"single": 1, "double": 2}[members]
    heads = {"sac": ("mean", "log_std"), "ddpg": ("mean",)}[name]
    noise_type = {"sac": sac.Noise, "ddpg": ddpg.Noise}[name]
    entry = AGENTS[name]
    config = entry.config(
        actor=NetworkConfig(width=16, blocks=1),
        critic=CriticConfig(width=32, blocks=2, members=members),
    )
    agent = entry.agent(SPEC, config)
    assert agent.discount == pytest.approx(0.99)

    state = agent.init(jax.random.key(0))
    critic = "critic/VmapSACCritic_0" if members == 2 else "critic"
    target = critic.replace("critic", "target", 1)
    which = [None] if members == 1 else [0, 1]
    actor = load(state.actor, arrays, "actor", heads)
    critics = tuple(
        load(network, arrays, critic, ("value",), member)
        for network, member in zip(state.critics, which, strict=True)
    )
    state = eqx.tree_at(
        lambda s: (s.actor, s.critics, s.targets, s.actor_moments, s.critic_moments),
        state,
        (
            actor,
            critics,
            critics,
            agent._optimizer("actor").init(eqx.filter(actor, eqx.is_inexact_array)),
            agent._optimizer("critic").init(eqx.filter(critics, eqx.is_inexact_array)),
        ),
        is_leaf=lambda x: x is None,
    )
    # The recorded batches are already normalised, and a fresh normaliser is the identity.
    obs, action = (jnp.asarray(arrays[f"batch0/{x}"]) for x in ("observation", "action"))
    values = jnp.stack([network(obs, action) for network in critics])
    assert_close(values, arrays["forward/q"].reshape(members, 8), "forward/q")
    if name == "sac":
        mean, log_std = actor(obs)
        assert_close(mean, arrays["forward/mean"], "forward/mean")
        assert_close(jnp.exp(log_std), arrays["forward/std"], "forward/std")

    learn = jax.jit(agent.learn)
    for t in range(3):
        recorded = {
            key.split("/")[1]: jnp.asarray(value)
            for key, value in arrays.items()
            if key.startswith(f"batch{t}/")
        }
        batch = Transition(
            obs=recorded["observation"],
            action=recorded["action"],
            reward=recorded["reward"],
            terminated=recorded["terminated"] == 1.0,
            truncated=jnp.zeros(8, bool),
            next_obs=recorded["next_observation"],
        )
        noise = noise_type(*(jnp.asarray(arrays[f"noise{t}/{x}"]) for x in ("actor", "critic")))
        assert_close(tree_norm(state.actor), arrays[f"info{t}/actor_pnorm"], "actor_pnorm")
        assert_close(tree_norm(state.critics), arrays[f"info{t}/critic_pnorm"], "critic_pnorm")
        state, metrics = learn(state, batch, noise)
        metrics = {"q2_mean": metrics["q1_mean"]} | metrics
        for key, value in arrays.items():
            if key.startswith(f"info{t}/") and not key.endswith("pnorm"):
                assert_close(metrics[SCALARS[key.split("/")[1]]], value, key)

    compare(state.actor, arrays, "actor", heads)
    for network, average, member in zip(state.critics, state.targets, which, strict=True):
        compare(network, arrays, critic, ("value",), member)
        compare(average, arrays, target, ("value",), member)
    if name == "sac":
        assert_close(jnp.exp(state.log_temperature), arrays["final/temperature"], "temperature")
