"""C99 of the layers with a weight: dense, grouped or packed, each a function of its own sizes."""

from __future__ import annotations

import numpy as np

from kanbatsu.deploy.c_text import floats, integers
from kanbatsu.deploy.layers import Conv, Dense, Grouped, Packed, Product, to_dense


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
    """Outputs that are summed side by side, and written together."""
    return layer.weight.values.shape[2] if isinstance(layer.weight, Grouped) else 1


def _vector(layer: Product, name: str) -> list[str]:
    """A product with one vector."""
    match layer.weight:
        case Packed():
            return _packed(layer, name)
        case Grouped():
            return _grouped(layer, layer.weight, name)
        case Dense():
            return _dense(layer, layer.weight, name)


def _dense(layer: Product, weight: Dense, name: str) -> list[str]:
    # Sums in the result, a whole row of weights at a time: of the loops that were tried the one
    # that gcc makes fast at -O2, -O3 and -Os.
    function = f"""\
static void {name}(const float *restrict x, float *restrict y) {{
  const float *row = {name}_values;
  for (int32_t k = 0; k < {layer.outputs}; ++k) y[k] = {name}_bias[k];
  for (int32_t i = 0; i < {layer.inputs}; ++i, row += {layer.outputs}) {{
    const float value = x[i];
    for (int32_t k = 0; k < {layer.outputs}; ++k) y[k] += value * row[k];
  }}{_last(layer)}
}}"""
    return [floats(f"{name}_bias", layer.bias), floats(f"{name}_values", weight.values), function]


def _last(layer: Product) -> str:
    positive = "y[k] = y[k] < 0.0f ? 0.0f : y[k];"
    loop = f"\n  for (int32_t k = 0; k < {layer.outputs}; ++k) {positive}"
    return loop if layer.relu else ""


def _grouped(layer: Product, weight: Grouped, name: str) -> list[str]:
    groups, kept, size = weight.values.shape
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
      const float value = x[{name}_sources[group * INT32_C({kept}) + i]];
      for (int k = 0; k < {size}; ++k) sum[k] += value * row[k];
    }}
    for (int k = 0; k < {size}; ++k) y[{first} + k] = {_end(layer, "sum[k]")};
  }}
}}"""
    return [
        floats(f"{name}_bias", bias),
        floats(f"{name}_values", weight.values),
        integers(f"{name}_sources", weight.sources),
        function,
    ]


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
