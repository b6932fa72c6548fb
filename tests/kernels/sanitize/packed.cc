// Drives products and gradients of packed layers.
#include <algorithm>

#include "reference.h"

void drive_packed(const Tables& tables, const Case& c) {
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
