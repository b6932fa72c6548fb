// Memory for what one call makes and no other reads. It is kept for the next call: memory that is
// given back to the system and taken again costs a page fault for every 4 KiB.
#pragma once

#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "layers.h"

namespace kanbatsu {

// As many rooms are kept as calls ever ran at once, each as large as it ever had to be.
class Room {
 public:
  // Room for `count` floats in pieces, each of which begins at a cache line.
  explicit Room(Index count) {
    const std::lock_guard<std::mutex> lock(mutex());
    if (!kept().empty()) {
      memory_ = std::move(kept().back());
      kept().pop_back();
    }
    if (memory_.count >= count) return;
    memory_ = {};
    memory_.floats.reset(std::aligned_alloc(kLine, bytes(count)));
    if (!memory_.floats) throw std::bad_alloc();
    memory_.count = count;
  }
  ~Room() {
    const std::lock_guard<std::mutex> lock(mutex());
    kept().push_back(std::move(memory_));
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  // What a piece takes.
  static Index size(Index count) { return bytes(count) / static_cast<Index>(sizeof(float)); }

  // The next piece; what it held before is lost.
  float* next(Index count) {
    float* piece = static_cast<float*>(memory_.floats.get()) + used_;
    used_ += size(count);
    return piece;
  }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  struct Memory {
    std::unique_ptr<void, Free> floats;
    Index count = 0;
  };
  static constexpr Index kLine = 64;

  static Index bytes(Index count) {
    return (count * static_cast<Index>(sizeof(float)) + kLine - 1) / kLine * kLine;
  }
  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }
  static std::vector<Memory>& kept() {
    static std::vector<Memory> rooms;
    return rooms;
  }

  Memory memory_;
  Index used_ = 0;
};

}  // namespace kanbatsu
