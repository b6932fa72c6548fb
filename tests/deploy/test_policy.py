"""A loaded policy: the agent's own numbers, without JAX, and a clear error for anything damaged."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from kanbatsu.agents import AGENTS
from kanbatsu.deploy import Policy, PolicyError, export_policy, load, policy
from kanbatsu.deploy.arrays import parse
from kanbatsu.deploy.files import canonical, digest
from kanbatsu.deploy.layers import (
    Add,
    Dense,
    Grouped,
    LayerNorm,
    Linear,
    Normalise,
    Remember,
    Squash,
    run,
    to_dense,
)
from kanbatsu.deploy.native import Program
from kanbatsu.deploy.network import smallest
from kanbatsu.kernels.constants import BLOCK, GROUP_SIZES
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


def make(agent="sac", network="simba", stored="dense"):
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
    _, state = make(stored="element")
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


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize(("agent", "network"), [("sac", "simba"), ("ddpg", "mlp")])
def test_the_numbers_are_those_of_act_greedy(agent, network, stored, tmp_path, monkeypatch):
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


def rewrite(folder, change_layers=None, change_arrays=None, **fields):
    """Change a policy and make its checksums right again."""
    file = folder / "policy.json"
    description = json.loads(file.read_text()) | fields
    arrays = safetensors.numpy.load_file(folder / "policy.safetensors")
    for change, what in ((change_layers, description["layers"]), (change_arrays, arrays)):
        if change is not None:
            change(what)
    content = safetensors.numpy.save(arrays)
    (folder / "policy.safetensors").write_bytes(content)
    description["sha256"] = {
        "policy.safetensors": digest(content),
        "policy.json": digest(canonical(description["layers"])),
    }
    file.write_text(json.dumps(description))


def set_entry(array, position, value):
    return lambda arrays: arrays[array].__setitem__(position, value)


def set_layer(index, **fields):
    return lambda layers: layers[index].update(fields)


def flip(name, position):
    def damage(folder):
        content = bytearray((folder / name).read_bytes())
        content[position] ^= 1
        (folder / name).write_bytes(content)

    return damage


DAMAGE = {
    "a flipped byte": (flip("policy.safetensors", -5), "does not match its checksum"),
    "a flipped byte in the header": (flip("policy.safetensors", 30), "does not match its checksum"),
    "a changed description": (
        lambda folder: (folder / "policy.json").write_text(
            (folder / "policy.json").read_text().replace("1e-06", "2e-06")
        ),
        "policy.json does not match its checksum: it was damaged or edited",
    ),
    "cut off": (
        lambda folder: os.truncate(folder / "policy.safetensors", 1000),
        "does not match its checksum",
    ),
    "half a description": (
        lambda folder: os.truncate(folder / "policy.json", 500),
        "policy.json is not valid JSON",
    ),
    "another format": (
        lambda folder: rewrite(folder, format="torch"),
        "is not of the format kanbatsu-policy",
    ),
    "a later version": (
        lambda folder: rewrite(folder, version=2),
        "has version 2 of the format, and this kanbatsu reads version 1",
    ),
    "an input that does not exist": (
        lambda folder: rewrite(folder, None, set_entry("1/weight/sources", -1, 17)),
        "names an input that does not exist",
    ),
    "lists that run backwards": (
        lambda folder: rewrite(folder, None, set_entry("1/weight/starts", 3, 9999)),
        "layer 1 names an input that does not exist|its lists overlap",
    ),
    "a missing array": (
        lambda folder: rewrite(folder, None, lambda arrays: arrays.pop("4/bias")),
        "the array 4/bias of layer 4 is missing",
    ),
    "another shape": (
        lambda folder: rewrite(
            folder, None, lambda arrays: arrays.update({"4/bias": np.zeros(9, np.float32)})
        ),
        r"the array 4/bias is float32 \(9,\), not float32 \(160,\)",
    ),
    "another type": (
        lambda folder: rewrite(
            folder, None, lambda arrays: arrays.update({"4/bias": np.zeros(160)})
        ),
        "4/bias is of type F64",
    ),
    "a number that is not finite": (
        lambda folder: rewrite(folder, None, set_entry("4/bias", 0, np.nan)),
        "bias of layer 4 holds numbers that are not finite",
    ),
    "an unknown layer": (
        lambda folder: rewrite(folder, set_layer(1, kind="attention")),
        "kind of layer 1 is 'attention'; this kanbatsu knows normalise",
    ),
    "layers that do not fit": (
        lambda folder: rewrite(folder, lambda layers: layers.pop(4)),
        "layer 4 takes 160 features and is given 40",
    ),
    "a branch that never began": (
        lambda folder: rewrite(folder, lambda layers: (layers.pop(2), layers.pop(6))),
        "layer 5 adds None features to 40",
    ),
    "no squash": (
        lambda folder: rewrite(folder, lambda layers: layers.pop(-1)),
        "begins with one normalise and ends with one squash",
    ),
    "a size that is none": (
        lambda folder: rewrite(folder, set_layer(1, outputs=0)),
        "outputs of layer 1 is 0",
    ),
    "bounds the wrong way round": (
        lambda folder: rewrite(folder, set_layer(-1, low=[1.0, 1.0, 1.0])),
        "a low bound that is not below the high one",
    ),
    "a field of another type": (
        lambda folder: rewrite(folder, set_layer(1, relu="yes")),
        "relu of layer 1 is missing, or of a wrong type",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_refused(damage, path, exported, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(exported, folder)
    break_it, message = DAMAGE[damage]
    break_it(folder)
    with pytest.raises(PolicyError, match=message) as refused:
        load(folder)
    assert str(folder) in str(refused.value)
    assert "export it again" in str(refused.value)


def test_grouped_weights_that_name_missing_inputs_are_refused(path, tmp_path):
    _, state = make(stored="grouped")
    export_policy(state.actor, state.normaliser, tmp_path)
    rewrite(tmp_path, None, set_entry("1/weight/sources", (0, 0), -1))
    with pytest.raises(PolicyError, match="names an input that does not exist"):
        load(tmp_path)


def test_a_group_size_without_a_kernel_is_refused(tmp_path):
    _, state = make(stored="grouped")
    export_policy(state.actor, state.normaliser, tmp_path)
    pad = ((0, 0), (0, 0), (0, 4))
    rewrite(
        tmp_path,
        None,
        lambda arrays: arrays.update({"1/weight/values": np.pad(arrays["1/weight/values"], pad)}),
    )
    with pytest.raises(PolicyError, match="groups that do not fit 40 outputs"):
        load(tmp_path)


def test_an_empty_folder_says_how_to_export(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"policy.json is missing; export it again with"):
        load(tmp_path)


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


def test_safetensors_are_read_as_the_library_reads_them():
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([], np.int32),
        "c": np.array([65535], np.uint16),
    }
    content = safetensors.numpy.save(arrays, metadata={"by": "test"})
    read = parse(content)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut off"),
        (b"\xff" * 20, "cut off"),
        (b"\x02" + bytes(7) + b"[]", "no table"),
        (b"\x02" + bytes(7) + b"{", "cut off"),
        (safetensors.numpy.save({"a": np.zeros(2, np.float32)})[:-1], "does not fit its place"),
        (safetensors.numpy.save({"a": np.zeros(2)}), "of type F64"),
        (
            safetensors.numpy.save({"a": np.zeros(2, np.float32)}).replace(b"[2]", b"[3]"),
            "does not fit",
        ),
        (
            safetensors.numpy.save({"a": np.zeros(2, np.float32)}).replace(b"[0,8]", b"[4,8]"),
            "does not fit",
        ),
        (
            safetensors.numpy.save({"a": np.zeros(2, np.float32)}).replace(b"shape", b"shade"),
            "incomplete",
        ),
    ],
)
def test_foreign_bytes_are_refused(content, message):
    with pytest.raises(ValueError, match=message):
        parse(content)


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
