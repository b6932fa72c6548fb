// Drives the calls that PyTorch makes.
#include <thread>

#include "reference.h"

namespace kanbatsu {
extern "C" {
using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
void kanbatsu_plain_use_threads(Parallel);
bool kanbatsu_plain_gather(const void*, const float*, float*, Index);
bool kanbatsu_plain_scatter(const void*, const float*, float*, Index);
bool kanbatsu_plain_tiles(const float*, float*, Index, Index, Index, Index);
bool kanbatsu_plain_product(const void*, const float*, const float*, const float*, float*, Index,
                            Index, Index);
bool kanbatsu_plain_input_gradient(const void*, const float*, const float*, float*, Index, Index);
bool kanbatsu_plain_weight_gradient(const void*, const float*, const float*, float*, Index, Index);
}
}  // namespace kanbatsu

int parallel_regions = 0;

namespace {

// x[features][batch] sample by sample.
Floats in_rows(const Floats& x, Index features, Index batch) {
  Floats rows(x.size());
  for (Index i = 0; i < features; ++i) {
    for (Index b = 0; b < batch; ++b) rows[b * features + i] = x[i * batch + b];
  }
  return rows;
}

// Stands for GOMP_parallel.
void run_in_threads(void (*run)(void*), void* data, unsigned count, unsigned) {
  ++parallel_regions;
  std::vector<std::thread> threads;
  for (unsigned k = 1; k < count; ++k) threads.emplace_back(run, data);
  run(data);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

void share_among_threads() { kanbatsu_plain_use_threads(run_in_threads); }

// The calls that PyTorch makes, with the kernels that KANBATSU_ISA names.
void drive_plain(const Plain& plain, const Floats& values, const Dense& dense, Index batch,
                 const std::function<void(const Floats&)>& check_gradients) {
  running = "plain";
  for (const Index threads : {1, 3}) {
    Floats gathered = blank(values.size()), scattered(dense.weight.size());
    check(kanbatsu_plain_gather(&plain, dense.weight.data(), gathered.data(), threads) &&
              gathered == values,
          "gathered values are wrong");
    check(kanbatsu_plain_scatter(&plain, values.data(), scattered.data(), threads) &&
              scattered == dense.weight,
          "a scattered weight is wrong");
    const Index lanes = plain.size == 0 ? kPackedLanes : kGroupedLanes;
    const auto tiles_of = [&](const Floats& x, Index features) {
      const Index tiles = (batch + lanes - 1) / lanes;
      Floats laid = blank(tiles * features * lanes);
      kanbatsu_plain_tiles(in_rows(x, features, batch).data(), laid.data(), features, lanes, batch,
                           threads);
      check(laid == in_tiles(x, features, batch, lanes), "tiles are wrong");
      return laid;
    };
    const Floats x = tiles_of(dense.x, plain.inputs), dy = tiles_of(dense.dy, plain.outputs);
    Floats y = blank(plain.outputs * batch);
    kanbatsu_plain_product(&plain, values.data(), dense.bias.data(), x.data(), y.data(), batch,
                           1, threads);
    dense.check_product(in_rows(y, batch, plain.outputs), false);
    if (batch == 1) {
      y = blank(plain.outputs);
      kanbatsu_plain_product(&plain, values.data(), dense.bias.data(), dense.x.data(), y.data(), 1,
                             0, threads);
      dense.check_product(y, false);
    }
    if (plain.size > 0) {
      Floats dx = blank(plain.inputs * batch);
      kanbatsu_plain_input_gradient(&plain, values.data(), dy.data(), dx.data(), batch, threads);
      dx = in_rows(dx, batch, plain.inputs);
      for (std::size_t k = 0; k < dx.size(); ++k) {
        check(dense.dx[k].is(dx[k]), "an input gradient is wrong");
      }
    }
    Floats dvalues = blank(values.size());
    kanbatsu_plain_weight_gradient(&plain, x.data(), dy.data(), dvalues.data(), batch, threads);
    check_gradients(dvalues);
  }
}
