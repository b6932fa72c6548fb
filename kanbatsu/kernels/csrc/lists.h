// Whether the entries of a list of places lie inside what they name.
#pragma once

#include "simd.h"

namespace kanbatsu {
namespace KANBATSU_ISA {
namespace {

// Whether `base <= entry < base + size` holds for all; an entry below the base wraps around.
template <class Entry, class Unsigned>
bool lie_within(const Entry* entries, Index count, Unsigned base, Index size) {
  Unsigned most = 0;
  for (Index k = 0; k < count; ++k) {
    most = std::max(most, static_cast<Unsigned>(static_cast<Unsigned>(entries[k]) - base));
  }
  return count == 0 || static_cast<Index>(most) < size;
}

bool shorts_lie_within(const std::uint16_t* entries, Index count, std::uint16_t base, Index size) {
  return lie_within(entries, count, base, size);
}

bool ints_lie_within(const std::int32_t* entries, Index count, Index size) {
  return lie_within(entries, count, std::uint32_t{0}, size);
}

}  // namespace
}  // namespace KANBATSU_ISA
}  // namespace kanbatsu
