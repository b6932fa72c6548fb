"""Models that Stable-Baselines3 saved, from their files to a policy's folder."""

import json
import zipfile

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from kanbatsu import cli
from kanbatsu.deploy import load
from kanbatsu.integrations.sb3 import prune_policy
from kanbatsu.integrations.sb3.opening import algorithm_of, open_model, open_normaliser


def small():  # Stable-Baselines3 writes into the dictionary that it is given
    return {"policy_kwargs": {"net_arch": [16]}, "device": "cpu", "seed": 0}


def saved(algorithm, folder, task="Pendulum-v1"):
    replay = {} if algorithm in (PPO, A2C) else {"buffer_size": 10}
    model = algorithm("MlpPolicy", task, **small(), **replay)
    model.save(folder / "model.zip")
    return model, folder / "model.zip"


@pytest.mark.parametrize("algorithm", [PPO, A2C, SAC, TD3, DDPG, DQN])
def test_the_algorithm_is_found_without_opening_a_pickle(algorithm, tmp_path):
    task = "CartPole-v1" if algorithm is DQN else "Pendulum-v1"
    model, file = saved(algorithm, tmp_path, task)
    assert algorithm_of(file) == {"DDPG": "TD3"}.get(algorithm.__name__, algorithm.__name__)
    observations = np.random.default_rng(0).normal(size=(9, model.observation_space.shape[0]))
    wanted, _ = model.predict(observations.astype(np.float32), deterministic=True)
    actions, _ = open_model(file).predict(observations.astype(np.float32), deterministic=True)
    np.testing.assert_array_equal(actions, wanted)


def test_a_pruned_model_and_its_normaliser_are_exported_from_the_command_line(tmp_path, capsys):
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")]))
    model = prune_policy(SAC("MlpPolicy", env, buffer_size=10, **small()), actor=0.5)
    env.obs_rms.update(np.random.default_rng(0).normal(2, 3, (50, 3)))
    model.save(tmp_path / "model")
    env.save(str(tmp_path / "normaliser.pkl"))
    words = ["export", str(tmp_path / "model"), "--to", str(tmp_path / "policy")]
    assert cli.main([*words, "--normalize", str(tmp_path / "normaliser.pkl"), "--onnx"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("pickles, which run the code in them; never open a stranger's")
    assert lines[-1].startswith("policy.onnx: ")
    policy = load(tmp_path / "policy")
    observations = np.random.default_rng(1).normal(2, 3, (9, 3)).astype(np.float32)
    wanted, _ = model.predict(env.normalize_obs(observations), deterministic=True)
    np.testing.assert_allclose(policy(observations), wanted, atol=1e-5)
    assert f"{kept_of(model):,} kept of" in lines[2]


def kept_of(model):
    actor = model.actor
    return sum(int((m.weight != 0).sum()) for m in [actor.latent_pi[0], actor.mu])


def test_files_of_another_kind_are_refused(tmp_path, capsys):
    def refused(*words):
        with pytest.raises(SystemExit):
            cli.main(["export", *map(str, words), "--to", str(tmp_path / "policy")])
        return capsys.readouterr().err.replace("\n", " ")

    (tmp_path / "weights.pt").write_bytes(b"PK")
    assert "is not a model that Stable-Baselines3 saved" in refused(tmp_path / "weights.pt")
    model, file = saved(PPO, tmp_path)
    assert "models of PPPO cannot be exported. Did you mean 'PPO'" in refused(
        file, "--algorithm", "PPPO"
    )
    assert "--low and --high are of runs" in refused(file, "--low", "-1")
    assert "weights.pt holds no VecNormalize" in refused(
        file, "--normalize", tmp_path / "weights.pt"
    )
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        module = {"__module__": "sb3_contrib.common.recurrent.policies"}
        archive.writestr("data", json.dumps({"policy_class": module, "clip_range": 0.2}))
    assert "models of RecurrentPPO cannot be exported" in refused(tmp_path / "odd.zip")
    other = VecNormalize(DQN("MlpPolicy", "CartPole-v1", buffer_size=10).get_env())
    other.save(str(tmp_path / "other.pkl"))
    with pytest.raises(ValueError, match=r"other\.pkl"):
        open_normaliser(tmp_path / "other.pkl", model)
