"""MuJoCo Playground's PPO: Brax's, with the networks that its settings name."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.training.acme.running_statistics import init_state
from brax.training.acme.specs import Array
from brax.training.agents.ppo.networks import make_ppo_networks

from kanbatsu.integrations.brax import count, prune_networks

locomotion_params = pytest.importorskip(
    "mujoco_playground.config.locomotion_params", reason="playground is not installed"
)

TASKS = {"Go1JoystickFlatTerrain": {"state": (48,), "privileged_state": (123,)}}


@pytest.mark.parametrize("task", TASKS)
@jax.numpy_dtype_promotion("standard")
def test_the_networks_of_its_settings_are_pruned(task):
    settings = locomotion_params.brax_ppo_config(task)
    sizes = TASKS[task]
    factory = functools.partial(make_ppo_networks, **settings.network_factory)
    networks = prune_networks(factory, actor=0.8, critic=0.9)(sizes, 12)
    policy = networks.policy_network.init(jax.random.key(0))
    value = networks.value_network.init(jax.random.key(1))
    # By hand: 48 numbers, layers of 512, 256 and 128 units, mean and deviation of 12 actions.
    total = 48 * 512 + 512 * 256 + 256 * 128 + 128 * 24
    assert (count(policy).total, count(policy).kept) == (total, round(0.2 * total))
    assert count(value).kept == round(0.1 * (123 * 512 + 512 * 256 + 256 * 128 + 128))
    seen = {name: jnp.ones((4, *shape)) for name, shape in sizes.items()}
    moments = init_state({name: Array(shape, "float32") for name, shape in sizes.items()})
    out = networks.policy_network.apply(moments, policy, seen)
    plain = factory(sizes, 12).policy_network.apply(moments, {"params": policy["params"]}, seen)
    np.testing.assert_allclose(out, plain, rtol=1e-6)
    assert out.shape == (4, 24)
