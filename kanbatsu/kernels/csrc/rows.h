// Activations sample by sample, as most libraries lay them, turned into tiles and back.
#pragma once

#include "simd.h"

namespace kanbatsu {
namespace KANBATSU_ISA {
namespace {

// to[i * pitch + j] = from[j * step + i], of `rows` values of i and `columns` of j.
inline void turn(const float* from, Index step, Index rows, Index columns, float* to,
                 Index pitch) {
  Index i = 0;
  for (; i + 4 <= rows; i += 4) {
    Index j = 0;
    for (; j + 4 <= columns; j += 4) {
      const float* corner = from + j * step + i;
      const float* four[] = {corner, corner + step, corner + 2 * step, corner + 3 * step};
      transpose(four, 0, to + i * pitch + j, pitch);
    }
    for (; j < columns; ++j) {
      UNROLL for (Index k = i; k < i + 4; ++k) to[k * pitch + j] = from[j * step + k];
    }
  }
  for (; i < rows; ++i) {
    for (Index j = 0; j < columns; ++j) to[i * pitch + j] = from[j * step + i];
  }
}

void to_tile(const float* x, Index features, Index samples, Index lanes, float* tile) {
  if (samples < lanes) std::memset(tile, 0, features * lanes * sizeof(float));
  turn(x, features, features, samples, tile, lanes);
}

void from_tile(const float* tile, Index features, Index samples, Index lanes, float* y) {
  turn(tile, lanes, samples, features, y, features);
}

}  // namespace
}  // namespace KANBATSU_ISA
}  // namespace kanbatsu
