// Vectors of any width, and tiles of activations: [features][samples], a few samples wide.
// Included once per instruction set, with KANBATSU_ISA (its name) and KANBATSU_WIDTH (floats per
// register).
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>

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
  if (lanes >= kTile) {
    for (Index i = 0; i < features; ++i) {
      std::memcpy(tile + i * kTile, x + i * pitch, kTile * sizeof(float));
    }
    return;
  }
  std::memset(tile, 0, features * kTile * sizeof(float));
  for (Index i = 0; i < features; ++i) {
    std::memcpy(tile + i * kTile, x + i * pitch, lanes * sizeof(float));
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
  if constexpr (N == 4) {
    return vector;
  } else {
    Vector<N / 2> halves[2];
    std::memcpy(halves, &vector, sizeof vector);
    return fold<N / 2>(halves[0] + halves[1]);
  }
}

// Pick entries of every four of one vector (0 to 3) and of another (4 to 7).
template <int N, int... order, int... i>
inline Vector<N> pick(Vector<N> one, Vector<N> other, std::integer_sequence<int, i...>) {
  constexpr int from[] = {order...};
#if defined(__clang__)
  return __builtin_shufflevector(one, other, (i & ~3) + from[i & 3] % 4 + from[i & 3] / 4 * N...);
#else
  typedef int Order __attribute__((vector_size(4 * N)));
  return __builtin_shuffle(one, other,
                           Order{(i & ~3) + from[i & 3] % 4 + from[i & 3] / 4 * N...});
#endif
}
template <int N, int a, int b, int c, int d>
inline Vector<N> pick(Vector<N> one, Vector<N> other) {
  return pick<N, a, b, c, d>(one, other, std::make_integer_sequence<int, N>());
}

// The sum of each of four vectors.
template <int N>
inline Vector<4> sums_of(Vector<N> a, Vector<N> b, Vector<N> c, Vector<N> d) {
  const Vector<N> ab = pick<N, 0, 4, 1, 5>(a, b) + pick<N, 2, 6, 3, 7>(a, b);
  const Vector<N> cd = pick<N, 0, 4, 1, 5>(c, d) + pick<N, 2, 6, 3, 7>(c, d);
  return fold<N>(pick<N, 0, 1, 4, 5>(ab, cd) + pick<N, 2, 3, 6, 7>(ab, cd));
}

// Write the entries from `first` on of four rows, entry by entry, `pitch` floats apart.
inline void transpose(const float* const* rows, Index first, float* to, Index pitch) {
  const Vector<4> a = load<4>(rows[0] + first), b = load<4>(rows[1] + first);
  const Vector<4> c = load<4>(rows[2] + first), d = load<4>(rows[3] + first);
  const Vector<4> ab = pick<4, 0, 4, 1, 5>(a, b), cd = pick<4, 0, 4, 1, 5>(c, d);
  const Vector<4> ab2 = pick<4, 2, 6, 3, 7>(a, b), cd2 = pick<4, 2, 6, 3, 7>(c, d);
  store<4>(to, pick<4, 0, 1, 4, 5>(ab, cd));
  store<4>(to + pitch, pick<4, 2, 3, 6, 7>(ab, cd));
  store<4>(to + 2 * pitch, pick<4, 0, 1, 4, 5>(ab2, cd2));
  store<4>(to + 3 * pitch, pick<4, 2, 3, 6, 7>(ab2, cd2));
}

}  // namespace
}  // namespace KANBATSU_ISA
}  // namespace kanbatsu
