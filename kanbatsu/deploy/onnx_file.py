"""A policy as a dense ONNX model, for other runtimes; needs the package onnx when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kanbatsu.deploy.layers import (
    Add,
    Layer,
    LayerNorm,
    Linear,
    Normalise,
    Remember,
    Squash,
    to_dense,
)

OPSET, IR_VERSION = 17, 8
"""The first opset with LayerNormalization, and the file format of its time."""


def to_onnx(layers: Sequence[Layer]) -> bytes:
    """Return a model of `observation [batch, obs_dim]` to `action [batch, action_dim]`, float32.

    Pruned weights are stored as zeros.
    """
    import onnx
    from onnx import helper

    graph = _Graph()
    now = remembered = "observation"
    for layer in layers:
        match layer:
            case Normalise(mean, scale):
                obs_dim = mean.size
                now = graph.add("Div", graph.add("Sub", now, mean), scale)
            case Remember():
                remembered = now
            case Add():
                now = graph.add("Add", now, remembered)
            case LayerNorm(scale, shift, epsilon):
                now = graph.add("LayerNormalization", now, scale, shift, epsilon=epsilon)
            case Linear():
                now = graph.add("Gemm", now, to_dense(layer), layer.bias)
                now = graph.add("Relu", now) if layer.relu else now
            case Squash(low, _):
                action_dim = low.size
                moved = graph.add("Mul", graph.add("Tanh", now), layer.half)
                graph.add("Add", moved, layer.centre, output="action")
    kind = onnx.TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "kanbatsu_policy",
            [helper.make_tensor_value_info("observation", kind, ["batch", obs_dim])],
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

    def add(
        self, operation: str, *inputs: str | np.ndarray, output: str = "", **attributes: Any
    ) -> str:
        """Add a node and return the name of its output."""
        from onnx.helper import make_node

        name = output or f"x{len(self.nodes)}"
        names = [self._weight(item) if isinstance(item, np.ndarray) else item for item in inputs]
        self.nodes.append(make_node(operation, names, [name], **attributes))
        return name

    def _weight(self, array: np.ndarray) -> str:
        from onnx.numpy_helper import from_array

        name = f"w{len(self.weights)}"
        self.weights.append(from_array(np.ascontiguousarray(array), name))
        return name


def run_onnx(model: bytes, observations: np.ndarray) -> np.ndarray:
    """Compute a model's actions with ONNX's own reference, in numpy.

    Args:
        model: what `to_onnx` returned.
        observations: float32 `[batch, obs_dim]`.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(onnx.load_model_from_string(model))
    (actions,) = evaluator.run(None, {"observation": observations})
    return np.asarray(actions)
