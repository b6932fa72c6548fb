// A trained policy in one call: observations in, actions out, without XLA and on the caller's
// thread. A policy is a list of steps; kanbatsu/deploy/native.py builds it and owns its arrays.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "layers.h"
#include "parallel.h"

namespace kanbatsu {

enum Operation : std::int32_t {
  kNormalise,  // (x - first) / second
  kRemember,   // keep x for a later kAdd
  kAdd,        // x + what was remembered
  kLayerNorm,  // mean 0 and variance 1 over the features, times first, plus second
  kPacked,     // x W + second, with the values of W in first
  kGrouped,    // the same
  kSquash,     // first + second * tanh(x)
  kActivate,   // the function that `relu` numbers, with the parameter epsilon
  kClip,       // between first and second
  kChoose,     // the number of the largest of each `starts[i]` scores, of `groups` rows
};

// The order of FUNCTIONS in kanbatsu/deploy/functions.py.
enum Function : std::int32_t {
  kRelu, kLeakyRelu, kElu, kGelu, kGeluTanh, kSilu, kTanh, kSigmoid, kSoftplus
};

// One step, as kanbatsu/deploy/native.py lays it out too; a step leaves unset what it has no use for.
struct Step {
  std::int32_t operation;
  std::int32_t relu;
  Index inputs;
  Index outputs;
  Index groups;
  Index kept;
  Index size;
  const float* first;
  const float* second;
  const std::int32_t* starts;
  const void* sources;
  float epsilon;

  PackedLayer packed() const {
    return {inputs, outputs, kept, starts, static_cast<const std::uint16_t*>(sources)};
  }
  GroupedLayer grouped() const {
    return {inputs, outputs, groups, kept, size, static_cast<const std::int32_t*>(sources)};
  }
};

namespace {

// Samples that go through all steps together: the larger tile of the two products.
constexpr Index kLanes = std::max(kPackedLanes, kGroupedLanes);
// Smaller batches go through one by one: most of a tile would be padding. Measured for widths of
// 128 to 2048 at sparsity 0.9 (see docs/deploy.md).
constexpr Index kFewestPacked = 3, kFewestGrouped = 8;

// to[columns][rows] of from[rows][columns].
void transpose(const float* from, float* to, Index rows, Index columns) {
  if (rows == 1 || columns == 1) {
    std::memcpy(to, from, rows * columns * sizeof(float));
    return;
  }
  for (Index r = 0; r < rows; ++r) {
    for (Index c = 0; c < columns; ++c) to[c * rows + r] = from[r * columns + c];
  }
}

void normalise(const Step& step, float* x, Index lanes) {
  if (lanes == 1) {
    for (Index i = 0; i < step.outputs; ++i) x[i] = (x[i] - step.first[i]) / step.second[i];
    return;
  }
  for (Index i = 0; i < step.outputs; ++i) {
    for (Index b = 0; b < lanes; ++b) {
      x[i * lanes + b] = (x[i * lanes + b] - step.first[i]) / step.second[i];
    }
  }
}

// The sum over the features of f(x), for one sample; in parts, so that it is vectorised.
template <class F>
float sum_of(const float* x, Index features, const F& f) {
  constexpr int kParts = 16;
  float parts[kParts] = {};
  Index i = 0;
  for (; i + kParts <= features; i += kParts) {
    for (int p = 0; p < kParts; ++p) parts[p] += f(x[i + p]);
  }
  for (; i < features; ++i) parts[0] += f(x[i]);
  float sum = 0.0f;
  for (int p = 0; p < kParts; ++p) sum += parts[p];
  return sum;
}

void layer_norm_vector(const Step& step, float* x) {
  const Index features = step.outputs;
  const float mean = sum_of(x, features, [](float v) { return v; }) / features;
  const float variance =
      sum_of(x, features, [=](float v) { return (v - mean) * (v - mean); }) / features;
  const float scale = 1.0f / std::sqrt(variance + step.epsilon);
  for (Index i = 0; i < features; ++i) x[i] = (x[i] - mean) * scale * step.first[i] + step.second[i];
}

void layer_norm(const Step& step, float* x, Index lanes) {
  const Index features = step.outputs;
  float mean[kLanes] = {}, scale[kLanes] = {};
  for (Index i = 0; i < features; ++i) {
    for (Index b = 0; b < lanes; ++b) mean[b] += x[i * lanes + b];
  }
  for (Index b = 0; b < lanes; ++b) mean[b] /= features;
  for (Index i = 0; i < features; ++i) {
    for (Index b = 0; b < lanes; ++b) {
      const float centred = x[i * lanes + b] - mean[b];
      scale[b] += centred * centred;
    }
  }
  for (Index b = 0; b < lanes; ++b) scale[b] = 1.0f / std::sqrt(scale[b] / features + step.epsilon);
  for (Index i = 0; i < features; ++i) {
    for (Index b = 0; b < lanes; ++b) {
      float& v = x[i * lanes + b];
      v = (v - mean[b]) * scale[b] * step.first[i] + step.second[i];
    }
  }
}

inline float sigmoid(float v) { return 0.5f * (1.0f + std::tanh(0.5f * v)); }

// Apply f to every number in place.
template <class F>
void each(float* x, Index length, const F& f) {
  for (Index i = 0; i < length; ++i) x[i] = f(x[i]);
}

void activate(const Step& step, float* x, Index length) {
  const float alpha = step.epsilon;
  switch (step.relu) {
    case kRelu: return each(x, length, [](float v) { return v < 0.0f ? 0.0f : v; });
    case kLeakyRelu: return each(x, length, [=](float v) { return v < 0.0f ? alpha * v : v; });
    case kElu:
      return each(x, length, [=](float v) { return v < 0.0f ? alpha * std::expm1(v) : v; });
    case kGelu:
      return each(x, length,
                  [](float v) { return 0.5f * v * (1.0f + std::erf(v * 0.70710678f)); });
    case kGeluTanh:
      return each(x, length, [](float v) {
        return 0.5f * v * (1.0f + std::tanh(0.79788456f * (v + 0.044715f * v * v * v)));
      });
    case kSilu: return each(x, length, [](float v) { return v * sigmoid(v); });
    case kTanh: return each(x, length, [](float v) { return std::tanh(v); });
    case kSigmoid: return each(x, length, sigmoid);
    case kSoftplus:
      return each(x, length, [](float v) {
        return (v > 0.0f ? v : 0.0f) + std::log1p(std::exp(-std::fabs(v)));
      });
  }
}

// A number that is none stays none.
void clip(const Step& step, float* x, Index lanes) {
  for (Index i = 0; i < step.outputs; ++i) {
    const float low = step.first[i], high = step.second[i];
    each(x + i * lanes, lanes, [=](float v) { return v < low ? low : v > high ? high : v; });
  }
}

// Of equal scores the first; of numbers that are none, the first of these, as numpy does.
void choose(const Step& step, float* x, Index lanes) {
  for (Index b = 0; b < lanes; ++b) {
    Index first = 0;
    for (Index choice = 0; choice < step.groups; ++choice) {
      Index best = 0;
      for (Index k = 1; k < step.starts[choice]; ++k) {
        const float score = x[(first + k) * lanes + b], top = x[(first + best) * lanes + b];
        if (score > top || (score != score && top == top)) best = k;
      }
      first += step.starts[choice];
      x[choice * lanes + b] = static_cast<float>(best);
    }
  }
}

// y = relu(x W + bias), where wanted.
void multiply(const Step& step, const float* x, float* y, Index lanes, float* tile) {
  const Finish finish{step.second, step.relu != 0};
  if (step.operation == kPacked) {
    const PackedLayer layer = step.packed();
    if (lanes == 1) {
      kernels().packed_vector(layer, step.first, finish, x, y, 0, layer.outputs);
    } else {
      kernels().packed_product(layer, step.first, finish, x, y, lanes, 0, 0, layer.outputs, tile);
    }
    return;
  }
  const GroupedLayer layer = step.grouped();
  if (lanes == 1) {
    for (Index group = 0; group < layer.groups; ++group) {
      kernels().grouped_vector(layer, step.first, finish, x, y, group);
    }
  } else {
    for (Index first = 0; first < lanes; first += kGroupedLanes) {
      kernels().grouped_product(layer, step.first, finish, x, y, lanes, first, tile);
    }
  }
}

// Take `lanes` samples through all steps; x, y and kept hold the widest layer of that many samples.
const float* forward(const Step* steps, Index count, Index lanes, float* x, float* y, float* kept,
                     float* tile) {
  for (const Step* step = steps; step < steps + count; ++step) {
    const Index length = step->outputs * lanes;
    switch (step->operation) {
      case kNormalise: normalise(*step, x, lanes); break;
      case kRemember: std::memcpy(kept, x, length * sizeof(float)); break;
      case kAdd:
        for (Index i = 0; i < length; ++i) x[i] += kept[i];
        break;
      case kLayerNorm:
        if (lanes == 1) {
          layer_norm_vector(*step, x);
        } else {
          layer_norm(*step, x, lanes);
        }
        break;
      case kSquash:
        for (Index i = 0; i < length; ++i) {
          x[i] = step->first[i / lanes] + step->second[i / lanes] * std::tanh(x[i]);
        }
        break;
      case kActivate: activate(*step, x, length); break;
      case kClip: clip(*step, x, lanes); break;
      case kChoose: choose(*step, x, lanes); break;
      default:
        multiply(*step, x, y, lanes, tile);
        std::swap(x, y);
    }
  }
  return x;
}

}  // namespace

extern "C" {

// The first step whose lists point outside its layer, or -1. What else a step needs (its sizes,
// those of its arrays, and that they follow from step to step) is checked where the file is read.
Index kanbatsu_policy_check(const Step* steps, Index count) {
  for (Index i = 0; i < count; ++i) {
    const bool valid = steps[i].operation == kPacked    ? is_valid(steps[i].packed())
                       : steps[i].operation == kGrouped ? is_valid(steps[i].grouped())
                                                        : true;
    if (!valid) return i;
  }
  return -1;
}

// How many operations a step may have: kernels of before kActivate have no such function.
Index kanbatsu_policy_operations() { return kChoose + 1; }

// Actions [batch, action_dim] of observations [batch, obs_dim]; 0, or 1 without enough memory.
int kanbatsu_policy_run(const Step* steps, Index count, const float* obs, float* actions,
                        Index batch) {
  const Index obs_dim = steps[0].inputs, action_dim = steps[count - 1].outputs;
  Index widest = 0, tile = kBlock * kPackedLanes, fewest = kFewestGrouped;
  for (Index i = 0; i < count; ++i) {
    if (steps[i].operation == kPacked) fewest = kFewestPacked;
    widest = std::max({widest, steps[i].inputs, steps[i].outputs});
    tile = std::max(tile, (steps[i].inputs + steps[i].size) * kGroupedLanes);
  }
  const Index most = batch < fewest ? 1 : kLanes;
  float* x;
  try {
    x = scratch(3 * widest * most + (most == 1 ? 0 : tile));
  } catch (const std::bad_alloc&) {
    return 1;
  }
  float *y = x + widest * most, *kept = y + widest * most, *rest = kept + widest * most;
  for (Index first = 0; first < batch; first += most) {
    const Index lanes = std::min(most, batch - first);
    transpose(obs + first * obs_dim, x, lanes, obs_dim);
    const float* out = forward(steps, count, lanes, x, y, kept, rest);
    transpose(out, actions + first * action_dim, action_dim, lanes);
  }
  return 0;
}

}  // extern "C"

}  // namespace kanbatsu
