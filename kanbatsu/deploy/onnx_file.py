"""A policy as a dense ONNX model, for other runtimes; needs the package onnx when it is called."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from kanbatsu.deploy.functions import onnx_activation
from kanbatsu.deploy.layers import (
    Activate,
    Add,
    ChannelsLast,
    Choose,
    Clip,
    Conv,
    Layer,
    LayerNorm,
    Linear,
    Normalise,
    Remember,
    Squash,
    to_dense,
    width_after,
)

OPSET, IR_VERSION = 17, 8
"""The first opset with LayerNormalization, and the file format of its time."""


def to_onnx(layers: Sequence[Layer]) -> bytes:
    """Return a model of `observation [batch, obs_dim]` to `action [batch, action_dim]`.

    Both are float32; actions that are choices are int64.

    Pruned weights are stored as zeros.
    """
    import onnx
    from onnx import helper

    graph = _Graph()
    now = remembered = "observation"
    kind, floats = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT
    obs_dim = width = width_after(layers[0], 0)
    for layer in layers:
        match layer:
            case Normalise(mean, scale):
                now = graph.add("Div", graph.add("Sub", now, mean), scale)
            case Remember():
                remembered = now
            case Add():
                now = graph.add("Add", now, remembered)
            case ChannelsLast(channels, pixels):
                now = graph.reshaped(now, channels, pixels)
                now = graph.reshaped(graph.add("Transpose", now, perm=[0, 2, 1]), width)
            case Conv():
                now = graph.convolved(now, layer)
            case LayerNorm(scale, shift, epsilon):
                whole = scale.size == width
                now = now if whole else graph.reshaped(now, width // scale.size, scale.size)
                now = graph.add("LayerNormalization", now, scale, shift, epsilon=epsilon)
                now = now if whole else graph.reshaped(now, width)
            case Linear():
                now = graph.add("Gemm", now, to_dense(layer), layer.bias)
                now = graph.add("Relu", now) if layer.relu else now
            case Activate(function, alpha):
                now = onnx_activation(graph.add, function, now, alpha)
            case Clip(low, high):
                last, action_dim = layer is layers[-1], low.size
                now = graph.add("Max", now, low)
                now = graph.add("Min", now, high, output="action" if last else "")
            case Choose(sizes, starts):
                action_dim, kind = sizes.size, onnx.TensorProto.INT64
                graph.choose(now, sizes, starts)
            case Squash(low, _):
                action_dim = low.size
                moved = graph.add("Mul", graph.add("Tanh", now), layer.half)
                graph.add("Add", moved, layer.centre, output="action")
        width = width_after(layer, width)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "kanbatsu_policy",
            [helper.make_tensor_value_info("observation", floats, ["batch", obs_dim])],
            [helper.make_tensor_value_info("action", kind, ["batch", action_dim])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="kanbatsu",
    )
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


class _Graph:
    """Nodes and weights, named as they come."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def reshaped(self, x: str, *sizes: int) -> str:
        """Add the node that gives every row of a batch another shape."""
        return self.add("Reshape", x, np.array([-1, *sizes], np.int64))

    def convolved(self, x: str, layer: Conv) -> str:
        """Add the nodes of a convolution: ONNX lays images out channel by channel."""
        window = (layer.window, layer.window)
        kernel = to_dense(layer).reshape(*window, layer.channels, layer.outputs)
        image = self.reshaped(x, layer.height, layer.width, layer.channels)
        image = self.add("Transpose", image, perm=[0, 3, 1, 2])
        strides = [layer.stride, layer.stride]
        result = self.add("Conv", image, kernel.transpose(3, 2, 0, 1), layer.bias, strides=strides)
        result = self.add("Relu", result) if layer.relu else result
        return self.reshaped(self.add("Transpose", result, perm=[0, 2, 3, 1]), layer.features)

    def choose(self, scores: str, sizes: np.ndarray, starts: np.ndarray) -> None:
        """Add the nodes that number the largest score of each choice."""
        ends = np.cumsum(sizes).astype(np.int64)
        axis, chosen = np.array([1], np.int64), []
        for end, size, start in zip(ends, sizes, starts, strict=True):
            row = self.add("Slice", scores, np.array([end - size]), np.array([end]), axis)
            best = self.add("ArgMax", row, axis=1, keepdims=1)
            chosen.append(self.add("Add", best, np.array([start], np.int64)))
        self.add("Concat", *chosen, axis=1, output="action")

    def add(
        self,
        operation: str,
        *inputs: str | np.ndarray | np.generic,
        output: str = "",
        **attributes: Any,
    ) -> str:
        """Add a node and return the name of its output."""
        from onnx.helper import make_node

        name = output or f"x{len(self.nodes)}"
        names = [self._weight(item) if not isinstance(item, str) else item for item in inputs]
        self.nodes.append(make_node(operation, names, [name], **attributes))
        return name

    def _weight(self, array: np.ndarray | np.generic) -> str:
        from onnx.numpy_helper import from_array

        name = f"w{len(self.weights)}"
        self.weights.append(from_array(np.array(array, order="C"), name))
        return name


def run_onnx(model: bytes, observations: np.ndarray) -> tuple[np.ndarray, str]:
    """Compute a model's actions with ONNX Runtime, or else with ONNX's own reference, in numpy.

    Args:
        model: what `to_onnx` returned.
        observations: float32 `[batch, obs_dim]`.

    Returns:
        The actions, and which of the two computed them.
    """
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        by = f"onnxruntime {onnxruntime.__version__}"
    else:
        import onnx
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(onnx.load_model_from_string(model))
        by = f"onnx.reference {onnx.__version__}"
    (actions,) = session.run(None, {"observation": observations})
    return np.asarray(actions), by
