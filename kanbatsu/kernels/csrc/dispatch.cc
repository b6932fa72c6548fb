// Chooses the kernels for the processor at hand, and refuses layers that point outside themselves.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "layers.h"

namespace kanbatsu {

#if defined(__x86_64__) || defined(_M_X64)
#define KANBATSU_X86 1
namespace avx512 {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
#endif
namespace portable {
extern const Kernels table;
}

namespace {

const Kernels& choose() {
  const char* wanted = std::getenv("KANBATSU_ISA");
  [[maybe_unused]] const auto allowed = [&](const Kernels& table) {
    return wanted == nullptr || std::strcmp(wanted, table.name) == 0;
  };
#ifdef KANBATSU_X86
  if (__builtin_cpu_supports("avx512f") && allowed(avx512::table)) return avx512::table;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && allowed(avx2::table)) {
    return avx2::table;
  }
#endif
  return portable::table;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

bool is_valid(const PackedLayer& layer) {
  // Sources have 16 bits: in a block beyond them, one would name an input of an earlier block.
  if (layer.inputs > Index{1} << 16) return false;
  const Index lists = layer.blocks() * layer.outputs;
  if (layer.starts[0] != 0 || layer.starts[lists] != layer.kept) return false;
  bool ordered = true;
  for (Index o = 0; o < lists; ++o) ordered &= layer.starts[o] <= layer.starts[o + 1];
  if (!ordered) return false;
  for (Index block = 0; block < layer.blocks(); ++block) {
    const Index base = block * kBlock, begin = layer.starts[block * layer.outputs];
    if (!kernels().shorts_lie_within(layer.sources + begin,
                                     layer.starts[(block + 1) * layer.outputs] - begin,
                                     static_cast<std::uint16_t>(base),
                                     std::min(kBlock, layer.inputs - base))) {
      return false;
    }
  }
  return true;
}

bool is_valid(const GroupedLayer& layer) {
  if (!is_group_size(layer.size)) return false;
  if (layer.groups != (layer.outputs + layer.size - 1) / layer.size) return false;
  return kernels().ints_lie_within(layer.sources, layer.groups * layer.kept, layer.inputs);
}

}  // namespace kanbatsu
