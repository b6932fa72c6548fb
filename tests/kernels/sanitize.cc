// Calls every kernel, and the thread sharing, on buffers of exactly the size that the header asks
// for, and compares with sums in double precision. The test builds it with sanitizers.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "layers.h"
#include "parallel.h"

namespace kanbatsu {
namespace portable {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
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

using namespace kanbatsu;
using Floats = std::vector<float>;
using Doubles = std::vector<double>;

namespace {

std::mt19937 generator(0);
const char* running = "";

void check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s: %s\n", running, what);
  std::exit(1);
}

Floats normal(Index count) {
  std::normal_distribution<float> draw;
  Floats numbers(count);
  for (float& number : numbers) number = draw(generator);
  return numbers;
}

// Memory that no kernel may read before it has written it.
Floats blank(Index count) { return Floats(count, std::numeric_limits<float>::quiet_NaN()); }

// A sum in double precision, and that of the absolute terms, which bounds the rounding error.
struct Sum {
  double value = 0.0, terms = 0.0;
  void add(double term) { value += term, terms += std::abs(term); }
  bool is(float other) const { return std::abs(other - value) <= 2e-6 * terms; }
  bool is_positive_part(float other) const {
    return std::abs(other - std::max(0.0, value)) <= 2e-6 * terms;
  }
};

struct Case {
  Index inputs, outputs, batch, size;
  double density;
};

// Sums of y = x W + bias, dx = dy W^T, dW = x^T dy, all feature by feature.
struct Dense {
  Floats weight, x, dy, bias;  // [inputs][outputs], zero where pruned; x[inputs][batch]
  std::vector<Sum> y, dx, dweight;

  Dense(const Case& c, const std::vector<bool>& mask)
      : weight(normal(c.inputs * c.outputs)),
        x(normal(c.inputs * c.batch)),
        dy(normal(c.outputs * c.batch)),
        bias(normal(c.outputs)),
        y(c.outputs * c.batch),
        dx(c.inputs * c.batch),
        dweight(c.inputs * c.outputs) {
    for (Index o = 0; o < c.outputs; ++o) {
      for (Index b = 0; b < c.batch; ++b) y[o * c.batch + b].add(bias[o]);
      for (Index i = 0; i < c.inputs; ++i) {
        float& w = weight[i * c.outputs + o];
        if (!mask[i * c.outputs + o]) w = 0.0f;
        if (w == 0.0f) continue;
        for (Index b = 0; b < c.batch; ++b) {
          const double in = x[i * c.batch + b], error = dy[o * c.batch + b];
          y[o * c.batch + b].add(in * w);
          dx[i * c.batch + b].add(error * w);
          dweight[i * c.outputs + o].add(in * error);
        }
      }
    }
  }

  void check_product(const Floats& actual, bool relu) const {
    for (std::size_t k = 0; k < y.size(); ++k) {
      check(relu ? y[k].is_positive_part(actual[k]) : y[k].is(actual[k]), "a product is wrong");
    }
  }
  // With dy beside the product, and as its gate.
  void check_gated(const Floats& actual) const {
    for (std::size_t k = 0; k < y.size(); ++k) {
      Sum sum = y[k];
      sum.add(dy[k]);
      check(dy[k] > 0.0f ? sum.is(actual[k]) : actual[k] == 0.0f, "a gated product is wrong");
    }
  }
  Finish gated() const { return {bias.data(), false, dy.data(), dy.data()}; }
};

// x[features][batch] in tiles, [tiles][features][lanes], zero where there is no sample.
Floats in_tiles(const Floats& x, Index features, Index batch, Index lanes) {
  const Index tiles = (batch + lanes - 1) / lanes;
  Floats laid(tiles * features * lanes);
  for (Index i = 0; i < features; ++i) {
    for (Index b = 0; b < batch; ++b) {
      laid[(b / lanes * features + i) * lanes + b % lanes] = x[i * batch + b];
    }
  }
  return laid;
}

// A layer as plain.cc takes it.
struct Plain {
  Index inputs, outputs, groups, kept, size, output_step, input_step;
  const void *starts, *sources;
};

// x[features][batch] sample by sample.
Floats in_rows(const Floats& x, Index features, Index batch) {
  Floats rows(x.size());
  for (Index i = 0; i < features; ++i) {
    for (Index b = 0; b < batch; ++b) rows[b * features + i] = x[i * batch + b];
  }
  return rows;
}

// Stands for GOMP_parallel.
int parallel_regions = 0;
void run_in_threads(void (*run)(void*), void* data, unsigned count, unsigned) {
  ++parallel_regions;
  std::vector<std::thread> threads;
  for (unsigned k = 1; k < count; ++k) threads.emplace_back(run, data);
  run(data);
  for (std::thread& thread : threads) thread.join();
}

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

void drive_packed(const std::vector<const Kernels*>& tables, const Case& c) {
  std::bernoulli_distribution keep(c.density);
  std::vector<bool> mask(c.inputs * c.outputs);
  for (std::size_t k = 0; k < mask.size(); ++k) mask[k] = keep(generator);
  mask[generator() % mask.size()] = true;
  const Dense dense(c, mask);

  std::vector<std::int32_t> starts{0};
  std::vector<std::uint16_t> sources;
  Floats values;
  std::vector<Sum> gradients;
  for (Index first = 0; first < c.inputs; first += kBlock) {
    for (Index o = 0; o < c.outputs; ++o) {
      for (Index i = first; i < std::min(c.inputs, first + kBlock); ++i) {
        if (!mask[i * c.outputs + o]) continue;
        sources.push_back(static_cast<std::uint16_t>(i));
        values.push_back(dense.weight[i * c.outputs + o]);
        gradients.push_back(dense.dweight[i * c.outputs + o]);
      }
      starts.push_back(static_cast<std::int32_t>(sources.size()));
    }
  }
  starts.shrink_to_fit(), sources.shrink_to_fit(), values.shrink_to_fit();
  const Index kept = static_cast<Index>(values.size());
  const PackedLayer layer{c.inputs, c.outputs, kept, starts.data(), sources.data()};
  check(is_valid(layer), "a packed layer is refused");
  const Index cut = c.outputs / 3;
  for (const Kernels* table : tables) {
    running = table->name;
    for (const bool relu : {false, true}) {
      const Finish finish{dense.bias.data(), relu};
      Floats y = blank(c.outputs * c.batch), tile = blank(kBlock * kPackedLanes);
      for (Index first = 0; first < c.batch; first += kPackedLanes) {
        for (const auto& [begin, end] : {std::pair{cut, c.outputs}, std::pair{Index{0}, cut}}) {
          table->packed_product(layer, values.data(), finish, dense.x.data(), y.data(), c.batch,
                                first, begin, end, tile.data());
        }
      }
      dense.check_product(y, relu);
      if (c.batch > 1) continue;
      y = blank(c.outputs);
      table->packed_vector(layer, values.data(), finish, dense.x.data(), y.data(), 0, cut);
      table->packed_vector(layer, values.data(), finish, dense.x.data(), y.data(), cut, c.outputs);
      dense.check_product(y, relu);
    }
    Floats y = blank(c.outputs * c.batch), product_tile = blank(kBlock * kPackedLanes);
    for (Index first = 0; first < c.batch; first += kPackedLanes) {
      table->packed_product(layer, values.data(), dense.gated(), dense.x.data(), y.data(), c.batch,
                            first, 0, c.outputs, product_tile.data());
    }
    dense.check_gated(y);
    if (c.batch == 1) {
      y = blank(c.outputs);
      table->packed_vector(layer, values.data(), dense.gated(), dense.x.data(), y.data(), 0,
                           c.outputs);
      dense.check_gated(y);
    }
    const Floats x_tiles = in_tiles(dense.x, c.inputs, c.batch, kPackedLanes);
    const Floats dy_tiles = in_tiles(dense.dy, c.outputs, c.batch, kPackedLanes);
    const Samples pairs[][2] = {
        {{dense.x.data(), c.batch, kPackedLanes}, {dense.dy.data(), c.batch, kPackedLanes}},
        {{x_tiles.data(), kPackedLanes, c.inputs * kPackedLanes},
         {dy_tiles.data(), kPackedLanes, c.outputs * kPackedLanes}},
    };
    for (const auto& [x, dy] : pairs) {
      Floats dvalues = blank(kept), tile = blank((kBlock + 1) * kPackedLanes);
      for (const auto& [begin, end] : {std::pair{Index{0}, cut}, std::pair{cut, c.outputs}}) {
        table->packed_weight_gradient(layer, x, dy, dvalues.data(), c.batch, begin, end,
                                      tile.data());
      }
      for (Index k = 0; k < kept; ++k) check(gradients[k].is(dvalues[k]), "a gradient is wrong");
    }
  }
  drive_plain({c.inputs, c.outputs, 0, kept, 0, 1, c.outputs, starts.data(), sources.data()},
              values, dense, c.batch, [&](const Floats& dvalues) {
                for (Index k = 0; k < kept; ++k) {
                  check(gradients[k].is(dvalues[k]), "a gradient is wrong");
                }
              });
}

void drive_grouped(const std::vector<const Kernels*>& tables, const Case& c) {
  const Index groups = (c.outputs + c.size - 1) / c.size;
  const Index kept = std::max<Index>(1, std::lround(c.density * c.inputs));
  std::vector<std::int32_t> sources;
  std::vector<bool> mask(c.inputs * c.outputs);
  for (Index group = 0; group < groups; ++group) {
    Index left = kept;
    for (Index i = 0; i < c.inputs; ++i) {
      if (static_cast<Index>(generator() % (c.inputs - i)) >= left) continue;
      --left, sources.push_back(static_cast<std::int32_t>(i));
      for (Index o = group * c.size; o < std::min(c.outputs, (group + 1) * c.size); ++o) {
        mask[i * c.outputs + o] = true;
      }
    }
  }
  sources.shrink_to_fit();
  const Dense dense(c, mask);
  Floats values(groups * kept * c.size);
  const auto entry = [&](Index k) {  // Of the dense weight; -1 beyond the last output.
    const Index output = k / (kept * c.size) * c.size + k % c.size;
    return output < c.outputs ? sources[k / c.size] * c.outputs + output : -1;
  };
  for (Index k = 0; k < static_cast<Index>(values.size()); ++k) {
    if (entry(k) >= 0) values[k] = dense.weight[entry(k)];
  }
  const GroupedLayer layer{c.inputs, c.outputs, groups, kept, c.size, sources.data()};
  check(is_valid(layer), "a grouped layer is refused");
  const auto check_gradients = [&](const Floats& dvalues) {
    for (Index k = 0; k < static_cast<Index>(values.size()); ++k) {
      check(entry(k) < 0 ? dvalues[k] == 0.0f : dense.dweight[entry(k)].is(dvalues[k]),
            "a gradient is wrong");
    }
  };
  const Index room = (c.inputs + c.size) * kGroupedLanes;
  for (const Kernels* table : tables) {
    running = table->name;
    for (const bool relu : {false, true}) {
      const Finish finish{dense.bias.data(), relu};
      Floats y = blank(c.outputs * c.batch), tile = blank(room);
      for (Index first = 0; first < c.batch; first += kGroupedLanes) {
        table->grouped_product(layer, values.data(), finish, dense.x.data(), y.data(), c.batch,
                               first, tile.data());
      }
      dense.check_product(y, relu);
      if (c.batch > 1) continue;
      y = blank(c.outputs);
      for (Index group = 0; group < groups; ++group) {
        table->grouped_vector(layer, values.data(), finish, dense.x.data(), y.data(), group);
      }
      dense.check_product(y, relu);
    }
    Floats y = blank(c.outputs * c.batch), tile = blank(room);
    for (Index first = 0; first < c.batch; first += kGroupedLanes) {
      table->grouped_product(layer, values.data(), dense.gated(), dense.x.data(), y.data(),
                             c.batch, first, tile.data());
    }
    dense.check_gated(y);
    if (c.batch == 1) {
      y = blank(c.outputs);
      for (Index group = 0; group < groups; ++group) {
        table->grouped_vector(layer, values.data(), dense.gated(), dense.x.data(), y.data(), group);
      }
      dense.check_gated(y);
    }
    for (const float* gate : {static_cast<const float*>(nullptr), dense.x.data()}) {
      const Finish finish{nullptr, false, nullptr, gate};
      Floats dx = blank(c.inputs * c.batch), room_of_one = blank(room);
      for (Index first = 0; first < c.batch; first += kGroupedLanes) {
        table->grouped_input_gradient(layer, values.data(), finish, dense.dy.data(), dx.data(),
                                      c.batch, first, room_of_one.data());
      }
      for (std::size_t k = 0; k < dx.size(); ++k) {
        const bool passes = gate == nullptr || gate[k] > 0.0f;
        check(passes ? dense.dx[k].is(dx[k]) : dx[k] == 0.0f, "an input gradient is wrong");
      }
    }
    const Floats x_tiles = in_tiles(dense.x, c.inputs, c.batch, kGroupedLanes);
    const Floats dy_tiles = in_tiles(dense.dy, c.outputs, c.batch, kGroupedLanes);
    const Samples pairs[][2] = {
        {{dense.x.data(), c.batch, kGroupedLanes}, {dense.dy.data(), c.batch, kGroupedLanes}},
        {{x_tiles.data(), kGroupedLanes, c.inputs * kGroupedLanes},
         {dy_tiles.data(), kGroupedLanes, c.outputs * kGroupedLanes}},
    };
    for (const auto& [x, dy] : pairs) {
      Floats dvalues = blank(values.size()), errors = blank(kGradientBatch * c.size);
      for (Index group = 0; group < groups; ++group) {
        table->grouped_weight_gradient(layer, x, dy, dvalues.data(), c.batch, group,
                                       errors.data());
      }
      check_gradients(dvalues);
    }
  }
  drive_plain({c.inputs, c.outputs, groups, kept, c.size, 1, c.outputs, nullptr, sources.data()},
              values, dense, c.batch, check_gradients);
}

bool is_near(double expected, float actual) {
  return std::abs(actual - expected) <= 2e-5 * (1.0 + std::abs(expected));
}

// Layer normalisation and its gradients, and sums over the batch, of [tiles][features][lanes].
void drive_norms(const std::vector<const Kernels*>& tables, Index features, Index tiles,
                 Index lanes) {
  const Index count = tiles * features * lanes, batch = tiles * lanes;
  const Floats x = normal(count), dy = normal(count), beside = normal(count);
  const Floats scale = normal(features), shift = normal(features);
  const auto at = [&](Index i, Index b) { return (b / lanes * features + i) * lanes + b % lanes; };
  std::vector<double> mean(batch), deviation(batch), y(count), dx(count);
  std::vector<double> dscale(features), dshift(features);
  std::vector<Sum> sums(features);
  for (Index b = 0; b < batch; ++b) {
    for (Index i = 0; i < features; ++i) mean[b] += double{x[at(i, b)]} / features;
    double variance = 0.0, error = 0.0, along = 0.0;
    for (Index i = 0; i < features; ++i) variance += std::pow(x[at(i, b)] - mean[b], 2) / features;
    deviation[b] = std::sqrt(variance + 1e-3);
    const auto standard = [&](Index i) { return (x[at(i, b)] - mean[b]) / deviation[b]; };
    for (Index i = 0; i < features; ++i) {
      const double passed = double{dy[at(i, b)]};
      y[at(i, b)] = standard(i) * scale[i] + shift[i];
      error += passed * scale[i] / features, along += passed * scale[i] * standard(i) / features;
      dscale[i] += passed * standard(i), dshift[i] += passed;
      sums[i].add(x[at(i, b)]);
    }
    for (Index i = 0; i < features; ++i) {
      const double passed = double{dy[at(i, b)]} * scale[i];
      dx[at(i, b)] = (passed - error - standard(i) * along) / deviation[b];
    }
  }
  const Norm norm{features, 1e-3f, scale.data(), shift.data()};
  for (const Kernels* table : tables) {
    running = table->name;
    Floats ys = blank(count), means = blank(batch), deviations = blank(batch);
    Floats alone = blank(count), both = blank(count), tile = blank(features * kNormLanes);
    for (Index b = 0; b < batch; b += kNormLanes) {
      const Index from = b / lanes * features * lanes + b % lanes;
      table->normalise(norm, x.data() + from, ys.data() + from, means.data() + b,
                       deviations.data() + b, lanes);
      for (const bool with : {false, true}) {
        table->normalise_gradient(norm, x.data() + from, means.data() + b,
                                  deviations.data() + b, dy.data() + from,
                                  with ? beside.data() + from : nullptr,
                                  (with ? both : alone).data() + from, lanes, tile.data());
      }
    }
    for (Index k = 0; k < count; ++k) {
      check(is_near(y[k], ys[k]), "a norm is wrong");
      check(is_near(dx[k], alone[k]), "a norm's gradient is wrong");
      check(is_near(dx[k] + beside[k], both[k]), "a norm's gradient adds nothing");
    }
    Floats scales = blank(features), shifts = blank(features), by_feature = blank(features);
    for (const auto& [begin, end] : {std::pair{Index{0}, features / 2},
                                     std::pair{features / 2, features}}) {
      table->norm_weight_gradient(x.data(), means.data(), deviations.data(), dy.data(),
                                  scales.data(), shifts.data(), features, tiles, lanes, begin, end);
      table->batch_sum(x.data(), by_feature.data(), features, tiles, lanes, begin, end);
    }
    for (Index i = 0; i < features; ++i) {
      check(is_near(dscale[i], scales[i]) && is_near(dshift[i], shifts[i]), "a scale is wrong");
      check(sums[i].is(by_feature[i]), "a sum is wrong");
    }
  }
}

void drive_sums(const std::vector<const Kernels*>& tables, Index features, Index batch) {
  const Floats x = normal(features * batch);
  std::vector<Sum> sums(features);
  for (Index i = 0; i < features; ++i) {
    for (Index b = 0; b < batch; ++b) sums[i].add(x[i * batch + b]);
  }
  for (const Kernels* table : tables) {
    running = table->name;
    Floats by_feature = blank(features);
    table->batch_sum(x.data(), by_feature.data(), features, 1, batch, 0, features / 2);
    table->batch_sum(x.data(), by_feature.data(), features, 1, batch, features / 2, features);
    for (Index i = 0; i < features; ++i) check(sums[i].is(by_feature[i]), "a sum is wrong");
  }
}

// Runs every task in a thread of its own.
struct Threads {
  int count;
  int scheduled = 0;
  std::vector<std::thread> threads{};
  int num_threads() const { return count; }
  template <class Task>
  void Schedule(Task&& task) {
    ++scheduled;
    threads.emplace_back(std::forward<Task>(task));
  }
  ~Threads() {
    for (std::thread& thread : threads) thread.join();
  }
};

// Runs its tasks only when it is asked to: the caller must not wait for them.
struct Busy {
  std::vector<std::function<void()>> tasks{};
  int num_threads() const { return 4; }
  template <class Task>
  void Schedule(Task&& task) {
    tasks.emplace_back(std::forward<Task>(task));
  }
};

void drive_threads() {
  running = "threads";
  for (const Index count : {0, 1, 3, 500}) {
    std::vector<int> calls(count);
    Threads pool{4};
    parallel_for(pool, count, [&](Index piece) {
      float* memory = scratch(100 + piece);
      check(reinterpret_cast<std::uintptr_t>(memory) % 64 == 0, "scratch is not aligned");
      std::fill_n(memory, 100 + piece, 1.0f);
      ++calls[piece];
    });
    for (const int times : calls) check(times == 1, "a piece did not run once");
    check(pool.scheduled == std::max<Index>(0, std::min<Index>(4, count) - 1), "wrong helpers");
  }
  for (const Index tiles : {1, 3, 40}) {
    std::vector<int> stages(tiles);
    Threads workers{4};
    parallel_stages(workers, 5, tiles, [&](Index stage, Index tile) {
      check(stages[tile] == stage, "a stage did not follow its last one");
      ++stages[tile];
    });
    for (const int reached : stages) check(reached == 5, "a tile did not reach its last stage");
  }
  thread_limit = 2;
  Threads pool{4};
  parallel_for(pool, 10, [](Index) {});
  check(pool.scheduled == 1, "the limit on threads is not kept");
  thread_limit = 0;
  Busy busy;
  int calls = 0;
  {
    const auto piece = [&calls](Index) { ++calls; };
    parallel_for(busy, 10, piece);
  }
  for (const auto& late : busy.tasks) late();
  check(busy.tasks.size() == 3 && calls == 10, "a late thread found work");
}

}  // namespace

int main() {
  const std::vector<const Kernels*> tables{&portable::table, &avx2::table, &avx512::table};
  kanbatsu_plain_use_threads(run_in_threads);
  const Index batches[] = {1, 2, 15, 16, 17, 32, 33, 70};
  for (const Index batch : batches) {
    drive_packed(tables, {37, 11, batch, 0, 0.3});
    drive_grouped(tables, {37, 41, batch, Index{8} << batch % 3, 0.3});
    drive_sums(tables, batch + 1, 2 * batch + 30);
  }
  for (int round = 0; round < 12; ++round) {
    std::uniform_real_distribution<double> share;
    const Index inputs = 1 + generator() % 80, outputs = 1 + generator() % 80;
    const Index batch = batches[generator() % 8];
    drive_packed(tables, {inputs, outputs, batch, 0, share(generator)});
    drive_grouped(tables, {inputs, outputs, batch, Index{8} << round % 3, share(generator)});
  }
  for (const Index inputs : {1024, 1030, 2100}) drive_packed(tables, {inputs, 5, 33, 0, 0.2});
  drive_packed(tables, {2100, 5, 1, 0, 0.2});
  for (const double density : {0.0, 1.0}) {
    drive_packed(tables, {40, 9, 33, 0, density});
    for (const Index size : {8, 16, 32}) drive_grouped(tables, {150, 33, 300, size, density});
  }
  for (const Index features : {1, 5, 64, 130}) {
    for (const Index tiles : {1, 3}) {
      for (const Index lanes : {16, 32}) drive_norms(tables, features, tiles, lanes);
    }
  }
  drive_threads();
  running = "plain";
  check(parallel_regions > 100, "nothing was shared among threads");
  std::printf("%s\n", kernels().name);
}
