// What the kernels work on: pruned layers as plain arrays, and one table of kernels per instruction
// set. Activations are feature-major: x[inputs][batch], y[outputs][batch].
#pragma once

#include <cstdint>

namespace kanbatsu {

using Index = std::int64_t;

// Inputs in one block of a packed layer: a tile of their activations stays in the second cache.
constexpr Index kBlock = 1024;

// Any weights of a layer are kept; they are listed by block of inputs, then by output, then by
// input.
struct PackedLayer {
  Index inputs = 0;
  Index outputs = 0;
  Index kept = 0;
  const std::int32_t* starts = nullptr;  // [blocks * outputs + 1], where each list begins
  const std::uint16_t* sources = nullptr;  // [kept], the input that each weight multiplies

  Index blocks() const { return (inputs + kBlock - 1) / kBlock; }
};

// Every group of `size` neighbouring outputs keeps the same `kept` inputs.
struct GroupedLayer {
  Index inputs = 0;
  Index outputs = 0;
  Index groups = 0;
  Index kept = 0;
  Index size = 0;  // 8, 16 or 32; the last group may have fewer outputs, its values are padded
  const std::int32_t* sources = nullptr;  // [groups, kept]
};

// Samples that are multiplied together: a tile of activations is [features][lanes].
constexpr Index kPackedLanes = 32;
constexpr Index kGroupedLanes = 16;
// Samples in one step of a grouped weight gradient.
constexpr Index kGradientBatch = 256;

// What a product does beside multiplying: y = relu(x W + bias), where wanted.
struct Finish {
  const float* bias = nullptr;  // [outputs], or none
  bool relu = false;

  float start(Index output) const { return bias == nullptr ? 0.0f : bias[output]; }
  float end(Index output, float sum) const {
    const float y = sum + start(output);
    return relu && y < 0.0f ? 0.0f : y;
  }
};

// Whether every index stays inside its array.
bool is_valid(const PackedLayer& layer);
bool is_valid(const GroupedLayer& layer);

// Each function does one share of the work; shares are independent of each other, and no result
// depends on how they are spread over threads. `tile` is a scratch array of the caller's.
struct Kernels {
  const char* name;

  // y of outputs [begin, end) and samples [first, first + kPackedLanes); tile: kBlock *
  // kPackedLanes floats.
  void (*packed_product)(const PackedLayer&, const float* values, const Finish&, const float* x,
                         float* y, Index batch, Index first, Index begin, Index end, float* tile);
  // Gradients of the weights of outputs [begin, end); tile: (kBlock + 1) * kPackedLanes floats.
  void (*packed_weight_gradient)(const PackedLayer&, const float* x, const float* dy,
                                 float* dvalues, Index batch, Index begin, Index end, float* tile);
  // y of samples [first, first + kGroupedLanes); tile: (inputs + size) * kGroupedLanes floats.
  void (*grouped_product)(const GroupedLayer&, const float* values, const Finish&, const float* x,
                          float* y, Index batch, Index first, float* tile);
  // dx of samples [first, first + kGroupedLanes); tile: (inputs + size) * kGroupedLanes floats.
  void (*grouped_input_gradient)(const GroupedLayer&, const float* values, const float* dy,
                                 float* dx, Index batch, Index first, float* tile);
  // Gradients of one group's weights; tile: kGradientBatch * size floats.
  void (*grouped_weight_gradient)(const GroupedLayer&, const float* x, const float* dy,
                                  float* dvalues, Index batch, Index group, float* tile);
  // One sample: y of outputs [begin, end).
  void (*packed_vector)(const PackedLayer&, const float* values, const Finish&, const float* x,
                        float* y, Index begin, Index end);
  // One sample: y of one group.
  void (*grouped_vector)(const GroupedLayer&, const float* values, const Finish&, const float* x,
                         float* y, Index group);
  // Sums over the batch, y[features] for features [begin, end).
  void (*batch_sum)(const float* x, float* y, Index batch, Index begin, Index end);
  // Sums over the features, y[batch] for samples [begin, end).
  void (*feature_sum)(const float* x, float* y, Index features, Index batch, Index begin,
                      Index end);
};

// The best kernels for this processor, or those that KANBATSU_ISA names.
const Kernels& kernels();

}  // namespace kanbatsu
