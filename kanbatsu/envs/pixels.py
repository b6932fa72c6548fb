"""DeepMind Control tasks seen by a camera: the latest frames, stacked, in place of the state."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from kanbatsu.envs.dmc import ACTION_REPEAT, DMCEnvironment
from kanbatsu.envs.rendering import Renderer
from kanbatsu.envs.spec import TaskError, Timestep

PREFIX = "dmc-pixels/"
"""Beginning of the names of these tasks."""
SIZE = 84
"""Height and width of an image, in pixels, unless the task's name says another (DrQ-v2: 84)."""
FRAMES = 3
"""Frames in an observation (DrQ-v2: 3)."""
CAMERAS = {"quadruped": 2}
"""Camera by domain, where it is not the first: those of DrQ-v2 and of most work on these tasks."""
SMALLEST, LARGEST = 16, 512
"""Sizes of images that a name may ask for."""


class PixelTask(NamedTuple):
    """What the name of a task asks for."""

    task: str
    """Name of the task whose state is not shown: `dmc/<domain>-<task>`."""
    size: int
    plain: bool
    """Flag of images without shadows, reflections and smoothed edges."""


def read_task(name: str) -> PixelTask:
    """Read the name of a task.

    Args:
        name: `dmc-pixels/<domain>-<task>`, with options between: `dmc-pixels/48/<domain>-<task>`
            has images of 48 x 48 pixels, `dmc-pixels/plain/...` and `dmc-pixels/48-plain/...` have
            no shadows, reflections and smoothed edges.

    Raises:
        TaskError: the options are none of these.

    Example:
        >>> read_task("dmc-pixels/48-plain/walker-walk")
        PixelTask(task='dmc/walker-walk', size=48, plain=True)
    """
    options, _, task = name.removeprefix(PREFIX).rpartition("/")
    found = re.fullmatch(r"(\d+)?(?:(?:^|-)(plain))?", options)
    if options and (found is None or not found[0]):
        raise TaskError(
            f"{name}: {options!r} is no size of images. Write a number of pixels, plain, or both: "
            f"{PREFIX}48/{task}, {PREFIX}plain/{task}, {PREFIX}48-plain/{task}."
        )
    size = int(found[1]) if found and found[1] else SIZE
    if not SMALLEST <= size <= LARGEST:
        raise TaskError(
            f"{name}: images have {SMALLEST} to {LARGEST} pixels a side, not {size}. Those of the "
            f"published results have {SIZE}, which is what {PREFIX}{task} has."
        )
    return PixelTask(f"dmc/{task}", size, bool(found and found[2]))


class PixelEnvironment:
    """One task of the DeepMind Control suite, seen by its camera.

    An observation is uint8 `[size, size, 3 * frames]`: the latest frames in RGB, the oldest first,
    one for each interaction. An episode begins with its first frame, `frames` times.

    Args:
        task: see `read_task`.
        action_repeat: env steps per interaction, of which the last is drawn.

    Raises:
        TaskError: no such task, unbounded actions, or nothing to draw with.

    Reference:
        Tassa et al. 2018, "DeepMind Control Suite"; Yarats et al. 2021, "Mastering Visual
        Continuous Control: Improved Data-Augmented Reinforcement Learning", arXiv 2107.09645, for
        the settings.
    """

    frames = FRAMES
    """Frames along the last axis of an observation, each of which the next one shifts by one."""

    def __init__(self, task: str, action_repeat: int = ACTION_REPEAT) -> None:
        name, size, plain = read_task(task)
        self._inner = DMCEnvironment(name, action_repeat)
        domain = name.removeprefix("dmc/").partition("-")[0]
        camera = CAMERAS.get(domain, 0)
        self._renderer = Renderer(self._inner.model, size, camera, plain=plain)
        self.action_repeat = action_repeat
        self.spec = replace(self._inner.spec, obs_shape=(size, size, 3 * FRAMES), obs_dtype="uint8")

    def reset(self, seed: int) -> UInt8[np.ndarray, "size size channels"]:
        """Start the episode that belongs to `seed` and return its first observation."""
        self._inner.reset(seed)
        self._renderer.upload()
        self._stack = [self._renderer.render(self._inner.data)] * FRAMES
        return np.concatenate(self._stack, axis=-1)

    def step(self, action: Float[np.ndarray, " action_dim"]) -> Timestep:
        """Act once; the rewards of the repeated env steps add up."""
        timestep = self._inner.step(action)
        self._stack = [*self._stack[1:], self._renderer.render(self._inner.data)]
        return timestep._replace(obs=np.concatenate(self._stack, axis=-1))

    def close(self) -> None:
        """Let go of the simulator and of the renderer."""
        self._renderer.close()
        self._inner.close()
