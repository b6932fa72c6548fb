"""One layer, as every contender of rivals.py holds and multiplies it."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import optax
import scipy.sparse
import torch
from flax import linen
from onnx import TensorProto, helper
from torch import nn

import kanbatsu
import kanbatsu.torch
from kanbatsu.flax import packed, to_kept
from kanbatsu.kernels.library import set_threads
from kanbatsu.machine import usable_cores
from kanbatsu.sparsity.pattern import draw
from kanbatsu.sparsity.weight import Grouped, Packed, affine

PHASES = ("forward", "backward", "step")
Call = Callable[[], object]


@dataclass(frozen=True)
class Layer:
    """A layer of `inputs` and `outputs`, and the batch that it is given."""

    inputs: int
    outputs: int
    sparsity: float
    batch: int

    @property
    def x(self) -> np.ndarray:
        """Inputs, `[batch, inputs]`."""
        rng = np.random.default_rng(1)
        return rng.normal(size=(self.batch, self.inputs)).astype(np.float32)

    @property
    def weight(self) -> np.ndarray:
        """The dense weight, `[inputs, outputs]`."""
        rng = np.random.default_rng(0)
        return rng.normal(size=(self.inputs, self.outputs)).astype(np.float32)

    def mask(self, pattern: str) -> np.ndarray:
        """Draw a mask; both patterns keep as many weights."""
        kept = round((1 - self.sparsity) * self.inputs) * self.outputs
        return draw(jax.random.key(0), (self.inputs, self.outputs), kept, pattern)


@dataclass(frozen=True)
class Contender:
    """A call of one contender, and what it holds while it trains, in bytes."""

    call: Call
    bytes: int


def limit_threads(threads: int) -> None:
    """Let this process use so many cores, before any library has made its threads."""
    os.sched_setaffinity(0, usable_cores()[:threads])
    torch.set_num_threads(threads)
    set_threads(threads)


def contenders_of(layer: Layer, phase: str) -> dict[str, Contender]:
    """Make every contender that can do a phase: the dense ones first."""
    made = {"dense torch": _torch(nn.Linear(layer.inputs, layer.outputs), layer, phase)}
    made["dense xla"] = _jax(_dense_xla(layer), layer, phase)
    for pattern in ("element", "grouped"):
        mask = layer.mask(pattern)
        made[f"kanbatsu {pattern}"] = _jax(_native(layer, mask, pattern), layer, phase)
        made[f"kanbatsu flax {pattern}"] = _jax(_flax(layer, mask), layer, phase)
        module = nn.Linear(layer.inputs, layer.outputs)
        kanbatsu.torch.prune(module, layer.sparsity, seed=0, pattern=pattern, compute="packed")
        made[f"kanbatsu torch {pattern}"] = _torch(module, layer, phase)
    made |= _rivals(layer, phase)
    return made


def _rivals(layer: Layer, phase: str) -> dict[str, Contender]:
    """The contenders that are neither dense nor ours."""
    rivals = {}
    if importlib.util.find_spec("sparselab"):
        module = _sparselab(layer.inputs, layer.outputs, layer.sparsity)
        rivals["sparselab"] = _torch(module, layer, phase)
    if phase == "forward":
        rivals["scipy csr"] = _scipy(layer)
        rivals["onnxruntime dense"] = _onnx(layer)
    if phase in ("forward", "backward"):
        rivals["torch csr"] = _torch_csr(layer, phase)
    return rivals


@functools.cache
def _sparselab(inputs: int, outputs: int, sparsity: float) -> nn.Module:
    """A layer of SparseLab, which lives on: 0.2.2 caches transposes by the `id` of a layer."""
    from sparselab import SparseLinear

    module: nn.Module = SparseLinear(inputs, outputs, sparsity=sparsity)
    return module


def _dense_xla(layer: Layer) -> tuple[Callable[..., Any], Any, int]:
    params = {"kernel": jnp.asarray(layer.weight), "bias": jnp.zeros(layer.outputs)}
    return lambda p, x: x @ p["kernel"] + p["bias"], params, 0


def _native(layer: Layer, mask: np.ndarray, pattern: str) -> tuple[Callable[..., Any], Any, int]:
    weight: Any
    if pattern == "grouped":
        weight = Grouped.of(layer.weight, mask, group_size=16)
    else:
        weight = Packed.of(layer.weight, mask)
    places = sum(array.nbytes for array in weight.structure)

    def apply(params: Any, x: jax.Array) -> jax.Array:
        held = replace(weight, values=params["values"])
        return affine(x, held, params["bias"], relu=False)

    return apply, {"values": weight.values, "bias": jnp.zeros(layer.outputs)}, places


def _flax(layer: Layer, mask: np.ndarray) -> tuple[Callable[..., Any], Any, int]:
    params = {"kernel": jnp.asarray(layer.weight), "bias": jnp.zeros(layer.outputs)}
    masks = {"kernel": jnp.asarray(mask), "bias": None}
    apply = packed(linen.Dense(layer.outputs), masks, compute="packed", storage="kept")
    places = apply.places.values()  # type: ignore[attr-defined]
    structures = [matrix.structure for each in places for matrix in each.matrices]
    held = sum(array.nbytes for array in jax.tree.leaves(structures))
    return lambda p, x: apply({"params": p}, x), to_kept(params, masks), held


def _jax(made: tuple[Callable[..., Any], Any, int], layer: Layer, phase: str) -> Contender:
    """A contender of JAX: its `apply`, its parameters, and the bytes of its places."""
    apply, params, places = made
    x, optimizer = jnp.asarray(layer.x), optax.adam(1e-3)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(params)) * 4 + places

    def gradients(params: Any, x: jax.Array) -> Any:
        return jax.grad(lambda p, x: (apply(p, x) ** 2).sum(), argnums=(0, 1))(params, x)

    def step(params: Any, state: Any, x: jax.Array) -> Any:
        updates, state = optimizer.update(gradients(params, x)[0], state, params)
        return optax.apply_updates(params, updates), state

    if phase != "step":
        function = jax.jit(apply if phase == "forward" else gradients)
        return Contender(lambda: jax.block_until_ready(function(params, x)), held)
    stepped = jax.jit(step, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.array, params)
    carry = [(params, optimizer.init(params))]

    def once() -> None:
        carry[0] = jax.block_until_ready(stepped(*carry[0], x))

    return Contender(once, held)


def _torch(module: nn.Module, layer: Layer, phase: str) -> Contender:
    """A contender of PyTorch: a module with Adam, fused."""
    x = torch.from_numpy(layer.x).requires_grad_(phase == "backward")
    parameters = list(module.parameters())
    optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)
    held = sum(p.numel() * p.element_size() for p in parameters) * 4 + _places_of(module)

    def forward() -> None:
        with torch.no_grad():
            module(x)

    def backward() -> None:
        for tensor in (x, *parameters):
            tensor.grad = None
        (module(x) ** 2).sum().backward()

    def step() -> None:
        backward()
        optimizer.step()

    return Contender({"forward": forward, "backward": backward, "step": step}[phase], held)


def _places_of(module: nn.Module) -> int:
    """Bytes of what says where weights belong: a mask, or SparseLab's indices."""
    buffers = sum(b.numel() * b.element_size() for b in module.buffers())
    csr = getattr(module, "_csr", None)
    if csr is None:
        return buffers
    arrays = (np.asarray(getattr(csr, name)) for name in ("col_indices", "row_start"))
    return buffers + sum(array.nbytes for array in arrays)


def _csr(layer: Layer) -> scipy.sparse.csr_matrix:
    weight = np.where(layer.mask("element"), layer.weight, 0.0).T
    return scipy.sparse.csr_matrix(weight.astype(np.float32))


def _scipy(layer: Layer) -> Contender:
    weight, x = _csr(layer), np.ascontiguousarray(layer.x.T)
    return Contender(lambda: weight @ x, weight.data.nbytes + weight.indices.nbytes)


def _torch_csr(layer: Layer, phase: str) -> Contender:
    """A CSR weight of PyTorch, multiplied by MKL; gradients by the products that are theirs."""
    weight = _csr(layer)

    def tensor_of(csr: scipy.sparse.csr_matrix) -> torch.Tensor:
        parts = (csr.indptr.astype(np.int64), csr.indices.astype(np.int64), csr.data)
        return torch.sparse_csr_tensor(*map(torch.from_numpy, parts), size=csr.shape)

    kept, back = tensor_of(weight), tensor_of(weight.T.tocsr())
    x, nothing = torch.from_numpy(np.ascontiguousarray(layer.x.T)), torch.zeros_like(kept)
    xt = torch.from_numpy(layer.x)

    def forward() -> torch.Tensor:
        return kept @ x

    def backward() -> None:
        dy = 2 * forward()
        torch.mm(back, dy)
        torch.sparse.sampled_addmm(nothing, dy, xt, beta=0.0)
        dy.sum(1)

    held = weight.data.nbytes * 4 + 8 * weight.indices.size * 2
    return Contender(forward if phase == "forward" else backward, held)


def _onnx(layer: Layer) -> Contender:
    """A dense product of ONNX Runtime."""
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "layer",
        [helper.make_tensor_value_info("x", floats, ["batch", layer.inputs])],
        [helper.make_tensor_value_info("y", floats, ["batch", layer.outputs])],
        [
            onnx.numpy_helper.from_array(layer.weight, "w"),
            onnx.numpy_helper.from_array(np.zeros(layer.outputs, np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(usable_cores())
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = {"x": layer.x}
    return Contender(lambda: session.run(None, x), layer.weight.nbytes)
