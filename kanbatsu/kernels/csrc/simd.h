// Vectors of any width, and tiles of activations: [features][samples], a few samples wide.
// Included once per instruction set, with KANBATSU_ISA (its name) and KANBATSU_WIDTH (floats per
// register).
#pragma once

#include <algorithm>
#include <cstring>

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

// Copy `lanes` samples of every feature, `pitch` floats apart, to a tile [features][kTile], padded
// with zeros.
template <int kTile>
void load_rows(const float* x, Index features, Index pitch, Index lanes, float* tile) {
  if (lanes < kTile) std::memset(tile, 0, features * kTile * sizeof(float));
  for (Index i = 0; i < features; ++i) {
    std::memcpy(tile + i * kTile, x + i * pitch, (lanes < kTile ? lanes : kTile) * sizeof(float));
  }
}

template <int kTile>
void load_tile(const float* x, Index features, Index batch, Index first, float* tile) {
  load_rows<kTile>(x + first, features, batch, std::min<Index>(kTile, batch - first), tile);
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

template <int kTile>
inline void load_row(const float* row, Vector<kWidth>* vectors, Index lanes) {
  if (lanes == kTile) {
    UNROLL for (int v = 0; v < kTile / kWidth; ++v) vectors[v] = load<kWidth>(row + v * kWidth);
  } else {
    std::memcpy(vectors, row, lanes * sizeof(float));
  }
}

template <int kTile>
inline void store_row(float* row, const Vector<kWidth>* vectors, Index lanes) {
  if (lanes == kTile) {
    UNROLL for (int v = 0; v < kTile / kWidth; ++v) store<kWidth>(row + v * kWidth, vectors[v]);
  } else {
    std::memcpy(row, vectors, lanes * sizeof(float));
  }
}

// What a product adds to the samples of one output, whose rows begin at `row`.
template <int kTile>
inline void start_row(const Finish& finish, Index output, Index row, Index lanes,
                      Vector<kWidth>* vectors) {
  UNROLL for (int v = 0; v < kTile / kWidth; ++v) {
    vectors[v] = broadcast<kWidth>(finish.start(output));
  }
  if (finish.beside == nullptr) return;
  Vector<kWidth> beside[kTile / kWidth] = {};
  load_row<kTile>(finish.beside + row, beside, lanes);
  UNROLL for (int v = 0; v < kTile / kWidth; ++v) vectors[v] += beside[v];
}

// What it does last.
template <int kTile>
inline void end_row(const Finish& finish, Index row, Index lanes, Vector<kWidth>* vectors) {
  if (finish.relu) {
    UNROLL for (int v = 0; v < kTile / kWidth; ++v) vectors[v] = rectify<kWidth>(vectors[v]);
  }
  if (finish.gate == nullptr) return;
  Vector<kWidth> gate[kTile / kWidth] = {};
  load_row<kTile>(finish.gate + row, gate, lanes);
  UNROLL for (int v = 0; v < kTile / kWidth; ++v) {
    vectors[v] = gate[v] > Vector<kWidth>{} ? vectors[v] : Vector<kWidth>{};
  }
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

}  // namespace
}  // namespace KANBATSU_ISA
}  // namespace kanbatsu
