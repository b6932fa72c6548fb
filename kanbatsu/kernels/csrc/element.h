// The products of a packed layer: any of its weights are kept.
#pragma once

#include "simd.h"

namespace kanbatsu {
namespace KANBATSU_ISA {
namespace {

template <int kTile>
void packed_product_of(const PackedLayer& layer, const float* values, const Finish& finish,
                       const float* x, float* y, Index batch, Index first, Index begin,
                       Index end, float* tile) {
  constexpr int kVectors = kTile / kWidth;
  constexpr int kChains = std::max(1, kInFlight / kVectors);
  const Index lanes = std::min<Index>(kTile, batch - first);
  for (Index block = 0; block < layer.blocks(); ++block) {
    const Index base = block * kBlock;
    const float* rows = x;
    if (batch != kTile) {
      const Index size = std::min(kBlock, layer.inputs - base);
      load_tile<kTile>(x + base * batch, size, batch, first, tile);
      rows = tile - base * kTile;
    }
    const std::int32_t* starts = layer.starts + block * layer.outputs;
    const bool last = block + 1 == layer.blocks();
    for (Index o = begin; o < end; ++o) {
      const Index row = o * batch + first;
      Vector<kWidth> sums[kChains][kVectors] = {};
      if (block == 0) {
        start_row<kTile>(finish, o, row, lanes, sums[0]);
      } else {
        load_row<kTile>(y + row, sums[0], lanes);
      }
      Index k = starts[o];
      for (; k + kChains <= starts[o + 1]; k += kChains) {
        UNROLL for (int c = 0; c < kChains; ++c) {
          const float* input = rows + layer.sources[k + c] * kTile;
          const float value = values[k + c];
          UNROLL for (int v = 0; v < kVectors; ++v) {
            sums[c][v] += load<kWidth>(input + v * kWidth) * value;
          }
        }
      }
      for (; k < starts[o + 1]; ++k) {
        const float* input = rows + layer.sources[k] * kTile;
        UNROLL for (int v = 0; v < kVectors; ++v) {
          sums[0][v] += load<kWidth>(input + v * kWidth) * values[k];
        }
      }
      UNROLL for (int c = 1; c < kChains; ++c) {
        UNROLL for (int v = 0; v < kVectors; ++v) sums[0][v] += sums[c][v];
      }
      if (last) end_row<kTile>(finish, row, lanes, sums[0]);
      store_row<kTile>(y + row, sums[0], lanes);
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

void packed_weight_gradient(const PackedLayer& layer, const Samples& x, const Samples& dy,
                            float* dvalues, Index batch, Index begin, Index end, float* tile) {
  constexpr int kVectors = kPackedLanes / kWidth;
  float* row = tile + kBlock * kPackedLanes;
  for (Index block = 0; block < layer.blocks(); ++block) {
    const Index base = block * kBlock;
    const std::int32_t* starts = layer.starts + block * layer.outputs;
    std::fill(dvalues + starts[begin], dvalues + starts[end], 0.0f);
    for (Index t = 0; t * kPackedLanes < batch; ++t) {
      const Index lanes = std::min(kPackedLanes, batch - t * kPackedLanes);
      const float* rows = x.at(0, t);
      if (x.pitch != kPackedLanes) {
        const Index size = std::min(kBlock, layer.inputs - base);
        load_rows<kPackedLanes>(x.at(base, t), size, x.pitch, lanes, tile);
        rows = tile - base * kPackedLanes;
      }
      for (Index o = begin; o < end; ++o) {
        load_rows<kPackedLanes>(dy.at(o, t), 1, dy.pitch, lanes, row);
        Vector<kWidth> errors[kVectors];
        UNROLL for (int v = 0; v < kVectors; ++v) errors[v] = load<kWidth>(row + v * kWidth);
        const auto product = [&](Index k) {
          const float* input = rows + layer.sources[k] * kPackedLanes;
          Vector<kWidth> sum = load<kWidth>(input) * errors[0];
          UNROLL for (int v = 1; v < kVectors; ++v) {
            sum += load<kWidth>(input + v * kWidth) * errors[v];
          }
          return sum;
        };
        Index k = starts[o];
        for (; k + 4 <= starts[o + 1]; k += 4) {
          const Vector<4> sums =
              sums_of<kWidth>(product(k), product(k + 1), product(k + 2), product(k + 3));
          store<4>(dvalues + k, load<4>(dvalues + k) + sums);
        }
        for (; k < starts[o + 1]; ++k) {
          const Vector<4> sum = fold<kWidth>(product(k));
          dvalues[k] += (sum[0] + sum[2]) + (sum[1] + sum[3]);
        }
      }
    }
  }
}

void packed_vector(const PackedLayer& layer, const float* values, const Finish& finish,
                   const float* x, float* y, Index begin, Index end) {
  for (Index block = 0; block < layer.blocks(); ++block) {
    const std::int32_t* starts = layer.starts + block * layer.outputs;
    const bool last = block + 1 == layer.blocks();
    for (Index o = begin; o < end; ++o) {
      float sums[4] = {block == 0 ? finish.start_one(o) : y[o]};
      Index k = starts[o];
      for (; k + 4 <= starts[o + 1]; k += 4) {
        UNROLL for (int c = 0; c < 4; ++c) sums[c] += values[k + c] * x[layer.sources[k + c]];
      }
      for (; k < starts[o + 1]; ++k) sums[0] += values[k] * x[layer.sources[k]];
      const float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
      y[o] = last ? finish.end_one(o, sum) : sum;
    }
  }
}

}  // namespace
}  // namespace KANBATSU_ISA
}  // namespace kanbatsu
