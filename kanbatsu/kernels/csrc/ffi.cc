// What JAX calls for single layers; residual trunks are in trunk.cc.
#include "kinds.h"

namespace kanbatsu {
namespace {

// A bias of length 0 is none.
Finish finish_of(const Floats& bias, Index outputs, bool relu) {
  if (is_shape(bias, {0})) return {nullptr, relu};
  require(is_shape(bias, {outputs}), "a bias must be [outputs]");
  return {bias.typed_data(), relu};
}

// The number of samples of two sides of a layer.
template <class One, class Other>
Index batch_of(const One& x, const Other& y) {
  require(is_matrix(x) && is_matrix(y) && x.dimensions()[0] == y.dimensions()[0],
          "activations must be [batch, features], of one batch");
  return x.dimensions()[0];
}

// y = x W + bias, or its positive part.
template <class Kind>
ffi::Error affine(ffi::ThreadPool pool, Floats x, Floats values, Floats bias, bool relu,
                  FloatsOut y, ffi::RemainingArgs structure) {
  return guarded([&] {
    const Index batch = batch_of(x, *y), outputs = y->dimensions()[1];
    Arguments arguments(structure);
    const auto layer = Kind::read(arguments, x.dimensions()[1], outputs, values);
    require_values(layer, values);
    multiply(pool, layer, values.typed_data(), finish_of(bias, outputs, relu), x.typed_data(),
             y->typed_data(), batch);
  });
}

// dx = dy W^T. Where the values are needed in another order, room for them is among the results.
template <class Kind>
ffi::Error input_gradient(ffi::ThreadPool pool, Floats dy, Floats values, FloatsOut dx,
                          ffi::RemainingArgs structure, ffi::RemainingRets room) {
  return guarded([&] {
    const Index batch = batch_of(dy, *dx);
    Arguments arguments(structure);
    auto back = Kind::Back::read(arguments, values, dx->dimensions()[1], dy.dimensions()[1]);
    const Index needs = back.needs();
    back.prepare(pool, needs == 0 ? nullptr : Results(room).next({needs}));
    back.whole(pool, dy.typed_data(), dx->typed_data(), batch);
  });
}

// The kept entries of dW = x^T dy.
template <class Kind>
ffi::Error weight_gradient(ffi::ThreadPool pool, Floats x, Floats dy, FloatsOut dvalues,
                           ffi::RemainingArgs structure) {
  return guarded([&] {
    const Index batch = batch_of(x, dy);
    Arguments arguments(structure);
    const auto layer = Kind::read(arguments, x.dimensions()[1], dy.dimensions()[1], *dvalues);
    require_values(layer, *dvalues);
    const Index shares = gradient_shares(pool, layer);
    const auto feature_major = [&](const Floats& side) {
      return Samples{side.typed_data(), batch, Kind::kLanes};
    };
    parallel_for(pool, shares, [&](Index share) {
      weight_gradient(layer, feature_major(x), feature_major(dy), dvalues->typed_data(), batch,
                      share, shares);
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

auto on_threads() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>(); }

}  // namespace

#define DEFINE(kind, name)                                                                     \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(kanbatsu_##name##_affine, affine<kind>,                        \
                                on_threads()                                                   \
                                    .Arg<Floats>()                                             \
                                    .Arg<Floats>()                                             \
                                    .Arg<Floats>()                                             \
                                    .Attr<bool>("relu")                                        \
                                    .Ret<Floats>()                                             \
                                    .RemainingArgs());                                         \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                               \
      kanbatsu_##name##_input_gradient, input_gradient<kind>,                                  \
      on_threads().Arg<Floats>().Arg<Floats>().Ret<Floats>().RemainingArgs().RemainingRets()); \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                               \
      kanbatsu_##name##_weight_gradient, weight_gradient<kind>,                                \
      on_threads().Arg<Floats>().Arg<Floats>().Ret<Floats>().RemainingArgs())

DEFINE(Element, packed);
DEFINE(Group, grouped);

XLA_FFI_DEFINE_HANDLER_SYMBOL(kanbatsu_batch_sum, batch_sum,
                              on_threads().Arg<Floats>().Ret<Floats>());

extern "C" {

const char* kanbatsu_isa() { return kernels().name; }

int kanbatsu_block() { return kBlock; }

int kanbatsu_knows_group_size(int size) { return is_group_size(size); }

void kanbatsu_set_threads(int threads) { thread_limit.store(threads); }

}  // extern "C"

}  // namespace kanbatsu
