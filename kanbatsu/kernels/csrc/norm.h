// Normalising over the features, and sums over the batch.
#pragma once

#include <cmath>

#include "simd.h"

namespace kanbatsu {
namespace KANBATSU_ISA {
namespace {

constexpr int kNormVectors = kNormLanes / kWidth;
// Features that are added up apart, so that rounding errors do not pile up.
constexpr Index kNormRun = 64;

// The sum over the features of f(feature, lane vector).
template <class F>
inline void sum_over_features(Index features, const F& f, Vector<kWidth>* total) {
  UNROLL for (int v = 0; v < kNormVectors; ++v) total[v] = Vector<kWidth>{};
  for (Index begin = 0; begin < features; begin += kNormRun) {
    Vector<kWidth> sums[kNormVectors] = {};
    for (Index i = begin; i < std::min(features, begin + kNormRun); ++i) {
      UNROLL for (int v = 0; v < kNormVectors; ++v) sums[v] += f(i, v);
    }
    UNROLL for (int v = 0; v < kNormVectors; ++v) total[v] += sums[v];
  }
}

void normalise(const Norm& norm, const float* x, float* y, float* mean, float* deviation,
               Index pitch) {
  const float share = 1.0f / static_cast<float>(norm.features);
  const auto at = [=](Index i, int v) { return load<kWidth>(x + i * pitch + v * kWidth); };
  Vector<kWidth> means[kNormVectors], deviations[kNormVectors], factors[kNormVectors];
  sum_over_features(norm.features, at, means);
  UNROLL for (int v = 0; v < kNormVectors; ++v) means[v] *= share;
  sum_over_features(
      norm.features,
      [&](Index i, int v) {
        const Vector<kWidth> centred = at(i, v) - means[v];
        return centred * centred;
      },
      deviations);
  UNROLL for (int v = 0; v < kNormVectors; ++v) {
    for (int lane = 0; lane < kWidth; ++lane) {
      deviations[v][lane] = std::sqrt(deviations[v][lane] * share + norm.epsilon);
    }
    store<kWidth>(mean + v * kWidth, means[v]);
    store<kWidth>(deviation + v * kWidth, deviations[v]);
    factors[v] = 1.0f / deviations[v];
  }
  for (Index i = 0; i < norm.features; ++i) {
    UNROLL for (int v = 0; v < kNormVectors; ++v) {
      store<kWidth>(y + i * pitch + v * kWidth,
                    (at(i, v) - means[v]) * factors[v] * norm.scale[i] + norm.shift[i]);
    }
  }
}

void normalise_gradient(const Norm& norm, const float* x, const float* mean,
                        const float* deviation, const float* dy, const float* beside, float* dx,
                        Index pitch, float* tile) {
  const float share = 1.0f / static_cast<float>(norm.features);
  Vector<kWidth> means[kNormVectors], factors[kNormVectors];
  UNROLL for (int v = 0; v < kNormVectors; ++v) {
    means[v] = load<kWidth>(mean + v * kWidth);
    factors[v] = 1.0f / load<kWidth>(deviation + v * kWidth);
  }
  const auto standard = [&](Index i, int v) {
    return (load<kWidth>(x + i * pitch + v * kWidth) - means[v]) * factors[v];
  };
  const auto error = [&](Index i, int v) {
    return load<kWidth>(tile + i * kNormLanes + v * kWidth);
  };
  Vector<kWidth> sums[kNormVectors], products[kNormVectors];
  sum_over_features(
      norm.features,
      [&](Index i, int v) {
        // Stored, and so rounded: the mean of equal errors is the error, and nothing passes.
        const auto scaled = load<kWidth>(dy + i * pitch + v * kWidth) * norm.scale[i];
        store<kWidth>(tile + i * kNormLanes + v * kWidth, scaled);
        return scaled;
      },
      sums);
  sum_over_features(
      norm.features, [&](Index i, int v) { return error(i, v) * standard(i, v); }, products);
  UNROLL for (int v = 0; v < kNormVectors; ++v) sums[v] *= share, products[v] *= share;
  for (Index i = 0; i < norm.features; ++i) {
    UNROLL for (int v = 0; v < kNormVectors; ++v) {
      const Index at = i * pitch + v * kWidth;
      Vector<kWidth> passed =
          (error(i, v) - sums[v] - standard(i, v) * products[v]) * factors[v];
      if (beside != nullptr) passed += load<kWidth>(beside + at);
      store<kWidth>(dx + at, passed);
    }
  }
}

inline float sum_of(Vector<kWidth> vector) {
  const Vector<4> sum = fold<kWidth>(vector);
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

void norm_weight_gradient(const float* x, const float* mean, const float* deviation,
                          const float* dy, float* dscale, float* dshift, Index features,
                          Index tiles, Index lanes, Index begin, Index end) {
  for (Index i = begin; i < end; ++i) {
    Vector<kWidth> scales = {}, shifts = {};
    for (Index t = 0; t < tiles; ++t) {
      const Index row = (t * features + i) * lanes;
      for (Index b = 0; b < lanes; b += kWidth) {
        const Index sample = t * lanes + b;
        const Vector<kWidth> error = load<kWidth>(dy + row + b);
        const Vector<kWidth> centred = load<kWidth>(x + row + b) - load<kWidth>(mean + sample);
        scales += error * centred / load<kWidth>(deviation + sample);
        shifts += error;
      }
    }
    dscale[i] = sum_of(scales), dshift[i] = sum_of(shifts);
  }
}

void batch_sum(const float* x, float* y, Index features, Index tiles, Index lanes, Index begin,
               Index end) {
  for (Index i = begin; i < end; ++i) {
    Vector<kWidth> sums[4] = {};
    float rest = 0.0f;
    for (Index t = 0; t < tiles; ++t) {
      const float* row = x + (t * features + i) * lanes;
      Index b = 0;
      for (; b + 4 * kWidth <= lanes; b += 4 * kWidth) {
        UNROLL for (int c = 0; c < 4; ++c) sums[c] += load<kWidth>(row + b + c * kWidth);
      }
      for (; b + kWidth <= lanes; b += kWidth) sums[0] += load<kWidth>(row + b);
      for (; b < lanes; ++b) rest += row[b];
    }
    y[i] = sum_of((sums[0] + sums[1]) + (sums[2] + sums[3])) + rest;
  }
}

}  // namespace
}  // namespace KANBATSU_ISA
}  // namespace kanbatsu
