// The two kinds of layers, as the buffers of a call describe them: what handlers are written for.
#pragma once

#include "buffers.h"
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

  // What passes an error back, of one tile or of a whole batch: the transposed layer, with its values
  // in its own order, for which it needs room.
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
    Index needs() const { return layer.kept; }
    template <class Pool>
    void prepare(Pool& pool, float* ordered) {
      require(reorder(pool, layer.kept, values, order, ordered),
              "a packed weight names a value that does not exist");
      values = ordered;
    }
    void operator()(const Finish& finish, const float* dy, float* dx) const {
      multiply_tile(layer, values, finish, dy, dx);
    }
    template <class Pool>
    void whole(Pool& pool, const float* dy, float* dx, Index batch) const {
      multiply(pool, layer, values, Finish{}, dy, dx, batch);
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
    void prepare(Pool&, float*) {}
    void operator()(const Finish& finish, const float* dy, float* dx) const {
      pass_back(layer, values, finish, dy, dx, kGroupedLanes, 0);
    }
    template <class Pool>
    void whole(Pool& pool, const float* dy, float* dx, Index batch) const {
      parallel_for(pool, (batch + kLanes - 1) / kLanes, [&](Index tile) {
        pass_back(layer, values, Finish{}, dy, dx, batch, tile);
      });
    }
  };
};

}  // namespace kanbatsu
