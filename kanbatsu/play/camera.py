"""A camera in a simulator of MuJoCo, on a machine with or without a display."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kanbatsu.envs.spec import TaskError

BACKENDS = ("egl", "osmesa")
"""Ways of drawing without a display, the faster one first."""
CHOICE = "MUJOCO_GL"
"""Variable that names the way of drawing, for MuJoCo and for this."""
PATIENCE = 60
"""Seconds after which a way of drawing that does not answer is given up."""
TRIAL = "import mujoco.{0}; c = mujoco.{0}.GLContext(8, 8); c.make_current(); c.free()"


class Camera:
    """Takes pictures of a simulator.

    Args:
        model: MuJoCo's model; its first camera is used, or a free one where it has none.
        data: state of the simulator.
        size: width and height, in pixels.

    Raises:
        TaskError: nothing draws on this machine; the message says what to install.
    """

    def __init__(self, model: Any, data: Any, size: tuple[int, int]) -> None:
        import mujoco

        self._mujoco, self._model, self._data, self._size = mujoco, model, data, size
        self._context = context(size)
        self._context.make_current()
        model.vis.global_.offwidth = max(size[0], model.vis.global_.offwidth)
        model.vis.global_.offheight = max(size[1], model.vis.global_.offheight)
        self._renderer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._renderer)
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        self._view = mujoco.MjvCamera()
        if model.ncam:
            self._view.type, self._view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED.value, 0
        else:
            mujoco.mjv_defaultFreeCamera(model, self._view)

    def take(self) -> UInt8[np.ndarray, "height width 3"]:
        """Return a picture of this moment."""
        mujoco, (width, height) = self._mujoco, self._size
        self._context.make_current()
        mujoco.mjv_updateScene(
            self._model,
            self._data,
            mujoco.MjvOption(),
            None,
            self._view,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        whole, pixels = mujoco.MjrRect(0, 0, width, height), np.empty((height, width, 3), np.uint8)
        mujoco.mjr_render(whole, self._scene, self._renderer)
        mujoco.mjr_readPixels(pixels, None, whole, self._renderer)
        return pixels[::-1].copy()  # OpenGL counts rows from below

    def close(self) -> None:
        """Let go of the renderer and of its context."""
        self._renderer.free()
        self._context.free()


def context(size: tuple[int, int]) -> Any:
    """Return an OpenGL context without a display.

    Raises:
        TaskError: there is none on this machine.
    """
    return importlib.import_module(f"mujoco.{backend()}").GLContext(*size)


@cache
def backend() -> str:
    """Return the way of drawing that works here: what `MUJOCO_GL` names, else the first that does.

    Each is tried in a process of its own: OpenGL can be bound once in a process.

    Raises:
        TaskError: none does.
    """
    chosen = os.environ.get(CHOICE, "").lower()
    faults = {}
    for name in (chosen,) if chosen in BACKENDS else BACKENDS:
        if (fault := _fault_of(name)) is None:
            return name
        faults[name] = fault
    listed = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
    raise TaskError(
        f"MuJoCo cannot draw on this machine ({listed}). Install one of the two that draw without "
        "a display, apt-get install libegl1 libgl1-mesa-dri or apt-get install libosmesa6, and "
        f"name it with {CHOICE}=egl or {CHOICE}=osmesa if both are there; without --video "
        "nothing is drawn"
    )


def _fault_of(name: str) -> str | None:
    """Say why a way of drawing does not work in a process of its own; None where it does."""
    # What PyOpenGL was bound to in this process says nothing about the trial's.
    surroundings = {key: x for key, x in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRIAL.format(name)],
            env=surroundings | {CHOICE: name, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {PATIENCE} seconds"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
