// What the passes of a residual trunk share. A trunk is x + down(relu(up(norm(x)))) block after
// block, then a norm, in one call.
//
// Activations enter and leave feature-major. Inside they lie in tiles, [tiles][features][lanes], with
// zeros for samples that do not exist: a product reads and writes one piece of memory, not lines far
// apart. Samples do not depend on each other, so a tile goes on to its next stage while others are
// still in this one: no thread waits for the others between two products.
#pragma once

#include "buffers.h"
#include "room.h"
#include "shares.h"

namespace kanbatsu {

// A layer that any weights are kept of.
struct Element {
  using Layer = PackedLayer;
  static constexpr Index kLanes = kPackedLanes;

  static Layer read(Arguments& arguments, Index inputs, Index outputs, const Floats&) {
    const auto starts = arguments.next<Ints>();
    const auto sources = arguments.next<Shorts>();
    return packed_layer(inputs, outputs, starts, sources, "an input");
  }

  // What passes an error back: the transposed layer, with its values in its own order.
  struct Back {
    Layer layer;
    const float* values;
    const std::int32_t* order;

    static Back read(Arguments& arguments, const Floats& values, Index inputs, Index outputs) {
      const auto starts = arguments.next<Ints>();
      const auto sources = arguments.next<Shorts>();
      const auto order = arguments.next<Ints>();
      const Layer layer = packed_layer(outputs, inputs, starts, sources, "an output");
      require_values(layer, values);
      require(is_shape(order, {layer.kept}), "the shapes of a packed weight do not fit its order");
      return {layer, values.typed_data(), order.typed_data()};
    }
    Index needs() const { return Room::size(layer.kept); }
    template <class Pool>
    void prepare(Pool& pool, Room& room) {
      float* ordered = room.next(layer.kept);
      require(reorder(pool, layer.kept, values, order, ordered),
              "a packed weight names a value that does not exist");
      values = ordered;
    }
    void operator()(const Finish& finish, const float* dy, float* dx) const {
      multiply_tile(layer, values, finish, dy, dx);
    }
  };
};

// A layer whose neighbouring outputs share their inputs.
struct Group {
  using Layer = GroupedLayer;
  static constexpr Index kLanes = kGroupedLanes;

  static Layer read(Arguments& arguments, Index inputs, Index outputs, const Floats& values) {
    return grouped_layer(inputs, outputs, group_size(values), arguments.next<Ints>());
  }

  struct Back {
    Layer layer;
    const float* values;

    static Back read(Arguments& arguments, const Floats& values, Index inputs, Index outputs) {
      const Layer layer = Group::read(arguments, inputs, outputs, values);
      require_values(layer, values);
      return {layer, values.typed_data()};
    }
    Index needs() const { return 0; }
    template <class Pool>
    void prepare(Pool&, Room&) {}
    void operator()(const Finish& finish, const float* dy, float* dx) const {
      pass_back(layer, values, finish, dy, dx, kGroupedLanes, 0);
    }
  };
};

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
