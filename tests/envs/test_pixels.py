"""Images of DeepMind Control: names, frames and their order, equal episodes, and what draws."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from kanbatsu.envs import rendering
from kanbatsu.envs.make import make
from kanbatsu.envs.pixels import FRAMES, PixelEnvironment, PixelTask, read_task
from kanbatsu.envs.rendering import backend
from kanbatsu.envs.spec import TaskError, Timestep
from kanbatsu.envs.vector import EnvironmentFault, VectorEnvironment
from kanbatsu.types import Spec

TASK = "dmc-pixels/16-plain/cartpole-balance"


def is_drawn() -> bool:
    """Whether this machine can draw at all."""
    try:
        backend()
    except TaskError:
        return False
    return True


needs_renderer = pytest.mark.skipif(not is_drawn(), reason="neither EGL nor OSMesa is installed")


@needs_renderer
def test_an_observation_is_the_latest_frames_and_an_episode_begins_with_its_first():
    environment = make(TASK, images=True)
    assert environment.spec == Spec((16, 16, 9), 1, episode_length=500, obs_dtype="uint8")
    assert environment.action_repeat == 2
    first = environment.reset(seed=3)
    frames = np.split(first, FRAMES, axis=-1)
    assert all(np.array_equal(frame, frames[0]) for frame in frames)
    seen = [first, *(environment.step(np.ones(1)).obs for _ in range(25))]
    for before, after in itertools.pairwise(seen):
        assert after.dtype == np.uint8
        assert np.array_equal(after[..., :-3], before[..., 3:])
    assert not np.array_equal(seen[-1][..., -3:], frames[0])
    assert np.array_equal(environment.reset(seed=3), first)
    assert not np.array_equal(environment.reset(seed=4), first)
    environment.close()
    environment.close()


DRAWN_BY_DM_CONTROL = """
import numpy as np
from dm_control import suite
from kanbatsu.envs.dmc import DMCEnvironment
from kanbatsu.envs.pixels import PixelEnvironment
ours, physics = PixelEnvironment("dmc-pixels/32/walker-walk"), None
theirs = suite.load("walker", "walk", task_kwargs={"random": 0})
theirs.task.random.seed(5)
theirs.reset()
assert (ours.reset(5)[..., :3] == theirs.physics.render(32, 32, camera_id=0)).all()
"""


@pytest.mark.slow
@needs_renderer
def test_images_are_those_of_dm_control_to_the_bit():
    command = [sys.executable, "-c", DRAWN_BY_DM_CONTROL]
    environment = {"MUJOCO_GL": backend(), "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_name_says_size_and_manner():
    assert read_task("dmc-pixels/dog-run") == PixelTask("dmc/dog-run", 84, plain=False)
    assert read_task("dmc-pixels/64/dog-run") == PixelTask("dmc/dog-run", 64, plain=False)
    assert read_task("dmc-pixels/plain/dog-run") == PixelTask("dmc/dog-run", 84, plain=True)
    with pytest.raises(TaskError, match=r"'large' is no size of images.*dmc-pixels/48/dog-run"):
        read_task("dmc-pixels/large/dog-run")
    with pytest.raises(TaskError, match="16 to 512 pixels a side, not 4"):
        read_task("dmc-pixels/4/dog-run")


def test_an_agent_for_vectors_is_refused_before_anything_is_drawn():
    with pytest.raises(TaskError, match=r"shows images.*such as drqv2.*dmc/walker-walk"):
        make("dmc-pixels/walker-walk")


def test_without_a_renderer_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    with pytest.raises(TaskError, match=r"MUJOCO_GL=disabled draws nothing.*egl or osmesa"):
        PixelEnvironment(TASK)
    monkeypatch.setattr(rendering.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(TaskError, match=r"OSMesa is not installed.*apt-get install libosmesa6"):
        PixelEnvironment(TASK)
    monkeypatch.delenv("MUJOCO_GL")
    with pytest.raises(TaskError, match=r"EGL or OSMesa is not installed.*kanbatsu doctor"):
        PixelEnvironment(TASK)


class Growing:
    """Images that change their shape."""

    spec, action_repeat = Spec((4, 4, 3), 1, obs_dtype="uint8"), 1

    def reset(self, seed):
        return np.zeros((4, 5, 3), np.uint8)

    def step(self, action):
        return Timestep(self.reset(0), 0.0, False, False)

    def close(self):
        pass


def test_frames_that_change_shape_are_refused():
    with pytest.raises(EnvironmentFault, match=r"shape \(4, 5, 3\) instead of \(4, 4, 3\)"):
        VectorEnvironment([Growing()], seed=0).reset()
