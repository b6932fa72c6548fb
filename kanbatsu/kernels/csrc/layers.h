// What the kernels work on: pruned layers as plain arrays, and one table of kernels per instruction
// set. Activations are feature-major: x[inputs][batch], y[outputs][batch].
#pragma once

#include <cstdint>

namespace kanbatsu {

using Index = std::int64_t;

// Inputs in one block of a packed layer (kernels/constants.py says the same): a tile of their activations stays in the second cache.
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

constexpr bool is_group_size(Index size) { return size == 8 || size == 16 || size == 32; }

// Samples that are multiplied together: a tile of activations is [features][lanes].
constexpr Index kPackedLanes = 32;
constexpr Index kGroupedLanes = 16;
constexpr Index kNormLanes = 16;
// Samples in one step of a grouped weight gradient.
constexpr Index kGradientBatch = 256;

// What a product does beside multiplying: y = relu(x W + bias + beside), zero where the gate is not
// positive; each part where wanted.
struct Finish {
  const float* bias = nullptr;  // [outputs]
  bool relu = false;
  const float* beside = nullptr;  // as y
  const float* gate = nullptr;    // as y

  float start(Index output) const { return bias == nullptr ? 0.0f : bias[output]; }

  // The same for a single sample.
  float start_one(Index output) const {
    return start(output) + (beside == nullptr ? 0.0f : beside[output]);
  }
  float end_one(Index output, float sum) const {
    if (gate != nullptr && !(gate[output] > 0.0f)) return 0.0f;
    return relu && sum < 0.0f ? 0.0f : sum;
  }
};

// Layer normalisation: (x - mean) / deviation * scale + shift, deviation^2 = variance + epsilon.
struct Norm {
  Index features = 0;
  float epsilon = 0.0f;
  const float* scale = nullptr;  // [features]
  const float* shift = nullptr;  // [features]
};

// Whether every index stays inside its array.
bool is_valid(const PackedLayer& layer);
bool is_valid(const GroupedLayer& layer);

// Activations for weight gradients: sample t * lanes + l of feature i is at data[i * pitch + t * step
// + l]. Feature-major ones have pitch = batch and step = lanes; ones that lie in tiles, [tiles]
// [features][lanes] with zeros for samples that do not exist, have pitch = lanes and step = features
// * lanes.
struct Samples {
  const float* data = nullptr;
  Index pitch = 0;
  Index step = 0;

  const float* at(Index feature, Index tile) const {
    return data + feature * pitch + tile * step;
  }
};

// Each function does one share of the work; shares are independent of each other, and no result
// depends on how they are spread over threads. `tile` is a scratch array of the caller's.
struct Kernels {
  const char* name;

  // y of outputs [begin, end) and samples [first, first + kPackedLanes); tile: kBlock *
  // kPackedLanes floats. A batch that is one tile is read where it is, here and below.
  void (*packed_product)(const PackedLayer&, const float* values, const Finish&, const float* x,
                         float* y, Index batch, Index first, Index begin, Index end, float* tile);
  // Gradients of the weights of outputs [begin, end), of samples in tiles of kPackedLanes; tile:
  // (kBlock + 1) * kPackedLanes floats.
  void (*packed_weight_gradient)(const PackedLayer&, const Samples& x, const Samples& dy,
                                 float* dvalues, Index batch, Index begin, Index end, float* tile);
  // y of samples [first, first + kGroupedLanes); tile: (inputs + size) * kGroupedLanes floats.
  void (*grouped_product)(const GroupedLayer&, const float* values, const Finish&, const float* x,
                          float* y, Index batch, Index first, float* tile);
  // dx of samples [first, first + kGroupedLanes), of which it reads the gate of `finish` only;
  // tile: (inputs + size) * kGroupedLanes floats.
  void (*grouped_input_gradient)(const GroupedLayer&, const float* values, const Finish&,
                                 const float* dy, float* dx, Index batch, Index first,
                                 float* tile);
  // Gradients of one group's weights, of samples in tiles of kGroupedLanes; tile: kGradientBatch *
  // size floats.
  void (*grouped_weight_gradient)(const GroupedLayer&, const Samples& x, const Samples& dy,
                                  float* dvalues, Index batch, Index group, float* tile);
  // One sample: y of outputs [begin, end).
  void (*packed_vector)(const PackedLayer&, const float* values, const Finish&, const float* x,
                        float* y, Index begin, Index end);
  // One sample: y of one group.
  void (*grouped_vector)(const GroupedLayer&, const float* values, const Finish&, const float* x,
                         float* y, Index group);
  // y, the mean and the deviation of kNormLanes samples, whose features lie `pitch` floats apart.
  void (*normalise)(const Norm&, const float* x, float* y, float* mean, float* deviation,
                    Index pitch);
  // dx = beside (or none) + what dy passes back, of the same samples; dx may be dy or beside. tile:
  // features * kNormLanes floats.
  void (*normalise_gradient)(const Norm&, const float* x, const float* mean,
                             const float* deviation, const float* dy, const float* beside,
                             float* dx, Index pitch, float* tile);
  // Gradients of scale and shift, of features [begin, end); all in tiles, mean[tiles][lanes].
  void (*norm_weight_gradient)(const float* x, const float* mean, const float* deviation,
                               const float* dy, float* dscale, float* dshift, Index features,
                               Index tiles, Index lanes, Index begin, Index end);
  // Sums over the samples, y[features] for features [begin, end); x[tiles][features][lanes].
  void (*batch_sum)(const float* x, float* y, Index features, Index tiles, Index lanes,
                    Index begin, Index end);
  // Turn `samples` rows of x[samples][features] into a tile [features][lanes], padded with zeros.
  void (*to_tile)(const float* x, Index features, Index samples, Index lanes, float* tile);
  // Turn it back; samples that do not exist are dropped.
  void (*from_tile)(const float* tile, Index features, Index samples, Index lanes, float* y);
  // Whether base <= entry < base + size, or 0 <= entry < size, for all of a list.
  bool (*shorts_lie_within)(const std::uint16_t* entries, Index count, std::uint16_t base,
                            Index size);
  bool (*ints_lie_within)(const std::int32_t* entries, Index count, Index size);
};

// The best kernels for this processor, or those that KANBATSU_ISA names.
const Kernels& kernels();

}  // namespace kanbatsu
