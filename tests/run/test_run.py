"""One run: its files, and that a kill at any moment does not change its results."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.envs.vector import EnvironmentFault
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import to_dict
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.run.carry import run_one
from kanbatsu.run.check import check
from kanbatsu.run.record import Run
from kanbatsu.run.resolve import resolved

RUN = Run(
    task="gym/Pendulum-v1",
    seed=3,
    env_steps=1_000,
    config=SACConfig(
        actor=NetworkConfig(width=8, blocks=1, sparsity=0.5),
        critic=CriticConfig(width=16, blocks=1, sparsity=0.7),
    ),
    train=TrainConfig(
        batch_size=16,
        warmup_interactions=150,
        evaluate_every=400,
        evaluation_episodes=2,
        probe_every=250,
        probe_batch=64,
        log_every=100,
        checkpoint_every=170,
        environments=2,
    ),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    run_one(RUN, folder)
    return RunFolder(folder)


def test_what_a_run_leaves_behind(finished):
    assert finished.finished
    assert finished.read_status()["state"] == "finished"
    assert finished.read_config() == json.loads(json.dumps(to_dict(resolved(RUN))))
    assert finished.machine()["versions"]["jax"]
    kinds = {}
    for record in finished.metrics():
        kinds.setdefault(record["kind"], []).append(record)
    assert [e["env_steps"] for e in kinds["evaluation"]] == [0, 400, 800, 1000]
    assert [p["env_steps"] for p in kinds["probe"]] == [250, 500, 750, 1000]
    assert [e["env_steps"] for e in kinds["episode"]] == [400, 400, 800, 800]
    assert kinds["update"][-1]["updates"] == 2 * (1000 - 150 + 2)
    networks = kinds["networks"][0]["networks"]
    assert networks["critic"]["kept"] == round(0.3 * networks["critic"]["total"])
    # 4 actor and 6 critic products per update, a multiply and an add per weight and sample.
    flops = 2 * 16 * (4 * networks["actor"]["kept"] + 6 * networks["critic"]["kept"])
    assert kinds["networks"][0]["flops_per_update"]["sparse"] == flops
    checkpoints = list(finished.checkpoint.iterdir())
    assert [c.name for c in checkpoints] == ["000000001000"]
    assert not (checkpoints[0] / "replay.safetensors").exists()


def test_evaluation_has_seeds_of_its_own_and_repeats(finished, tmp_path):
    run_one(replace(RUN, env_steps=2), tmp_path / "short")
    first = finished.metrics()[1]
    assert first["kind"] == "evaluation"
    assert RunFolder(tmp_path / "short").metrics()[1]["returns"] == first["returns"]


def test_a_finished_run_is_left_alone(finished):
    before = (finished.path / "metrics.jsonl").stat().st_mtime_ns
    run_one(RUN, finished.path)
    assert (finished.path / "metrics.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize("after", [0.35, pytest.param(0.75, marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_metrics_of_the_uninterrupted_one(finished, tmp_path, after):
    folder = tmp_path / "killed"
    script = f"""
        from pathlib import Path
        from kanbatsu.run.record import run_from_dict
        from kanbatsu.run.carry import run_one
        import json
        run_one(run_from_dict(json.loads({json.dumps(to_dict(RUN))!r})), Path({str(folder)!r}))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    files, deadline = RunFolder(folder), time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if any(r["env_steps"] >= after * RUN.env_steps for r in files.metrics()):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.02)
    assert process.wait() == -signal.SIGKILL
    assert not files.finished
    assert list(files.checkpoint.iterdir())
    run_one(RUN, folder)
    assert (folder / "metrics.jsonl").read_bytes() == (finished.path / "metrics.jsonl").read_bytes()


def broken():
    """A factory whose environment returns NaN after a while."""
    import gymnasium

    class Broken(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        action_space = gymnasium.spaces.Box(-1, 1, (1,))
        steps = 0

        def reset(self, seed=None, options=None):
            return np.zeros(2, np.float32), {}

        def step(self, action):
            self.steps += 1
            value = np.nan if self.steps == 7 else 0.0
            return np.full(2, value, np.float32), 0.0, self.steps % 5 == 0, False, {}

    return Broken()


def test_a_failure_is_stored_with_the_step_and_the_traceback(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    run = replace(RUN, task="test_run:broken", train=replace(RUN.train, environments=1))
    with pytest.raises(EnvironmentFault, match="entry 0 is nan at env step"):
        run_one(run, tmp_path / "run")
    status = RunFolder(tmp_path / "run").read_status()
    assert status["state"] == "failed"
    assert "entry 0 is nan" in status["error"]
    assert "Traceback" in status["traceback"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "dmc/walker-wlak"}, "Did you mean 'dmc/walker-walk'"),
        ({"task": "gym/CartPole-v1"}, "[Dd]iscrete"),
        ({"agent": "sca"}, "unknown agent 'sca'"),
        ({"env_steps": 0}, "env_steps must be at least 1"),
        ({"train": TrainConfig(batch_size=0)}, "train.batch_size must be greater than 0"),
        ({"config": SACConfig(critic=CriticConfig(width=0))}, "critic.width must be greater"),
        ({"config": SACConfig(critic=CriticConfig(members=0))}, "critic.members must be greater"),
        ({"config": SACConfig(learning_rate=-1.0)}, "learning_rate must be greater than 0"),
        ({"config": SACConfig(tau=1.5)}, r"tau must lie in \[1e-06, 1.0\]: got 1.5"),
        (
            {"config": SACConfig(critic=CriticConfig(sparsity=1.0))},
            r"critic: sparsity must lie in \[0, 1\)",
        ),
        (
            {"config": SACConfig(actor=NetworkConfig(width=2, blocks=1, sparsity=0.95))},
            "actor: sparsity 0.95 would keep .* highest sparsity that can be met",
        ),
        (
            {
                "config": SACConfig(
                    critic=CriticConfig(
                        sparsity=0.5, pattern="grouped", group_size=5, compute="packed"
                    )
                )
            },
            r'critic.group_size must be one of \(8, 16, 32\) with compute = "packed": got 5',
        ),
        (
            {"train": TrainConfig(environments=3, replay_capacity=2)},
            r"replay_capacity must hold a transition of each environment \(3\): got 2",
        ),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_before_training(change, message):
    with pytest.raises(ValueError, match=message):
        check(replace(RUN, **change))


def test_check_says_what_will_be_kept():
    counts = check(RUN)
    assert counts["critic"].kept == round(0.3 * counts["critic"].total)


@pytest.mark.parametrize("pattern", ["element", "grouped", "bernoulli"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_every_pattern_passes_the_check(pattern, sparsity):
    network = CriticConfig(width=32, blocks=1, sparsity=sparsity, pattern=pattern)
    counts = check(replace(RUN, config=SACConfig(critic=network)))
    assert counts["critic"].kept == pytest.approx((1 - sparsity) * counts["critic"].total, abs=32)
