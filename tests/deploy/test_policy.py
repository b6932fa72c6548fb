"""A loaded policy: the agent's own numbers, without JAX, and on every path."""

import json
import re
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.deploy import Policy, export_policy, load, policy
from kanbatsu.deploy.compute import run
from kanbatsu.deploy.layers import (
    Add,
    Dense,
    Grouped,
    LayerNorm,
    Linear,
    Normalise,
    Remember,
    Squash,
    to_dense,
)
from kanbatsu.deploy.native import Program
from kanbatsu.deploy.network import smallest
from kanbatsu.kernels.constants import BLOCK, GROUP_SIZES
from kanbatsu.kernels.shared import shared_library


@pytest.mark.parametrize("stored", ["dense", "element", "grouped", "masked", "masked groups"])
@pytest.mark.parametrize(("agent", "network"), [("sac", "simba"), ("ddpg", "mlp")])
def test_the_numbers_are_those_of_act_greedy(agent, network, stored, make, tmp_path, monkeypatch):
    made, state = make(agent, network, stored)
    export_policy(state.actor, state.normaliser, tmp_path)
    obs = np.random.default_rng(2).normal(3.0, 2.0, (40, 17)).astype(np.float32)
    expected = np.asarray(jax.jit(made.act_greedy)(state, jnp.asarray(obs)))
    assert np.abs(expected).max() > 0.01
    compiled = load(tmp_path)
    monkeypatch.setattr(policy, "shared_library", lambda: None)
    for loaded in (compiled, load(tmp_path)):
        assert (loaded.obs_dim, loaded.action_dim) == (17, 3)
        np.testing.assert_allclose(loaded(obs[-1]), expected[-1], atol=1e-5)
        for batch in (1, 2, 7, 40):
            np.testing.assert_allclose(loaded(obs[:batch]), expected[:batch], atol=1e-5)


def test_a_policy_by_hand(path, tmp_path):
    # Normalised, [1, -2] becomes [1, -3]; relu([1 - 3 + 1, -3]) = [0, 0], so the bias 0.5 remains.
    column = np.array([[1.0, 0.0], [1.0, 1.0]], np.float32)
    layers = [
        Normalise(np.array([0, 1], np.float32), np.ones(2, np.float32)),
        Linear(Dense(column), np.array([1, 0], np.float32), 2, 2, relu=True),
        Linear(Dense(np.ones((2, 1), np.float32)), np.array([0.5], np.float32), 2, 1, relu=False),
        Squash(np.array([0], np.float32), np.array([10], np.float32)),
    ]
    function = Program(shared_library(), layers) if path == "kernels" else lambda x: run(layers, x)
    actions = function(np.array([[1.0, -2.0]], np.float32))
    np.testing.assert_allclose(actions, [[5 + 5 * np.tanh(0.5)]], rtol=1e-6)


@pytest.mark.skipif(shared_library() is None, reason="there are no kernels")
@pytest.mark.parametrize("pattern", ["dense", "element", *GROUP_SIZES])
def test_the_kernels_compute_what_numpy_does(pattern):
    rng = np.random.default_rng(0)
    inputs, outputs = BLOCK + 300, 43  # two blocks of inputs, and a last group that is not full

    def floats(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    mask = rng.random((inputs, outputs)) < 0.1
    if isinstance(pattern, int):
        lists = np.argsort(rng.random((inputs, -(-outputs // pattern))), axis=0) < 90
        mask = np.repeat(lists, pattern, axis=1)[:, :outputs]
    value = floats(inputs, outputs) * (mask if pattern != "dense" else 1) / 10
    weight = Dense(value) if pattern == "dense" else smallest(value, mask)
    assert weight._fields == {"dense": ("values",), "element": ("values", "starts", "sources")}.get(
        pattern, ("values", "sources")
    )
    layers = [
        Normalise(floats(inputs), np.abs(floats(inputs)) + 1),
        Linear(weight, floats(outputs), inputs, outputs, relu=True),
        Remember(),
        LayerNorm(floats(outputs), floats(outputs), 1e-6),
        Add(),
        Squash(-np.ones(outputs, np.float32), np.ones(outputs, np.float32)),
    ]
    dense = [
        layer._replace(weight=Dense(value)) if isinstance(layer, Linear) else layer
        for layer in layers
    ]
    program = Program(shared_library(), layers)
    np.testing.assert_array_equal(to_dense(layers[1]), value)
    for batch in (1, 2, 7, 33):
        obs = floats(batch, inputs)
        np.testing.assert_allclose(program(obs), run(dense, obs), atol=2e-5)


def test_neither_jax_nor_anything_but_numpy_is_imported(exported):
    script = f"""
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {{"jax", "jaxlib", "jaxtyping", "equinox", "optax",
                                              "safetensors", "gymnasium", "onnx"}}:
                    raise ImportError(f"{{name}} was imported")

        sys.meta_path.insert(0, Blocker())
        from kanbatsu.deploy import load
        import numpy as np
        policy = load({str(exported)!r})
        print(policy(np.ones(17)).tolist())
        try:
            import kanbatsu
            kanbatsu.prune
        except ImportError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    action, blocked = done.stdout.splitlines()
    np.testing.assert_allclose(json.loads(action), load(exported)(np.ones(17)), atol=1e-6)
    assert re.match("jax|equinox", blocked)  # the blocker works


@pytest.mark.parametrize("shape", [(16,), (2, 18), (1, 1, 17), ()])
def test_observations_of_another_shape_are_refused(shape, exported):
    with pytest.raises(ValueError, match=r"is \[17\], or \[batch, 17\]: got"):
        load(exported)(np.zeros(shape))


def test_an_empty_batch_and_strided_observations(path, exported):
    loaded = load(exported)
    assert loaded(np.zeros((0, 17))).shape == (0, 3)
    wide = np.random.default_rng(0).standard_normal((5, 34))
    np.testing.assert_array_equal(loaded(wide[:, ::2]), loaded(wide[:, ::2].copy()))


def test_threads_share_a_policy(exported):
    loaded = load(exported)
    obs = np.random.default_rng(0).standard_normal((8, 40, 17)).astype(np.float32)
    expected = [loaded(batch) for batch in obs]
    wrong = []

    def work(index: int) -> None:
        same = [np.array_equal(loaded(obs[index]), expected[index]) for _ in range(50)]
        wrong.extend([index] * same.count(False))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(obs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_dense_weight_of_a_group_that_is_not_full():
    values = np.arange(1, 17, dtype=np.float32).reshape(2, 1, 8)
    weight = Grouped(values, np.array([[1], [0]], np.int32))
    dense = to_dense(Linear(weight, np.zeros(9, np.float32), 2, 9, relu=False))
    assert dense.tolist() == [[0.0] * 8 + [9.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.0]]


def test_a_policy_says_what_it_is(exported):
    loaded = load(exported)
    assert isinstance(loaded, Policy)
    assert repr(loaded) == "Policy(obs_dim=17, action_dim=3)"
    assert loaded.low.tolist() == [-1.0] * 3
    assert loaded.high.tolist() == [1.0] * 3
