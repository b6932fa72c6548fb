"""Pictures of a MuJoCo simulation on a machine without a display: EGL or OSMesa."""

from __future__ import annotations

import atexit
import ctypes.util
import functools
import os
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8

from kanbatsu.envs.spec import TaskError

BACKENDS = {"egl": "EGL", "osmesa": "OSMesa"}
"""Ways to draw without a display, by their names in MUJOCO_GL, and the library that each needs;
the first that is there is taken where MUJOCO_GL says nothing."""

ADVICE = (
    "On Debian and Ubuntu: apt-get install libegl1 (with MUJOCO_GL=egl, also on GPUs) or "
    "apt-get install libosmesa6 (with MUJOCO_GL=osmesa). kanbatsu doctor then names the renderer "
    "and its frames per second"
)
"""Advice to whoever has no renderer."""

Result = TypeVar("Result")


def backend() -> str:
    """Choose how to draw: what MUJOCO_GL says, or the first whose library is installed.

    Returns:
        `egl` or `osmesa`.

    Raises:
        TaskError: MUJOCO_GL asks for something else, or neither library is there.
    """
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    if asked and asked not in BACKENDS:
        raise TaskError(
            f"MUJOCO_GL={asked} draws nothing without a display: set it to egl or osmesa, or "
            f"unset it. {ADVICE}."
        )
    there = [name for name, library in BACKENDS.items() if ctypes.util.find_library(library)]
    if not there or (asked and asked not in there):
        missing = BACKENDS[asked] if asked else " or ".join(BACKENDS.values())
        raise TaskError(f"images need a renderer, and {missing} is not installed. {ADVICE}.")
    return asked or there[0]


class Renderer:
    """Draws one simulation as images of one size, seen by one of its cameras.

    It is the renderer of MuJoCo with its default settings, as dm_control calls it: the images are
    the same to the bit. A context of OpenGL belongs to a thread, so all drawing of a process is
    done in one.

    Args:
        model: `mujoco.MjModel`; its offscreen buffer gets the size of the images, for a larger
            one costs time and changes nothing.
        size: height and width of the images, in pixels.
        camera: number of the camera.
        plain: whether shadows, reflections and smoothed edges are left out, which software draws
            many times slower than all the rest.

    Raises:
        TaskError: there is nothing to draw with.
    """

    def __init__(self, model: Any, size: int, camera: int, *, plain: bool = False) -> None:
        self._model, self._size, self._camera, self._plain = model, size, camera, plain
        self._context_type = _context_type(backend())
        self._parts: Any = _in_thread(self._open)
        atexit.register(_free_at_exit, weakref.ref(self))

    def render(self, data: Any) -> UInt8[np.ndarray, "size size 3"]:
        """Draw the state that `data` (`mujoco.MjData`) is in."""
        return _in_thread(lambda: self._draw(data))

    def name(self) -> str:
        """Return the name of what draws, as OpenGL reports it."""
        return _in_thread(self._report)

    def upload(self) -> None:
        """Show the renderer a terrain that an episode has changed."""
        if self._model.nhfield:
            _in_thread(self._upload)

    def close(self) -> None:
        """Let go of the context; it may be called again."""
        _in_thread(self._close)

    def _open(self) -> Any:
        import mujoco

        vis = self._model.vis
        vis.global_.offwidth = vis.global_.offheight = self._size
        vis.quality.offsamples = 0 if self._plain else vis.quality.offsamples
        try:
            context = self._context_type(self._size, self._size)
        except Exception as error:  # the libraries raise whatever they like
            raise TaskError(f"the renderer does not start ({error}). {ADVICE}.") from error
        context.make_current()
        drawing = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_150.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, drawing)
        camera = mujoco.MjvCamera()
        camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, self._camera
        scene = mujoco.MjvScene(self._model, maxgeom=10_000)
        if self._plain:
            scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
            scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        return context, drawing, scene, mujoco.MjvOption(), camera

    def _draw(self, data: Any) -> UInt8[np.ndarray, "size size 3"]:
        import mujoco

        context, drawing, scene, option, camera = self._parts
        context.make_current()
        image = np.empty((self._size, self._size, 3), np.uint8)
        rectangle = mujoco.MjrRect(0, 0, self._size, self._size)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, option, None, camera, everything, scene)
        mujoco.mjr_render(rectangle, scene, drawing)
        mujoco.mjr_readPixels(image, None, rectangle, drawing)
        return np.ascontiguousarray(image[::-1])  # OpenGL begins at the bottom

    def _report(self) -> str:
        from OpenGL import GL  # type: ignore[import-untyped]

        self._parts[0].make_current()
        return str(GL.glGetString(GL.GL_RENDERER).decode())

    def _upload(self) -> None:
        import mujoco

        context, drawing, *_ = self._parts
        context.make_current()
        for field in range(self._model.nhfield):
            mujoco.mjr_uploadHField(self._model, drawing, field)

    def _close(self) -> None:
        if self._parts is None:
            return
        context, drawing, *_ = self._parts
        context.make_current()
        drawing.free()
        context.free()
        self._parts = None


def _free_at_exit(reference: weakref.ref[Renderer]) -> None:
    """Free a context that is still there, before the modules that could do so are gone."""
    renderer = reference()
    if renderer is not None and renderer._parts is not None:
        renderer._parts[0].free()
        renderer._parts = None


@functools.cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="renderer")


def _in_thread(work: Callable[[], Result]) -> Result:
    """Do something in the one thread that draws."""
    return _thread().submit(work).result()


def _context_type(name: str) -> Any:
    """Import the context of a backend; MuJoCo's own choice is made when it is first imported."""
    try:
        if name == "egl":
            from mujoco.egl import GLContext
        else:
            from mujoco.osmesa import GLContext
    except (ImportError, AttributeError) as error:
        raise TaskError(f"{BACKENDS[name]} cannot be loaded ({error}). {ADVICE}.") from error
    return GLContext


def measure(task: str = "dmc/cartpole-balance", size: int = 84, frames: int = 20) -> str:
    """Draw some frames of a task, and say with what and how fast.

    Args:
        task: `dmc/<domain>-<task>`.
        size: height and width of the images, in pixels.
        frames: how many are timed; the plain ones are timed apart.

    Returns:
        A line such as `egl, llvmpipe (LLVM 15.0.6, 256 bits): 60 frames per second at 84 x 84, 300
        plain`.

    Raises:
        TaskError: there is nothing to draw with.
    """
    from kanbatsu.envs.dmc import DMCEnvironment

    environment = DMCEnvironment(task)
    environment.reset(0)
    rates = []
    for plain in (False, True):
        renderer = Renderer(environment.model, size, camera=0, plain=plain)
        name = renderer.name()
        renderer.render(environment.data)  # the first one also compiles
        started = time.perf_counter()
        for _ in range(frames):
            renderer.render(environment.data)
        rates.append(round(frames / (time.perf_counter() - started)))
        renderer.close()
    return f"{backend()}, {name}: {rates[0]} frames per second at {size} x {size}, {rates[1]} plain"
