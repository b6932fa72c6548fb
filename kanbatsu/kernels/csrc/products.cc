// The products of pruned layers, written once for any vector width. The build compiles this file
// once per instruction set, with KANBATSU_ISA (its name) and KANBATSU_WIDTH (floats per register).
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "layers.h"

#define UNROLL _Pragma("GCC unroll 32")

namespace kanbatsu {
namespace KANBATSU_ISA {
namespace {

template <int N>
struct VectorOf {
  typedef float type __attribute__((vector_size(4 * N)));
};
template <int N>
using Vector = typename VectorOf<N>::type;

constexpr int kWidth = KANBATSU_WIDTH;
// Accumulators in flight: two multiply-adds per cycle, each about four cycles long, and what the
// registers hold beside their inputs.
constexpr int kInFlight = 8;
constexpr int kMostInFlight = kWidth == 16 ? 16 : 12;

template <int N>
inline Vector<N> load(const float* from) {
  Vector<N> vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <int N>
inline void store(float* to, Vector<N> vector) {
  std::memcpy(to, &vector, sizeof vector);
}

// Copy `lanes` samples of every feature to a tile [features][kTile], padded with zeros.
template <int kTile>
void load_tile(const float* x, Index features, Index batch, Index first, float* tile) {
  const Index lanes = std::min<Index>(kTile, batch - first);
  if (lanes == kTile) {
    for (Index i = 0; i < features; ++i) {
      std::memcpy(tile + i * kTile, x + i * batch + first, kTile * sizeof(float));
    }
    return;
  }
  std::memset(tile, 0, features * kTile * sizeof(float));
  for (Index i = 0; i < features; ++i) {
    std::memcpy(tile + i * kTile, x + i * batch + first, lanes * sizeof(float));
  }
}

template <int N>
inline Vector<N> broadcast(float value) {
  return Vector<N>{} + value;
}

// max(x, 0); a NaN stays one.
template <int N>
inline Vector<N> rectify(Vector<N> x) {
  return x < Vector<N>{} ? Vector<N>{} : x;
}

// Write the samples of one feature, of a tile [kTile] of which `lanes` exist.
template <int kTile>
inline void store_row(float* row, Vector<kWidth>* vectors, Index lanes, bool relu) {
  if (relu) {
    UNROLL for (int v = 0; v < kTile / kWidth; ++v) vectors[v] = rectify<kWidth>(vectors[v]);
  }
  if (lanes == kTile) {
    UNROLL for (int v = 0; v < kTile / kWidth; ++v) store<kWidth>(row + v * kWidth, vectors[v]);
  } else {
    std::memcpy(row, vectors, lanes * sizeof(float));
  }
}

template <int kTile>
inline void load_row(const float* row, Vector<kWidth>* vectors, Index lanes) {
  if (lanes == kTile) {
    UNROLL for (int v = 0; v < kTile / kWidth; ++v) vectors[v] = load<kWidth>(row + v * kWidth);
  } else {
    std::memcpy(vectors, row, lanes * sizeof(float));
  }
}

template <int kTile>
void packed_product_of(const PackedLayer& layer, const float* values, const Finish& finish,
                       const float* x, float* y, Index batch, Index first, Index begin,
                       Index end, float* tile) {
  constexpr int kVectors = kTile / kWidth;
  constexpr int kChains = std::max(1, kInFlight / kVectors);
  const Index lanes = std::min<Index>(kTile, batch - first);
  for (Index block = 0; block < layer.blocks(); ++block) {
    const Index base = block * kBlock;
    load_tile<kTile>(x + base * batch, std::min(kBlock, layer.inputs - base), batch, first, tile);
    const float* rows = tile - base * kTile;
    const std::int32_t* starts = layer.starts + block * layer.outputs;
    const bool last = block + 1 == layer.blocks();
    for (Index o = begin; o < end; ++o) {
      float* out = y + o * batch + first;
      Vector<kWidth> sums[kChains][kVectors] = {};
      if (block == 0) {
        UNROLL for (int v = 0; v < kVectors; ++v) sums[0][v] = broadcast<kWidth>(finish.start(o));
      } else {
        load_row<kTile>(out, sums[0], lanes);
      }
      Index k = starts[o];
      for (; k + kChains <= starts[o + 1]; k += kChains) {
        UNROLL for (int c = 0; c < kChains; ++c) {
          const float* row = rows + layer.sources[k + c] * kTile;
          const float value = values[k + c];
          UNROLL for (int v = 0; v < kVectors; ++v) {
            sums[c][v] += load<kWidth>(row + v * kWidth) * value;
          }
        }
      }
      for (; k < starts[o + 1]; ++k) {
        const float* row = rows + layer.sources[k] * kTile;
        UNROLL for (int v = 0; v < kVectors; ++v) {
          sums[0][v] += load<kWidth>(row + v * kWidth) * values[k];
        }
      }
      UNROLL for (int c = 1; c < kChains; ++c) {
        UNROLL for (int v = 0; v < kVectors; ++v) sums[0][v] += sums[c][v];
      }
      store_row<kTile>(out, sums[0], lanes, last && finish.relu);
    }
  }
}

void packed_product(const PackedLayer& layer, const float* values, const Finish& finish,
                    const float* x, float* y, Index batch, Index first, Index begin, Index end,
                    float* tile) {
  constexpr Index kHalf = kPackedLanes / 2;
  const auto product =
      batch - first > kHalf ? packed_product_of<kPackedLanes> : packed_product_of<kHalf>;
  product(layer, values, finish, x, y, batch, first, begin, end, tile);
}

// Fold a vector to its sums over every fourth entry.
template <int N>
inline Vector<4> fold(Vector<N> vector) {
  float entries[N];
  store<N>(entries, vector);
  Vector<4> sum = load<4>(entries);
  UNROLL for (int v = 4; v < N; v += 4) sum += load<4>(entries + v);
  return sum;
}
#if KANBATSU_WIDTH == 4
template <>
inline Vector<4> fold<4>(Vector<4> vector) {
  return vector;
}
#endif

template <int a, int b, int c, int d>
inline Vector<4> pick(Vector<4> one, Vector<4> other) {
#if defined(__clang__)
  return __builtin_shufflevector(one, other, a, b, c, d);
#else
  typedef int Order __attribute__((vector_size(16)));
  return __builtin_shuffle(one, other, Order{a, b, c, d});
#endif
}

// The sum of each of four vectors.
inline Vector<4> sums_of(Vector<4> a, Vector<4> b, Vector<4> c, Vector<4> d) {
  const Vector<4> ab = pick<0, 4, 1, 5>(a, b) + pick<2, 6, 3, 7>(a, b);
  const Vector<4> cd = pick<0, 4, 1, 5>(c, d) + pick<2, 6, 3, 7>(c, d);
  return pick<0, 1, 4, 5>(ab, cd) + pick<2, 3, 6, 7>(ab, cd);
}

void packed_weight_gradient(const PackedLayer& layer, const float* x, const float* dy,
                            float* dvalues, Index batch, Index begin, Index end, float* tile) {
  constexpr int kVectors = kPackedLanes / kWidth;
  float* row = tile + kBlock * kPackedLanes;
  for (Index block = 0; block < layer.blocks(); ++block) {
    const Index base = block * kBlock;
    const float* rows = tile - base * kPackedLanes;
    const std::int32_t* starts = layer.starts + block * layer.outputs;
    std::fill(dvalues + starts[begin], dvalues + starts[end], 0.0f);
    for (Index first = 0; first < batch; first += kPackedLanes) {
      load_tile<kPackedLanes>(x + base * batch, std::min(kBlock, layer.inputs - base), batch,
                              first, tile);
      for (Index o = begin; o < end; ++o) {
        load_tile<kPackedLanes>(dy + o * batch, 1, batch, first, row);
        Vector<kWidth> errors[kVectors];
        UNROLL for (int v = 0; v < kVectors; ++v) errors[v] = load<kWidth>(row + v * kWidth);
        const auto product = [&](Index k) {
          const float* input = rows + layer.sources[k] * kPackedLanes;
          Vector<kWidth> sum = load<kWidth>(input) * errors[0];
          UNROLL for (int v = 1; v < kVectors; ++v) {
            sum += load<kWidth>(input + v * kWidth) * errors[v];
          }
          return fold<kWidth>(sum);
        };
        Index k = starts[o];
        for (; k + 4 <= starts[o + 1]; k += 4) {
          const auto sums = sums_of(product(k), product(k + 1), product(k + 2), product(k + 3));
          store<4>(dvalues + k, load<4>(dvalues + k) + sums);
        }
        for (; k < starts[o + 1]; ++k) {
          const Vector<4> sum = product(k);
          dvalues[k] += (sum[0] + sum[2]) + (sum[1] + sum[3]);
        }
      }
    }
  }
}

// Add to `kOutputs` members of a group, out[member][lanes], what `kept` of its inputs contribute.
template <int kOutputs>
inline void multiply_members(const float* weights, Index size, const std::int32_t* sources,
                             Index kept, const float* tile, float* out) {
  constexpr int kVectors = kGroupedLanes / kWidth;
  Vector<kWidth> sums[kOutputs][kVectors];
  UNROLL for (int j = 0; j < kOutputs; ++j) {
    load_row<kGroupedLanes>(out + j * kGroupedLanes, sums[j], kGroupedLanes);
  }
  for (Index k = 0; k < kept; ++k) {
    const float* row = tile + sources[k] * kGroupedLanes;
    Vector<kWidth> inputs[kVectors];
    load_row<kGroupedLanes>(row, inputs, kGroupedLanes);
    UNROLL for (int j = 0; j < kOutputs; ++j) {
      const float value = weights[k * size + j];
      UNROLL for (int v = 0; v < kVectors; ++v) sums[j][v] += inputs[v] * value;
    }
  }
  UNROLL for (int j = 0; j < kOutputs; ++j) {
    store_row<kGroupedLanes>(out + j * kGroupedLanes, sums[j], kGroupedLanes, false);
  }
}

// The same for all members of a group.
inline void multiply_group(const float* weights, Index size, const std::int32_t* sources,
                           Index kept, const float* tile, float* out) {
  constexpr int kOutputs = kMostInFlight / (kGroupedLanes / kWidth);
  Index j = 0;
  const auto members = [&](auto count) {
    multiply_members<count>(weights + j, size, sources, kept, tile, out + j * kGroupedLanes);
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
  // Inputs whose activations and weights stay in the first cache for all members of a group.
  constexpr Index kRun = 64;
  const Index lanes = std::min(kGroupedLanes, batch - first);
  load_tile<kGroupedLanes>(x, layer.inputs, batch, first, tile);
  float* out = tile + layer.inputs * kGroupedLanes;
  for (Index group = 0; group < layer.groups; ++group) {
    const std::int32_t* sources = layer.sources + group * layer.kept;
    const float* weights = values + group * layer.kept * layer.size;
    const Index output = group * layer.size;
    const Index members = std::min(layer.size, layer.outputs - output);
    for (Index j = 0; j < layer.size; ++j) {
      const float start = j < members ? finish.start(output + j) : 0.0f;
      std::fill_n(out + j * kGroupedLanes, kGroupedLanes, start);
    }
    for (Index k = 0; k < layer.kept; k += kRun) {
      multiply_group(weights + k * layer.size, layer.size, sources + k,
                     std::min(kRun, layer.kept - k), tile, out);
    }
    for (Index j = 0; j < members; ++j) {
      Vector<kWidth> row[kGroupedLanes / kWidth];
      load_row<kGroupedLanes>(out + j * kGroupedLanes, row, kGroupedLanes);
      store_row<kGroupedLanes>(y + (output + j) * batch + first, row, lanes, finish.relu);
    }
  }
}

// Add to the rows of `kRows` inputs what one group's errors ([size][kGroupedLanes]) pass back.
template <int kRows>
inline void pass_back(const float* weights, Index members, Index size,
                      const std::int32_t* sources, const float* errors, float* tile) {
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

void grouped_input_gradient(const GroupedLayer& layer, const float* values, const float* dy,
                            float* dx, Index batch, Index first, float* tile) {
  constexpr int kRows = std::min<int>(8, kMostInFlight / (kGroupedLanes / kWidth));
  const Index lanes = std::min(kGroupedLanes, batch - first);
  float* errors = tile + layer.inputs * kGroupedLanes;
  std::memset(tile, 0, layer.inputs * kGroupedLanes * sizeof(float));
  std::memset(errors, 0, layer.size * kGroupedLanes * sizeof(float));
  for (Index group = 0; group < layer.groups; ++group) {
    const std::int32_t* sources = layer.sources + group * layer.kept;
    const float* weights = values + group * layer.kept * layer.size;
    const Index members = std::min(layer.size, layer.outputs - group * layer.size);
    load_tile<kGroupedLanes>(dy + group * layer.size * batch, members, batch, first, errors);
    Index k = 0;
    for (; k + kRows <= layer.kept; k += kRows) {
      if (k + 2 * kRows <= layer.kept) {
        UNROLL for (int r = 0; r < kRows; ++r) {
          __builtin_prefetch(tile + sources[k + kRows + r] * kGroupedLanes, 1);
        }
      }
      pass_back<kRows>(weights + k * layer.size, members, layer.size, sources + k, errors, tile);
    }
    for (; k < layer.kept; ++k) {
      pass_back<1>(weights + k * layer.size, members, layer.size, sources + k, errors, tile);
    }
  }
  for (Index i = 0; i < layer.inputs; ++i) {
    std::memcpy(dx + i * batch + first, tile + i * kGroupedLanes, lanes * sizeof(float));
  }
}

// Add to the weights of `kRows` inputs ([kRows][kSize]) the products of their activations with
// the errors of a group, [count][kSize].
template <int kRows, int kSize>
inline void correlate(const float* x, Index batch, const std::int32_t* sources,
                      const float* errors, Index count, float* dweights) {
  constexpr int kN = std::min(kWidth, kSize);
  constexpr int kVectors = kSize / kN;
  const float* rows[kRows];
  Vector<kN> sums[kRows][kVectors];
  UNROLL for (int r = 0; r < kRows; ++r) {
    rows[r] = x + sources[r] * batch;
    UNROLL for (int v = 0; v < kVectors; ++v) sums[r][v] = load<kN>(dweights + r * kSize + v * kN);
  }
  for (Index b = 0; b < count; ++b) {
    Vector<kN> error[kVectors];
    UNROLL for (int v = 0; v < kVectors; ++v) error[v] = load<kN>(errors + b * kSize + v * kN);
    UNROLL for (int r = 0; r < kRows; ++r) {
      const float activation = rows[r][b];
      UNROLL for (int v = 0; v < kVectors; ++v) sums[r][v] += error[v] * activation;
    }
  }
  UNROLL for (int r = 0; r < kRows; ++r) {
    UNROLL for (int v = 0; v < kVectors; ++v) store<kN>(dweights + r * kSize + v * kN, sums[r][v]);
  }
}

template <int kSize>
void grouped_weight_gradient_of(const GroupedLayer& layer, const float* x, const float* dy,
                                float* dvalues, Index batch, Index group, float* tile) {
  constexpr int kVectors = kSize / std::min(kWidth, kSize);
  constexpr int kRows = kMostInFlight / kVectors;
  const std::int32_t* sources = layer.sources + group * layer.kept;
  const Index members = std::min(layer.size, layer.outputs - group * layer.size);
  float* dweights = dvalues + group * layer.kept * kSize;
  std::memset(dweights, 0, layer.kept * kSize * sizeof(float));
  std::memset(tile, 0, kGradientBatch * kSize * sizeof(float));
  for (Index first = 0; first < batch; first += kGradientBatch) {
    const Index count = std::min(kGradientBatch, batch - first);
    for (Index j = 0; j < members; ++j) {
      const float* errors = dy + (group * kSize + j) * batch + first;
      for (Index b = 0; b < count; ++b) tile[b * kSize + j] = errors[b];
    }
    Index k = 0;
    for (; k + kRows <= layer.kept; k += kRows) {
      correlate<kRows, kSize>(x + first, batch, sources + k, tile, count, dweights + k * kSize);
    }
    for (; k < layer.kept; ++k) {
      correlate<1, kSize>(x + first, batch, sources + k, tile, count, dweights + k * kSize);
    }
  }
}

void grouped_weight_gradient(const GroupedLayer& layer, const float* x, const float* dy,
                             float* dvalues, Index batch, Index group, float* tile) {
  switch (layer.size) {
    case 8: return grouped_weight_gradient_of<8>(layer, x, dy, dvalues, batch, group, tile);
    case 16: return grouped_weight_gradient_of<16>(layer, x, dy, dvalues, batch, group, tile);
    default: return grouped_weight_gradient_of<32>(layer, x, dy, dvalues, batch, group, tile);
  }
}

void packed_vector(const PackedLayer& layer, const float* values, const Finish& finish,
                   const float* x, float* y, Index begin, Index end) {
  for (Index block = 0; block < layer.blocks(); ++block) {
    const std::int32_t* starts = layer.starts + block * layer.outputs;
    const bool last = block + 1 == layer.blocks();
    for (Index o = begin; o < end; ++o) {
      float sums[4] = {block == 0 ? finish.start(o) : y[o]};
      Index k = starts[o];
      for (; k + 4 <= starts[o + 1]; k += 4) {
        UNROLL for (int c = 0; c < 4; ++c) sums[c] += values[k + c] * x[layer.sources[k + c]];
      }
      for (; k < starts[o + 1]; ++k) sums[0] += values[k] * x[layer.sources[k]];
      const float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
      y[o] = last && finish.relu && sum < 0.0f ? 0.0f : sum;
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
  const Index members = std::min(layer.size, layer.outputs - group * layer.size);
  float out[kSize];
  UNROLL for (int v = 0; v < kVectors; ++v) store<kN>(out + v * kN, sums[0][v]);
  for (Index j = 0; j < members; ++j) {
    y[group * kSize + j] = finish.end(group * kSize + j, out[j]);
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

void batch_sum(const float* x, float* y, Index batch, Index begin, Index end) {
  for (Index i = begin; i < end; ++i) {
    const float* row = x + i * batch;
    Vector<kWidth> sums[4] = {};
    Index b = 0;
    for (; b + 4 * kWidth <= batch; b += 4 * kWidth) {
      UNROLL for (int c = 0; c < 4; ++c) sums[c] += load<kWidth>(row + b + c * kWidth);
    }
    float rest = 0.0f;
    for (; b < batch; ++b) rest += row[b];
    const Vector<4> sum = fold<kWidth>((sums[0] + sums[1]) + (sums[2] + sums[3]));
    y[i] = ((sum[0] + sum[2]) + (sum[1] + sum[3])) + rest;
  }
}

void feature_sum(const float* x, float* y, Index features, Index batch, Index begin, Index end) {
  // Blocks of features are summed apart, so that rounding errors do not pile up.
  constexpr Index kRun = 64;
  for (Index first = begin; first < end; first += kGroupedLanes) {
    const Index lanes = std::min(kGroupedLanes, end - first);
    float total[kGroupedLanes] = {};
    for (Index block = 0; block < features; block += kRun) {
      float sum[kGroupedLanes] = {};
      for (Index i = block; i < std::min(features, block + kRun); ++i) {
        const float* row = x + i * batch + first;
        if (lanes == kGroupedLanes) {
          UNROLL for (int b = 0; b < kGroupedLanes; ++b) sum[b] += row[b];
        } else {
          for (Index b = 0; b < lanes; ++b) sum[b] += row[b];
        }
      }
      UNROLL for (int b = 0; b < kGroupedLanes; ++b) total[b] += sum[b];
    }
    std::memcpy(y + first, total, lanes * sizeof(float));
  }
}

#define NAME_OF(isa) #isa
#define QUOTED(isa) NAME_OF(isa)

}  // namespace

extern const Kernels table;
const Kernels table = {
    QUOTED(KANBATSU_ISA),    packed_product,  packed_weight_gradient, grouped_product,
    grouped_input_gradient,  grouped_weight_gradient, packed_vector, grouped_vector,
    batch_sum, feature_sum,
};

}  // namespace KANBATSU_ISA
}  // namespace kanbatsu
