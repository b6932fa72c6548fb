"""RL Baselines3 Zoo: the page's hyperparameter file, run by its own command line."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stable_baselines3 import PPO, SAC

import kanbatsu.torch
from kanbatsu.integrations.rl_zoo3 import PruneCallback

PAGE = Path(__file__).parents[2] / "docs" / "libraries" / "rl-zoo3.md"
SMALL = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "device": "cpu"}


def make():
    return PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [16, 16]}, **SMALL)


@pytest.mark.skipif(not importlib.util.find_spec("rl_zoo3"), reason="rl_zoo3: `make libraries`")
def test_an_entry_of_the_file_prunes_what_is_trained(tmp_path, assert_pruned, same_masks):
    (block,) = re.findall(r"^```diff\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    file = tmp_path / "hyperparameters.yml"
    file.write_text("\n".join(line[1:] for line in block.splitlines()))
    words = "-m rl_zoo3.train --algo sac --env Pendulum-v1 --eval-freq -1 --device cpu --seed 0"
    words = [*words.split(), "--conf-file", str(file), "--log-folder", "logs"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "logs" / "sac" / "Pendulum-v1_1"
    model = SAC.load(folder / "Pendulum-v1.zip", device="cpu")
    assert model._n_updates > 0
    assert_pruned(model.actor, model.actor.optimizer)
    assert_pruned(model.critic, model.critic.optimizer)
    assert same_masks(model.critic, model.critic_target)
    counts = [kanbatsu.torch.count(network) for network in (model.actor, model.critic)]
    assert counts[0].kept == round(0.5 * counts[0].total)
    assert counts[1].kept == round(0.2 * counts[1].total)


def test_a_pruned_model_goes_on_and_a_trained_one_is_refused(tmp_path, same_masks, unchanged):
    model = make().learn(8, callback=PruneCallback(actor=0.5, critic=0.8))
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=model.get_env(), device="cpu")
    loaded.learn(8, callback=PruneCallback(actor=0.1, critic=0.1, seed=1))
    assert same_masks(loaded.policy, model.policy)
    dense = make().learn(8)
    as_before = unchanged(dense.policy)
    with pytest.raises(ValueError, match="this PPO has been trained"):
        dense.learn(8, callback=PruneCallback())
    assert as_before()


def test_wrong_input_changes_nothing(unchanged):
    model = make()
    as_before = unchanged(model.policy)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        model.learn(8, callback=PruneCallback(actor=1.0))
    with pytest.raises(TypeError, match="sparsity"):
        model.learn(8, callback=PruneCallback(sparsity=0.5))
    assert as_before()
