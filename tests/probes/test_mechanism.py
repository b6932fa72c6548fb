"""Probes of mechanism: the numbers that can be computed by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.nn.config import NetworkConfig
from kanbatsu.nn.conv import Conv
from kanbatsu.nn.heads import ValueHead
from kanbatsu.nn.layers import Linear
from kanbatsu.nn.network import make_network
from kanbatsu.probes.interference import gradient_cosines, interference
from kanbatsu.probes.overestimation import overestimation, returns_that_followed
from kanbatsu.probes.plasticity import lift_masks, plasticity, random_fit
from kanbatsu.probes.rank import erank, srank, stable_rank
from kanbatsu.probes.simplicity import circles, fourier_score, simplicity
from kanbatsu.probes.subject import Subject
from kanbatsu.probes.taps import kernel_factors
from kanbatsu.sparsity.weight import is_pruned

KEY = jax.random.key(0)
zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones


def squares(network, x, y):
    return Subject(network, (x,), lambda own: 0.5 * ((own(x)[..., 0] - y) ** 2).mean())


def linear(x, residuals):
    """A linear model whose errors on the samples are the residuals."""
    return squares(Linear(x.shape[-1], 1, zeros, key=KEY), x, -jnp.asarray(residuals))


def test_ranks_by_hand():
    features = jnp.diag(jnp.array([90.0, 5.0, 4.0, 1.0]))
    assert int(srank(features)) == 3
    assert float(erank(features)) == pytest.approx(1.521, abs=5e-4)
    assert float(stable_rank(features)) == pytest.approx(1.005, abs=5e-4)
    nothing = jnp.zeros((4, 3))
    assert float(erank(nothing)) == float(stable_rank(nothing)) == 0.0
    assert float(erank(jnp.eye(5))) == pytest.approx(5.0, rel=1e-5)


def test_identical_samples_have_cosines_of_1():
    x = jnp.tile(jnp.array([0.3, -2.0, 1.0]), (4, 1))
    np.testing.assert_allclose(gradient_cosines(linear(x, [1.0] * 4)), 1.0, rtol=1e-6)


def test_one_hot_inputs_of_a_linear_model_do_not_interfere():
    matrix = gradient_cosines(linear(jnp.eye(5), [1.0, -2.0, 3.0, 1.0, 1.0]))
    np.testing.assert_allclose(matrix, np.eye(5), atol=1e-7)


def test_opposite_residuals_of_one_input_oppose_each_other():
    matrix = gradient_cosines(linear(jnp.ones((2, 3)), [1.0, -1.0]))
    np.testing.assert_allclose(matrix, [[1.0, -1.0], [-1.0, 1.0]], rtol=1e-6)
    numbers = interference(matrix)
    assert float(numbers["interference"]) == pytest.approx(-1.0)
    assert float(numbers["interference_magnitude"]) == pytest.approx(1.0)
    assert float(numbers["interference_negative"]) == 1.0


def test_a_sample_that_teaches_nothing_interferes_with_nothing():
    matrix = gradient_cosines(linear(jnp.ones((3, 2)), [1.0, 0.0, 1.0]))
    assert matrix[1].tolist() == [0.0, 0.0, 0.0]
    assert float(matrix[0, 2]) == pytest.approx(1.0)


def written_out(subject, x, y):
    """Cosines from whole gradients, one sample at a time."""

    @jax.jit
    def flat(x, y):
        one = squares(subject.network, x[None], y[None])
        gradient = eqx.filter_grad(one.loss)(subject.network)
        nodes = jax.tree.leaves(gradient, is_leaf=is_pruned)
        kernels = [node for node in nodes if is_pruned(node) or node.ndim > 1]
        return jnp.concatenate([x.ravel() for x in jax.tree.leaves(kernels)])

    gradients = jnp.stack([flat(*pair) for pair in zip(x, y, strict=True)])
    norms = jnp.linalg.norm(gradients, axis=1)
    return gradients @ gradients.T / norms / norms[:, None]


class Images(eqx.Module):
    conv: Conv
    head: Linear

    def __call__(self, x):
        return self.head(jax.nn.relu(self.conv(x)).reshape(len(x), -1))


@pytest.mark.parametrize("kind", ["simba", "mlp", "packed", "conv"])
def test_factors_give_what_whole_gradients_give(kind):
    x = jax.random.normal(KEY, (6, 5, 5, 2) if kind == "conv" else (6, 20))
    if kind == "conv":
        conv = Conv(2, 3, jax.nn.initializers.he_normal(), key=KEY)
        network = Images(conv, Linear(27, 1, jax.nn.initializers.he_normal(), key=KEY))
    else:
        config = NetworkConfig(
            "mlp" if kind == "mlp" else "simba",
            width=16,
            blocks=1,
            sparsity=0.5,
            compute="packed" if kind == "packed" else "masked",
        )
        network = make_network(config, 20, lambda n, key: Linear(n, 1, ones, key=key), key=KEY)
    y = jnp.linspace(-1.0, 1.0, 6)
    subject = squares(network, x, y)
    np.testing.assert_allclose(
        jax.jit(lambda: gradient_cosines(subject))(), written_out(subject, x, y), atol=2e-5
    )


def test_a_layer_called_twice_is_refused():
    layer = Linear(3, 3, ones, key=KEY)
    with pytest.raises(ValueError, match="called twice"):
        kernel_factors(layer, lambda own: own(own(jnp.ones((2, 3)))).mean())


def test_a_network_that_has_not_learned_is_as_plastic_as_itself():
    config = NetworkConfig("mlp", width=16, blocks=1, sparsity=0.5, compute="masked")
    network = make_network(config, 4, ValueHead, key=KEY)
    x = jax.random.normal(KEY, (12, 4))
    measure = jax.jit(lambda own: plasticity(own, network, (x,), KEY, steps=40))
    numbers = measure(network)
    assert float(numbers["plasticity"]) == float(numbers["plasticity_lifted"]) == 1.0
    assert 0.01 < float(numbers["plasticity_fit"]) < 1.0
    # Units that never fire, whose biases have no gradient, can learn nothing.
    dead = eqx.tree_at(lambda n: n.encoder.layers[0].bias, network, jnp.full(16, -100.0))
    assert float(measure(dead)["plasticity"]) == 0.0


def test_a_lifted_mask_lets_pruned_weights_train():
    config = NetworkConfig("mlp", width=32, blocks=2, sparsity=0.8, compute="masked")
    network = make_network(config, 4, ValueHead, key=KEY)
    x = jax.random.normal(KEY, (12, 4))
    fit = jax.jit(lambda own: random_fit(own, (x,), KEY, steps=100))
    assert float(fit(lift_masks(network))) > float(fit(network)) + 0.1


@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_score_of_a_wave_is_its_frequency(k):
    around = jnp.arange(128.0) / 128
    assert float(fourier_score(jnp.cos(2 * jnp.pi * k * around))) == pytest.approx(k, rel=1e-4)


def test_equal_amplitudes_give_the_mean_frequency():
    around = 2 * jnp.pi * jnp.arange(128.0) / 128
    wave = 5.0 + jnp.cos(around) + jnp.cos(4 * around)
    assert float(fourier_score(wave)) == pytest.approx(2.5, rel=1e-4)
    assert float(fourier_score(jnp.full(128, 3.0))) == 0.0


def test_a_linear_function_is_as_simple_as_can_be_and_a_square_half_so():
    x = circles(KEY, (4,))
    assert float(simplicity(lambda x: x @ jnp.ones(4), (x,))) == pytest.approx(1.0, rel=1e-3)
    assert float(simplicity(lambda x: x[:, 0] ** 2, (x,))) == pytest.approx(0.5, rel=1e-3)


def test_a_reward_of_1_is_worth_100_at_a_discount_of_99_percent():
    n = 3_000
    one, no = jnp.ones(n), jnp.zeros(n, bool)
    returns, tails = returns_that_followed(one, no, no, 0.0 * one, discount=0.99)
    assert float(returns[0]) == pytest.approx(100.0, rel=1e-4)  # no tail, but seen to the end
    assert float(tails[0]) < 1e-6
    returns, _ = returns_that_followed(one, no, no, 100.0 * one, discount=0.99)
    np.testing.assert_allclose(returns, 100.0, rtol=1e-4)


def test_the_end_of_the_world_and_a_cut_are_told_apart():
    reward, value = jnp.ones(4), jnp.full(4, 8.0)
    terminated, cut = jnp.array([False, True, False, False]), jnp.array([False, False, True, False])
    returns, tails = returns_that_followed(reward, terminated, cut, value, discount=0.5)
    assert returns.tolist() == [1.5, 1.0, 5.0, 5.0]
    assert tails.tolist() == [0.0, 0.0, 0.5, 0.5]
    numbers = overestimation(value, returns, tails)
    assert float(numbers["overestimation"]) == 8.0 - 3.125
    assert float(numbers["overestimation_tail"]) == 0.25
