// Buffers from JAX become layers here, or an error that says what does not fit; the kernels trust
// what passed.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "layers.h"
#include "xla/ffi/api/ffi.h"

namespace kanbatsu {

namespace ffi = xla::ffi;

using Floats = ffi::Buffer<ffi::F32>;
using FloatsOut = ffi::ResultBuffer<ffi::F32>;
using Shorts = ffi::Buffer<ffi::U16>;
using Ints = ffi::Buffer<ffi::S32>;

struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void require(bool holds, const std::string& what) {
  if (!holds) throw Refusal("kanbatsu: " + what);
}

// Run a handler; a refusal becomes JAX's error.
template <class Handler>
ffi::Error guarded(const Handler& handler) {
  try {
    handler();
    return ffi::Error::Success();
  } catch (const Refusal& refusal) {
    return ffi::Error::InvalidArgument(refusal.what());
  }
}

template <class Buffer>
bool is_shape(const Buffer& buffer, std::initializer_list<Index> wanted) {
  const auto dimensions = buffer.dimensions();
  return dimensions.size() == wanted.size() &&
         std::equal(wanted.begin(), wanted.end(), dimensions.begin());
}

template <class Buffer>
bool is_matrix(const Buffer& buffer) {
  return buffer.dimensions().size() == 2;
}

// A layer of as many weights as there are `sources`; `side` is what they name, for the message.
inline PackedLayer packed_layer(Index inputs, Index outputs, const Ints& starts,
                                const Shorts& sources, const char* side) {
  const PackedLayer layer{inputs, outputs, static_cast<Index>(sources.element_count()),
                          starts.typed_data(), sources.typed_data()};
  require(is_shape(sources, {layer.kept}) &&
              is_shape(starts, {layer.blocks() * layer.outputs + 1}),
          "the shapes of a packed weight do not fit its activations");
  require(is_valid(layer), "a packed weight names " + std::string(side) + " that does not exist");
  return layer;
}

inline void require_values(const PackedLayer& layer, const Floats& values) {
  require(is_shape(values, {layer.kept}), "the shapes of a packed weight do not fit its values");
}

// A layer of groups of `size` outputs.
inline GroupedLayer grouped_layer(Index inputs, Index outputs, Index size, const Ints& sources) {
  require(is_matrix(sources), "the sources of a grouped weight are [groups, kept]");
  const auto shape = sources.dimensions();
  const GroupedLayer layer{inputs, outputs, shape[0], shape[1], size, sources.typed_data()};
  require(is_valid(layer), "a grouped weight does not fit its activations");
  return layer;
}

inline void require_values(const GroupedLayer& layer, const Floats& values) {
  require(is_shape(values, {layer.groups, layer.kept, layer.size}),
          "the values of a grouped weight do not fit: they are [groups, kept, size]");
}

inline Index group_size(const Floats& values) {
  require(values.dimensions().size() == 3, "the values of a grouped weight are [groups, kept, size]");
  return values.dimensions()[2];
}

}  // namespace kanbatsu
