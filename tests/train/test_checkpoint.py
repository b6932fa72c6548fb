"""Checkpoints: whole or not at all, and the one before when the newest is damaged."""

import resource
import signal
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

from kanbatsu.train.checkpoint import Checkpoint, from_arrays, load_latest, save, to_arrays


def checkpoint(value, size=10):
    arrays = {"agent": {"w": np.full(size, value, np.float32)}, "replay": {"r": np.arange(3)}}
    return Checkpoint(arrays, {"position": [value, 2]})


def test_round_trip_and_only_the_newest_two_stay(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path / "c", f"{step:03d}", checkpoint(step))
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["002", "003"]
    loaded = load_latest(tmp_path / "c")
    assert loaded.facts == {"position": [3, 2]}
    np.testing.assert_array_equal(loaded.arrays["agent"]["w"], np.full(10, 3.0))
    np.testing.assert_array_equal(loaded.arrays["replay"]["r"], [0, 1, 2])


def test_nothing_saved_is_none(tmp_path):
    assert load_latest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("damage", ["flip", "cut", "no facts", "half a file"])
def test_a_damaged_checkpoint_is_passed_over_with_a_message(tmp_path, damage):
    for step in (1, 2):
        save(tmp_path, f"{step:03d}", checkpoint(step))
    file = tmp_path / "002" / "agent.safetensors"
    if damage == "flip":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-4])
    elif damage == "no facts":
        (tmp_path / "002" / "facts.json").unlink()
    else:
        (tmp_path / "002" / "facts.json").write_text('{"facts": {"posi')
    with pytest.warns(UserWarning, match=r"002 is damaged .*; using the one before it"):
        loaded = load_latest(tmp_path)
    assert loaded.facts == {"position": [1, 2]}


def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(tmp_path):
    save(tmp_path, "001", checkpoint(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises((OSError, safetensors.SafetensorError)):
            save(tmp_path, "002", checkpoint(2, size=10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [p.name for p in tmp_path.iterdir()] == ["001"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_latest(tmp_path).facts == {"position": [1, 2]}


def test_a_half_written_draft_is_not_a_checkpoint(tmp_path):
    save(tmp_path, "001", checkpoint(1))
    (tmp_path / ".002.draft").mkdir()
    assert load_latest(tmp_path).facts == {"position": [1, 2]}
    save(tmp_path, "002", checkpoint(2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["001", "002"]


def test_trees_that_do_not_fit_are_refused():
    arrays = to_arrays({"w": jnp.ones(2), "b": jnp.ones(1)})
    with pytest.raises(ValueError, match=r"\['b'\] differ"):
        from_arrays({"w": jnp.ones(2)}, arrays)
    with pytest.raises(ValueError, match=r"w is float32\(2,\) in the checkpoint, float32\(3,\)"):
        from_arrays({"w": jnp.ones(3), "b": jnp.ones(1)}, arrays)


@pytest.mark.parametrize("place", ["Thumbs.db", "000000000400 (copy)/", "(old)/", ".nfs0001", "42"])
def test_what_is_no_checkpoint_is_left_alone(tmp_path, place):
    save(tmp_path, "000000000200", checkpoint(1))
    other = tmp_path / place
    other.mkdir() if place.endswith("/") else other.write_bytes(b"x")
    for step in (400, 600):
        save(tmp_path, f"{step:012d}", checkpoint(step), keep=1)
    assert load_latest(tmp_path).facts == {"position": [600, 2]}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([other.name, "000000000600"])


@pytest.mark.parametrize("what", ["rename", "rmtree"])
def test_a_checkpoint_that_cannot_be_removed_now_does_not_fail_the_run(tmp_path, monkeypatch, what):
    def busy(path, *rest, **more):
        raise OSError(16, "Device or resource busy")

    save(tmp_path, "001", checkpoint(1))
    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        if what == "rename":
            rename = Path.rename
            patch.setattr(
                Path,
                "rename",
                lambda path, to: busy(path) if path.name == "001" else rename(path, to),
            )
        else:
            patch.setattr("kanbatsu.train.checkpoint.shutil.rmtree", busy)
        save(tmp_path, "002", checkpoint(2), keep=1)
    assert [str(w.message).endswith("the run goes on") for w in seen] == [True] * (what == "rename")
    assert load_latest(tmp_path).facts == {"position": [2, 2]}
    save(tmp_path, "003", checkpoint(3), keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["003"]


def test_with_every_checkpoint_damaged_it_says_that_the_run_starts_over(tmp_path):
    for step in (1, 2):
        save(tmp_path, f"{step:03d}", checkpoint(step))
        (tmp_path / f"{step:03d}" / "facts.json").write_text("[1]")
    with pytest.warns(UserWarning, match="no other is whole, so a run starts over") as seen:
        assert load_latest(tmp_path) is None
    assert len(seen) == 2
