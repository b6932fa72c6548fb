"""Whole runs of an agent that learns from images: files, and a stop in between."""

import pytest

from kanbatsu.agents.drqv2 import DrQv2Config
from kanbatsu.agents.schedule import ImageTrainConfig
from kanbatsu.envs.rendering import backend
from kanbatsu.envs.spec import TaskError
from kanbatsu.files.store import RunFolder
from kanbatsu.nn.pixel_config import EncoderConfig, PixelActorConfig, PixelCriticConfig
from kanbatsu.run.carry import run_one
from kanbatsu.run.check import check
from kanbatsu.run.record import Run, run_from_dict

CONFIG = DrQv2Config(
    EncoderConfig(channels=2, sparsity=0.5),
    PixelActorConfig(4, width=8, sparsity=0.5),
    PixelCriticConfig(4, width=8, sparsity=0.5, trunk_sparsity=0.25),
)
SCHEDULE = ImageTrainConfig(
    batch_size=4,
    warmup_interactions=6,
    replay_capacity=100,
    evaluate_every=1_000,
    evaluation_episodes=1,
    probe_every=20,
    probe_batch=8,
    log_every=10,
    checkpoint_every=20,
    action_repeat=25,
)
"""Few interactions an episode: 40."""


class Killed(Exception):
    """What the test raises in the middle of a run."""


def test_a_run_that_was_stopped_writes_what_it_would_have_written(tmp_path):
    try:
        backend()
    except TaskError as error:
        pytest.skip(str(error))
    run = Run("dmc-pixels/16-plain/cartpole-balance", "drqv2", 3, 1_250, CONFIG, SCHEDULE)
    counts = check(run)
    assert counts["critic"].layers[0].kept == round(0.75 * 2 * 4)

    def kill(env_steps):
        if env_steps >= 1_100:
            raise Killed

    run_one(run, tmp_path / "whole")
    with pytest.raises(Killed):
        run_one(run, tmp_path / "killed", kill)
    run_one(run, tmp_path / "killed")
    ours, theirs = (tmp_path / name / "metrics.jsonl" for name in ("killed", "whole"))
    assert ours.read_bytes() == theirs.read_bytes()

    records = list(RunFolder(tmp_path / "whole").metrics())
    updates = [(r["env_steps"], r["updates"]) for r in records if r["kind"] == "update"]
    assert updates[-1] == (1_250, (50 - 5) // 2)
    assert [r["env_steps"] for r in records if r["kind"] == "episode"] == [1_000]
    assert {r["kind"] for r in records} >= {"networks", "evaluation", "update", "probe"}
    assert run_from_dict(RunFolder(tmp_path / "whole").read_config()).config.critic.members == 2
