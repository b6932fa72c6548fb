"""C99 of the layers with a weight: dense, grouped or packed, each a function of its own sizes."""

from __future__ import annotations

import numpy as np

from kanbatsu.deploy.c_text import floats, integers
from kanbatsu.deploy.layers import Conv, Dense, Grouped, Packed, Product, to_dense

LANES = 16
"""Most outputs that are summed side by side: what compilers keep in vector registers."""


def product(layer: Product, name: str) -> list[str]:
    """Return the arrays and the function of a layer, `name(x, y)`.

    Args:
        layer: linear layer or convolution.
        name: name of the function; those of its arrays begin with it.
    """
    if isinstance(layer, Conv):
        return [*_vector(layer, f"{name}_patch"), _convolution(layer, name)]
    return _vector(layer, name)


def room_of(layer: Product) -> int:
    """Return how many numbers a layer writes: its outputs, and what fills up the last group."""
    padding = -layer.outputs % _size(layer)
    return padding + (layer.features if isinstance(layer, Conv) else layer.outputs)


def _size(layer: Product) -> int:
    """Outputs that are summed side by side."""
    if isinstance(layer.weight, Packed):
        return 1
    if isinstance(layer.weight, Grouped):
        return int(layer.weight.values.shape[2])
    if layer.outputs <= LANES:
        return layer.outputs
    # The fewest zeros that fill up the last group, and of equals the larger size.
    return min(range(LANES, LANES // 2 - 1, -1), key=lambda size: -layer.outputs % size)


def _vector(layer: Product, name: str) -> list[str]:
    """A product with one vector."""
    if isinstance(layer.weight, Packed):
        return _packed(layer, name)
    return _grouped(layer, name)


def _grouped(layer: Product, name: str) -> list[str]:
    size, weight = _size(layer), layer.weight
    if isinstance(weight, Dense):
        groups, kept = -(-layer.outputs // size), layer.inputs
        padded = np.zeros((kept, groups * size), np.float32)
        padded[:, : layer.outputs] = weight.values
        values = padded.reshape(kept, groups, size).transpose(1, 0, 2)
        source, lists = "i", []
    else:
        assert isinstance(weight, Grouped)
        groups, kept, _ = weight.values.shape
        values = weight.values
        source, lists = f"{name}_sources[{_at('group', kept)}]", [weight.sources]
    bias = np.zeros(groups * size, np.float32)
    bias[: layer.outputs] = layer.bias
    first = f"group * {size}"
    function = f"""\
static void {name}(const float *restrict x, float *restrict y) {{
  for (int32_t group = 0; group < {groups}; ++group) {{
    const float *row = {name}_values + group * INT32_C({kept * size});
    float sum[{size}];
    for (int k = 0; k < {size}; ++k) sum[k] = {name}_bias[{first} + k];
    for (int32_t i = 0; i < {kept}; ++i, row += {size}) {{
      const float value = x[{source}];
      for (int k = 0; k < {size}; ++k) sum[k] += value * row[k];
    }}
    for (int k = 0; k < {size}; ++k) y[{first} + k] = {_end(layer, "sum[k]")};
  }}
}}"""
    arrays = [floats(f"{name}_bias", bias), floats(f"{name}_values", values)]
    return [*arrays, *(integers(f"{name}_sources", sources) for sources in lists), function]


def _packed(layer: Product, name: str) -> list[str]:
    dense = to_dense(layer)
    outputs, sources = np.nonzero(dense.T)
    starts = np.searchsorted(outputs, np.arange(layer.outputs + 1))
    function = f"""\
static void {name}(const float *restrict x, float *restrict y) {{
  for (int32_t output = 0; output < {layer.outputs}; ++output) {{
    float sum = {name}_bias[output];
    for (uint32_t k = {name}_starts[output]; k < {name}_starts[output + 1]; ++k) {{
      sum += x[{name}_sources[k]] * {name}_values[k];
    }}
    y[output] = {_end(layer, "sum")};
  }}
}}"""
    return [
        floats(f"{name}_bias", layer.bias),
        floats(f"{name}_values", dense[sources, outputs]),
        integers(f"{name}_sources", sources),
        integers(f"{name}_starts", starts),
        function,
    ]


def _convolution(layer: Conv, name: str) -> str:
    """A product with every patch; the rows of a patch lie end to end in the image."""
    line = layer.window * layer.channels
    above = f"(row * {layer.stride} + r) * {layer.width} + column * {layer.stride}"
    return f"""\
static void {name}(const float *restrict x, float *restrict y) {{
  static float patch[{layer.inputs}];
  for (int32_t row = 0; row < {layer.rows}; ++row) {{
    for (int32_t column = 0; column < {layer.columns}; ++column) {{
      for (int32_t r = 0; r < {layer.window}; ++r) {{
        const float *from = x + ({above}) * {layer.channels};
        for (int32_t i = 0; i < {line}; ++i) patch[r * {line} + i] = from[i];
      }}
      {name}_patch(patch, y + (row * {layer.columns} + column) * {layer.outputs});
    }}
  }}
}}"""


def _end(layer: Product, total: str) -> str:
    return f"{total} < 0.0f ? 0.0f : {total}" if layer.relu else total


def _at(group: str, kept: int) -> str:
    return f"{group} * INT32_C({kept}) + i"
