"""Side by side: seeds, automatic reset, faults that say when, and exact resume."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kanbatsu.envs.make import make
from kanbatsu.envs.spec import Timestep
from kanbatsu.envs.vector import EnvironmentFault, Episode, VectorEnvironment, episode_seed
from kanbatsu.types import Spec


class Counting:
    """Observes `[seed, interactions so far]` and is paid the latter; ends after three."""

    action_repeat = 2
    spec = Spec((2,), action_dim=1, episode_length=3)

    def __init__(self, terminates: bool = True, offset: float = 0.0) -> None:
        self.terminates, self.offset = terminates, offset
        self.seeds: list[int] = []
        self.count = 0

    def reset(self, seed: int) -> np.ndarray:
        self.seeds.append(seed)
        self.count = 0
        return self.observe()

    def step(self, action: np.ndarray) -> Timestep:
        self.count += 1
        last = self.count == 3
        return Timestep(
            self.observe(),
            float(self.count),
            last and self.terminates,
            last and not self.terminates,
            success=last,
        )

    def observe(self) -> np.ndarray:
        return np.array([self.seeds[-1] % 1000 + self.offset, self.count], np.float32)

    def close(self) -> None:
        self.seeds.append(-1)


class Faulty(Counting):
    """Counts, but from the given interaction on returns what it must not."""

    def __init__(self, at: int, obs: Sequence[float] = (0.0, 0.0), reward: float = 0.0) -> None:
        super().__init__()
        self.at, self.bad = at, Timestep(np.array(obs, np.float32), reward, False, False)

    def step(self, action: np.ndarray) -> Timestep:
        timestep = super().step(action)
        return self.bad if self.count == self.at else timestep


ZERO = np.zeros((2, 1), np.float32)


def test_an_ended_episode_gives_its_true_successor_and_the_next_beginning() -> None:
    vector = VectorEnvironment([Counting(), Counting(terminates=False)], seed=1)
    cues = [[episode_seed(1, env, number) % 1000 for number in range(2)] for env in range(2)]
    assert vector.reset().tolist() == [[cues[0][0], 0], [cues[1][0], 0]]
    for count in (1, 2):
        step = vector.step(ZERO)
        assert step.obs.tolist() == [[cues[0][0], count], [cues[1][0], count]]
        assert np.array_equal(step.obs, step.next_obs)
        assert step.episodes == ()
    step = vector.step(ZERO)
    assert step.next_obs.tolist() == [[cues[0][0], 3], [cues[1][0], 3]]
    assert step.obs.tolist() == [[cues[0][1], 0], [cues[1][1], 0]]
    assert step.reward.tolist() == [3.0, 3.0]
    assert step.terminated.tolist() == [True, False]
    assert step.truncated.tolist() == [False, True]
    assert step.episodes == (Episode(6.0, 3, True), Episode(6.0, 3, True))


def test_what_a_step_returned_does_not_change_later() -> None:
    vector = VectorEnvironment([Counting(), Counting()], seed=0)
    first = vector.reset()
    step = vector.step(ZERO)
    before = [array.copy() for array in step[:5]]
    vector.step(ZERO)
    assert first[:, 1].tolist() == [0.0, 0.0]
    assert all(np.array_equal(array, copy) for array, copy in zip(step[:5], before, strict=True))


def test_every_episode_has_its_own_seed_and_reset_starts_over() -> None:
    environments = [Counting(), Counting()]
    vector = VectorEnvironment(environments, seed=5)
    vector.reset()
    for _ in range(9):
        vector.step(ZERO)
    seeds = [seed for environment in environments for seed in environment.seeds]
    assert len(set(seeds)) == 8
    vector.reset()
    assert environments[1].seeds[-1] == environments[1].seeds[0] == episode_seed(5, 1, 0)


def test_close_closes_every_environment() -> None:
    environments = [Counting(), Counting()]
    VectorEnvironment(environments, seed=0).close()
    assert [environment.seeds for environment in environments] == [[-1], [-1]]


@pytest.mark.parametrize(
    ("faulty", "what"),
    [
        (Faulty(2, obs=(0.0, np.nan)), "returned an observation whose entry 1 is nan"),
        (Faulty(2, obs=(np.inf, 0.0)), "returned an observation whose entry 0 is inf"),
        (
            Faulty(2, obs=(0.0, 0.0, 0.0)),
            r"returned an observation of shape \(3,\) instead of \(2,\)",
        ),
        (Faulty(2, reward=np.nan), "returned the reward nan"),
        (Faulty(2, reward=1e39), r"returned the reward 1e\+39"),
    ],
)
def test_a_fault_names_the_environment_the_step_and_the_value(faulty: Faulty, what: str) -> None:
    vector = VectorEnvironment([Counting(), faulty], seed=0)
    vector.reset()
    vector.step(ZERO)
    # Two environments, two interactions each, two env steps per interaction.
    when = r" at env step 8 \(interaction 4; number 2 of its episode 0, seed "
    with pytest.raises(EnvironmentFault, match=rf"^environment 1 {what}{when}"):
        vector.step(ZERO)


def test_a_crash_is_a_fault_that_keeps_its_cause() -> None:
    vector = VectorEnvironment([Counting()], seed=0)
    vector.reset()

    def crash(action: np.ndarray) -> Timestep:
        raise KeyError("gripper")

    vector._environments[0].step = crash
    with pytest.raises(EnvironmentFault, match=r"crashed in step: KeyError\('gripper'\)") as caught:
        vector.step(ZERO[:1])
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_bad_first_observation_is_a_fault() -> None:
    vector = VectorEnvironment([Counting(offset=np.nan)], seed=0)
    with pytest.raises(EnvironmentFault, match="entry 0 is nan at env step 0"):
        vector.reset()


def test_environments_must_agree() -> None:
    with pytest.raises(ValueError, match="at least one"):
        VectorEnvironment([], seed=0)
    with pytest.raises(ValueError, match="must be of one task"):
        VectorEnvironment([Counting(), make("gym/Pendulum-v1")], seed=0)
    with pytest.raises(ValueError, match="must not be negative"):
        VectorEnvironment([Counting()], seed=-1)


@pytest.mark.parametrize(
    ("task", "before", "after"),
    [("dmc/walker-walk", 510, 20), ("gym/Pendulum-v1", 450, 160), ("dmc/cartpole-balance", 0, 5)],
)
def test_a_restored_run_goes_on_bit_for_bit(
    task: str, before: int, after: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    original = VectorEnvironment([make(task), make(task)], seed=3)
    actions = rng.uniform(-1, 1, (before + after, 2, original.spec.action_dim)).astype(np.float32)
    obs = original.reset()
    for action in actions[:before]:
        obs = original.step(action).obs
    save_file(original.snapshot(), tmp_path / "snapshot")

    restored = VectorEnvironment([make(task), make(task)], seed=3)
    resumed = restored.restore(load_file(tmp_path / "snapshot"))
    assert np.array_equal(resumed, obs)
    for action in actions[before:]:
        expected, actual = original.step(action), restored.step(action)
        assert expected.episodes == actual.episodes
        assert all(np.array_equal(a, b) for a, b in zip(expected[:5], actual[:5], strict=True))
    left, right = original.snapshot(), restored.snapshot()
    assert all(np.array_equal(left[name], right[name]) for name in left)


def test_an_environment_that_does_not_repeat_itself_starts_afresh() -> None:
    original = VectorEnvironment([Counting(), Counting()], seed=3)
    original.reset()
    original.step(ZERO)
    changed = VectorEnvironment([Counting(), Counting(offset=0.5)], seed=3)
    with pytest.warns(RuntimeWarning, match="environment 1 did not repeat episode 0"):
        obs = changed.restore(original.snapshot())
    assert obs[0].tolist() == [episode_seed(3, 0, 0) % 1000, 1]
    assert obs[1].tolist() == [episode_seed(3, 1, 1) % 1000 + 0.5, 0]
    assert changed.snapshot()["length"].tolist() == [1, 0]


def test_a_snapshot_of_other_environments_is_refused() -> None:
    vector = VectorEnvironment([Counting()], seed=3)
    vector.reset()
    with pytest.raises(ValueError, match=r"seed 3, not .* seed 4"):
        VectorEnvironment([Counting()], seed=4).restore(vector.snapshot())
    with pytest.raises(ValueError, match=r"observations \(1, 2\)"):
        VectorEnvironment([Counting(), Counting()], seed=3).restore(vector.snapshot())
