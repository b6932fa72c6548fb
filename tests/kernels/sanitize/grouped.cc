// Drives products and gradients of grouped layers.
#include <algorithm>

#include "reference.h"

void drive_grouped(const Tables& tables, const Case& c) {
  const Index groups = (c.outputs + c.size - 1) / c.size;
  const Index kept = std::max<Index>(1, std::lround(c.density * c.inputs));
  std::vector<std::int32_t> sources;
  std::vector<bool> mask(c.inputs * c.outputs);
  for (Index group = 0; group < groups; ++group) {
    Index left = kept;
    for (Index i = 0; i < c.inputs; ++i) {
      if (static_cast<Index>(generator() % (c.inputs - i)) >= left) continue;
      --left, sources.push_back(static_cast<std::int32_t>(i));
      for (Index o = group * c.size; o < std::min(c.outputs, (group + 1) * c.size); ++o) {
        mask[i * c.outputs + o] = true;
      }
    }
  }
  sources.shrink_to_fit();
  const Dense dense(c, mask);
  Floats values(groups * kept * c.size);
  const auto entry = [&](Index k) {  // Of the dense weight; -1 beyond the last output.
    const Index output = k / (kept * c.size) * c.size + k % c.size;
    return output < c.outputs ? sources[k / c.size] * c.outputs + output : -1;
  };
  for (Index k = 0; k < static_cast<Index>(values.size()); ++k) {
    if (entry(k) >= 0) values[k] = dense.weight[entry(k)];
  }
  const GroupedLayer layer{c.inputs, c.outputs, groups, kept, c.size, sources.data()};
  check(is_valid(layer), "a grouped layer is refused");
  const auto check_gradients = [&](const Floats& dvalues) {
    for (Index k = 0; k < static_cast<Index>(values.size()); ++k) {
      check(entry(k) < 0 ? dvalues[k] == 0.0f : dense.dweight[entry(k)].is(dvalues[k]),
            "a gradient is wrong");
    }
  };
  const Index room = (c.inputs + c.size) * kGroupedLanes;
  for (const Kernels* table : tables) {
    running = table->name;
    for (const bool relu : {false, true}) {
      const Finish finish{dense.bias.data(), relu};
      Floats y = blank(c.outputs * c.batch), tile = blank(room);
      for (Index first = 0; first < c.batch; first += kGroupedLanes) {
        table->grouped_product(layer, values.data(), finish, dense.x.data(), y.data(), c.batch,
                               first, tile.data());
      }
      dense.check_product(y, relu);
      if (c.batch > 1) continue;
      y = blank(c.outputs);
      for (Index group = 0; group < groups; ++group) {
        table->grouped_vector(layer, values.data(), finish, dense.x.data(), y.data(), group);
      }
      dense.check_product(y, relu);
    }
    Floats y = blank(c.outputs * c.batch), tile = blank(room);
    for (Index first = 0; first < c.batch; first += kGroupedLanes) {
      table->grouped_product(layer, values.data(), dense.gated(), dense.x.data(), y.data(),
                             c.batch, first, tile.data());
    }
    dense.check_gated(y);
    if (c.batch == 1) {
      y = blank(c.outputs);
      for (Index group = 0; group < groups; ++group) {
        table->grouped_vector(layer, values.data(), dense.gated(), dense.x.data(), y.data(), group);
      }
      dense.check_gated(y);
    }
    for (const float* gate : {static_cast<const float*>(nullptr), dense.x.data()}) {
      const Finish finish{nullptr, false, nullptr, gate};
      Floats dx = blank(c.inputs * c.batch), room_of_one = blank(room);
      for (Index first = 0; first < c.batch; first += kGroupedLanes) {
        table->grouped_input_gradient(layer, values.data(), finish, dense.dy.data(), dx.data(),
                                      c.batch, first, room_of_one.data());
      }
      for (std::size_t k = 0; k < dx.size(); ++k) {
        const bool passes = gate == nullptr || gate[k] > 0.0f;
        check(passes ? dense.dx[k].is(dx[k]) : dx[k] == 0.0f, "an input gradient is wrong");
      }
    }
    const Floats x_tiles = in_tiles(dense.x, c.inputs, c.batch, kGroupedLanes);
    const Floats dy_tiles = in_tiles(dense.dy, c.outputs, c.batch, kGroupedLanes);
    const Samples pairs[][2] = {
        {{dense.x.data(), c.batch, kGroupedLanes}, {dense.dy.data(), c.batch, kGroupedLanes}},
        {{x_tiles.data(), kGroupedLanes, c.inputs * kGroupedLanes},
         {dy_tiles.data(), kGroupedLanes, c.outputs * kGroupedLanes}},
    };
    for (const auto& [x, dy] : pairs) {
      Floats dvalues = blank(values.size()), errors = blank(kGradientBatch * c.size);
      for (Index group = 0; group < groups; ++group) {
        table->grouped_weight_gradient(layer, x, dy, dvalues.data(), c.batch, group,
                                       errors.data());
      }
      check_gradients(dvalues);
    }
  }
  drive_plain({c.inputs, c.outputs, groups, kept, c.size, 1, c.outputs, nullptr, sources.data()},
              values, dense, c.batch, check_gradients);
}
