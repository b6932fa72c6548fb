// A trunk, forward: with the traces that its gradients need, or without, where there will be none.
#include <vector>

#include "trunk.h"

namespace kanbatsu {
namespace {

// One layer.
template <class Kind>
struct Affine {
  typename Kind::Layer layer;
  const float* values;
  Finish finish;

  void operator()(const float* beside, const float* x, float* y) const {
    Finish last = finish;
    last.beside = beside;
    multiply_tile(layer, values, last, x, y);
  }
};

template <class Kind>
Affine<Kind> read_up(Batch<Kind>& batch, Arguments& arguments) {
  const auto values = arguments.next<Floats>();
  const auto bias = arguments.next<Floats>();
  batch.learn_units(static_cast<Index>(bias.element_count()));
  require(is_shape(bias, {batch.units}), "a bias has one axis");
  const auto layer = Kind::read(arguments, batch.width, batch.units, values);
  require_values(layer, values);
  return {layer, values.typed_data(), Finish{bias.typed_data(), true}};
}

template <class Kind>
Affine<Kind> read_down(const Batch<Kind>& batch, Arguments& arguments) {
  const auto values = arguments.next<Floats>();
  const float* bias = arguments.next({batch.width});
  const auto layer = Kind::read(arguments, batch.units, batch.width, values);
  require_values(layer, values);
  return {layer, values.typed_data(), Finish{bias, false}};
}

struct Normed {
  Norm norm;
  float *y, *mean, *deviation;

  template <class Kind>
  void operator()(const Batch<Kind>& batch, const float* x, Index tile) const {
    for (Index first = 0; first < Kind::kLanes; first += kNormLanes) {
      const Index at = batch.at(tile) + first, sample = tile * Kind::kLanes + first;
      kernels().normalise(norm, x + at, y + at, mean + sample, deviation + sample, Kind::kLanes);
    }
  }
};

template <class Kind>
Norm read_norm(const Batch<Kind>& batch, Arguments& arguments, float epsilon) {
  const float* scale = arguments.next({batch.width});
  return {batch.width, epsilon, scale, arguments.next({batch.width})};
}

// With traces every block has memory of its own, which is among the results. Without, all blocks
// share a room, and the output of one takes the place of its input.
template <class Kind, bool kTraces>
ffi::Error forward(ffi::ThreadPool pool, Floats x, float epsilon, FloatsOut y,
                   ffi::RemainingArgs args, ffi::RemainingRets rets) {
  struct Block {
    Normed norm;
    Affine<Kind> up, down;
    float *hidden, *output;
  };
  return guarded([&] {
    Batch<Kind> batch(x);
    require(is_shape(*y, {batch.samples, batch.width}), "a trunk keeps the shape of its input");
    Arguments arguments(args);
    Results results(rets);
    std::vector<Block> blocks;
    while (arguments.left() > 2) {
      Block block{};
      block.norm.norm = read_norm(batch, arguments, epsilon);
      block.up = read_up(batch, arguments);
      block.down = read_down(batch, arguments);
      blocks.push_back(block);
    }
    require(!blocks.empty(), "a trunk has at least one block");
    Normed last{read_norm(batch, arguments, epsilon), nullptr, nullptr, nullptr};

    const Index wide = batch.wide_size(), hidden = batch.hidden_size();
    const Index statistic = batch.statistic_size();
    Room room(kTraces ? Room::size(wide)
                      : 2 * (Room::size(wide) + Room::size(statistic)) + Room::size(hidden));
    last.y = room.next(wide);
    float* input;
    if constexpr (kTraces) {
      input = batch.next_wide(results);
      for (Block& block : blocks) {
        block.norm.y = batch.next_wide(results);
        block.norm.mean = batch.next_statistic(results);
        block.norm.deviation = batch.next_statistic(results);
        block.hidden = batch.next_hidden(results);
        block.output = batch.next_wide(results);
      }
      last.mean = batch.next_statistic(results);
      last.deviation = batch.next_statistic(results);
    } else {
      input = room.next(wide);
      last.mean = room.next(statistic), last.deviation = room.next(statistic);
      float* units = room.next(hidden);
      for (Block& block : blocks) {
        block.norm.y = last.y, block.norm.mean = last.mean, block.norm.deviation = last.deviation;
        block.hidden = units, block.output = input;
      }
    }

    const Index stages = 2 * static_cast<Index>(blocks.size());
    parallel_stages(pool, stages, batch.tiles, [&](Index stage, Index tile) {
      const Block& block = blocks[stage / 2];
      const float* x_of_block = stage < 2 ? input : blocks[stage / 2 - 1].output;
      const Index at = batch.at(tile), hidden_at = batch.hidden_at(tile);
      const Index first = tile * Kind::kLanes;
      if (stage == 0) {
        enter<Kind::kLanes>(x.typed_data(), batch.width, batch.samples, first, input + at);
      }
      if (stage % 2 == 0) {
        block.norm(batch, x_of_block, tile);
        block.up(nullptr, block.norm.y + at, block.hidden + hidden_at);
        return;
      }
      block.down(x_of_block + at, block.hidden + hidden_at, block.output + at);
      if (stage + 1 < stages) return;
      last(batch, block.output, tile);
      leave<Kind::kLanes>(last.y + at, batch.width, batch.samples, first, y->typed_data());
    });
  });
}

}  // namespace

#define DEFINE(name, kind, traces)                             \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, (forward<kind, traces>), \
                                ffi::Ffi::Bind()               \
                                    .Ctx<ffi::ThreadPool>()    \
                                    .Arg<Floats>()             \
                                    .Attr<float>("epsilon")    \
                                    .Ret<Floats>()             \
                                    .RemainingArgs()           \
                                    .RemainingRets())

DEFINE(kanbatsu_packed_trunk, Element, false);
DEFINE(kanbatsu_packed_trunk_traces, Element, true);
DEFINE(kanbatsu_grouped_trunk, Group, false);
DEFINE(kanbatsu_grouped_trunk_traces, Group, true);

}  // namespace kanbatsu
