// The products of either layout, cut into shares of work.
#pragma once

#include <atomic>

#include "layers.h"
#include "parallel.h"

namespace kanbatsu {

// Weights below which one sample is not worth a second thread.
constexpr Index kVectorShare = 1 << 17;

inline Index lanes_of(const PackedLayer&) { return kPackedLanes; }
inline Index lanes_of(const GroupedLayer&) { return kGroupedLanes; }

// The begin of the `share`-th of `shares` ranges of `count` things.
inline Index cut(Index count, Index share, Index shares) { return count * share / shares; }

// y of the samples of one tile, outputs [begin, end).
inline void multiply_part(const PackedLayer& layer, const float* values, const Finish& finish,
                          const float* x, float* y, Index batch, Index tile, Index begin,
                          Index end) {
  if (batch == 1) {
    kernels().packed_vector(layer, values, finish, x, y, begin, end);
  } else {
    kernels().packed_product(layer, values, finish, x, y, batch, tile * kPackedLanes, begin, end,
                             scratch(kBlock * kPackedLanes));
  }
}

// y of a batch that is one tile, [features][lanes].
inline void multiply_tile(const PackedLayer& layer, const float* values, const Finish& finish,
                          const float* x, float* y) {
  kernels().packed_product(layer, values, finish, x, y, kPackedLanes, 0, 0, layer.outputs,
                           nullptr);
}
inline void multiply_tile(const GroupedLayer& layer, const float* values, const Finish& finish,
                          const float* x, float* y) {
  kernels().grouped_product(layer, values, finish, x, y, kGroupedLanes, 0,
                            scratch((layer.inputs + layer.size) * kGroupedLanes));
}

// y of all samples.
template <class Pool>
void multiply(Pool& pool, const PackedLayer& layer, const float* values, const Finish& finish,
              const float* x, float* y, Index batch) {
  if (batch == 0) return;
  // A batch with fewer tiles than there are threads is cut by outputs too.
  const Index tiles = (batch + kPackedLanes - 1) / kPackedLanes;
  const Index wanted = batch == 1 ? 1 + layer.kept / kVectorShare : layer.outputs;
  const Index parts = (threads_for(pool, wanted) + tiles - 1) / tiles;
  parallel_for(pool, tiles * parts, [&](Index share) {
    const Index part = share % parts;
    multiply_part(layer, values, finish, x, y, batch, share / parts,
                  cut(layer.outputs, part, parts), cut(layer.outputs, part + 1, parts));
  });
}

template <class Pool>
void multiply(Pool& pool, const GroupedLayer& layer, const float* values, const Finish& finish,
              const float* x, float* y, Index batch) {
  if (batch == 1) {
    const Index wanted = 1 + layer.groups * layer.kept * layer.size / kVectorShare;
    const Index shares = threads_for(pool, std::min(layer.groups, wanted));
    parallel_for(pool, shares, [&](Index share) {
      const Index end = cut(layer.groups, share + 1, shares);
      for (Index group = cut(layer.groups, share, shares); group < end; ++group) {
        kernels().grouped_vector(layer, values, finish, x, y, group);
      }
    });
    return;
  }
  parallel_for(pool, (batch + kGroupedLanes - 1) / kGroupedLanes, [&](Index tile) {
    kernels().grouped_product(layer, values, finish, x, y, batch, tile * kGroupedLanes,
                              scratch((layer.inputs + layer.size) * kGroupedLanes));
  });
}

// dx of the samples of one tile.
inline void pass_back(const GroupedLayer& layer, const float* values, const Finish& finish,
                      const float* dy, float* dx, Index batch, Index tile) {
  kernels().grouped_input_gradient(layer, values, finish, dy, dx, batch, tile * kGroupedLanes,
                                   scratch((layer.inputs + layer.size) * kGroupedLanes));
}

// The values of a packed layer in the order of its transposed one; false if a position is none.
template <class Pool>
bool reorder(Pool& pool, Index kept, const float* values, const std::int32_t* order,
             float* ordered) {
  constexpr Index kPiece = 1 << 14;
  std::atomic<bool> inside{true};
  parallel_for(pool, (kept + kPiece - 1) / kPiece, [&](Index piece) {
    const Index begin = piece * kPiece, end = std::min(kept, begin + kPiece);
    if (!kernels().ints_lie_within(order + begin, end - begin, kept)) {
      inside = false;
      return;
    }
    for (Index k = begin; k < end; ++k) ordered[k] = values[order[k]];
  });
  return inside;
}

// Shares of a weight gradient. Each share of a packed one reads all activations once, so there are
// no more of them than threads.
template <class Pool>
Index gradient_shares(Pool& pool, const PackedLayer& layer) {
  return threads_for(pool, layer.outputs);
}
template <class Pool>
Index gradient_shares(Pool&, const GroupedLayer& layer) {
  return layer.groups;
}

inline void weight_gradient(const PackedLayer& layer, const Samples& x, const Samples& dy,
                            float* dvalues, Index batch, Index share, Index shares) {
  kernels().packed_weight_gradient(layer, x, dy, dvalues, batch, cut(layer.outputs, share, shares),
                                   cut(layer.outputs, share + 1, shares),
                                   scratch((kBlock + 1) * kPackedLanes));
}
inline void weight_gradient(const GroupedLayer& layer, const Samples& x, const Samples& dy,
                            float* dvalues, Index batch, Index share, Index) {
  kernels().grouped_weight_gradient(layer, x, dy, dvalues, batch, share,
                                    scratch(kGradientBatch * layer.size));
}

}  // namespace kanbatsu
