"""Export: from a run's folder and from memory, as small as it goes, or not at all."""

import importlib.util
import json
import logging
import shutil
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu import cli
from kanbatsu.agents.ddpg import DDPG, DDPGConfig
from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.deploy import bundle, export, export_policy, load
from kanbatsu.deploy.layers import Dense, Grouped, Packed
from kanbatsu.deploy.network import smallest
from kanbatsu.files.store import RunFolder
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.run.carry import run_one
from kanbatsu.run.record import Run
from kanbatsu.train.checkpoint import from_arrays, load_latest
from kanbatsu.types import Spec

RUN = Run(
    task="gym/Pendulum-v1",
    env_steps=40,
    config=SACConfig(
        actor=NetworkConfig(width=8, blocks=1, sparsity=0.5),
        critic=CriticConfig(network="mlp", width=8, blocks=1),
    ),
    train=TrainConfig(
        batch_size=4, warmup_interactions=10, replay_capacity=100, evaluation_episodes=1,
        checkpoint_every=20,
    ),
)  # fmt: skip
SPEC = Spec((3,), action_dim=1, episode_length=200)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    run_one(RUN, folder)
    return folder


@pytest.fixture(scope="module")
def state():
    config = DDPGConfig(actor=NetworkConfig(width=8, blocks=1), critic=RUN.config.critic)
    return DDPG(SPEC, config).init(jax.random.key(0))


def test_a_run_is_exported_from_its_folder(trained, tmp_path):
    export(trained, tmp_path, low=-1.0, high=1.0)
    agent = SAC(SPEC, RUN.config)
    saved = load_latest(RunFolder(trained).checkpoint)
    state = from_arrays(agent.init(jax.random.key(0)), saved.arrays["agent"])
    assert float(state.normaliser.count) > 39
    obs = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    expected = np.asarray(agent.act_greedy(state, jnp.asarray(obs)))
    np.testing.assert_allclose(load(tmp_path)(obs), expected, atol=1e-5)


def test_what_the_run_knew_of_its_environment_comes_along(trained, tmp_path):
    export(trained, tmp_path / "own")
    export(trained, tmp_path / "unit", low=-1.0, high=1.0)
    own, unit = load(tmp_path / "own"), load(tmp_path / "unit")
    assert (own.low.tolist(), own.high.tolist()) == ([-2.0], [2.0])
    obs = np.random.default_rng(0).standard_normal((9, 3))
    np.testing.assert_allclose(own(obs), 2 * unit(obs), rtol=1e-6)
    known = own.environment
    assert (known["task"], known["action_repeat"], known["time"]) == ("gym/Pendulum-v1", 1, False)
    assert (known["low"], known["high"], known["episode_length"]) == ([-2.0], [2.0], 200)
    assert unit.environment["high"] == [1.0]


def test_bounds_that_nobody_knows_must_be_named(trained, tmp_path, state, caplog):
    shutil.copytree(trained, tmp_path / "old")
    (tmp_path / "old" / "environment.json").unlink()  # as runs were before it was written
    with pytest.raises(ValueError, match="does not say the bounds of its actuators"):
        export(tmp_path / "old", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export(tmp_path / "old", tmp_path / "out", low=-3.0, high=3.0)
    assert load(tmp_path / "out").high.tolist() == [3.0]
    export_policy(state.actor, state.normaliser, tmp_path / "memory")
    assert "actions lie in [-1, 1]: name low= and high=" in caplog.text


def test_a_folder_without_a_run_or_a_checkpoint_is_refused(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config.json is missing. Name OUT/runs"):
        export(tmp_path, tmp_path / "out")
    RunFolder(tmp_path).write_config(RunFolder(trained).read_config())
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        export(tmp_path, tmp_path / "out")
    RunFolder(tmp_path).write_config(RunFolder(trained).read_config() | {"agent": "dreamer"})
    with pytest.raises(ValueError, match="the policy of dreamer cannot be exported"):
        export(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_description_says_everything_but_the_numbers(state, tmp_path):
    export_policy(state.actor, state.normaliser, tmp_path, low=[-2.0], high=2)
    contract = json.loads((tmp_path / "contract.json").read_text())
    assert (contract["format"], contract["version"]) == ("kanbatsu-policy", 2)
    layers = json.loads((tmp_path / "policy.json").read_text())["layers"]
    assert [layer["kind"] for layer in layers] == [
        "normalise", "linear", "remember", "layer_norm", "linear", "linear", "add", "layer_norm",
        "linear", "squash",
    ]  # fmt: skip
    assert layers[4] == {
        "kind": "linear",
        "inputs": 8,
        "outputs": 32,
        "relu": True,
        "bias": "4/bias",
        "weight": {"kind": "dense", "values": "4/weight/values"},
    }
    assert layers[-1] == {"kind": "squash", "low": [-2.0], "high": [2.0]}


def test_bounds_rescale_the_action(state, tmp_path):
    export_policy(state.actor, state.normaliser, tmp_path / "unit")
    export_policy(state.actor, state.normaliser, tmp_path / "robot", low=0.0, high=[10.0])
    obs = np.random.default_rng(0).standard_normal((5, 3))
    unit, robot = load(tmp_path / "unit")(obs), load(tmp_path / "robot")(obs)
    np.testing.assert_allclose(robot, 5 + 5 * unit, rtol=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (1.0, -1.0, "low bound"),
        (-np.inf, 1.0, "not a list of 1 finite"),
        ([-1.0, -1.0], 1.0, "low and high"),
    ],
)
def test_bounds_that_cannot_be_are_refused(low, high, message, state, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_policy(state.actor, state.normaliser, tmp_path / "out", low=low, high=high)
    assert not (tmp_path / "out").exists()


def test_a_policy_that_diverged_is_not_written(state, tmp_path):
    broken = eqx.tree_at(lambda a: a.head.mean.bias, state.actor, jnp.array([jnp.nan]))
    with pytest.raises(ValueError, match="bias of layer 8 holds numbers that are not finite"):
        export_policy(broken, state.normaliser, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_network_is_refused(state, tmp_path):
    with pytest.raises(ValueError, match=r"has no head/mean/bias\. A policy is a SimBa or an MLP"):
        export_policy(state.critics[0], state.normaliser, tmp_path)
    extra = eqx.tree_at(lambda a: a.head, state.actor, (state.actor.head, jnp.ones(1)))
    with pytest.raises(ValueError, match="cannot be exported"):
        export_policy(extra, state.normaliser, tmp_path)


def test_the_smallest_storage_is_chosen():
    rng = np.random.default_rng(0)
    value = rng.standard_normal((64, 32)).astype(np.float32)
    # Dense: 4 * 2048 = 8192 bytes; packed: 6 a weight and 4 * 33 of starts, 8190 or 8196.
    for kept, storage in ((1343, Packed), (1344, Dense)):
        mask = np.zeros(2048, bool)
        mask[rng.permutation(2048)[:kept]] = True
        mask = mask.reshape(64, 32)
        assert isinstance(smallest(value * mask, mask), storage)
    lists = np.arange(64)[:, None] % 4 == np.arange(2)
    grouped = smallest(value, np.repeat(lists, 16, axis=1))
    assert isinstance(grouped, Grouped)
    assert grouped.values.shape == (2, 16, 16)  # 8 would list every input twice


def test_without_onnx_that_is_said_and_nothing_stale_stays(state, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (tmp_path / bundle.ONNX).write_bytes(b"of an earlier export")
    with caplog.at_level(logging.WARNING):
        export_policy(state.actor, state.normaliser, tmp_path)
    assert "policy.onnx was not written: the package onnx is missing" in caplog.text
    assert not (tmp_path / bundle.ONNX).exists()


@pytest.mark.parametrize("network", ["simba", "mlp"])
def test_the_onnx_model_computes_the_same(network, tmp_path):
    reference = pytest.importorskip("onnx.reference", reason="the extra onnx is not installed")
    actor = NetworkConfig(network=network, width=16, blocks=2, sparsity=0.5)
    agent = SAC(SPEC, replace(RUN.config, actor=actor))
    state = agent.init(jax.random.key(0))
    export_policy(state.actor, state.normaliser, tmp_path, low=-2.0, high=2.0)
    model = reference.ReferenceEvaluator(str(tmp_path / bundle.ONNX))
    obs = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    (action,) = model.run(None, {"observation": obs})
    np.testing.assert_allclose(action, load(tmp_path)(obs), atol=1e-5)


def refused(*words):
    with pytest.raises(SystemExit) as error:
        cli.main(["export", *map(str, words)])
    assert error.value.code == 2


def test_a_run_is_exported_from_the_command_line(trained, tmp_path, capsys):
    (tmp_path / "known.toml").write_text('action_units = ["N m"]\nlicence = "MIT"\n')
    words = ["export", str(trained), "--to", str(tmp_path / "policy")]
    assert cli.main([*words, "--contract", str(tmp_path / "known.toml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    contract = load(tmp_path / "policy").contract
    size = (tmp_path / "policy/policy.safetensors").stat().st_size
    assert f"policy.safetensors {size:,}" in lines[0]
    assert "policy.onnx" not in lines[0]
    kept = int(lines[1].split()[1].replace(",", ""))
    assert 0.45 < kept / int(lines[1].split()[-1].replace(",", "")) < 0.6
    error = contract["golden"]["parity_error"]
    assert lines[2] == (
        f"largest difference from act_greedy of sac on 16 golden pairs: {error:.2g} of half an "
        "action's range"
    )
    assert (contract["action"]["units"], contract["provenance"]["licence"]) == (["N m"], "MIT")


def test_mistakes_on_the_command_line_are_said_in_the_words_of_the_user(trained, tmp_path, capsys):
    refused(trained.with_name("rum"), "--to", tmp_path / "policy")
    assert "rum does not exist. Did you mean 'run'?" in capsys.readouterr().err
    (tmp_path / "out" / "runs").mkdir(parents=True)
    (tmp_path / "out" / "runs" / "sac-0").symlink_to(trained)
    refused(tmp_path / "out", "--to", tmp_path / "policy")
    assert f"is a study of 1 runs. Name one, such as {tmp_path}/out/runs/sac-0" in (
        capsys.readouterr().err.replace("\n", " ")
    )
    refused(trained, "--to", tmp_path / "policy", "--algorithm", "PPO")
    assert "--algorithm is of models that Stable-Baselines3 saved" in capsys.readouterr().err
    (tmp_path / "known.toml").write_text('action_unit = ["N m"]\n')
    refused(trained, "--to", tmp_path / "policy", "--contract", tmp_path / "known.toml")
    assert "action_unit: unknown setting. Did you mean 'action_unit" in capsys.readouterr().err
    assert not (tmp_path / "policy").exists()
