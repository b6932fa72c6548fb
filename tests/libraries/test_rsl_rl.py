"""rsl_rl's runners: the page's script, saving and loading, students, and what is refused."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import kanbatsu.torch
from kanbatsu.deploy import load
from kanbatsu.integrations.rsl_rl import export_policy, prune_runner

pytest.importorskip("rsl_rl", reason="rsl_rl: run `make libraries`")
from rsl_rl.runners import DistillationRunner, OnPolicyRunner
from tensordict import TensorDict

NETWORK = {"class_name": "MLPModel", "hidden_dims": [16, 16], "activation": "elu"}
NOISE = {"class_name": "GaussianDistribution", "init_std": 0.5}
PPO = {
    "num_steps_per_env": 4,
    "save_interval": 50,
    "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
    "algorithm": {"class_name": "PPO", "num_learning_epochs": 1, "num_mini_batches": 2},
    "actor": {**NETWORK, "distribution_cfg": NOISE},
    "critic": NETWORK,
}


@pytest.fixture(scope="module")
def page(run_page):
    torch.manual_seed(0)
    return run_page("rsl-rl.md")


@pytest.fixture
def make(page):
    """Build a runner with layers of 16 units on the page's environment."""

    def build(runner=OnPolicyRunner, **parts):
        cfg = copy.deepcopy({**PPO, **parts})
        return runner(page["Points"](), cfg, log_dir=None, device="cpu")

    return build


def models(runner):
    return runner.alg.actor, runner.alg.critic


def test_the_page(page, assert_pruned):
    runner = page["runner"]
    assert load(page["folder"] / "policy").contract["action"]["high"] == [1.0, 1.0]
    for model in models(runner):
        assert_pruned(model, runner.alg.optimizer)
    assert kanbatsu.torch.count(runner.alg.actor).sparsity == 0.5
    env = page["Points"]()
    observations, policy = env.get_observations(), runner.get_inference_policy()
    far = env.at.norm(dim=1).mean()
    with torch.no_grad():
        for _ in range(40):
            observations = env.step(policy(observations))[0]
    assert env.at.norm(dim=1).mean() < 0.5 * far


def test_counts_are_exact_and_parts_apart(make):
    runner = make()
    assert prune_runner(runner, actor=0.5, critic=0.8) is runner
    # By hand: 2 observations, 16 and 16 units, 2 actions, or 1 value.
    actor, critic = (kanbatsu.torch.count(model) for model in models(runner))
    assert (actor.total, actor.kept) == (2 * 16 + 16 * 16 + 16 * 2, 160)
    assert (critic.total, critic.kept) == (2 * 16 + 16 * 16 + 16, 61)


def test_a_saved_runner_is_loaded_with_its_masks(make, tmp_path, assert_pruned, same_masks):
    runner = prune_runner(make(), actor=0.5, critic=0.8)
    runner.learn(2)
    runner.save(str(tmp_path / "model.pt"))
    fresh = prune_runner(make(), actor=0.5, critic=0.8, seed=1)
    assert not same_masks(runner.alg.actor, fresh.alg.actor)
    fresh.load(str(tmp_path / "model.pt"))
    assert fresh.current_learning_iteration == 1
    fresh.learn(2)
    for model, loaded in zip(models(runner), models(fresh), strict=True):
        assert same_masks(model, loaded)
        assert_pruned(loaded, fresh.alg.optimizer)


@pytest.mark.parametrize("kind", ["GaussianDistribution", "HeteroscedasticGaussianDistribution"])
def test_a_trained_actor_is_exported(kind, make, page, tmp_path, assert_exported):
    class Seen(page["Points"]):
        """Points that are seen in two groups."""

        def get_observations(self):
            policy = super().get_observations()
            policy["speed"] = policy["policy"][:, :1] * 3 + 1
            return policy

    cfg = copy.deepcopy(PPO)
    cfg["obs_groups"]["actor"] = ["policy", "speed"]
    cfg["actor"] |= {"obs_normalization": True, "distribution_cfg": {"class_name": kind}}
    runner = prune_runner(OnPolicyRunner(Seen(), cfg, log_dir=None, device="cpu"), actor=0.5)
    runner.learn(2)
    export_policy(runner, tmp_path, low=-1.0, high=1.0, c=True)
    groups = {"policy": torch.randn(50, 2), "speed": torch.randn(50, 1)}
    with torch.no_grad():
        wanted = runner.get_inference_policy()(TensorDict(groups, batch_size=[50])).clamp(-1, 1)
    assert_exported(tmp_path, torch.cat(list(groups.values()), dim=1), wanted, None)
    policy = load(tmp_path)
    as_groups = {name: part.numpy() for name, part in groups.items()}
    np.testing.assert_allclose(policy(as_groups), wanted, atol=1e-5)
    assert policy.contract["observation"]["names"] == ["policy/0", "policy/1", "speed"]
    assert policy.contract["normaliser"]["observations_seen"] == 2 * 4 * 64


def test_what_cannot_be_exported_is_refused(make, tmp_path):
    recurrent = {"class_name": "RNNModel", "rnn_type": "gru", "rnn_hidden_dim": 16}
    beta = {"class_name": "BetaDistribution"}
    for actor, message in (
        ({**NETWORK, **recurrent, "distribution_cfg": NOISE}, "its RNNModel is recurrent"),
        ({**NETWORK, "distribution_cfg": beta}, "its actions are the means of a BetaDistribution"),
    ):
        with pytest.raises(ValueError, match=message):
            export_policy(make(actor=actor), tmp_path / "policy")
    with pytest.raises(ValueError, match="this Linear is no runner of rsl_rl"):
        export_policy(nn.Linear(2, 2), tmp_path / "policy")
    assert not (tmp_path / "policy").exists()


SCRIPT = """
import sys, torch
from rsl_rl.models import MLPModel
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict
import kanbatsu.torch
observations = TensorDict({"policy": torch.randn(5, 2)}, batch_size=[5])
noise = {"class_name": "GaussianDistribution"}
groups = {"actor": ["policy"]}
actor = MLPModel(observations, groups, "actor", 2, hidden_dims=[16, 16], distribution_cfg=noise)
kanbatsu.torch.prune(actor, 0.8)
class Algorithm:
    get_policy = staticmethod(lambda: actor)
runner = OnPolicyRunner.__new__(OnPolicyRunner)
runner.alg = Algorithm
runner.export_policy_to_jit(sys.argv[1])
script = torch.jit.load(sys.argv[1] + "/policy.pt")
torch.testing.assert_close(script(observations["policy"]), actor(observations))
print("equal")
"""


def test_the_policy_is_written_as_a_script(tmp_path):
    # In a process of its own: torch.jit.script reads code, and not what the tests' checks wrap.
    words = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("equal\n"), done.stderr


def test_the_models_can_be_probed(make):
    runner = prune_runner(make())
    health = kanbatsu.torch.probe(
        runner.alg.actor, runner.env.get_observations(), loss=lambda actions: actions.mean()
    )
    assert health["srank"] >= 1
    assert health["gradient_norm"] > 0


def test_recurrent_layers_stay_dense(make, assert_pruned):
    recurrent = {"class_name": "RNNModel", "rnn_type": "gru", "rnn_hidden_dim": 16}
    runner = make(actor={**NETWORK, **recurrent, "distribution_cfg": NOISE})
    prune_runner(runner, actor=0.5)
    assert all(path.startswith("mlp.") for path in kanbatsu.torch.masks(runner.alg.actor))
    runner.learn(2)
    assert_pruned(runner.alg.actor, runner.alg.optimizer)


def test_a_student_is_pruned_and_its_teacher_is_not(make, tmp_path, assert_pruned):
    teacher = make()
    teacher.save(str(tmp_path / "teacher.pt"))
    runner = make(
        DistillationRunner,
        obs_groups={"student": ["policy"], "teacher": ["policy"]},
        algorithm={"class_name": "Distillation", "gradient_length": 2},
        student={**NETWORK, "distribution_cfg": NOISE},
        teacher={**NETWORK, "distribution_cfg": NOISE},
    )
    with pytest.raises(ValueError, match="has no critic to prune, only actor"):
        prune_runner(runner, actor=0.5, critic=0.5)
    prune_runner(runner, actor=0.5)
    assert not kanbatsu.torch.masks(runner.alg.teacher)
    runner.load(str(tmp_path / "teacher.pt"))
    runner.learn(2)
    assert_pruned(runner.alg.student, runner.alg.optimizer)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"actor": 1.0}, r"must lie in \[0, 1\)"),
        ({"include": "mlp.*"}, r"paths are: actor\.actor\.mlp\.0\.weight"),
        ({"pattern": "stripes"}, "pattern"),
        ({"seed": -1}, r"seed must lie in \[0, 2\*\*32\)"),
    ],
)
def test_wrong_input_changes_nothing(make, wanted, message, unchanged):
    runner = make()
    as_before = unchanged(*models(runner))
    with pytest.raises(ValueError, match=message):
        prune_runner(runner, **wanted)
    assert as_before()


def test_a_runner_is_pruned_once_before_it_learns(make, unchanged):
    runner = make()
    runner.learn(1)
    as_before = unchanged(*models(runner))
    with pytest.raises(ValueError, match="this OnPolicyRunner has been trained"):
        prune_runner(runner)
    assert as_before()
    runner = prune_runner(make())
    with pytest.raises(ValueError, match="is already pruned"):
        prune_runner(runner)
    with pytest.raises(ValueError, match="this Linear is no runner of rsl_rl"):
        prune_runner(nn.Linear(2, 2))
