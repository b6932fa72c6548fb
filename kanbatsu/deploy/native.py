"""A policy as a program of the compiled kernels: one call takes observations to actions."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from ctypes import c_float, c_int32, c_int64, c_void_p

import numpy as np

from kanbatsu.deploy.entry import PolicyError
from kanbatsu.deploy.functions import FUNCTIONS
from kanbatsu.deploy.layers import (
    Activate,
    Add,
    ChannelsLast,
    Choose,
    Clip,
    Conv,
    Dense,
    Grouped,
    Layer,
    LayerNorm,
    Linear,
    Normalise,
    Packed,
    Remember,
    Squash,
    width_after,
)
from kanbatsu.kernels.constants import GROUP_SIZES

NORMALISE, REMEMBER, ADD, LAYER_NORM, PACKED, GROUPED, SQUASH, ACTIVATE, CLIP, CHOOSE = range(10)
"""`Operation` in kernels/csrc/policy.cc."""


class Step(ctypes.Structure):
    """`Step` in kernels/csrc/policy.cc."""

    _fields_ = (
        ("operation", c_int32),
        ("relu", c_int32),
        *((name, c_int64) for name in ("inputs", "outputs", "groups", "kept", "size")),
        *((name, c_void_p) for name in ("first", "second", "starts", "sources")),
        ("epsilon", c_float),
    )


def has_images(layers: Sequence[Layer]) -> bool:
    """Return whether a policy sees images: the kernels have no convolution, numpy has."""
    return any(isinstance(layer, Conv | ChannelsLast) for layer in layers)


def knows(library: ctypes.CDLL, layers: Sequence[Layer]) -> bool:
    """Return whether kernels, which may be older than this file, know every layer."""
    newer = any(isinstance(layer, Activate | Clip | Choose) for layer in layers)
    return not newer or hasattr(library, "kanbatsu_policy_operations")


class _Single(threading.local):
    """One thread's arrays for a single observation, and the call that uses them.

    Addresses take longer to find than a small network to multiply, so they are found once.
    """

    def __init__(self, address: int, count: int, obs_dim: int, action_dim: int) -> None:
        self.obs = np.empty(obs_dim, np.float32)
        self.action = np.empty(action_dim, np.float32)
        self.call = (address, count, _address(self.obs), _address(self.action), 1)


class Program:
    """The policy as a function of observations; it runs on the thread that calls it.

    Args:
        library: the compiled kernels.
        layers: as `kanbatsu.deploy.files.read` returns them.

    Raises:
        PolicyError: if a weight names an input that does not exist.
    """

    def __init__(self, library: ctypes.CDLL, layers: Sequence[Layer]) -> None:
        # The steps hold addresses only: the arrays must live as long as they do.
        self._arrays: list[np.ndarray] = []
        steps: list[Step] = []
        width = width_after(layers[0], 0)
        for layer in layers:
            step = self._step(layer)
            step.inputs = width
            width = step.outputs = width_after(layer, width)
            steps.append(step)
        self._steps, self._count = (Step * len(steps))(*steps), len(steps)
        self._address = ctypes.addressof(self._steps)
        self._action_dim = width
        self._single = _Single(self._address, self._count, steps[0].inputs, width)
        self._run = library.kanbatsu_policy_run
        self._run.argtypes = (c_void_p, c_int64, c_void_p, c_void_p, c_int64)
        check = library.kanbatsu_policy_check
        check.argtypes, check.restype = (c_void_p, c_int64), c_int64
        wrong = check(self._steps, self._count)
        if wrong >= 0:
            raise PolicyError(f"layer {wrong} names an input that does not exist")

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Map contiguous float32 `[batch, obs_dim]` to float32 `[batch, action_dim]`."""
        batch = len(obs)
        actions = np.empty((batch, self._action_dim), np.float32)
        if self._run(self._address, self._count, _address(obs), _address(actions), batch):
            raise MemoryError(f"there is no memory for a batch of {batch}")
        return actions

    def one(self, observation: np.ndarray) -> np.ndarray:
        """Map numbers `[obs_dim]`, in any order in memory, to float32 `[action_dim]`."""
        single = self._single
        single.obs[:] = observation
        if self._run(*single.call):
            raise MemoryError("there is no memory for one observation")
        return single.action.copy()

    def _step(self, layer: Layer) -> Step:
        match layer:
            case Normalise(mean, scale):
                return Step(NORMALISE, first=self._keep(mean), second=self._keep(scale))
            case Remember():
                return Step(REMEMBER)
            case Add():
                return Step(ADD)
            case LayerNorm(scale, shift, epsilon):
                first, second = self._keep(scale), self._keep(shift)
                return Step(LAYER_NORM, first=first, second=second, epsilon=epsilon)
            case Linear():
                return self._linear(layer)
            case Activate(function, alpha):
                return Step(ACTIVATE, FUNCTIONS.index(function), epsilon=alpha)
            case Clip(low, high):
                return Step(CLIP, first=self._keep(low), second=self._keep(high))
            case Choose(sizes):
                return Step(CHOOSE, groups=sizes.size, starts=self._keep(sizes))
            case Squash():
                return Step(SQUASH, first=self._keep(layer.centre), second=self._keep(layer.half))
            case ChannelsLast() | Conv():
                raise PolicyError("the compiled kernels have no convolution")

    def _linear(self, layer: Linear) -> Step:
        weight = _grouped(layer.weight) if isinstance(layer.weight, Dense) else layer.weight
        step = Step(relu=layer.relu, first=self._keep(weight.values), second=self._keep(layer.bias))
        step.sources = self._keep(weight.sources)
        if isinstance(weight, Packed):
            step.operation, step.kept = PACKED, weight.values.size
            step.starts = self._keep(weight.starts)
        else:
            step.operation = GROUPED
            step.groups, step.kept, step.size = weight.values.shape
        return step

    def _keep(self, array: np.ndarray) -> int:
        """Return the address of an array, and keep it alive."""
        self._arrays.append(np.ascontiguousarray(array))
        return self._arrays[-1].ctypes.data


def _address(array: np.ndarray) -> int:
    """Address of an array's first number; `array.ctypes` takes three times as long to say it."""
    address: int = array.__array_interface__["data"][0]
    return address


def _grouped(weight: Dense) -> Grouped:
    """Every weight, as groups of outputs that keep every input; the last one padded with zeros."""
    inputs, outputs = weight.values.shape
    size = next((size for size in GROUP_SIZES if size >= outputs), GROUP_SIZES[-1])
    groups = -(-outputs // size)
    padded = np.zeros((inputs, groups * size), np.float32)
    padded[:, :outputs] = weight.values
    sources = np.tile(np.arange(inputs, dtype=np.int32), (groups, 1))
    return Grouped(padded.reshape(inputs, groups, size).transpose(1, 0, 2), sources)
