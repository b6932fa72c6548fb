"""The replay of images: stacks as they were, windows that end with their episode, and a stop."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kanbatsu.types import Spec, Transition
from kanbatsu.windows import WindowReplay

SPEC = Spec((2, 2, 3), action_dim=1, obs_dtype="uint8")
"""Three frames of one channel."""


def replay(capacity=100, environments=1, steps=3, discount=0.99):
    return WindowReplay(
        capacity, SPEC, environments=environments, frames=3, steps=steps, discount=discount
    )


def episodes(*lengths, start=0, terminated=()):
    """Interactions of episodes one after the other; frames and rewards carry their number.

    Frame `f` is an image of `f`s; rewards count interactions.
    """
    frame = number = start
    for episode, length in enumerate(lengths):
        first = frame
        for step in range(length):
            numbers = [max(first, frame + k) for k in (-2, -1, 0, 1)]
            stacks = np.array(numbers, np.uint8) * np.ones((2, 2, 4), np.uint8)
            ends = step == length - 1
            dies = episode in terminated
            yield Transition(
                obs=stacks[None, ..., :3],
                action=np.full((1, 1), number, np.float32),
                reward=np.full(1, number, np.float32),
                terminated=np.array([ends and dies]),
                truncated=np.array([ends and not dies]),
                next_obs=stacks[None, ..., 1:],
            )
            frame, number = frame + 1, number + 1
        frame += 1  # the last successor's


def filled(transitions, **settings):
    made = replay(**settings)
    for transition in transitions:
        made.add(transition)
    return made


def drawn(made, batches=1, batch_size=200, seed=0):
    window = made.sample(np.random.default_rng(seed), batches, batch_size)
    return [
        {name: values.reshape(-1, *values.shape[2:])[row] for name, values in fields.items()}
        for fields in [window._asdict()]
        for row in range(batches * batch_size)
    ]


def test_windows_of_three_rewards_and_their_discount_by_hand():
    made = filled(episodes(9, start=1))
    first = next(window for window in drawn(made) if window["action"] == 1.0)
    # 1 + 2 * 0.99 + 3 * 0.99^2, and 0.99^3.
    assert first["reward"] == pytest.approx(5.9203)
    assert first["discount"] == pytest.approx(0.970299)
    assert first["obs"][0, 0].tolist() == [1, 1, 1]
    assert first["next_obs"][0, 0].tolist() == [2, 3, 4]


def test_no_window_crosses_the_end_of_an_episode():
    made = filled(episodes(4, 5, 3, terminated=(1,)), discount=0.5)
    windows = {int(window["action"][0]): window for window in drawn(made)}
    assert sorted(windows) == list(range(12))

    def facts(number):
        window = windows[number]
        stacks = window["obs"][0, 0].tolist(), window["next_obs"][0, 0].tolist()
        return *stacks, float(window["reward"]), float(window["discount"])

    assert facts(0) == ([0, 0, 0], [1, 2, 3], 0 + 1 / 2 + 2 / 4, 1 / 8)
    # Cut off after interaction 3, whose successor is frame 4: shorter, and bootstrapped.
    assert facts(2) == ([0, 1, 2], [2, 3, 4], 2 + 3 / 2, 1 / 4)
    assert facts(3) == ([1, 2, 3], [2, 3, 4], 3.0, 1 / 2)
    # The next one begins with frame 5, three times, and terminates after interaction 8.
    assert facts(4) == ([5, 5, 5], [6, 7, 8], 4 + 5 / 2 + 6 / 4, 1 / 8)
    assert facts(7) == ([6, 7, 8], [8, 9, 10], 7 + 8 / 2, 0.0)
    assert facts(8) == ([7, 8, 9], [8, 9, 10], 8.0, 0.0)
    assert facts(9)[0] == [11, 11, 11]


def test_what_is_not_over_yet_is_bootstrapped_from_the_latest_observation():
    made = filled(list(episodes(9))[:5], discount=0.5)
    latest = next(window for window in drawn(made) if window["action"] == 4.0)
    assert (float(latest["reward"]), float(latest["discount"])) == (4.0, 0.5)
    assert latest["next_obs"][0, 0].tolist() == [3, 4, 5]


@pytest.mark.parametrize("lengths", [(30,), (7, 7, 7, 7, 7), (1,) * 30])
def test_the_oldest_go_first_and_what_is_left_is_as_it_was(lengths):
    made = filled(episodes(*lengths), capacity=12, steps=1)
    known = {int(t.action[0, 0]): t for t in episodes(*lengths)}
    seen = {int(window["action"][0]): window for window in drawn(made, batch_size=400)}
    count = len(known)
    assert sorted(seen) == list(range(count - made.size, count))
    assert made.size == 12 or len(lengths) > 1
    assert made.size >= 6  # episodes of one interaction need two frames each
    for number, window in seen.items():
        assert np.array_equal(window["obs"], known[number].obs[0])
        assert np.array_equal(window["next_obs"], known[number].next_obs[0])
        assert window["reward"] == number


def test_environments_do_not_mix():
    made = replay(environments=2, capacity=40, discount=0.5)
    pairs = zip(episodes(6, 9), episodes(4, 11, start=100), strict=True)
    for pair in pairs:
        made.add(Transition(*map(np.concatenate, zip(*pair, strict=True))))
    assert made.size == 30
    for window in drawn(made):
        both = np.concatenate([window["obs"].ravel(), window["next_obs"].ravel()])
        assert (both < 100).all() or (both >= 100).all()
        assert (window["action"][0] >= 100) == (both[0] >= 100)


@pytest.mark.parametrize("added", [0, 5, 30])
def test_a_loaded_replay_draws_and_overwrites_what_the_original_would(added: int, tmp_path: Path):
    stream = list(episodes(7, 7, 7, 7, 7))
    original, loaded = filled(stream[:added], capacity=12), replay(capacity=12)
    save_file(original.arrays(), tmp_path / "replay")
    loaded.load(load_file(tmp_path / "replay"))
    for one in (original, loaded):
        one.add(stream[added])
    assert original.size == loaded.size
    draws = [one.sample(np.random.default_rng(1), 2, 50) for one in (original, loaded)]
    assert all(np.array_equal(a, b) for a, b in zip(*draws, strict=True))
    if added:
        with pytest.raises(ValueError, match=r"this replay holds .*use the capacity, task and"):
            replay(capacity=24, environments=2).load(original.arrays())


def test_single_frames_take_a_sixth_of_what_stacks_do():
    transitions = list(episodes(100))
    stacks = sum(t.obs.nbytes + t.next_obs.nbytes for t in transitions)
    frames = filled(transitions, capacity=100).arrays()["frames"]
    assert frames.nbytes / stacks == pytest.approx(1 / 6, rel=0.02)


def test_what_would_not_be_rebuilt_is_refused_by_name():
    one, two, three = list(episodes(3))
    made = filled([one])
    with pytest.raises(ValueError, match="does not hold the 3 frames that the one before it led"):
        made.add(three)
    made.add(two)
    assert made.size == 2
    with pytest.raises(ValueError, match="3 frames that its episode begins with"):
        replay().add(two)
    with pytest.raises(ValueError, match=r"obs is uint8\[1, 2, 3, 3\].*uint8\[1, 2, 2, 3\]"):
        made.add(three._replace(obs=np.zeros((1, 2, 3, 3), np.uint8)))
    with pytest.raises(ValueError, match="cannot hold a transition of each of 3 environments"):
        replay(capacity=2, environments=3)
    with pytest.raises(ValueError, match="replay is empty"):
        drawn(replay())
