"""The replay: every field of a transition stays together, through the ring and through a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kanbatsu.replay import Replay
from kanbatsu.types import Spec, Transition

SPEC = Spec((3,), action_dim=2, episode_length=None)


def numbered(first: int, n: int) -> Transition:
    """Transitions that carry their number in every field."""
    number = np.arange(first, first + n, dtype=np.float32)
    return Transition(
        obs=np.stack([number, number + 0.25, number + 0.5], axis=1),
        action=np.stack([number, -number], axis=1),
        reward=number,
        terminated=number % 2 == 0,
        truncated=number % 3 == 0,
        next_obs=np.stack([number + 1] * 3, axis=1),
    )


def check_aligned(drawn: Transition) -> None:
    """Every field must belong to the number that the reward carries."""
    flat = Transition(*(field.reshape(-1, *field.shape[2:]) for field in drawn))
    for row, number in enumerate(flat.reward.astype(int).tolist()):
        expected = numbered(number, 1)
        for actual, wanted in zip(flat, expected, strict=True):
            assert np.array_equal(actual[row], wanted[0])


@pytest.mark.parametrize("n", [1, 3, 7])
def test_transitions_stay_together_and_the_oldest_go_first(n: int) -> None:
    replay = Replay(capacity=10, spec=SPEC)
    for first in range(0, 21, n):
        replay.add(numbered(first, n))
    added = len(range(0, 21, n)) * n
    drawn = replay.sample(np.random.default_rng(0), batches=4, batch_size=100)
    check_aligned(drawn)
    assert set(drawn.reward.ravel().tolist()) == set(range(added - 10, added))


def test_only_what_was_written_is_drawn() -> None:
    replay = Replay(capacity=1_000_000, spec=SPEC)
    replay.add(numbered(1, 3))
    assert replay.size == 3
    drawn = replay.sample(np.random.default_rng(0), batches=2, batch_size=64)
    assert drawn.obs.shape == (2, 64, 3)
    assert drawn.terminated.shape == (2, 64)
    assert set(drawn.reward.ravel().tolist()) == {1.0, 2.0, 3.0}
    check_aligned(drawn)


def test_draws_are_uniform() -> None:
    replay = Replay(capacity=4, spec=SPEC)
    replay.add(numbered(0, 4))
    drawn = replay.sample(np.random.default_rng(0), batches=1, batch_size=40_000)
    counts = np.bincount(drawn.reward.ravel().astype(int))
    # Four standard deviations of a binomial with 40,000 draws and p = 1/4.
    assert np.abs(counts - 10_000).max() < 4 * np.sqrt(40_000 * 0.25 * 0.75)


def test_the_generator_decides_and_moves_on() -> None:
    replay = Replay(capacity=100, spec=SPEC)
    replay.add(numbered(0, 100))
    rng = np.random.default_rng(7)
    first, second = replay.sample(rng, 1, 32), replay.sample(rng, 1, 32)
    again = replay.sample(np.random.default_rng(7), 1, 32)
    assert np.array_equal(first.reward, again.reward)
    assert not np.array_equal(first.reward, second.reward)


def test_a_draw_is_a_copy() -> None:
    replay = Replay(capacity=1, spec=SPEC)
    replay.add(numbered(5, 1))
    drawn = replay.sample(np.random.default_rng(0), 1, 1)
    replay.add(numbered(6, 1))
    assert drawn.reward.tolist() == [[5.0]]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("obs", np.zeros((2, 4), np.float32), r"obs is float32\[2, 4\], .* float32\[2, 3\]"),
        ("action", np.zeros((2, 2)), r"action is float64\[2, 2\], .* float32\[2, 2\]"),
        ("terminated", np.zeros(2, np.float32), r"terminated is float32\[2\], .* bool\[2\]"),
        ("truncated", np.zeros(1, np.bool_), r"truncated is bool\[1\], .* bool\[2\]"),
        ("next_obs", np.zeros((1, 3), np.float32), r"next_obs is float32\[1, 3\]"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    field: str, value: np.ndarray, message: str
) -> None:
    replay = Replay(capacity=10, spec=SPEC)
    replay.add(numbered(0, 2))
    with pytest.raises(ValueError, match=message):
        replay.add(numbered(2, 2)._replace(**{field: value}))
    assert replay.size == 2
    check_aligned(replay.sample(np.random.default_rng(0), 1, 32))


def test_limits() -> None:
    with pytest.raises(ValueError, match="capacity of a replay must be at least 1, not 0"):
        Replay(capacity=0, spec=SPEC)
    with pytest.raises(ValueError, match="3 transitions do not fit into a replay of 2"):
        Replay(capacity=2, spec=SPEC).add(numbered(0, 3))
    with pytest.raises(ValueError, match="the replay is empty"):
        Replay(capacity=2, spec=SPEC).sample(np.random.default_rng(0), 1, 1)


@pytest.mark.parametrize("added", [0, 6, 10, 24])
def test_a_loaded_replay_draws_and_overwrites_what_the_original_would(
    added: int, tmp_path: Path
) -> None:
    original, loaded = Replay(capacity=10, spec=SPEC), Replay(capacity=10, spec=SPEC)
    for first in range(0, added, 2):
        original.add(numbered(first, 2))
    save_file(original.arrays(), tmp_path / "replay")
    loaded.load(load_file(tmp_path / "replay"))
    assert loaded.size == original.size == min(added, 10)
    for replay in (original, loaded):
        replay.add(numbered(added, 2))
    draws: list[Any] = [
        replay.sample(np.random.default_rng(1), 2, 50) for replay in (original, loaded)
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*draws, strict=True))


def test_arrays_of_another_replay_are_refused() -> None:
    full = Replay(capacity=10, spec=SPEC)
    full.add(numbered(0, 10))
    full.add(numbered(10, 4))
    with pytest.raises(ValueError, match="capacity 20 cannot continue"):
        Replay(capacity=20, spec=SPEC).load(full.arrays())
    other = Spec((4,), action_dim=2, episode_length=None)
    with pytest.raises(ValueError, match=r"obs is float32\[10, 3\]"):
        Replay(capacity=10, spec=other).load(full.arrays())
