// The products of a grouped layer, forwards: neighbouring outputs share their inputs.
#pragma once

#include <type_traits>

#include "simd.h"

namespace kanbatsu {
namespace KANBATSU_ISA {
namespace {

// Activations are asked for this many inputs before they are used.
constexpr Index kAhead = 32;

// Add to `kOutputs` members of a group, out[member][lanes], what `kept` of its inputs contribute;
// `listed` sources may be read, those of later groups among them.
template <int kOutputs>
inline void multiply_members(const float* weights, Index size, const std::int32_t* sources,
                             Index kept, Index listed, const float* tile, float* out) {
  constexpr int kVectors = kGroupedLanes / kWidth;
  Vector<kWidth> sums[kOutputs][kVectors];
  UNROLL for (int j = 0; j < kOutputs; ++j) {
    load_row<kGroupedLanes>(out + j * kGroupedLanes, sums[j], kGroupedLanes);
  }
  const auto multiply = [&](Index k) {
    Vector<kWidth> inputs[kVectors];
    load_row<kGroupedLanes>(tile + sources[k] * kGroupedLanes, inputs, kGroupedLanes);
    UNROLL for (int j = 0; j < kOutputs; ++j) {
      const float value = weights[k * size + j];
      UNROLL for (int v = 0; v < kVectors; ++v) sums[j][v] += inputs[v] * value;
    }
  };
  Index k = 0;
  for (const Index last = std::min(kept, listed - kAhead); k < last; ++k) {
    __builtin_prefetch(tile + sources[k + kAhead] * kGroupedLanes);
    multiply(k);
  }
  for (; k < kept; ++k) multiply(k);
  UNROLL for (int j = 0; j < kOutputs; ++j) {
    store_row<kGroupedLanes>(out + j * kGroupedLanes, sums[j], kGroupedLanes);
  }
}

// The same for all members of a group.
inline void multiply_group(const float* weights, Index size, const std::int32_t* sources,
                           Index kept, Index listed, const float* tile, float* out) {
  constexpr int kOutputs = kMostInFlight / (kGroupedLanes / kWidth);
  Index j = 0;
  const auto members = [&](auto count) {
    multiply_members<count>(weights + j, size, sources, kept, listed, tile,
                            out + j * kGroupedLanes);
    j += count;
  };
  while (j + kOutputs <= size) members(std::integral_constant<int, kOutputs>{});
  if (j + 8 <= size) members(std::integral_constant<int, 8>{});
  if (j + 4 <= size) members(std::integral_constant<int, 4>{});
  if (j + 2 <= size) members(std::integral_constant<int, 2>{});
  if (j + 1 <= size) members(std::integral_constant<int, 1>{});
}

void grouped_product(const GroupedLayer& layer, const float* values, const Finish& finish,
                     const float* x, float* y, Index batch, Index first, float* tile) {
  // Inputs at a time: where the members of a group take turns, as many as have activations and
  // weights that stay in the first cache.
  const Index run = layer.size * kGroupedLanes > kMostInFlight * kWidth ? 64 : layer.kept;
  const Index lanes = std::min(kGroupedLanes, batch - first);
  const float* rows = x;
  float* out = tile + layer.inputs * kGroupedLanes;
  if (batch != kGroupedLanes) {
    load_tile<kGroupedLanes>(x, layer.inputs, batch, first, tile);
    rows = tile;
  }
  for (Index group = 0; group < layer.groups; ++group) {
    const std::int32_t* sources = layer.sources + group * layer.kept;
    const float* weights = values + group * layer.kept * layer.size;
    const Index output = group * layer.size;
    const Index members = std::min(layer.size, layer.outputs - output);
    for (Index j = 0; j < layer.size; ++j) {
      Vector<kWidth> row[kGroupedLanes / kWidth] = {};
      if (j < members) {
        start_row<kGroupedLanes>(finish, output + j, (output + j) * batch + first, lanes, row);
      }
      store_row<kGroupedLanes>(out + j * kGroupedLanes, row, kGroupedLanes);
    }
    const Index listed = (layer.groups - group) * layer.kept;
    for (Index k = 0; k < layer.kept; k += run) {
      multiply_group(weights + k * layer.size, layer.size, sources + k,
                     std::min(run, layer.kept - k), listed - k, rows, out);
    }
    for (Index j = 0; j < members; ++j) {
      Vector<kWidth> row[kGroupedLanes / kWidth];
      load_row<kGroupedLanes>(out + j * kGroupedLanes, row, kGroupedLanes);
      end_row<kGroupedLanes>(finish, (output + j) * batch + first, lanes, row);
      store_row<kGroupedLanes>(y + (output + j) * batch + first, row, lanes);
    }
  }
}

template <int kSize>
void grouped_vector_of(const GroupedLayer& layer, const float* values, const Finish& finish,
                       const float* x, float* y, Index group) {
  constexpr int kN = std::min(kWidth, kSize);
  constexpr int kVectors = kSize / kN;
  constexpr int kChains = std::max(1, kInFlight / kVectors);
  const std::int32_t* sources = layer.sources + group * layer.kept;
  const float* weights = values + group * layer.kept * kSize;
  Vector<kN> sums[kChains][kVectors] = {};
  Index k = 0;
  for (; k + kChains <= layer.kept; k += kChains) {
    UNROLL for (int c = 0; c < kChains; ++c) {
      const float input = x[sources[k + c]];
      UNROLL for (int v = 0; v < kVectors; ++v) {
        sums[c][v] += load<kN>(weights + (k + c) * kSize + v * kN) * input;
      }
    }
  }
  for (; k < layer.kept; ++k) {
    UNROLL for (int v = 0; v < kVectors; ++v) {
      sums[0][v] += load<kN>(weights + k * kSize + v * kN) * x[sources[k]];
    }
  }
  UNROLL for (int c = 1; c < kChains; ++c) {
    UNROLL for (int v = 0; v < kVectors; ++v) sums[0][v] += sums[c][v];
  }
  const Index first = group * kSize, members = std::min<Index>(kSize, layer.outputs - first);
  if (members == kSize) {
    UNROLL for (int v = 0; v < kVectors; ++v) {
      const Index output = first + v * kN;
      Vector<kN> out = sums[0][v];
      if (finish.bias != nullptr) out += load<kN>(finish.bias + output);
      if (finish.beside != nullptr) out += load<kN>(finish.beside + output);
      if (finish.relu) out = rectify<kN>(out);
      if (finish.gate != nullptr) {
        out = load<kN>(finish.gate + output) > Vector<kN>{} ? out : Vector<kN>{};
      }
      store<kN>(y + output, out);
    }
    return;
  }
  float out[kSize];
  UNROLL for (int v = 0; v < kVectors; ++v) store<kN>(out + v * kN, sums[0][v]);
  for (Index j = 0; j < members; ++j) {
    y[first + j] = finish.end_one(first + j, out[j] + finish.start_one(first + j));
  }
}

void grouped_vector(const GroupedLayer& layer, const float* values, const Finish& finish,
                    const float* x, float* y, Index group) {
  switch (layer.size) {
    case 8: return grouped_vector_of<8>(layer, values, finish, x, y, group);
    case 16: return grouped_vector_of<16>(layer, values, finish, x, y, group);
    default: return grouped_vector_of<32>(layer, values, finish, x, y, group);
  }
}

}  // namespace
}  // namespace KANBATSU_ISA
}  // namespace kanbatsu
