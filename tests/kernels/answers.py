"""Multiplies the layers of one file by the kernels and writes the results to another.

Run as a process of its own, because the kernels are chosen once, when they are loaded.
"""

from __future__ import annotations

import sys
from functools import partial

import jax
import numpy as np

from kanbatsu.kernels import shared
from kanbatsu.kernels.library import instruction_set, set_threads
from kanbatsu.kernels.products import LayerSizes, affine, product
from kanbatsu.kernels.sums import sum_batch


@partial(jax.jit, static_argnames="shape")
def answer(
    x: jax.Array,
    dy: jax.Array,
    values: jax.Array,
    bias: jax.Array,
    structure: tuple[jax.Array, ...],
    shape: LayerSizes,
) -> dict[str, jax.Array]:
    """Compute all products of one layer, and the sum of its activations."""
    y, back = jax.vjp(lambda x, values: product(x, values, structure, shape), x, values)
    dx, dvalues = back(dy)
    positive = affine(x, values, bias, structure, shape, relu=True)
    gradients = {"dx": dx, "dvalues": dvalues}
    return {"y": y, "positive": positive, "by_feature": sum_batch(x)} | gradients


def main(questions: str, answers: str, library: str) -> None:
    """Answer every question with one thread, two, and as many as there are."""
    shared.FILE = library
    results = {}
    with np.load(questions) as file:
        names = sorted({name.split("/")[0] for name in file})
        for name in names:
            mine = sorted(key for key in file if key.startswith(f"{name}/"))
            arrays = {key.split("/")[1]: jax.numpy.asarray(file[key]) for key in mine}
            structure = tuple(arrays.pop(key) for key in list(arrays) if "structure" in key)
            layout, *sizes = name.split("-")
            shape = LayerSizes(layout, *(int(size) for size in sizes[:3]))
            for threads in (1, 2, 0):
                set_threads(threads)
                for key, value in answer(**arrays, structure=structure, shape=shape).items():
                    results[f"{name}/{threads}/{key}"] = np.asarray(value)
    np.savez(answers, isa=str(instruction_set()), **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
