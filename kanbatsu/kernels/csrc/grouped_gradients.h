// The gradients of a grouped layer: back to its inputs, and back to its weights.
#pragma once

#include <type_traits>

#include "simd.h"

namespace kanbatsu {
namespace KANBATSU_ISA {
namespace {

// Add to the rows of `kRows` inputs what one group's errors ([size][kGroupedLanes]) pass back.
template <int kRows, class Count>
inline void pass_back(const float* weights, Count members, Count size, const std::int32_t* sources,
                      const float* errors, float* tile) {
  constexpr int kVectors = kGroupedLanes / kWidth;
  Vector<kWidth> sums[kRows][kVectors];
  UNROLL for (int r = 0; r < kRows; ++r) {
    UNROLL for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = load<kWidth>(tile + sources[r] * kGroupedLanes + v * kWidth);
    }
  }
  for (Index j = 0; j < members; ++j) {
    Vector<kWidth> error[kVectors];
    UNROLL for (int v = 0; v < kVectors; ++v) {
      error[v] = load<kWidth>(errors + j * kGroupedLanes + v * kWidth);
    }
    UNROLL for (int r = 0; r < kRows; ++r) {
      const float value = weights[r * size + j];
      UNROLL for (int v = 0; v < kVectors; ++v) sums[r][v] += error[v] * value;
    }
  }
  UNROLL for (int r = 0; r < kRows; ++r) {
    UNROLL for (int v = 0; v < kVectors; ++v) {
      store<kWidth>(tile + sources[r] * kGroupedLanes + v * kWidth, sums[r][v]);
    }
  }
}

// Call `use(members, size)` with constants where a group is full: loops over it are unrolled.
template <class Use>
inline void with_size(Index members, Index size, const Use& use) {
  using std::integral_constant;
  if (members == size) {
    switch (size) {
      case 8: return use(integral_constant<Index, 8>{}, integral_constant<Index, 8>{});
      case 16: return use(integral_constant<Index, 16>{}, integral_constant<Index, 16>{});
      case 32: return use(integral_constant<Index, 32>{}, integral_constant<Index, 32>{});
    }
  }
  use(members, size);
}

void grouped_input_gradient(const GroupedLayer& layer, const float* values, const Finish& finish,
                            const float* dy, float* dx, Index batch, Index first, float* tile) {
  constexpr int kRows = std::min<int>(8, kMostInFlight / (kGroupedLanes / kWidth));
  const Index lanes = std::min(kGroupedLanes, batch - first);
  const bool is_tile = batch == kGroupedLanes;
  float* rows = is_tile ? dx : tile;
  float* errors = tile + layer.inputs * kGroupedLanes;
  std::memset(rows, 0, layer.inputs * kGroupedLanes * sizeof(float));
  for (Index group = 0; group < layer.groups; ++group) {
    const std::int32_t* sources = layer.sources + group * layer.kept;
    const float* weights = values + group * layer.kept * layer.size;
    const Index members = std::min(layer.size, layer.outputs - group * layer.size);
    const float* passed = dy + group * layer.size * batch;
    if (!is_tile) {
      load_tile<kGroupedLanes>(passed, members, batch, first, errors);
      passed = errors;
    }
    with_size(members, layer.size, [&](auto members, auto size) {
      Index k = 0;
      for (; k + kRows <= layer.kept; k += kRows) {
        if (k + 2 * kRows <= layer.kept) {
          UNROLL for (int r = 0; r < kRows; ++r) {
            __builtin_prefetch(rows + sources[k + kRows + r] * kGroupedLanes, 1);
          }
        }
        pass_back<kRows>(weights + k * size, members, size, sources + k, passed, rows);
      }
      for (; k < layer.kept; ++k) {
        pass_back<1>(weights + k * size, members, size, sources + k, passed, rows);
      }
    });
  }
  if (is_tile && finish.gate == nullptr) return;
  for (Index i = 0; i < layer.inputs; ++i) {
    Vector<kWidth> row[kGroupedLanes / kWidth];
    load_row<kGroupedLanes>(rows + i * kGroupedLanes, row, kGroupedLanes);
    end_row<kGroupedLanes>(finish, i * batch + first, lanes, row);
    store_row<kGroupedLanes>(dx + i * batch + first, row, lanes);
  }
}

// Add to the weights of `kRows` inputs ([kRows][kSize]) the products of their activations, from a
// tile on, with the errors of a group, [count][kSize], in `kChains` sums. The activations of `next`
// come after.
template <int kRows, int kSize, int kChains>
inline void correlate(const Samples& x, Index tile, const std::int32_t* sources,
                      const std::int32_t* next, const float* errors, Index count,
                      float* dweights) {
  constexpr int kN = std::min(kWidth, kSize);
  constexpr int kVectors = kSize / kN;
  Vector<kN> sums[kChains][kRows][kVectors] = {};
  UNROLL for (int r = 0; r < kRows; ++r) {
    UNROLL for (int v = 0; v < kVectors; ++v) {
      sums[0][r][v] = load<kN>(dweights + r * kSize + v * kN);
    }
  }
  for (; count > 0; ++tile, count -= kGroupedLanes, errors += kGroupedLanes * kSize) {
    const float* rows[kRows];
    UNROLL for (int r = 0; r < kRows; ++r) {
      rows[r] = x.at(sources[r], tile);
      __builtin_prefetch(x.at(next[r], tile));
    }
    const auto sample = [&](Index b, int chain) {
      Vector<kN> error[kVectors];
      UNROLL for (int v = 0; v < kVectors; ++v) error[v] = load<kN>(errors + b * kSize + v * kN);
      UNROLL for (int r = 0; r < kRows; ++r) {
        const float activation = rows[r][b];
        UNROLL for (int v = 0; v < kVectors; ++v) sums[chain][r][v] += error[v] * activation;
      }
    };
    if (count >= kGroupedLanes) {
      for (Index b = 0; b < kGroupedLanes; b += kChains) {
        UNROLL for (int c = 0; c < kChains; ++c) sample(b + c, c);
      }
    } else {
      for (Index b = 0; b < count; ++b) sample(b, 0);
    }
  }
  UNROLL for (int r = 0; r < kRows; ++r) {
    UNROLL for (int v = 0; v < kVectors; ++v) {
      UNROLL for (int c = 1; c < kChains; ++c) sums[0][r][v] += sums[c][r][v];
      store<kN>(dweights + r * kSize + v * kN, sums[0][r][v]);
    }
  }
}

template <int kSize>
void grouped_weight_gradient_of(const GroupedLayer& layer, const Samples& x, const Samples& dy,
                                float* dvalues, Index batch, Index group, float* tile) {
  constexpr int kVectors = kSize / std::min(kWidth, kSize);
  // More rows than eight would need more registers for their addresses than there are.
  constexpr int kRows = std::min(8, kMostInFlight / kVectors);
  constexpr int kChains = std::max(1, kMostInFlight / (kRows * kVectors));
  constexpr Index kTiles = kGradientBatch / kGroupedLanes;
  const std::int32_t* sources = layer.sources + group * layer.kept;
  const Index members = std::min(layer.size, layer.outputs - group * layer.size);
  float* dweights = dvalues + group * layer.kept * kSize;
  std::memset(dweights, 0, layer.kept * kSize * sizeof(float));
  std::memset(tile, 0, kGradientBatch * kSize * sizeof(float));
  for (Index first = 0; first * kGroupedLanes < batch; first += kTiles) {
    const Index count = std::min(kGradientBatch, batch - first * kGroupedLanes);
    for (Index b = 0; b < count; b += kGroupedLanes) {
      const Index t = first + b / kGroupedLanes;
      const Index lanes = std::min(kGroupedLanes, count - b);
      Index j = 0;
      for (; lanes == kGroupedLanes && j + 4 <= members; j += 4) {
        const float* rows[4];
        UNROLL for (int r = 0; r < 4; ++r) rows[r] = dy.at(group * kSize + j + r, t);
        UNROLL for (int l = 0; l < kGroupedLanes; l += 4) {
          transpose(rows, l, tile + (b + l) * kSize + j, kSize);
        }
      }
      for (; j < members; ++j) {
        for (Index l = 0; l < lanes; ++l) {
          tile[(b + l) * kSize + j] = dy.at(group * kSize + j, t)[l];
        }
      }
    }
    Index k = 0;
    for (; k + kRows <= layer.kept; k += kRows) {
      const Index next = std::min(k + kRows, layer.kept - kRows);
      correlate<kRows, kSize, kChains>(x, first, sources + k, sources + next, tile, count,
                              dweights + k * kSize);
    }
    for (; k < layer.kept; ++k) {
      correlate<1, kSize, 1>(x, first, sources + k, sources + k, tile, count, dweights + k * kSize);
    }
  }
}

void grouped_weight_gradient(const GroupedLayer& layer, const Samples& x, const Samples& dy,
                             float* dvalues, Index batch, Index group, float* tile) {
  switch (layer.size) {
    case 8: return grouped_weight_gradient_of<8>(layer, x, dy, dvalues, batch, group, tile);
    case 16: return grouped_weight_gradient_of<16>(layer, x, dy, dvalues, batch, group, tile);
    default: return grouped_weight_gradient_of<32>(layer, x, dy, dvalues, batch, group, tile);
  }
}

}  // namespace
}  // namespace KANBATSU_ISA
}  // namespace kanbatsu
