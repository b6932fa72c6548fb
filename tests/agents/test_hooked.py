"""Masks that change during training: moments, targets, checkpoints and counts follow."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kanbatsu.agents import AGENTS, AgentEntry
from kanbatsu.agents.hooked import Hooked
from kanbatsu.agents.sac import SAC, SACConfig
from kanbatsu.agents.schedule import StreamTrainConfig, TrainConfig
from kanbatsu.agents.stream_q import StreamQ, StreamQConfig
from kanbatsu.files.store import RunFolder
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.nn.stream import StreamNetworkConfig
from kanbatsu.run.carry import run_one, run_side_by_side
from kanbatsu.run.record import Run
from kanbatsu.sparsity.weight import Masked
from kanbatsu.train import checkpoint


def is_masked(node):
    return isinstance(node, Masked)


def masked(tree):
    return [leaf for leaf in jax.tree.leaves(tree, is_leaf=is_masked) if is_masked(leaf)]


def redraw(state, key):
    """Keep about half of the critics' weights and grow about a tenth of the others, from zero."""
    keys = iter(jax.random.split(key, len(masked(state.critics))))
    new = [
        jax.random.uniform(next(keys), weight.mask.shape) < jnp.where(weight.mask, 0.5, 0.1)
        for weight in masked(state.critics)
    ]

    def follow(tree):
        masks = iter(new)

        def put(node):
            return node.remasked(next(masks)) if is_masked(node) else node

        return jax.tree.map(put, tree, is_leaf=is_masked)

    adam, *rest = state.critic_moments
    adam = adam._replace(mu=follow(adam.mu), nu=follow(adam.nu))
    return replace(
        state,
        critics=follow(state.critics),
        targets=follow(state.targets),
        critic_moments=(adam, *rest),
    )


RUN = Run(
    task="gym/Pendulum-v1",
    agent="redrawn",
    seed=3,
    env_steps=240,
    config=SACConfig(
        actor=NetworkConfig(width=8, blocks=1),
        critic=CriticConfig(width=8, blocks=1, sparsity=0.5, compute="masked"),
    ),
    train=TrainConfig(
        batch_size=8,
        warmup_interactions=60,
        evaluate_every=120,
        evaluation_episodes=1,
        probe_every=120,
        log_every=60,
        checkpoint_every=60,
    ),
)


@pytest.fixture
def redrawn(monkeypatch):
    entry = AgentEntry(
        lambda spec, config: Hooked(SAC(spec, config), redraw, every=40), SACConfig, TrainConfig
    )
    monkeypatch.setitem(AGENTS, "redrawn", entry)


class Killed(Exception):
    """What the test raises in the middle of a run."""


def test_a_method_that_changes_masks_runs_like_any_agent(tmp_path, redrawn):
    run_one(RUN, tmp_path / "whole")
    files = RunFolder(tmp_path / "whole")
    lines = [record for record in files.metrics() if record["kind"] == "networks"]
    kept = [line["networks"]["critic"]["kept"] for line in lines]
    assert [line["env_steps"] for line in lines] == [0, 120, 240]
    assert len(set(kept)) == 3

    saved = checkpoint.load_latest(files.checkpoint).arrays["agent"]
    masks = {path: x for path, x in saved.items() if "critics" in path and path.endswith("mask")}
    assert sum(int(mask.sum()) for mask in masks.values()) <= kept[-1]
    for path, mask in masks.items():
        assert not mask.all()
        assert np.array_equal(saved[path.replace("critics", "targets")], mask)
        value = path.removesuffix("mask") + "value"
        moments = [
            name
            for name in saved
            if "critic_moments" in name and name.endswith(value.removeprefix("inner/critics/"))
        ]
        assert len(moments) == 2
        for name in (value, value.replace("critics", "targets"), *moments):
            assert (saved[name][~mask] == 0).all(), name


@pytest.mark.parametrize("every", [40, 200])
def test_counts_are_written_down_again_after_a_stop_as_without_one(every, tmp_path, monkeypatch):
    # At 200 updates masks change once: after an evaluation, before the checkpoint that goes on.
    entry = AgentEntry(
        lambda spec, config: Hooked(SAC(spec, config), redraw, every), SACConfig, TrainConfig
    )
    monkeypatch.setitem(AGENTS, "redrawn", entry)

    def kill(env_steps):
        if env_steps == 200:
            raise Killed

    run_one(RUN, tmp_path / "whole")
    with pytest.raises(Killed):
        run_one(RUN, tmp_path / "killed", kill)
    run_one(RUN, tmp_path / "killed")
    ours, theirs = (tmp_path / n / "metrics.jsonl" for n in ("killed", "whole"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_members_of_a_population_have_their_masks_changed_as_alone(tmp_path, redrawn):
    runs = [replace(RUN, env_steps=120), replace(RUN, env_steps=120, seed=4)]
    folders = [tmp_path / "3", tmp_path / "4"]
    assert run_side_by_side(runs, folders) == [None, None]
    run_one(runs[1], tmp_path / "alone")
    counts = [
        json.dumps([r["networks"] for r in RunFolder(f).metrics() if r["kind"] == "networks"])
        for f in (folders[1], tmp_path / "alone", folders[0])
    ]
    assert counts[0] == counts[1]
    assert counts[0] != counts[2]


def test_a_streaming_agent_has_its_hook_called_as_often(tmp_path, monkeypatch):
    def count(state, key):
        return replace(state, decisions=state.decisions + 1_000)

    small = StreamQConfig(StreamNetworkConfig(width=8, blocks=1), time=False)

    def entry(task_spec, config):
        return Hooked(StreamQ(task_spec, config), count, every=7)

    schedule = StreamTrainConfig(
        evaluate_every=30, evaluation_episodes=1, probe_every=30, log_every=30, checkpoint_every=30
    )
    run = Run("jax/cartpole", "counted", 0, 30, small, schedule)
    counted = AgentEntry(entry, StreamQConfig, StreamTrainConfig, discrete=True)
    monkeypatch.setitem(AGENTS, "counted", counted)
    run_one(run, tmp_path)
    saved = checkpoint.load_latest(tmp_path / "checkpoint").arrays["agent"]
    assert int(saved["updates"]) == 30
    assert int(saved["inner/decisions"]) == 30 + 4 * 1_000


def test_a_period_that_never_comes_is_refused():
    with pytest.raises(ValueError, match="every must be at least 1"):
        Hooked(None, redraw, every=0)
