// A trunk, backward: what an error passes back to its input, and to its weights where they learn.
#include <functional>
#include <vector>

#include "trunk.h"

namespace kanbatsu {
namespace {

// A norm, going backward.
struct NormBack {
  Norm norm;
  const float *mean, *deviation;

  template <class Kind>
  static NormBack read(const Batch<Kind>& batch, Arguments& arguments) {
    const float* mean = batch.next_statistic(arguments);
    const float* deviation = batch.next_statistic(arguments);
    return {{batch.width, 0.0f, arguments.next({batch.width}), nullptr}, mean, deviation};
  }

  template <class Kind>
  void operator()(const Batch<Kind>& batch, const float* x, const float* dy, const float* beside,
                  float* dx, Index tile) const {
    for (Index first = 0; first < Kind::kLanes; first += kNormLanes) {
      const Index at = batch.at(tile) + first, sample = tile * Kind::kLanes + first;
      kernels().normalise_gradient(norm, x + at, mean + sample, deviation + sample, dy + at,
                                   beside == nullptr ? nullptr : beside + at, dx + at,
                                   Kind::kLanes, scratch(norm.features * kNormLanes));
    }
  }
};

// A layer, going backward; `layer` is what its weights' gradients need.
template <class Kind>
struct AffineBack {
  typename Kind::Back back;
  typename Kind::Layer layer;

  static AffineBack read(Arguments& arguments, Index inputs, Index outputs, bool learns) {
    const auto values = arguments.next<Floats>();
    AffineBack affine{};
    affine.back = Kind::Back::read(arguments, values, inputs, outputs);
    if (!learns) return affine;
    affine.layer = Kind::read(arguments, inputs, outputs, values);
    require_values(affine.layer, values);
    return affine;
  }
};

template <class Kind>
struct Block {
  NormBack norm;
  AffineBack<Kind> up, down;
  const float *input, *normed, *hidden, *output;
  float *dinput, *dnormed, *dhidden, *doutput;
};

// The gradients of all weights, as pieces of work.
template <class Kind>
class Gradients {
 public:
  explicit Gradients(const Batch<Kind>& batch) : batch_(batch) {}

  void of_norm(const NormBack& norm, const float* input, const float* dnormed, Results& results) {
    float *dscale = results.next({batch_.width}), *dshift = results.next({batch_.width});
    sum_in_pieces(batch_.width, [=, &batch = batch_](Index begin, Index end) {
      kernels().norm_weight_gradient(input, norm.mean, norm.deviation, dnormed, dscale, dshift,
                                     batch.width, batch.tiles, Kind::kLanes, begin, end);
    });
  }

  template <class Pool>
  void of_affine(Pool& pool, const typename Kind::Layer& layer, const Samples& from,
                 const Samples& errors, Results& results) {
    const auto dvalues = results.next();
    require_values(layer, dvalues);
    float *values = dvalues.typed_data(), *dbias = results.next({layer.outputs});
    const Index shares = gradient_shares(pool, layer);
    for (Index share = 0; share < shares; ++share) {
      products_.push_back([=, &layer, samples = batch_.tiles * Kind::kLanes] {
        // Of whole tiles: samples that do not exist have no errors.
        weight_gradient(layer, from, errors, values, samples, share, shares);
      });
    }
    sum_in_pieces(layer.outputs, [=, &layer, tiles = batch_.tiles](Index begin, Index end) {
      kernels().batch_sum(errors.data, dbias, layer.outputs, tiles, Kind::kLanes, begin, end);
    });
  }

  // The long pieces first, so that the threads end together.
  template <class Pool>
  void run(Pool& pool) const {
    const Index products = static_cast<Index>(products_.size());
    parallel_for(pool, products + static_cast<Index>(sums_.size()), [&](Index i) {
      i < products ? products_[i]() : sums_[i - products]();
    });
  }

 private:
  template <class Sum>
  void sum_in_pieces(Index features, const Sum& sum) {
    constexpr Index kPiece = 128;
    for (Index begin = 0; begin < features; begin += kPiece) {
      sums_.push_back([=] { sum(begin, std::min(features, begin + kPiece)); });
    }
  }

  const Batch<Kind>& batch_;
  std::vector<std::function<void()>> products_, sums_;
};

template <class Kind>
std::vector<Block<Kind>> read_blocks(Batch<Kind>& batch, Arguments& arguments, bool learns) {
  constexpr std::size_t kOfLastNorm = 3;
  std::vector<Block<Kind>> blocks;
  const float* input = batch.next_wide(arguments);
  while (arguments.left() > kOfLastNorm) {
    Block<Kind> block{};
    block.input = input;
    block.normed = batch.next_wide(arguments);
    block.norm = NormBack::read(batch, arguments);
    const auto hidden = arguments.next<Floats>();
    require(hidden.dimensions().size() == 3, "hidden units must lie in tiles");
    batch.learn_units(hidden.dimensions()[1]);
    require(is_shape(hidden, {batch.tiles, batch.units, Kind::kLanes}),
            "hidden units must lie in tiles");
    block.hidden = hidden.typed_data();
    block.output = input = batch.next_wide(arguments);
    block.up = AffineBack<Kind>::read(arguments, batch.width, batch.units, learns);
    block.down = AffineBack<Kind>::read(arguments, batch.units, batch.width, learns);
    blocks.push_back(block);
  }
  require(!blocks.empty(), "a trunk has at least one block");
  return blocks;
}

// Errors lie in a room. Where the weights learn, each is kept to the end; else the blocks share it,
// and what passes a block takes the place of what came.
template <class Kind, bool kLearns>
ffi::Error backward(ffi::ThreadPool pool, Floats dy, FloatsOut dx, ffi::RemainingArgs args,
                    ffi::RemainingRets rets) {
  return guarded([&] {
    Batch<Kind> batch(dy);
    require(is_shape(*dx, {batch.samples, batch.width}), "a trunk keeps the shape of its input");
    Arguments arguments(args);
    Results results(rets);
    std::vector<Block<Kind>> blocks = read_blocks(batch, arguments, kLearns);
    const NormBack last = NormBack::read(batch, arguments);

    const Index wide = batch.wide_size(), hidden = batch.hidden_size();
    const Index copies = kLearns ? static_cast<Index>(blocks.size()) : 1;
    Index needs = 2 * Room::size(wide) + copies * (2 * Room::size(wide) + Room::size(hidden));
    for (const auto& block : blocks) {
      needs += Room::size(block.up.back.needs()) + Room::size(block.down.back.needs());
    }
    Room room(needs);
    float* const dlast = room.next(wide);
    float* dinput = room.next(wide);
    float* const dfirst = dinput;
    for (std::size_t index = 0; index < blocks.size(); ++index) {
      Block<Kind>& block = blocks[index];
      block.dinput = dinput;
      if (kLearns || index == 0) {
        block.dnormed = room.next(wide), block.dhidden = room.next(hidden);
        block.doutput = kLearns ? room.next(wide) : dinput;
      } else {
        block.dnormed = blocks[0].dnormed, block.dhidden = blocks[0].dhidden;
        block.doutput = dinput;
      }
      dinput = block.doutput;
      for (auto* back : {&block.up.back, &block.down.back}) {
        back->prepare(pool, room.next(back->needs()));
      }
    }

    const Index stages = 2 * static_cast<Index>(blocks.size());
    parallel_stages(pool, stages, batch.tiles, [&](Index stage, Index tile) {
      const Block<Kind>& block = blocks[blocks.size() - 1 - stage / 2];
      const Index at = batch.at(tile), hidden_at = batch.hidden_at(tile);
      const Index first = tile * Kind::kLanes;
      if (stage == 0) {
        enter<Kind::kLanes>(dy.typed_data(), batch.width, batch.samples, first, dlast + at);
        last(batch, block.output, dlast, nullptr, block.doutput, tile);
      }
      if (stage % 2 == 0) {
        Finish gated;
        gated.gate = block.hidden + hidden_at;
        block.down.back(gated, block.doutput + at, block.dhidden + hidden_at);
        return;
      }
      block.up.back(Finish{}, block.dhidden + hidden_at, block.dnormed + at);
      block.norm(batch, block.input, block.dnormed, block.doutput, block.dinput, tile);
      if (stage + 1 < stages) return;
      leave<Kind::kLanes>(dfirst + at, batch.width, batch.samples, first, dx->typed_data());
    });
    if constexpr (kLearns) {
      Gradients<Kind> gradients(batch);
      for (const Block<Kind>& block : blocks) {
        gradients.of_norm(block.norm, block.input, block.dnormed, results);
        gradients.of_affine(pool, block.up.layer, batch.wide(block.normed),
                            batch.hidden(block.dhidden), results);
        gradients.of_affine(pool, block.down.layer, batch.hidden(block.hidden),
                            batch.wide(block.doutput), results);
      }
      gradients.of_norm(last, blocks.back().output, dlast, results);
      gradients.run(pool);
    }
  });
}

}  // namespace

#define DEFINE(name, kind, learns)                              \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, (backward<kind, learns>), \
                                ffi::Ffi::Bind()                \
                                    .Ctx<ffi::ThreadPool>()     \
                                    .Arg<Floats>()              \
                                    .Ret<Floats>()              \
                                    .RemainingArgs()            \
                                    .RemainingRets())

DEFINE(kanbatsu_packed_trunk_input_gradient, Element, false);
DEFINE(kanbatsu_packed_trunk_gradients, Element, true);
DEFINE(kanbatsu_grouped_trunk_input_gradient, Group, false);
DEFINE(kanbatsu_grouped_trunk_gradients, Group, true);

}  // namespace kanbatsu
