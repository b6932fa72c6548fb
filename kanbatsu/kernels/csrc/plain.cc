// The products of single layers for a caller without JAX (kanbatsu/torch/products.py): plain
// pointers in, and the caller's own OpenMP threads. A layer is described by numbers: `size` outputs
// per group, or 0 where any weight may be kept. Activations lie sample by sample, and no pointer is
// checked.
#include <unistd.h>

#include <type_traits>

#include "shares.h"

namespace kanbatsu {
namespace {

// GOMP_parallel of the OpenMP library that the caller uses: run(data) on so many threads at once. A
// second set of threads would wait for cores on which those spin.
using Parallel = void (*)(void (*run)(void*), void* data, unsigned threads, unsigned flags);
std::atomic<Parallel> parallel{nullptr};
// A fork copies no threads, and a child that asks for them waits for ever.
std::atomic<pid_t> process{0};

struct Threads {
  Index count;

  Index num_threads() const {
    return parallel.load() != nullptr && process.load() == getpid() ? count : 1;
  }
};

// Call piece(0) ... piece(count - 1), each once, in any order.
template <class Piece>
void parallel_for(Threads& pool, Index count, const Piece& piece) {
  struct Job {
    const Piece& piece;
    Index count;
    std::atomic<Index> next{0};
    std::atomic<bool> failed{false};
  } job{piece, count};
  const auto run = [](void* data) {
    Job& job = *static_cast<Job*>(data);
    try {
      for (Index i; (i = job.next.fetch_add(1)) < job.count;) job.piece(i);
    } catch (const std::bad_alloc&) {
      job.failed = true;
    }
  };
  const Index threads = threads_for(pool, count);
  threads > 1 ? parallel.load()(run, &job, static_cast<unsigned>(threads), 0) : run(&job);
  if (job.failed) throw std::bad_alloc();
}

struct Plain {
  Index inputs, outputs, groups, kept, size;
  Index output_step, input_step;  // between the weights of two outputs, or inputs, in the dense one
  const void* starts;
  const void* sources;

  PackedLayer packed() const {
    return {inputs, outputs, kept, static_cast<const std::int32_t*>(starts),
            static_cast<const std::uint16_t*>(sources)};
  }
  GroupedLayer grouped() const {
    return {inputs, outputs, groups, kept, size, static_cast<const std::int32_t*>(sources)};
  }
};

// Call `use(k, place)` for the values of one group, or of a share of the outputs: value k is the
// dense weight at `place`. Of an output that the last group lacks, the place is negative.
template <class Use>
void each_value(const Plain& plain, const GroupedLayer& layer, Index group, Index, const Use& use) {
  const Index first = group * layer.size;
  const Index members = std::min(layer.size, layer.outputs - first);
  for (Index k = group * layer.kept; k < (group + 1) * layer.kept; ++k) {
    const Index place = first * plain.output_step + layer.sources[k] * plain.input_step;
    for (Index j = 0; j < layer.size; ++j) {
      use(k * layer.size + j, j < members ? place + j * plain.output_step : -1);
    }
  }
}
template <class Use>
void each_value(const Plain& plain, const PackedLayer& layer, Index share, Index shares,
                const Use& use) {
  for (Index block = 0; block < layer.blocks(); ++block) {
    const std::int32_t* starts = layer.starts + block * layer.outputs;
    const Index end = cut(layer.outputs, share + 1, shares);
    for (Index o = cut(layer.outputs, share, shares); o < end; ++o) {
      for (Index k = starts[o]; k < starts[o + 1]; ++k) {
        use(k, o * plain.output_step + layer.sources[k] * plain.input_step);
      }
    }
  }
}

// Call `use` with the layer that the numbers describe; false where there was no memory.
template <class Use>
bool with(const Plain& plain, const Use& use) {
  try {
    plain.size == 0 ? use(plain.packed()) : use(plain.grouped());
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

// The same with each of its values, as `each_value` does, on so many threads.
template <class Use>
bool with_values(const Plain& plain, Index threads, const Use& use) {
  Threads pool{threads};
  return with(plain, [&](const auto& layer) {
    const Index shares = gradient_shares(pool, layer);
    parallel_for(pool, shares,
                 [&](Index share) { each_value(plain, layer, share, shares, use); });
  });
}

// Samples of one tile.
inline Index samples_of(Index tile, Index lanes, Index batch) {
  return std::min(lanes, batch - tile * lanes);
}

// Call `fill(tile, out)` for every tile of a batch, and write its `features` rows of lanes to
// y[batch][features].
template <class Fill>
void fill_rows(Threads& pool, Index features, Index lanes, Index batch, float* y,
               const Fill& fill) {
  parallel_for(pool, (batch + lanes - 1) / lanes, [&](Index tile) {
    float* out = scratch<Scratch::kTile>(features * lanes);
    fill(tile, out);
    kernels().from_tile(out, features, samples_of(tile, lanes, batch), lanes,
                        y + tile * lanes * features);
  });
}

}  // namespace

extern "C" {

// Share work among threads from now on: `gomp_parallel` is the function of that name.
void kanbatsu_plain_use_threads(Parallel gomp_parallel) {
  process = getpid();
  parallel = gomp_parallel;
}

// The kept values of a dense weight.
bool kanbatsu_plain_gather(const Plain* layer, const float* weight, float* values,
                           Index threads) {
  return with_values(*layer, threads, [&](Index k, Index place) {
    values[k] = place < 0 ? 0.0f : weight[place];
  });
}

// The dense weight that holds such values; what it does not keep is left as it is.
bool kanbatsu_plain_scatter(const Plain* layer, const float* values, float* weight,
                            Index threads) {
  return with_values(*layer, threads, [&](Index k, Index place) {
    if (place >= 0) weight[place] = values[k];
  });
}

// x[batch][features] as tiles [tiles][features][lanes], padded with zeros.
bool kanbatsu_plain_tiles(const float* x, float* tiles, Index features, Index lanes, Index batch,
                          Index threads) {
  Threads pool{threads};
  parallel_for(pool, (batch + lanes - 1) / lanes, [&](Index tile) {
    kernels().to_tile(x + tile * lanes * features, features, samples_of(tile, lanes, batch), lanes,
                      tiles + tile * lanes * features);
  });
  return true;
}

// y[batch][outputs] = x W + bias, or x W where there is no bias; x in tiles, or one sample.
bool kanbatsu_plain_product(const Plain* layer, const float* values, const float* bias,
                            const float* x, float* y, Index batch, Index in_tiles, Index threads) {
  Threads pool{threads};
  const Finish finish{bias};
  return with(*layer, [&](const auto& known) {
    if (!in_tiles) {
      multiply(pool, known, values, finish, x, y, 1);
      return;
    }
    const Index lanes = lanes_of(known);
    fill_rows(pool, known.outputs, lanes, batch, y, [&](Index tile, float* out) {
      multiply_tile(known, values, finish, x + tile * lanes * known.inputs, out);
    });
  });
}

// dx[batch][inputs] = dy W^T of a grouped layer, dy in tiles; of another layer it is the product
// with the transposed one.
bool kanbatsu_plain_input_gradient(const Plain* layer, const float* values, const float* dy,
                                   float* dx, Index batch, Index threads) {
  Threads pool{threads};
  return with(*layer, [&](const auto& known) {
    if constexpr (std::is_same_v<std::decay_t<decltype(known)>, GroupedLayer>) {
      fill_rows(pool, known.inputs, kGroupedLanes, batch, dx, [&](Index tile, float* out) {
        pass_back(known, values, Finish{}, dy + tile * kGroupedLanes * known.outputs, out,
                  kGroupedLanes, 0);
      });
    }
  });
}

// The gradient of each value; x and dy in tiles.
bool kanbatsu_plain_weight_gradient(const Plain* layer, const float* x, const float* dy,
                                    float* dvalues, Index batch, Index threads) {
  Threads pool{threads};
  return with(*layer, [&](const auto& known) {
    const Index shares = gradient_shares(pool, known), lanes = lanes_of(known);
    parallel_for(pool, shares, [&](Index share) {
      weight_gradient(known, Samples{x, lanes, known.inputs * lanes},
                      Samples{dy, lanes, known.outputs * lanes}, dvalues, batch, share, shares);
    });
  });
}

}  // extern "C"

}  // namespace kanbatsu
