// Chooses the kernels for the processor at hand, and refuses layers that point outside themselves.
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
  const auto allowed = [&](const Kernels& table) {
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
  bool inside = true;
  for (Index block = 0; block < layer.blocks(); ++block) {
    // Relative to the block an input before it wraps around and is too large as well.
    const auto base = static_cast<std::uint16_t>(block * kBlock);
    const auto size = static_cast<std::uint16_t>(
        layer.inputs - block * kBlock < kBlock ? layer.inputs - block * kBlock : kBlock);
    const Index end = layer.starts[(block + 1) * layer.outputs];
    for (Index k = layer.starts[block * layer.outputs]; k < end; ++k) {
      inside &= static_cast<std::uint16_t>(layer.sources[k] - base) < size;
    }
  }
  return inside;
}

bool is_valid(const GroupedLayer& layer) {
  if (layer.size != 8 && layer.size != 16 && layer.size != 32) return false;
  if (layer.groups != (layer.outputs + layer.size - 1) / layer.size) return false;
  bool inside = true;
  for (Index k = 0; k < layer.groups * layer.kept; ++k) {
    inside &= layer.sources[k] >= 0 && layer.sources[k] < layer.inputs;
  }
  return inside;
}

}  // namespace kanbatsu
