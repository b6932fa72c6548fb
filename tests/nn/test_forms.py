"""Forms of networks that came later: LayerNorm and residual MLPs, scaled and rescaled weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents.ddpg import DDPG, DDPGConfig
from kanbatsu.files.tables import to_dict
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.nn.heads import ValueHead
from kanbatsu.nn.network import make_network
from kanbatsu.nn.normed import NormedNetworkConfig, make_normed_network
from kanbatsu.sparsity.prune import make_masks_as
from kanbatsu.sparsity.weight import with_masks
from kanbatsu.types import Spec

KEY = jax.random.key(0)


def mlp(**settings):
    config = NetworkConfig("mlp", width=16, blocks=3, compute="masked", **settings)
    return make_network(config, 4, ValueHead, key=KEY)


def test_defaults_leave_records_as_they_were():
    assert not {"norm", "residual", "first_scale", "rescale"} & to_dict(NetworkConfig()).keys()
    assert not {"actor_learning_rate", "critic_learning_rate"} & to_dict(DDPGConfig()).keys()
    assert "residual" not in to_dict(NormedNetworkConfig())


def test_survivors_are_divided_by_the_root_of_their_density():
    plain, scaled = (mlp(sparsity=0.75, rescale=on).encoder.layers for on in (False, True))
    for one, two in zip(plain, scaled, strict=True):
        if hasattr(one.weight, "mask"):
            density = one.weight.mask.mean()
            np.testing.assert_allclose(
                two.weight.value, one.weight.value / np.sqrt(density), rtol=1e-6
            )


def test_masks_that_are_given_rescale_alike():
    config = NetworkConfig("mlp", width=16, blocks=3, sparsity=0.75, rescale=True)
    dense = mlp()
    masks = make_masks_as(dense, config, jax.random.split(KEY, 3)[2])
    given, drawn = with_masks(dense, masks, rescale=True), mlp(sparsity=0.75, rescale=True)
    x = jnp.ones((2, 4))
    np.testing.assert_allclose(given(x), drawn(x), rtol=1e-5)


def test_scale_norm_and_residual_reach_the_mlp():
    x = jax.random.normal(KEY, (5, 4))
    features = {
        name: make(x)[0]
        for name, make in {
            "plain": mlp().encode,
            "half": mlp(first_scale=0.5).encode,
            "normed": mlp(norm="layernorm").encode,
            "residual": mlp(residual=True).encode,
        }.items()
    }
    np.testing.assert_allclose(features["half"], features["plain"] / 8, rtol=1e-5)
    assert len({float(values.sum()) for values in features.values()}) == 4


@pytest.mark.parametrize("setting", [{"norm": "layernorm"}, {"residual": True}])
def test_simba_refuses_what_it_has_already(setting):
    with pytest.raises(ValueError, match=f'{next(iter(setting))} is a setting of network = "mlp"'):
        make_network(NetworkConfig(width=8, blocks=1, **setting), 4, ValueHead, key=KEY)


def test_a_residual_network_of_action_values_adds_to_its_inputs():
    x = jax.random.normal(KEY, (5, 4))
    plain, residual = (
        make_normed_network(NormedNetworkConfig(8, 3, residual=on), (4,), 2, key=KEY)
        for on in (False, True)
    )
    (one, first), (two, second) = plain.encode(x), residual.encode(x)
    np.testing.assert_allclose(first["hidden0"], second["hidden0"])
    np.testing.assert_allclose(
        two, second["hidden0"] + second["hidden1"] + second["hidden2"], rtol=1e-5
    )
    assert float(jnp.abs(one - two).max()) > 0.0


def test_actor_and_critic_may_have_step_sizes_of_their_own():
    small = {"width": 8, "blocks": 1}
    config = DDPGConfig(
        NetworkConfig(**small), CriticConfig(**small), actor_learning_rate=1e-9, learning_rate=1e-2
    )
    agent = DDPG(Spec((3,), action_dim=1), config)
    gradient = jnp.ones(2)
    steps = {}
    for name in ("actor", "critic"):
        optimizer = agent._optimizer(name)
        with jax.numpy_dtype_promotion("standard"):
            steps[name], _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    assert float(jnp.abs(steps["actor"]).max()) < 1e-8
    assert float(jnp.abs(steps["critic"]).min()) > 5e-3
