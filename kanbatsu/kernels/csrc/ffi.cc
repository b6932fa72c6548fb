// What JAX calls for single layers; residual trunks are in trunk.cc.
#include "checks.h"
#include "layers.h"
#include "parallel.h"
#include "shares.h"

namespace kanbatsu {
namespace {

// A bias of length 0 is none.
Finish finish_of(const Floats& bias, Index outputs, bool relu) {
  if (is_shape(bias, {0})) return {nullptr, relu};
  require(is_shape(bias, {outputs}), "a bias must be [outputs]");
  return {bias.typed_data(), relu};
}

template <class Layer>
Samples feature_major(const Layer& layer, const Floats& x) {
  return {x.typed_data(), x.dimensions()[0], lanes_of(layer)};
}

// The number of samples of two sides of a layer.
template <class One, class Other>
Index batch_of(const One& x, const Other& y) {
  require(is_matrix(x) && is_matrix(y) && x.dimensions()[0] == y.dimensions()[0],
          "activations must be [batch, features], of one batch");
  return x.dimensions()[0];
}

ffi::Error packed_affine(ffi::ThreadPool pool, Floats x, Floats values, Floats bias, Ints starts,
                         Shorts sources, bool relu, FloatsOut y) {
  return guarded([&] {
    const Index batch = batch_of(x, *y), outputs = y->dimensions()[1];
    const PackedLayer layer =
        packed_layer(x.dimensions()[1], outputs, starts, sources, "an input");
    require_values(layer, values);
    multiply(pool, layer, values.typed_data(), finish_of(bias, outputs, relu), x.typed_data(),
             y->typed_data(), batch);
  });
}

// The same product with the transposed layer, whose values are looked up first.
ffi::Error packed_input_gradient(ffi::ThreadPool pool, Floats dy, Floats values, Ints starts,
                                 Shorts sources, Ints order, FloatsOut dx, FloatsOut ordered) {
  return guarded([&] {
    const Index batch = batch_of(dy, *dx);
    const PackedLayer layer =
        packed_layer(dy.dimensions()[1], dx->dimensions()[1], starts, sources, "an output");
    require_values(layer, values);
    require(is_shape(order, {layer.kept}) && is_shape(*ordered, {layer.kept}),
            "the shapes of a packed weight do not fit its order");
    require(reorder(pool, layer.kept, values.typed_data(), order.typed_data(),
                    ordered->typed_data()),
            "a packed weight names a value that does not exist");
    multiply(pool, layer, ordered->typed_data(), Finish{}, dy.typed_data(), dx->typed_data(),
             batch);
  });
}

ffi::Error packed_weight_gradient(ffi::ThreadPool pool, Floats x, Floats dy, Ints starts,
                                  Shorts sources, FloatsOut dvalues) {
  return guarded([&] {
    const Index batch = batch_of(x, dy);
    const PackedLayer layer =
        packed_layer(x.dimensions()[1], dy.dimensions()[1], starts, sources, "an input");
    require_values(layer, *dvalues);
    const Index shares = gradient_shares(pool, layer);
    parallel_for(pool, shares, [&](Index share) {
      weight_gradient(layer, feature_major(layer, x), feature_major(layer, dy),
                      dvalues->typed_data(), batch, share, shares);
    });
  });
}

ffi::Error grouped_affine(ffi::ThreadPool pool, Floats x, Floats values, Floats bias,
                          Ints sources, bool relu, FloatsOut y) {
  return guarded([&] {
    const Index batch = batch_of(x, *y), outputs = y->dimensions()[1];
    const GroupedLayer layer =
        grouped_layer(x.dimensions()[1], outputs, group_size(values), sources);
    require_values(layer, values);
    multiply(pool, layer, values.typed_data(), finish_of(bias, outputs, relu), x.typed_data(),
             y->typed_data(), batch);
  });
}

ffi::Error grouped_input_gradient(ffi::ThreadPool pool, Floats dy, Floats values, Ints sources,
                                  FloatsOut dx) {
  return guarded([&] {
    const Index batch = batch_of(dy, *dx);
    const GroupedLayer layer =
        grouped_layer(dx->dimensions()[1], dy.dimensions()[1], group_size(values), sources);
    require_values(layer, values);
    parallel_for(pool, (batch + kGroupedLanes - 1) / kGroupedLanes, [&](Index tile) {
      pass_back(layer, values.typed_data(), Finish{}, dy.typed_data(), dx->typed_data(), batch,
                tile);
    });
  });
}

ffi::Error grouped_weight_gradient(ffi::ThreadPool pool, Floats x, Floats dy, Ints sources,
                                   FloatsOut dvalues) {
  return guarded([&] {
    const Index batch = batch_of(x, dy);
    const GroupedLayer layer =
        grouped_layer(x.dimensions()[1], dy.dimensions()[1], group_size(*dvalues), sources);
    require_values(layer, *dvalues);
    const Index shares = gradient_shares(pool, layer);
    parallel_for(pool, shares, [&](Index share) {
      weight_gradient(layer, feature_major(layer, x), feature_major(layer, dy),
                      dvalues->typed_data(), batch, share, shares);
    });
  });
}

// Features that one thread sums at least.
constexpr Index kSumShare = 32;

ffi::Error batch_sum(ffi::ThreadPool pool, Floats x, FloatsOut y) {
  return guarded([&] {
    require(is_matrix(x) && is_shape(*y, {x.dimensions()[1]}), "sums must be [features]");
    const Index batch = x.dimensions()[0], features = x.dimensions()[1];
    const Index shares = threads_for(pool, (features + kSumShare - 1) / kSumShare);
    parallel_for(pool, shares, [&](Index share) {
      kernels().batch_sum(x.typed_data(), y->typed_data(), features, 1, batch,
                          cut(features, share, shares), cut(features, share + 1, shares));
    });
  });
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

extern "C" {

const char* kanbatsu_isa() { return kernels().name; }

int kanbatsu_block() { return kBlock; }

int kanbatsu_knows_group_size(int size) { return is_group_size(size); }

void kanbatsu_set_threads(int threads) { thread_limit.store(threads); }

}  // extern "C"

}  // namespace kanbatsu
