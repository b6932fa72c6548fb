"""Products with pruned kernels that stay dense arrays: on CPUs they touch kept weights only.

The parameter is the user's own: optimizers, checkpoints and targets see the array that they always
saw. Its kept values are gathered for a product, kanbatsu's kernels multiply by them, and the
gradient is what is scattered back, into zeros.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Bool, Float, Int

from kanbatsu.kernels.constants import MOST_FEATURES
from kanbatsu.kernels.layouts import LAYOUTS
from kanbatsu.kernels.products import add_bias, affine, product
from kanbatsu.sparsity.packed import Grouped, Packed
from kanbatsu.sparsity.pattern import group_size_of
from kanbatsu.sparsity.worth import is_worth_packing

FEWEST_SAMPLES = {"packed": 32, "grouped": 2}
"""From how many on packed products are faster than dense ones, by layout: to gather the kept values
takes as long for one sample as for a batch (the layers of benchmarks/flax_step.py)."""


@dataclass(frozen=True, eq=False, repr=False)
class GatheredProduct:
    """`x W`, or `x W + bias`, of a kernel `[inputs, outputs]` of which a mask keeps a part.

    Example:
        >>> kernel, mask = jnp.ones((2, 2)), np.array([[True, False], [True, True]])
        >>> GatheredProduct.of(mask)(jnp.array([1.0, 10.0]), kernel, jnp.zeros(2))
        Array([11., 10.], dtype=float32)
    """

    weight: Packed | Grouped
    """Weight that says where the kept ones lie; its own values are not read."""
    at: Int[np.ndarray, "..."]
    """The place of each of its values in the kernel, row after row, or beyond the end."""

    @classmethod
    def of(cls, mask: Bool[np.ndarray, "inputs outputs"]) -> GatheredProduct:
        """Find the layout of a mask: grouped where it is of that pattern, else weight by weight.

        Raises:
            ValueError: if it is not grouped and there are more than 65,536 inputs or outputs.
        """
        size = group_size_of(mask)
        nothing = np.zeros(mask.shape, np.float32)
        weight = Grouped.of(nothing, mask, group_size=size) if size else Packed.of(nothing, mask)
        layout = LAYOUTS[weight.sizes.layout]
        count_from_1 = jnp.arange(1, mask.size + 1, dtype=jnp.int32).reshape(mask.shape)
        at = np.asarray(layout.from_dense(count_from_1, weight.structure, weight.sizes.group_size))
        # Beyond the last output, where the last group is not full, there is 0.
        return cls(weight, np.where(at == 0, mask.size, at - 1))

    def __call__(
        self,
        x: Float[Array, "*batch inputs"],
        kernel: Float[Array, "inputs outputs"],
        bias: Float[Array, " outputs"] | None = None,
    ) -> Float[Array, "*batch outputs"]:
        """Map `[..., inputs]` to `[..., outputs]`; the gradient is zero where pruned."""
        values = (
            kernel.reshape(-1).at[self.at].get(mode="fill", fill_value=0.0, unique_indices=True)
        )
        of_weight = (self.weight.structure, self.weight.sizes)
        if bias is None:
            return product(x, values, *of_weight)
        return affine(x, values, bias, *of_weight, relu=False)


Products = tuple[GatheredProduct, ...]
"""One for each member of an ensemble, or one alone."""


def products_of(mask: Bool[np.ndarray, "*members inputs outputs"], compute: str) -> Products | None:
    """Return how to multiply by a kernel, or None where that is a dense product.

    Args:
        mask: True = kept; with one axis in front for the members of an ensemble.
        compute: `packed`, or `mixed` for only where that is faster.
    """
    if mask.ndim not in (2, 3) or mask.all():
        return None
    members = mask.reshape(-1, *mask.shape[-2:])
    with jax.ensure_compile_time_eval():  # the caller may be compiling something
        worth = _is_faster if compute == "mixed" else _is_possible
        return tuple(map(GatheredProduct.of, members)) if all(map(worth, members)) else None


def multiply(products: Products, x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """Return `x kernel + bias`, by its kept weights where there are enough samples.

    Of an ensemble, one member alone is multiplied densely, for nothing tells which one it is;
    `vmap` over all of them multiplies each by what it keeps. Gradients of pruned weights are zero
    or what a dense product gives: `keep_pruned` masks them in either case.

    Args:
        products: what `products_of` returned for the kernel's mask.
        x: float32, `[..., inputs]`.
        kernel: float32, `[inputs, outputs]`, zero where the mask is False.
        bias: float32, `[outputs]`.

    Returns:
        `[..., outputs]`.
    """
    return GATHERED.bind(x, kernel, *(() if bias is None else (bias,)), products=products)


def _is_possible(mask: np.ndarray) -> bool:
    listable = group_size_of(mask) is not None or max(mask.shape) <= MOST_FEATURES
    return listable and bool(mask.any())


def _is_faster(mask: np.ndarray) -> bool:
    return is_worth_packing(mask, group_size_of(mask))


def _multiply(x: Array, kernel: Array, *bias: Array, products: Products) -> Array:
    samples = x.size // x.shape[-1]
    if len(products) == 1 and samples >= FEWEST_SAMPLES[products[0].weight.sizes.layout]:
        return products[0](x, kernel, *bias)
    y = x @ kernel
    return add_bias(y, bias[0]) if bias else y


def _differentiate(primals: Sequence[Array], tangents: Sequence[Any], *, products: Products) -> Any:
    # What is not differentiated stays out: products with tangents of zeros would be computed.
    live = [index for index, tangent in enumerate(tangents) if type(tangent) is not ad.Zero]

    def function(*moving: Array) -> Array:
        arrays = list(primals)
        for index, array in zip(live, moving, strict=True):
            arrays[index] = array
        return _multiply(*arrays, products=products)

    moving = tuple(primals[index] for index in live)
    return jax.jvp(function, moving, tuple(tangents[index] for index in live))


def _batch(
    arrays: Sequence[Array], axes: Sequence[int | None], *, products: Products
) -> tuple[Array, int]:
    x, kernel, *bias = arrays
    if axes[0] is not None and all(axis is None for axis in axes[1:]):
        return GATHERED.bind(jnp.moveaxis(x, axes[0], 0), kernel, *bias, products=products), 0
    if axes[1] is None or kernel.shape[axes[1]] != len(products):
        function = functools.partial(_multiply, products=products)
        return jax.vmap(function, tuple(axes))(*arrays), 0
    members = [
        GATHERED.bind(
            *(
                array if axis is None else jax.lax.index_in_dim(array, index, axis, keepdims=False)
                for array, axis in zip(arrays, axes, strict=True)
            ),
            products=(product,),
        )
        for index, product in enumerate(products)
    ]
    return jnp.stack(members), 0


GATHERED = Primitive("kanbatsu_gathered")
"""`multiply`, as a primitive: how is decided when all that `vmap` adds is known."""
GATHERED.def_impl(_multiply)
GATHERED.def_abstract_eval(
    lambda x, kernel, *bias, products: jax.core.ShapedArray(
        (*x.shape[:-1], kernel.shape[-1]), x.dtype
    )
)
mlir.register_lowering(GATHERED, mlir.lower_fun(_multiply, multiple_results=False))
ad.primitive_jvps[GATHERED] = _differentiate
batching.primitive_batchers[GATHERED] = _batch
