"""A run continues anywhere: with the layers that it began with, whatever kernels there are."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from kanbatsu.agents.ddpg import DDPGConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import to_dict
from kanbatsu.kernels.library import library
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.run.carry import run_one
from kanbatsu.run.record import Run
from kanbatsu.run.resolve import record_of, resolved
from kanbatsu.sparsity import compute

RUN = Run(
    "gym/Pendulum-v1",
    "ddpg",
    env_steps=60,
    config=DDPGConfig(
        actor=NetworkConfig("mlp", width=8, blocks=1, compute="masked"),
        critic=CriticConfig("mlp", width=128, blocks=2, sparsity=0.9),
    ),
    train=TrainConfig(
        batch_size=8,
        warmup_interactions=10,
        evaluate_every=60,
        evaluation_episodes=1,
        probe_every=60,
        log_every=20,
        checkpoint_every=30,
    ),
)


def without_kernels(monkeypatch):
    for room in ("kernels.primitive", "kernels.trunk", "sparsity.compute"):
        monkeypatch.setattr(f"kanbatsu.{room}.library", lambda: None)
    jax.clear_caches()


def test_auto_is_settled_when_a_run_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(compute, "library", lambda: object())
    begun = record_of(RUN, RunFolder(tmp_path))
    assert begun == resolved(RUN)
    assert (begun.config.actor.compute, begun.config.critic.compute) == ("masked", "mixed")
    RunFolder(tmp_path).write_config(to_dict(begun))
    without_kernels(monkeypatch)
    assert resolved(RUN).config.critic.compute == "masked"
    assert record_of(RUN, RunFolder(tmp_path)) == begun
    # What is no record of this run, and one from before `auto` was settled, decide nothing.
    other = replace(RUN, seed=1)
    assert record_of(other, RunFolder(tmp_path)) == resolved(other)
    RunFolder(tmp_path).write_config(to_dict(RUN))
    assert record_of(RUN, RunFolder(tmp_path)) == resolved(RUN)


class Stopped(Exception):
    pass


def begin(folder):
    """Run until after the first checkpoint."""

    def stop(env_steps):
        if env_steps > 40:
            raise Stopped

    with pytest.raises(Stopped):
        run_one(RUN, folder, stop)


def numbers(folder):
    return [
        [value for _, value in sorted(record["metrics"].items())]
        for record in RunFolder(folder).metrics()
        if record["kind"] in ("update", "evaluation") and "metrics" in record
    ]


@pytest.mark.skipif(library() is None, reason="the kernels were not built")
def test_a_run_continues_with_other_kernels_and_with_none(tmp_path, monkeypatch):
    run_one(RUN, tmp_path / "whole")
    whole = RunFolder(tmp_path / "whole")
    (networks,) = [r["networks"] for r in whole.metrics() if r["kind"] == "networks"]
    assert networks["critic"]["kept"] < 0.2 * networks["critic"]["total"]
    assert len(numbers(whole.path)) > 2
    assert whole.read_config()["config"]["critic"]["compute"] == "mixed"
    for name in ("portable", "none"):
        begin(tmp_path / name)
    script = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import test_resolve as test; "
    script += "test.run_one(test.RUN, pathlib.Path(sys.argv[2]))"
    subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / "portable")],
        env=os.environ | {"KANBATSU_ISA": "portable"},
        check=True,
        timeout=300,
    )
    without_kernels(monkeypatch)
    run_one(RUN, tmp_path / "none")
    for name in ("portable", "none"):
        folder = RunFolder(tmp_path / name)
        assert folder.read_config() == whole.read_config()
        for ours, theirs in zip(numbers(folder.path), numbers(whole.path), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
