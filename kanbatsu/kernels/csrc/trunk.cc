// A residual trunk in one call: x + down(relu(up(norm(x)))) block after block, then a norm.
//
// Activations enter and leave feature-major. Inside they lie in tiles, [tiles][features][lanes], with
// zeros for samples that do not exist: a product reads and writes one piece of memory, not lines far
// apart. Samples do not depend on each other, so a tile goes on to its next stage while others are
// still in this one: no thread waits for the others between two products.
#include <functional>
#include <vector>

#include "checks.h"
#include "parallel.h"
#include "shares.h"

namespace kanbatsu {
namespace {

// Reads a list of buffers in order.
class Arguments {
 public:
  explicit Arguments(ffi::RemainingArgs buffers) : buffers_(buffers) {}

  template <class Buffer>
  Buffer next() {
    const auto buffer = buffers_.get<Buffer>(at_++);
    require(buffer.has_value(), "a trunk lacks a buffer, or one has another type");
    return *buffer;
  }
  const float* next(std::initializer_list<Index> shape) {
    const auto buffer = next<Floats>();
    require(is_shape(buffer, shape), "the shapes of a trunk's buffers do not fit");
    return buffer.typed_data();
  }
  std::size_t left() const { return buffers_.size() - at_; }

 private:
  ffi::RemainingArgs buffers_;
  std::size_t at_ = 0;
};

class Results {
 public:
  explicit Results(ffi::RemainingRets buffers) : buffers_(buffers) {}

  Floats next() {
    auto buffer = buffers_.get<Floats>(at_++);
    require(buffer.has_value(), "a trunk lacks a result, or one has another type");
    return **buffer;
  }
  float* next(std::initializer_list<Index> shape) {
    const auto buffer = next();
    require(is_shape(buffer, shape), "the shapes of a trunk's results do not fit");
    return buffer.typed_data();
  }

 private:
  ffi::RemainingRets buffers_;
  std::size_t at_ = 0;
};

// A layer that any weights are kept of.
struct Element {
  using Layer = PackedLayer;
  static constexpr Index kLanes = kPackedLanes;

  static Layer read(Arguments& arguments, Index inputs, Index outputs, const Floats&) {
    const auto starts = arguments.next<Ints>();
    const auto sources = arguments.next<Shorts>();
    return packed_layer(inputs, outputs, starts, sources, "an input");
  }

  // What passes an error back: the transposed layer, with its values in its own order.
  struct Back {
    Layer layer;
    const float* values;

    template <class Pool>
    static Back read(Pool& pool, Arguments& arguments, Results& results, Index inputs,
                     Index outputs) {
      const auto values = arguments.next<Floats>();
      const auto starts = arguments.next<Ints>();
      const auto sources = arguments.next<Shorts>();
      const auto order = arguments.next<Ints>();
      const Layer layer = packed_layer(outputs, inputs, starts, sources, "an output");
      require_values(layer, values);
      require(is_shape(order, {layer.kept}), "the shapes of a packed weight do not fit its order");
      float* ordered = results.next({layer.kept});
      require(reorder(pool, layer.kept, values.typed_data(), order.typed_data(), ordered),
              "a packed weight names a value that does not exist");
      return {layer, ordered};
    }
    void operator()(const Finish& finish, const float* dy, float* dx) const {
      multiply_tile(layer, values, finish, dy, dx);
    }
  };
};

// A layer whose neighbouring outputs share their inputs.
struct Group {
  using Layer = GroupedLayer;
  static constexpr Index kLanes = kGroupedLanes;

  static Layer read(Arguments& arguments, Index inputs, Index outputs, const Floats& values) {
    return grouped_layer(inputs, outputs, group_size(values), arguments.next<Ints>());
  }

  struct Back {
    Layer layer;
    const float* values;

    template <class Pool>
    static Back read(Pool&, Arguments& arguments, Results&, Index inputs, Index outputs) {
      const auto values = arguments.next<Floats>();
      const Layer layer = Group::read(arguments, inputs, outputs, values);
      require_values(layer, values);
      return {layer, values.typed_data()};
    }
    void operator()(const Finish& finish, const float* dy, float* dx) const {
      pass_back(layer, values, finish, dy, dx, kGroupedLanes, 0);
    }
  };
};

// One layer of a trunk, going forward.
template <class Kind>
struct Affine {
  typename Kind::Layer layer;
  const float* values;
  Finish finish;

  static Affine read(Arguments& arguments, Index inputs, Index outputs, bool relu) {
    const auto values = arguments.next<Floats>();
    const float* bias = arguments.next({outputs});
    const auto layer = Kind::read(arguments, inputs, outputs, values);
    require_values(layer, values);
    return {layer, values.typed_data(), Finish{bias, relu}};
  }
};

// Copy samples [first, first + lanes) of x[features][batch] to a tile, or back.
void enter(const float* x, Index features, Index batch, Index first, Index lanes, float* tile) {
  const Index count = std::min(lanes, batch - first);
  for (Index i = 0; i < features; ++i) {
    std::fill_n(std::copy_n(x + i * batch + first, count, tile + i * lanes), lanes - count, 0.0f);
  }
}
void leave(const float* tile, Index features, Index batch, Index first, Index lanes, float* x) {
  const Index count = std::min(lanes, batch - first);
  for (Index i = 0; i < features; ++i) std::copy_n(tile + i * lanes, count, x + i * batch + first);
}

// The batch of a trunk, and the shapes of what lies in tiles.
template <class Kind>
struct Batch {
  static constexpr Index kLanes = Kind::kLanes;
  Index samples, width, tiles, units = 0;

  explicit Batch(const Floats& x) {
    require(is_matrix(x), "activations must be [batch, features]");
    samples = x.dimensions()[0], width = x.dimensions()[1];
    tiles = (samples + kLanes - 1) / kLanes;
  }
  Batch(Index whole_tiles, Index features)
      : samples(whole_tiles * kLanes), width(features), tiles(whole_tiles) {}
  // Learn the number of hidden units from a buffer [tiles][units][lanes].
  const Floats& hidden(const Floats& buffer) {
    require(buffer.dimensions().size() == 3, "hidden units must lie in tiles");
    units = buffer.dimensions()[1];
    require(is_shape(buffer, {tiles, units, kLanes}), "hidden units must lie in tiles");
    return buffer;
  }
  template <class List>
  auto next(List& list) const {
    return list.next({tiles, width, kLanes});
  }
  template <class List>
  auto next_statistic(List& list) const {
    return list.next({tiles, 1, kLanes});
  }
  Index at(Index tile) const { return tile * width * kLanes; }
  Index hidden_at(Index tile) const { return tile * units * kLanes; }
  Samples wide(const float* data) const { return {data, kLanes, width * kLanes}; }
  Samples hidden(const float* data) const { return {data, kLanes, units * kLanes}; }
};

struct Normed {
  Norm norm;
  float *y, *mean, *deviation;

  template <class Kind>
  static Normed read(const Batch<Kind>& batch, Arguments& arguments, Results& results,
                     float epsilon) {
    const float* scale = arguments.next({batch.width});
    const float* shift = arguments.next({batch.width});
    float* y = batch.next(results);
    float* mean = batch.next_statistic(results);
    return {{batch.width, epsilon, scale, shift}, y, mean, batch.next_statistic(results)};
  }

  template <class Kind>
  void operator()(const Batch<Kind>& batch, const float* x, Index tile) const {
    const Index at = batch.at(tile), statistic = tile * Kind::kLanes;
    for (Index first = 0; first < Kind::kLanes; first += kNormLanes) {
      kernels().normalise(norm, x + at, y + at, mean + statistic, deviation + statistic,
                          Kind::kLanes, first, scratch(norm.features * kNormLanes));
    }
  }
};

template <class Kind>
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
    float* const input = batch.next(results);
    std::vector<Block> blocks;
    while (arguments.left() > 2) {
      Block block{};
      block.norm = Normed::read(batch, arguments, results, epsilon);
      block.hidden = batch.hidden(results.next()).typed_data();
      block.output = batch.next(results);
      block.up = Affine<Kind>::read(arguments, batch.width, batch.units, true);
      block.down = Affine<Kind>::read(arguments, batch.units, batch.width, false);
      blocks.push_back(block);
    }
    const Normed last = Normed::read(batch, arguments, results, epsilon);
    require(!blocks.empty(), "a trunk has at least one block");

    const Index stages = 2 * static_cast<Index>(blocks.size());
    parallel_stages(pool, stages, batch.tiles, [&](Index stage, Index tile) {
      const Block& block = blocks[stage / 2];
      const float* x_of_block = stage < 2 ? input : blocks[stage / 2 - 1].output;
      const Index at = batch.at(tile), hidden_at = batch.hidden_at(tile);
      if (stage == 0) {
        enter(x.typed_data(), batch.width, batch.samples, tile * Kind::kLanes, Kind::kLanes,
              input + at);
      }
      if (stage % 2 == 0) {
        block.norm(batch, x_of_block, tile);
        multiply_tile(block.up.layer, block.up.values, block.up.finish, block.norm.y + at,
                      block.hidden + hidden_at);
        return;
      }
      Finish finish = block.down.finish;
      finish.beside = x_of_block + at;
      multiply_tile(block.down.layer, block.down.values, finish, block.hidden + hidden_at,
                    block.output + at);
      if (stage + 1 < stages) return;
      last(batch, block.output, tile);
      leave(last.y + at, batch.width, batch.samples, tile * Kind::kLanes, Kind::kLanes,
            y->typed_data());
    });
  });
}

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
    const Index at = batch.at(tile), statistic = tile * Kind::kLanes;
    for (Index first = 0; first < Kind::kLanes; first += kNormLanes) {
      kernels().normalise_gradient(norm, x + at, mean + statistic, deviation + statistic, dy + at,
                                   beside == nullptr ? nullptr : beside + at, dx + at,
                                   Kind::kLanes, first, scratch(2 * norm.features * kNormLanes));
    }
  }
};

template <class Kind>
ffi::Error input_gradient(ffi::ThreadPool pool, Floats dy, FloatsOut dx, ffi::RemainingArgs args,
                          ffi::RemainingRets rets) {
  struct Block {
    NormBack norm;
    typename Kind::Back up, down;
    const float *input, *hidden;
    float *dinput, *dnormed, *dhidden, *doutput;
  };
  return guarded([&] {
    Batch<Kind> batch(dy);
    require(is_shape(*dx, {batch.samples, batch.width}), "a trunk keeps the shape of its input");
    Arguments arguments(args);
    Results results(rets);
    std::vector<Block> blocks;
    const float* input = batch.next(arguments);
    float* const dlast = batch.next(results);
    float* const dfirst = batch.next(results);
    float* dinput = dfirst;
    while (arguments.left() > 3) {
      Block block{};
      block.norm = NormBack::read(batch, arguments);
      block.hidden = batch.hidden(arguments.next<Floats>()).typed_data();
      block.input = input;
      input = batch.next(arguments);
      block.dinput = dinput;
      block.dnormed = batch.next(results);
      block.dhidden = results.next({batch.tiles, batch.units, Kind::kLanes});
      dinput = block.doutput = batch.next(results);
      block.up = Kind::Back::read(pool, arguments, results, batch.width, batch.units);
      block.down = Kind::Back::read(pool, arguments, results, batch.units, batch.width);
      blocks.push_back(block);
    }
    const NormBack last = NormBack::read(batch, arguments);
    require(!blocks.empty(), "a trunk has at least one block");

    const Index stages = 2 * static_cast<Index>(blocks.size());
    parallel_stages(pool, stages, batch.tiles, [&](Index stage, Index tile) {
      const Block& block = blocks[blocks.size() - 1 - stage / 2];
      const Index at = batch.at(tile), hidden_at = batch.hidden_at(tile);
      const Index first = tile * Kind::kLanes;
      if (stage == 0) {
        enter(dy.typed_data(), batch.width, batch.samples, first, Kind::kLanes, dlast + at);
        last(batch, input, dlast, nullptr, block.doutput, tile);
      }
      if (stage % 2 == 0) {
        Finish gated;
        gated.gate = block.hidden + hidden_at;
        block.down(gated, block.doutput + at, block.dhidden + hidden_at);
        return;
      }
      block.up(Finish{}, block.dhidden + hidden_at, block.dnormed + at);
      block.norm(batch, block.input, block.dnormed, block.doutput, block.dinput, tile);
      if (stage + 1 < stages) return;
      leave(dfirst + at, batch.width, batch.samples, first, Kind::kLanes, dx->typed_data());
    });
  });
}

// Features that one piece of work sums.
constexpr Index kSumPiece = 128;

template <class Kind>
ffi::Error weight_gradients(ffi::ThreadPool pool, Floats dy, ffi::RemainingArgs args,
                            ffi::RemainingRets rets) {
  return guarded([&] {
    // The batch in whole tiles: samples that do not exist have zero errors.
    require(dy.dimensions().size() == 3, "errors must lie in tiles");
    Batch<Kind> batch(dy.dimensions()[0], dy.dimensions()[1]);
    require(is_shape(dy, {batch.tiles, batch.width, Kind::kLanes}), "errors must lie in tiles");
    Arguments arguments(args);
    Results results(rets);
    std::vector<std::function<void()>> products, sums;

    const auto add_norm = [&](const float* input, const float* dnormed) {
      const float* mean = batch.next_statistic(arguments);
      const float* deviation = batch.next_statistic(arguments);
      float *dscale = results.next({batch.width}), *dshift = results.next({batch.width});
      for (Index begin = 0; begin < batch.width; begin += kSumPiece) {
        const Index end = std::min(batch.width, begin + kSumPiece);
        sums.push_back([=] {
          kernels().norm_weight_gradient(input, mean, deviation, dnormed, dscale, dshift,
                                         batch.width, batch.tiles, Kind::kLanes, begin, end);
        });
      }
    };
    const auto add_affine = [&](const Samples& from, const Samples& errors, Index inputs,
                                Index outputs) {
      const auto dvalues = results.next();
      float* values = dvalues.typed_data();
      const auto layer = Kind::read(arguments, inputs, outputs, dvalues);
      require_values(layer, dvalues);
      const Index shares = gradient_shares(pool, layer);
      for (Index share = 0; share < shares; ++share) {
        products.push_back([=] {
          weight_gradient(layer, from, errors, values, batch.samples, share, shares);
        });
      }
      float* dbias = results.next({outputs});
      for (Index begin = 0; begin < outputs; begin += kSumPiece) {
        const Index end = std::min(outputs, begin + kSumPiece);
        sums.push_back([=] {
          kernels().batch_sum(errors.data, dbias, outputs, batch.tiles, Kind::kLanes, begin, end);
        });
      }
    };

    const float* input = batch.next(arguments);
    while (arguments.left() > 2) {
      const float* normed = batch.next(arguments);
      const float* hidden = batch.hidden(arguments.next<Floats>()).typed_data();
      const float* output = batch.next(arguments);
      const float* dnormed = batch.next(arguments);
      const float* dhidden = arguments.next({batch.tiles, batch.units, Kind::kLanes});
      const float* doutput = batch.next(arguments);
      add_norm(input, dnormed);
      add_affine(batch.wide(normed), batch.hidden(dhidden), batch.width, batch.units);
      add_affine(batch.hidden(hidden), batch.wide(doutput), batch.units, batch.width);
      input = output;
    }
    add_norm(input, dy.typed_data());

    // The long pieces first, so that the threads end together.
    products.insert(products.end(), sums.begin(), sums.end());
    parallel_for(pool, static_cast<Index>(products.size()), [&](Index i) { products[i](); });
  });
}

}  // namespace

#define DEFINE(kind, layout)                                                                  \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(kanbatsu_##layout##_trunk, forward<kind>,                     \
                                ffi::Ffi::Bind()                                              \
                                    .Ctx<ffi::ThreadPool>()                                   \
                                    .Arg<Floats>()                                            \
                                    .Attr<float>("epsilon")                                   \
                                    .Ret<Floats>()                                            \
                                    .RemainingArgs()                                          \
                                    .RemainingRets());                                        \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(kanbatsu_##layout##_trunk_input_gradient, input_gradient<kind>, \
                                ffi::Ffi::Bind()                                              \
                                    .Ctx<ffi::ThreadPool>()                                   \
                                    .Arg<Floats>()                                            \
                                    .Ret<Floats>()                                            \
                                    .RemainingArgs()                                          \
                                    .RemainingRets());                                        \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(kanbatsu_##layout##_trunk_weight_gradients,                   \
                                weight_gradients<kind>,                                       \
                                ffi::Ffi::Bind()                                              \
                                    .Ctx<ffi::ThreadPool>()                                   \
                                    .Arg<Floats>()                                            \
                                    .RemainingArgs()                                          \
                                    .RemainingRets())

DEFINE(Element, packed);
DEFINE(Group, grouped);

}  // namespace kanbatsu
