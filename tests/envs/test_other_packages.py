"""Tasks of other packages, where they are installed: episodes belong to seeds, examples run."""

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from kanbatsu.envs.make import make
from kanbatsu.files.store import StudyFolder

EXAMPLES = Path(__file__).parents[2] / "examples"
PACKAGES = {
    "gymnasium_robotics": ("gym/gymnasium_robotics:FetchReachDense-v4", "10_robotics.toml"),
    "pcgym": ("11_process_control:reactor", "11_process_control.toml"),
}


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> str:
    """Skip where a package is missing; what it warns of while it loads is its own matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module(request.param)
        except ImportError as error:
            pytest.skip(f"{request.param} is not installed ({error})")
    return request.param


@pytest.mark.filterwarnings("ignore")
def test_an_episode_is_a_function_of_its_seed_and_actions(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)
    task, _ = PACKAGES[package]
    environment, other = make(task), make(task)
    limit, actions = environment.spec.episode_length, np.random.default_rng(0)
    assert limit is not None
    other.reset(seed=1)
    other.step(np.ones(other.spec.action_dim))
    assert np.array_equal(environment.reset(seed=7), other.reset(seed=7))
    for interaction in range(1, limit + 1):
        action = actions.uniform(-1, 1, environment.spec.action_dim)
        one, same = environment.step(action), other.step(action)
        assert np.array_equal(one.obs, same.obs)
        assert one.reward == same.reward
        assert not one.terminated
        assert one.truncated == (interaction == limit)


def test_the_example_runs(package: str, tmp_path: Path) -> None:
    _, example = PACKAGES[package]
    words = ["-m", "kanbatsu.cli", "study", example, "--out", str(tmp_path), "--workers", "2"]
    done = subprocess.run([sys.executable, *words], cwd=EXAMPLES, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    study = StudyFolder(tmp_path).read_study()
    for arm in study["arms"].values():
        for run_id in (run for seeds in arm["runs"].values() for run in seeds.values()):
            assert StudyFolder(tmp_path).run_folder(run_id).finished
