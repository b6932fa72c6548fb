"""SBX's algorithms whose parameters are kept values: as masked ones learn, in less memory."""

import warnings

import gymnasium
import jax
import numpy as np
import optax
import pytest

from kanbatsu.integrations.sbx import count, probe, prune_policy
from kanbatsu.integrations.sbx.networks import PLACES
from kanbatsu.integrations.sbx.storing import dense_params

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of TensorFlow Probability's
    sbx = pytest.importorskip("sbx")
logger = pytest.importorskip("stable_baselines3.common.logger")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
NETWORKS = {"SAC": ["actor", "qf"], "TQC": ["actor", "qf1", "qf2"], "DQN": ["qf"]}


@pytest.fixture(autouse=True)
def _usual_dtype_promotion():
    """SBX, Flax and Optax mix integers and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def make(name, storage, pattern="element", compute="packed"):
    """A model with a decaying Adam, pruned."""
    env = "CartPole-v1" if name == "DQN" else "Pendulum-v1"
    optimizer = {"optimizer_class": optax.adamw, "optimizer_kwargs": {"weight_decay": 0.1}}
    kwargs = {"net_arch": [64, 64], **optimizer}
    options = {"learning_starts": 32, "batch_size": 32, "buffer_size": 50}
    model = getattr(sbx, name)("MlpPolicy", env, policy_kwargs=kwargs, seed=0, **options)
    prune_policy(model, 0.8, 0.8, pattern=pattern, storage=storage, compute=compute)
    return model


def trained(*arguments):
    model = make(*arguments)
    model.learn(36)
    return model


@pytest.fixture(scope="module")
def sac():
    with jax.numpy_dtype_promotion("standard"):
        return trained("SAC", "kept", "grouped")


def close(left, right):
    for ours, theirs in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def size_of(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_kept_values_learn_what_masked_weights_do(sac):
    masked = trained("SAC", "dense", "grouped", "masked")
    assert int(sac.policy.qf_state.step) == 4
    for name in NETWORKS["SAC"]:
        state = getattr(masked.policy, f"{name}_state")
        close(dense_params(sac.policy, name), state.params)
        kept = getattr(sac.policy, f"{name}_state")
        moments = optax.tree_utils.tree_get(kept.opt_state, "mu")
        assert size_of(moments) == size_of(kept.params) < 0.4 * size_of(state.params)
    assert size_of(sac.policy.qf_state.target_params) == size_of(sac.policy.qf_state.params)
    assert count(sac).kept == count(masked).kept
    assert count(sac).total == count(masked).total


def test_a_loaded_model_trains_on_as_the_one_that_was_saved(sac, tmp_path):
    sac.save(tmp_path / "model")
    loaded = sbx.SAC.load(tmp_path / "model", env=gymnasium.make("Pendulum-v1"))
    assert count(loaded) == count(sac)
    loaded.replay_buffer = sac.replay_buffer
    for model in (sac, loaded):
        model.set_random_seed(1)  # `load` sets the seed anew
        model.set_logger(logger.Logger(None, []))
        model.train(gradient_steps=1, batch_size=32)
    for name in NETWORKS["SAC"]:
        ours, theirs = (getattr(m.policy, f"{name}_state") for m in (loaded, sac))
        close((ours.params, ours.opt_state), (theirs.params, theirs.opt_state))
    with pytest.raises(ValueError, match="already pruned"):
        prune_policy(loaded)


def test_resetting_parameters_keeps_the_places_and_probes_see_the_network(sac):
    observations, actions = np.ones((8, 3), np.float32), np.ones((8, 1), np.float32)
    assert probe(sac, observations, actions)["critic/weight_norm"] > 0
    places, before = getattr(sac.policy, PLACES), sac.policy.qf_state
    sac.policy.build(sac.key, sac.lr_schedule, sac.qf_learning_rate)
    after = sac.policy.qf_state
    assert getattr(sac.policy, PLACES) is places
    assert jax.tree.structure(after.params) == jax.tree.structure(before.params)
    assert int(after.step) == 0
    close(after.params, after.target_params)


@pytest.mark.parametrize("name", ["TQC", "DQN"])
def test_critics_of_other_kinds(name):
    model = trained(name, "kept") if name == "TQC" else make(name, "kept")
    assert list(getattr(model.policy, PLACES)) == NETWORKS[name]
    assert abs(count(model).sparsity - 0.8) < 0.01
    if name == "DQN":
        action, _ = model.predict(np.zeros(4, np.float32))
        assert action in (0, 1)
    else:
        assert int(model.policy.qf1_state.step) > 0
        assert np.isfinite(jax.tree.leaves(model.policy.qf2_state.params)[0]).all()


def test_another_word_changes_nothing():
    model = sbx.TD3("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]})
    before = model.policy.qf_state
    with pytest.raises(ValueError, match="unknown storage 'sparse'"):
        prune_policy(model, storage="sparse")
    assert model.policy.qf_state is before
