// What the passes of a residual trunk share. A trunk is x + down(relu(up(norm(x)))) block after
// block, then a norm, in one call.
//
// Activations enter and leave feature-major. Inside they lie in tiles, [tiles][features][lanes], with
// zeros for samples that do not exist: a product reads and writes one piece of memory, not lines far
// apart. Samples do not depend on each other, so a tile goes on to its next stage while others are
// still in this one: no thread waits for the others between two products.
#pragma once

#include "kinds.h"
#include "room.h"

namespace kanbatsu {

// Copy samples [first, first + kLanes) of x[features][batch] to a tile, or back.
template <Index kLanes>
void enter(const float* x, Index features, Index batch, Index first, float* tile) {
  const Index count = std::min(kLanes, batch - first);
  for (Index i = 0; i < features; ++i) {
    const float* row = x + i * batch + first;
    if (count == kLanes) {
      std::copy_n(row, kLanes, tile + i * kLanes);
    } else {
      std::fill_n(std::copy_n(row, count, tile + i * kLanes), kLanes - count, 0.0f);
    }
  }
}
template <Index kLanes>
void leave(const float* tile, Index features, Index batch, Index first, float* x) {
  const Index count = std::min(kLanes, batch - first);
  for (Index i = 0; i < features; ++i) {
    float* row = x + i * batch + first;
    if (count == kLanes) {
      std::copy_n(tile + i * kLanes, kLanes, row);
    } else {
      std::copy_n(tile + i * kLanes, count, row);
    }
  }
}

// The batch of a trunk, and the shapes of what lies in tiles.
template <class Kind>
struct Batch {
  static constexpr Index kLanes = Kind::kLanes;
  Index samples, width, tiles, units = 0;

  explicit Batch(const Floats& x) {
    require(is_matrix(x), "activations must be [batch, features]");
    samples = x.dimensions()[0], width = x.dimensions()[1];
    tiles = (samples + kLanes - 1) / kLanes;
  }
  // Learn the number of hidden units, which is that of every block.
  void learn_units(Index count) {
    require(units == 0 || units == count, "the blocks of a trunk have as many hidden units");
    units = count;
  }
  template <class List>
  auto next_wide(List& list) const {
    return list.next({tiles, width, kLanes});
  }
  template <class List>
  auto next_hidden(List& list) const {
    return list.next({tiles, units, kLanes});
  }
  template <class List>
  auto next_statistic(List& list) const {
    return list.next({tiles, 1, kLanes});
  }
  Index wide_size() const { return tiles * width * kLanes; }
  Index hidden_size() const { return tiles * units * kLanes; }
  Index statistic_size() const { return tiles * kLanes; }
  Index at(Index tile) const { return tile * width * kLanes; }
  Index hidden_at(Index tile) const { return tile * units * kLanes; }
  Samples wide(const float* data) const { return {data, kLanes, width * kLanes}; }
  Samples hidden(const float* data) const { return {data, kLanes, units * kLanes}; }
};

}  // namespace kanbatsu
