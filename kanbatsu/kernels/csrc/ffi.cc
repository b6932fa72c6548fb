// What JAX calls: buffers are checked here, so that the kernels can trust them.
#include <string>

#include "layers.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace kanbatsu {
namespace {

using Floats = ffi::Buffer<ffi::F32>;
using FloatsOut = ffi::ResultBuffer<ffi::F32>;
using Shorts = ffi::Buffer<ffi::U16>;
using Ints = ffi::Buffer<ffi::S32>;

// Weights below which one sample is not worth a second thread.
constexpr Index kVectorShare = 1 << 17;

ffi::Error refuse(const std::string& what) {
  return ffi::Error::InvalidArgument("kanbatsu: " + what);
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

// A bias of length 0 is none.
bool set_bias(const Floats& bias, Index outputs, Finish* finish) {
  if (is_shape(bias, {0})) return true;
  finish->bias = bias.typed_data();
  return is_shape(bias, {outputs});
}

// The range of `count` things that is the `share`-th of `shares`.
Index cut(Index count, Index share, Index shares) { return count * share / shares; }

template <class Pool>
void packed_product_into(Pool& pool, const PackedLayer& layer, const float* values,
                         const Finish& finish, const float* x, float* y, Index batch) {
  if (batch == 1) {
    const Index shares = threads_for(pool, 1 + layer.kept / kVectorShare);
    parallel_for(pool, shares, [&](Index share) {
      kernels().packed_vector(layer, values, finish, x, y, cut(layer.outputs, share, shares),
                              cut(layer.outputs, share + 1, shares));
    });
    return;
  }
  // A batch with fewer tiles than there are threads is cut by outputs too.
  const Index tiles = (batch + kPackedLanes - 1) / kPackedLanes;
  if (tiles == 0) return;
  const Index parts = (threads_for(pool, layer.outputs) + tiles - 1) / tiles;
  parallel_for(pool, tiles * parts, [&](Index share) {
    const Index tile = share / parts, part = share % parts;
    kernels().packed_product(layer, values, finish, x, y, batch, tile * kPackedLanes,
                             cut(layer.outputs, part, parts), cut(layer.outputs, part + 1, parts),
                             scratch(kBlock * kPackedLanes));
  });
}

ffi::Error packed_affine(ffi::ThreadPool pool, Floats x, Floats values, Floats bias, Ints starts,
                         Shorts sources, bool relu, FloatsOut y) {
  if (!is_matrix(x) || !is_matrix(*y)) return refuse("activations must be [batch, features]");
  const Index batch = x.dimensions()[0];
  PackedLayer layer{x.dimensions()[1], y->dimensions()[1],
                    static_cast<Index>(values.element_count()), starts.typed_data(),
                    sources.typed_data()};
  if (!is_shape(*y, {batch, layer.outputs}) || !is_shape(values, {layer.kept}) ||
      !is_shape(sources, {layer.kept}) || !is_shape(starts, {layer.blocks() * layer.outputs + 1})) {
    return refuse("the shapes of a packed weight and its activations do not fit");
  }
  if (!is_valid(layer)) return refuse("a packed weight names an input that does not exist");
  Finish finish{nullptr, relu};
  if (!set_bias(bias, layer.outputs, &finish)) return refuse("a bias must be [outputs]");
  packed_product_into(pool, layer, values.typed_data(), finish, x.typed_data(), y->typed_data(),
                      batch);
  return ffi::Error::Success();
}

// The same product with the transposed layer, whose values are looked up first.
ffi::Error packed_input_gradient(ffi::ThreadPool pool, Floats dy, Floats values, Ints starts,
                                 Shorts sources, Ints order, FloatsOut dx,
                                 ffi::ResultBuffer<ffi::F32> ordered) {
  if (!is_matrix(dy) || !is_matrix(*dx)) return refuse("gradients must be [batch, features]");
  const Index batch = dy.dimensions()[0];
  PackedLayer layer{dy.dimensions()[1], dx->dimensions()[1],
                    static_cast<Index>(values.element_count()), starts.typed_data(),
                    sources.typed_data()};
  if (!is_shape(*dx, {batch, layer.outputs}) || !is_shape(values, {layer.kept}) ||
      !is_shape(sources, {layer.kept}) || !is_shape(order, {layer.kept}) ||
      !is_shape(*ordered, {layer.kept}) || !is_shape(starts, {layer.blocks() * layer.outputs + 1})) {
    return refuse("the shapes of a packed weight and its gradients do not fit");
  }
  if (!is_valid(layer)) return refuse("a packed weight names an output that does not exist");
  const float* from = values.typed_data();
  const std::int32_t* position = order.typed_data();
  float* to = ordered->typed_data();
  constexpr Index kPiece = 1 << 16;
  std::atomic<bool> inside{true};
  parallel_for(pool, (layer.kept + kPiece - 1) / kPiece, [&](Index piece) {
    const Index end = std::min(layer.kept, (piece + 1) * kPiece);
    for (Index k = piece * kPiece; k < end; ++k) {
      if (position[k] < 0 || position[k] >= layer.kept) {
        inside = false;
        return;
      }
      to[k] = from[position[k]];
    }
  });
  if (!inside) return refuse("a packed weight names a value that does not exist");
  packed_product_into(pool, layer, to, Finish{}, dy.typed_data(), dx->typed_data(), batch);
  return ffi::Error::Success();
}

ffi::Error packed_weight_gradient(ffi::ThreadPool pool, Floats x, Floats dy, Ints starts,
                                  Shorts sources, FloatsOut dvalues) {
  if (!is_matrix(x) || !is_matrix(dy)) return refuse("activations must be [batch, features]");
  const Index batch = x.dimensions()[0];
  PackedLayer layer{x.dimensions()[1], dy.dimensions()[1],
                    static_cast<Index>(dvalues->element_count()), starts.typed_data(),
                    sources.typed_data()};
  if (!is_shape(dy, {batch, layer.outputs}) || !is_shape(*dvalues, {layer.kept}) ||
      !is_shape(sources, {layer.kept}) || !is_shape(starts, {layer.blocks() * layer.outputs + 1})) {
    return refuse("the shapes of a packed weight and its gradients do not fit");
  }
  if (!is_valid(layer)) return refuse("a packed weight names an input that does not exist");
  // Every share reads all activations once, so there are no more shares than threads.
  const Index shares = threads_for(pool, layer.outputs);
  parallel_for(pool, shares, [&](Index share) {
    kernels().packed_weight_gradient(layer, x.typed_data(), dy.typed_data(),
                                     dvalues->typed_data(), batch,
                                     cut(layer.outputs, share, shares),
                                     cut(layer.outputs, share + 1, shares),
                                     scratch((kBlock + 1) * kPackedLanes));
  });
  return ffi::Error::Success();
}

// A grouped layer, with the shapes of its activations, or what is wrong with them.
ffi::ErrorOr<GroupedLayer> grouped_layer(const Floats& x, const Floats& y, const Floats& values,
                                         const Ints& sources) {
  if (!is_matrix(x) || !is_matrix(y) || x.dimensions()[0] != y.dimensions()[0]) {
    return ffi::Unexpected(refuse("activations must be [batch, features], of one batch"));
  }
  if (values.dimensions().size() != 3 || !is_matrix(sources)) {
    return ffi::Unexpected(refuse("a grouped weight is [groups, kept, size] with [groups, kept]"));
  }
  const auto shape = values.dimensions();
  GroupedLayer layer{x.dimensions()[1], y.dimensions()[1],    shape[0],
                     shape[1],          shape[2],             sources.typed_data()};
  if (!is_shape(sources, {layer.groups, layer.kept}) || !is_valid(layer)) {
    return ffi::Unexpected(refuse("a grouped weight does not fit its activations"));
  }
  return layer;
}

ffi::Error grouped_affine(ffi::ThreadPool pool, Floats x, Floats values, Floats bias,
                          Ints sources, bool relu, FloatsOut y) {
  const auto checked = grouped_layer(x, *y, values, sources);
  if (!checked.has_value()) return checked.error();
  const GroupedLayer layer = *checked;
  const Index batch = x.dimensions()[0];
  Finish finish{nullptr, relu};
  if (!set_bias(bias, layer.outputs, &finish)) return refuse("a bias must be [outputs]");
  const float *weights = values.typed_data(), *from = x.typed_data();
  float* to = y->typed_data();
  if (batch == 1) {
    const Index wanted = 1 + layer.groups * layer.kept * layer.size / kVectorShare;
    const Index shares = threads_for(pool, std::min(layer.groups, wanted));
    parallel_for(pool, shares, [&](Index share) {
      const Index end = cut(layer.groups, share + 1, shares);
      for (Index group = cut(layer.groups, share, shares); group < end; ++group) {
        kernels().grouped_vector(layer, weights, finish, from, to, group);
      }
    });
    return ffi::Error::Success();
  }
  parallel_for(pool, (batch + kGroupedLanes - 1) / kGroupedLanes, [&](Index tile) {
    kernels().grouped_product(layer, weights, finish, from, to, batch, tile * kGroupedLanes,
                              scratch((layer.inputs + layer.size) * kGroupedLanes));
  });
  return ffi::Error::Success();
}

ffi::Error grouped_input_gradient(ffi::ThreadPool pool, Floats dy, Floats values, Ints sources,
                                  FloatsOut dx) {
  const auto checked = grouped_layer(*dx, dy, values, sources);
  if (!checked.has_value()) return checked.error();
  const GroupedLayer layer = *checked;
  const Index batch = dy.dimensions()[0];
  parallel_for(pool, (batch + kGroupedLanes - 1) / kGroupedLanes, [&](Index tile) {
    kernels().grouped_input_gradient(layer, values.typed_data(), dy.typed_data(),
                                     dx->typed_data(), batch, tile * kGroupedLanes,
                                     scratch((layer.inputs + layer.size) * kGroupedLanes));
  });
  return ffi::Error::Success();
}

ffi::Error grouped_weight_gradient(ffi::ThreadPool pool, Floats x, Floats dy, Ints sources,
                                   FloatsOut dvalues) {
  const auto checked = grouped_layer(x, dy, *dvalues, sources);
  if (!checked.has_value()) return checked.error();
  const GroupedLayer layer = *checked;
  const Index batch = x.dimensions()[0];
  parallel_for(pool, layer.groups, [&](Index group) {
    kernels().grouped_weight_gradient(layer, x.typed_data(), dy.typed_data(),
                                      dvalues->typed_data(), batch, group,
                                      scratch(kGradientBatch * layer.size));
  });
  return ffi::Error::Success();
}

// Features or samples that one thread sums at least.
constexpr Index kSumShare = 32;

ffi::Error batch_sum(ffi::ThreadPool pool, Floats x, FloatsOut y) {
  if (!is_matrix(x) || !is_shape(*y, {x.dimensions()[1]})) return refuse("sums must be [features]");
  const Index batch = x.dimensions()[0], features = x.dimensions()[1];
  const Index shares = threads_for(pool, (features + kSumShare - 1) / kSumShare);
  parallel_for(pool, shares, [&](Index share) {
    kernels().batch_sum(x.typed_data(), y->typed_data(), batch, cut(features, share, shares),
                        cut(features, share + 1, shares));
  });
  return ffi::Error::Success();
}

ffi::Error feature_sum(ffi::ThreadPool pool, Floats x, FloatsOut y) {
  if (!is_matrix(x) || !is_shape(*y, {x.dimensions()[0]})) return refuse("sums must be [batch]");
  const Index batch = x.dimensions()[0], features = x.dimensions()[1];
  const Index tiles = (batch + kSumShare - 1) / kSumShare;
  const Index shares = threads_for(pool, tiles);
  parallel_for(pool, shares, [&](Index share) {
    kernels().feature_sum(x.typed_data(), y->typed_data(), features, batch,
                          cut(tiles, share, shares) * kSumShare,
                          std::min(batch, cut(tiles, share + 1, shares) * kSumShare));
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(kanbatsu_packed_affine, packed_affine,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Ints>()
                                  .Arg<Shorts>()
                                  .Attr<bool>("relu")
                                  .Ret<Floats>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(kanbatsu_packed_input_gradient, packed_input_gradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Ints>()
                                  .Arg<Shorts>()
                                  .Arg<Ints>()
                                  .Ret<Floats>()
                                  .Ret<Floats>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(kanbatsu_packed_weight_gradient, packed_weight_gradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Ints>()
                                  .Arg<Shorts>()
                                  .Ret<Floats>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(kanbatsu_grouped_affine, grouped_affine,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Ints>()
                                  .Attr<bool>("relu")
                                  .Ret<Floats>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(kanbatsu_grouped_input_gradient, grouped_input_gradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Ints>()
                                  .Ret<Floats>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(kanbatsu_grouped_weight_gradient, grouped_weight_gradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Ints>()
                                  .Ret<Floats>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kanbatsu_batch_sum, batch_sum,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Ret<Floats>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kanbatsu_feature_sum, feature_sum,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Ret<Floats>());

extern "C" {

const char* kanbatsu_isa() { return kernels().name; }

void kanbatsu_set_threads(int threads) { thread_limit.store(threads); }

}  // extern "C"

}  // namespace kanbatsu
