// Drives layer normalisation, its gradients, and sums over the batch.
#include "reference.h"

namespace {

bool is_near(double expected, float actual) {
  return std::abs(actual - expected) <= 2e-5 * (1.0 + std::abs(expected));
}

}  // namespace

// Layer normalisation and its gradients, and sums over the batch, of [tiles][features][lanes].
void drive_norms(const Tables& tables, Index features, Index tiles,
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

void drive_sums(const Tables& tables, Index features, Index batch) {
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
