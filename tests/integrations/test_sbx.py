"""SBX's algorithms: pruned before `learn`, and still pruned after training, saving and loading."""

import runpy
import warnings
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kanbatsu
from kanbatsu.integrations.sbx import count, probe, prune_policy
from kanbatsu.integrations.sbx.networks import MASKS
from kanbatsu.tree import leaves_by_path

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # of TensorFlow Probability's, when imported
    sbx = pytest.importorskip("sbx")
logger = pytest.importorskip("stable_baselines3.common.logger")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
EXAMPLE = Path(__file__).parents[2] / "examples" / "09_sbx.py"


def make(name, **options):
    """A model of one of SBX's algorithms."""
    env = "CartPole-v1" if name == "DQN" else "Pendulum-v1"
    # The shapes of the example, so that little is compiled anew.
    kwargs = {"policy_kwargs": {"net_arch": [256, 256]}, "seed": 0, **options}
    return getattr(sbx, name)("MlpPolicy", env, **kwargs)


@pytest.fixture(autouse=True)
def _usual_dtype_promotion():
    """SBX, Flax and Optax mix integers and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def example():
    """What the example leaves behind: SAC after a few updates."""
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [str(EXAMPLE), "104", "0.8"])
        return runpy.run_path(str(EXAMPLE))


@pytest.fixture(scope="module")
def td3():
    with jax.numpy_dtype_promotion("standard"):
        model = make("TD3", learning_starts=8, batch_size=8, buffer_size=20)
        prune_policy(model, actor=0.5, critic=0.9, seed=1)
        model.learn(12)
    return model


@pytest.fixture(params=["SAC", "TD3"])
def trained(request):
    if request.param == "TD3":
        return request.getfixturevalue("td3")
    return request.getfixturevalue("example")["model"]


def trees_of(model, name):
    """Everything that has the shape of a network's weights: itself, its target, its moments."""
    state = getattr(model.policy, f"{name}_state")
    trees = [state.params, optax.tree_utils.tree_get(state.opt_state, "mu")]
    trees.append(optax.tree_utils.tree_get(state.opt_state, "nu"))
    return trees + ([state.target_params] if hasattr(state, "target_params") else [])


def assert_pruned(model):
    masks = getattr(model.policy, MASKS)
    assert set(masks) == {"actor", "qf"}
    for name, mask in masks.items():
        for tree in trees_of(model, name):
            assert equal(tree, kanbatsu.apply_masks(tree, mask))
            assert not equal(tree, jax.tree.map(np.zeros_like, tree))


def equal(left, right):
    return all(
        (np.asarray(a) == np.asarray(b)).all()
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    )


def test_pruned_weights_targets_and_moments_are_zero_after_training(trained):
    assert_pruned(trained)
    assert int(trained.policy.qf_state.step) == 4


def test_critics_of_an_ensemble_have_masks_of_their_own(td3):
    masks = leaves_by_path(getattr(td3.policy, MASKS)["qf"])
    first, second = (sum(int(mask[member].sum()) for mask in masks.values()) for member in (0, 1))
    assert first == second == round(0.1 * (4 * 256 + 256 * 256 + 256))
    hidden = masks["params/VmapContinuousCritic_0/Dense_1/kernel"]
    assert (hidden[0] != hidden[1]).any()


def test_a_loaded_model_trains_on_as_the_one_that_was_saved(trained, tmp_path):
    trained.save(tmp_path / "model")
    loaded = type(trained).load(tmp_path / "model", env=gymnasium.make("Pendulum-v1"))
    assert_pruned(loaded)
    assert count(loaded) == count(trained)
    loaded.replay_buffer = trained.replay_buffer
    for model in (trained, loaded):
        model.set_random_seed(1)  # `load` sets the seed anew
        model.set_logger(logger.Logger(None, []))
        model.train(gradient_steps=1, batch_size=model.batch_size)
    for name in ("actor", "qf"):
        assert equal(trees_of(loaded, name), trees_of(trained, name))
    assert_pruned(loaded)
    with pytest.raises(ValueError, match="already pruned"):
        prune_policy(loaded)


def test_packed_networks_learn_what_masked_ones_do():
    after = []
    for compute in ("packed", "masked"):
        model = make("SAC", learning_starts=40, batch_size=40, buffer_size=50)
        prune_policy(model, 0.9, 0.9, compute=compute)
        state, inputs = model.policy.qf_state, (np.ones((40, 3)), np.ones((40, 1)))
        text = str(jax.make_jaxpr(state.apply_fn)(state.params, *inputs))
        # Of each of two critics one layer; the first and the last keep all their weights.
        assert text.count("kanbatsu_gathered") == (2 if compute == "packed" else 0)
        model.learn(42)
        assert_pruned(model)
        after.append([*trees_of(model, "qf"), *trees_of(model, "actor")])
    for packed, masked in zip(*map(jax.tree.leaves, after), strict=True):
        np.testing.assert_allclose(packed, masked, rtol=1e-3, atol=1e-5)


def test_resetting_parameters_keeps_the_masks(td3):
    masks, trained = getattr(td3.policy, MASKS), td3.policy.qf_state
    td3.policy.build(td3.key, td3.lr_schedule, td3.qf_learning_rate)
    state = td3.policy.qf_state
    assert not equal(state.params, trained.params)
    assert equal(state.params, kanbatsu.apply_masks(state.params, masks["qf"]))
    assert equal(state.params, state.target_params)
    gradient = jax.tree.map(jnp.ones_like, state.params)
    updates, _ = jax.jit(state.tx.update)(gradient, state.opt_state, state.params)
    assert equal(updates, kanbatsu.apply_masks(updates, masks["qf"]))
    assert type(state.apply_fn) is type(trained.apply_fn)


def test_the_example_prints_what_it_promises(example):
    assert example["counted"] == count(example["model"])
    assert (example["counted"].kept, example["counted"].total) == (40089, 200448)
    assert -2000 < example["mean"] < 0


def test_probes_are_those_of_the_first_critic(example):
    model, batch = example["model"], example["batch"]
    measured = probe(model, batch.observations.numpy(), batch.actions.numpy())
    assert measured.keys() == example["health"].keys()
    assert {name.partition("/")[0] for name in measured} == {"actor", "critic"}
    weights = map(np.asarray, jax.tree.leaves(model.policy.qf_state.params))
    norm = np.sqrt(sum((leaf[0] ** 2).sum() for leaf in weights))
    np.testing.assert_allclose(measured["critic/weight_norm"], norm, rtol=1e-5)

    kernels = leaves_by_path(jax.tree.map(np.asarray, model.policy.qf_state.params))
    x = np.concatenate([batch.observations.numpy(), batch.actions.numpy()], axis=1)
    for layer in ("Dense_0", "Dense_1"):
        path = f"params/VmapContinuousCritic_0/{layer}"
        x = np.maximum(x @ kernels[f"{path}/kernel"][0] + kernels[f"{path}/bias"][0], 0.0)
    norm = np.linalg.norm(x, axis=1).mean()
    np.testing.assert_allclose(measured["critic/feature_norm"], norm, rtol=1e-5)
    score = np.abs(x).mean(axis=0)
    dormant = (score <= 0.1 * score.mean()).mean()
    np.testing.assert_allclose(measured["critic/dormant_0.1/Dense_1"], dormant, rtol=1e-5)


@pytest.mark.parametrize("name", ["DQN", "PPO"])
def test_other_algorithms_are_pruned_alike(name):
    model = make(name)
    prune_policy(model, actor=0.5, critic=0.6, include="*Dense_1/*")
    masks = getattr(model.policy, MASKS)
    assert list(masks) == (["qf"] if name == "DQN" else ["actor", "vf"])
    for network, mask in masks.items():
        kept = [int(kernel.sum()) for kernel in jax.tree.leaves(mask)]
        assert kept == [32768 if network == "actor" else 26214]
        state = getattr(model.policy, f"{network}_state")
        gradient = jax.tree.map(jnp.ones_like, state.params)
        updates, _ = jax.jit(state.tx.update)(gradient, state.opt_state, state.params)
        for tree in (state.params, updates):
            assert equal(tree, kanbatsu.apply_masks(tree, mask))
    with pytest.raises(ValueError, match="SAC, TD3 and DDPG"):
        probe(model, np.zeros((1, 3)), np.zeros((1, 1)))


@pytest.mark.parametrize("name", ["TQC", "CrossQ"])
def test_critics_of_other_kinds_stay_pruned(name):
    model = make(name, learning_starts=40, batch_size=40, buffer_size=50)
    prune_policy(model, 0.9, 0.9, compute="packed")
    model.learn(44)  # CrossQ updates its actor every third time
    masks = getattr(model.policy, MASKS)
    assert list(masks) == (["actor", "qf1", "qf2"] if name == "TQC" else ["actor", "qf"])
    for network, mask in masks.items():
        for tree in trees_of(model, network):
            assert equal(tree, kanbatsu.apply_masks(tree, mask))
        assert int(getattr(model.policy, f"{network}_state").step) > 0


def test_wrong_input_changes_nothing(td3):
    fresh = make("TD3")
    before = fresh.policy.qf_state
    with pytest.raises(ValueError, match=r"'qf/\*Dense_9\*' matches no .* actor/params/Dense_0"):
        prune_policy(fresh, include="qf/*Dense_9*")
    with pytest.raises(ValueError, match="nothing to prune"):
        prune_policy(fresh, exclude="*")
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        prune_policy(fresh, actor=0.5, critic=1.0)
    with pytest.raises(ValueError, match="unknown compute 'fast'"):
        prune_policy(fresh, compute="fast")
    assert fresh.policy.qf_state is before
    with pytest.raises(ValueError, match=r"is no SBX model.*kanbatsu\.integrations\.sb3"):
        prune_policy(object())
    prune_policy(fresh, 0.0, 0.0)
    assert fresh.policy.qf_state is before
    dense = make("TD3")
    dense.policy.qf_state = before.replace(step=7)
    with pytest.raises(ValueError, match="trained for 7 updates already"):
        prune_policy(dense)
