// Random buffers of exactly the size asked for, and sums in double precision to compare with.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "layers.h"

using namespace kanbatsu;
using Floats = std::vector<float>;
using Tables = std::vector<const Kernels*>;

inline std::mt19937 generator(0);
inline const char* running = "";

inline void check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s: %s\n", running, what);
  std::exit(1);
}

inline Floats normal(Index count) {
  std::normal_distribution<float> draw;
  Floats numbers(count);
  for (float& number : numbers) number = draw(generator);
  return numbers;
}

// Memory that no kernel may read before it has written it.
inline Floats blank(Index count) { return Floats(count, std::numeric_limits<float>::quiet_NaN()); }

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
inline Floats in_tiles(const Floats& x, Index features, Index batch, Index lanes) {
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

// What each file drives.
void drive_plain(const Plain& plain, const Floats& values, const Dense& dense, Index batch,
                 const std::function<void(const Floats&)>& check_gradients);
void drive_packed(const Tables& tables, const Case& c);
void drive_grouped(const Tables& tables, const Case& c);
void drive_norms(const Tables& tables, Index features, Index tiles, Index lanes);
void drive_sums(const Tables& tables, Index features, Index batch);
void drive_threads();

// Regions that PyTorch's calls have shared among threads.
extern int parallel_regions;
void share_among_threads();
