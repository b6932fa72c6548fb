"""Every agent of ours as a policy: the action of `act_greedy`, by the runtime, ONNX and C."""

import json
import subprocess
import sys
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents import AGENTS
from kanbatsu.agents.pqn import PQNConfig
from kanbatsu.agents.schedule import StreamTrainConfig
from kanbatsu.agents.stream_ac import StreamACConfig
from kanbatsu.agents.stream_q import StreamQConfig
from kanbatsu.deploy import export, load
from kanbatsu.deploy.families import Known, acting_of
from kanbatsu.deploy.write import Export, Original, write_policy
from kanbatsu.nn.normed import NormedNetworkConfig
from kanbatsu.nn.stream import StreamNetworkConfig
from kanbatsu.run.carry import run_one
from kanbatsu.run.record import Run
from kanbatsu.train.checkpoint import to_arrays
from kanbatsu.types import Spec

STREAM = StreamNetworkConfig(width=24, sparsity=0.6, initial_sparsity=0.0)
GROUPED = replace(STREAM, pattern="grouped", group_size=8, compute="packed")
PACKED = replace(STREAM, compute="packed")
NORMED = NormedNetworkConfig(width=16, channels=8, sparsity=0.6)
VECTOR = Spec((5,), action_dim=3, episode_length=100)
CHOICES = replace(VECTOR, discrete=True)
IMAGES = Spec((6, 7, 2), action_dim=3, obs_dtype="uint8", discrete=True)
KINDS = {
    "stream_ac": ("stream_ac", StreamACConfig(STREAM, STREAM), VECTOR),
    "stream_ac, packed": ("stream_ac", StreamACConfig(PACKED, STREAM, time=False), VECTOR),
    "stream_ac, grouped": ("stream_ac", StreamACConfig(GROUPED, STREAM), VECTOR),
    "stream_q": ("stream_q", StreamQConfig(STREAM), CHOICES),
    "pqn": ("pqn", PQNConfig(replace(NORMED, blocks=3, residual=True)), CHOICES),
    "pqn, images": ("pqn", PQNConfig(NORMED), IMAGES),
}
LOW, HIGH = np.array([-2, 0, -1], np.float32), np.array([2, 10, 1], np.float32)


def agent_of(name):
    """An agent of a kind, and a state whose senses have seen something."""
    agent, config, spec = KINDS[name]
    made = AGENTS[agent].agent(spec, config)
    state = made.init(jax.random.key(3))
    if hasattr(state, "senses"):
        senses = state.senses
        for row in np.random.default_rng(1).normal(3, 2, (9, 5)).astype(np.float32):
            senses, _ = senses.see(jnp.asarray(row))
        state = eqx.tree_at(lambda s: s.senses, state, senses)
    return made, state


@pytest.mark.parametrize("name", KINDS)
def test_every_form_acts_as_act_greedy_does(name, tmp_path):
    agent, config, spec = KINDS[name]
    made, state = agent_of(name)
    shape = {"obs_shape": spec.obs_shape, "obs_dtype": spec.obs_dtype}
    acting = acting_of(agent, to_arrays(state), Known(config, shape, LOW, HIGH, start=1))
    assert acting.spec == replace(spec, episode_length=None)

    def act(obs):
        observed = obs.reshape(-1, *spec.obs_shape).astype(spec.obs_dtype)
        action = np.asarray(made.act_greedy(state, jnp.asarray(observed)))
        if spec.discrete:
            return action.argmax(axis=-1) + 1
        return (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * action

    how = Export(c=name in ("stream_ac", "pqn, images"))
    write_policy(
        acting.layers, tmp_path, Original(act, agent), how,
        moments=acting.moments, seen=acting.seen, image=acting.image,
    )  # fmt: skip
    policy = load(tmp_path)
    rng = np.random.default_rng(2)
    obs = rng.normal(0, 4, (20, spec.obs_dim)).astype(np.float32)
    if acting.image is not None:
        lit = rng.random((20, *spec.obs_shape)) < rng.random((20, 1, 1, 2))
        obs = np.where(lit, 255, 0).astype(np.uint8)
    wanted = act(obs)
    np.testing.assert_allclose(policy(obs), wanted, atol=2e-5)
    np.testing.assert_allclose(policy(obs[0]), wanted[0], atol=2e-5)
    assert np.ptp(wanted, axis=0).max() > 0
    golden = policy.contract["golden"]
    errors = [golden[f"{form}parity_error"] for form in ("", "onnx_", "c_")]
    assert max(error or 0.0 for error in errors) < 1e-5
    assert policy.contract["observation"]["shape"] == list(spec.obs_shape)


NUMPY_ALONE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"jax", "jaxlib", "jaxtyping", "equinox", "optax", "torch",
                                      "safetensors", "gymnasium", "onnx", "onnxruntime"}:
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, Blocker())
import numpy as np
from kanbatsu.deploy import load
for folder in sys.argv[1:]:
    policy = load(folder)
    print(policy(np.ones(policy.obs_dim)).tolist())
"""


def test_every_policy_runs_with_numpy_alone(tmp_path):
    for name, (agent, config, spec) in KINDS.items():
        _, state = agent_of(name)
        shape = {"obs_shape": spec.obs_shape, "obs_dtype": spec.obs_dtype}
        acting = acting_of(agent, to_arrays(state), Known(config, shape, LOW, HIGH))
        nothing = np.zeros((4 if acting.image else 16, 1 if spec.discrete else 3))
        original = Original(lambda obs, nothing=nothing: nothing, "nothing")
        how = Export(tolerance=99.0, onnx=False)
        write_policy(acting.layers, tmp_path / name, original, how, image=acting.image)
    folders = [str(tmp_path / name) for name in KINDS]
    words = [sys.executable, "-c", NUMPY_ALONE, *folders]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    actions = [json.loads(line) for line in done.stdout.splitlines()]
    policies = [load(folder) for folder in folders]
    wanted = [policy(np.ones(policy.obs_dim)).tolist() for policy in policies]
    assert actions == wanted


def test_the_time_is_left_as_it_is():
    _, state = agent_of("stream_q")
    begin = acting_of("stream_q", to_arrays(state), Known(StreamQConfig(STREAM), {})).layers[0]
    assert (begin.mean[-1], begin.scale[-1]) == (0, 1)
    assert abs(begin.mean[0] - 3) < 2


def test_an_image_of_another_shape_is_refused(tmp_path):
    agent, config, spec = KINDS["pqn, images"]
    _, state = agent_of("pqn, images")
    shape = {"obs_shape": spec.obs_shape, "obs_dtype": "uint8"}
    acting = acting_of(agent, to_arrays(state), Known(config, shape))
    original = Original(lambda obs: np.zeros(len(obs)), "nothing")
    write_policy(acting.layers, tmp_path, original, Export(tolerance=9.0), image=acting.image)
    with pytest.raises(ValueError, match=r"is \[6, 7, 2\], or \[batch, 6, 7, 2\]: got \[7, 6, 2\]"):
        load(tmp_path)(np.zeros((7, 6, 2), np.uint8))


def test_a_run_that_chooses_is_exported_from_its_folder(tmp_path):
    run = Run(
        agent="stream_q",
        task="gym/CartPole-v1",
        env_steps=40,
        config=StreamQConfig(replace(STREAM, width=8, blocks=1)),
        train=StreamTrainConfig(evaluation_episodes=1, checkpoint_every=20),
    )
    run_one(run, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "policy", c=True)
    policy = load(tmp_path / "policy")
    assert policy(np.ones(5)) in (0, 1)
    assert policy.contract["action"]["choices"] == [2]
    assert policy.contract["golden"]["compared_with"] == "act_greedy of stream_q"
    assert policy.contract["golden"]["c_parity_error"] == 0
