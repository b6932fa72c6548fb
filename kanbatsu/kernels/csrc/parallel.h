// Shares independent pieces of work among the threads of a pool, the caller included.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "layers.h"

namespace kanbatsu {

// The most threads that one product uses; 0 = as many as the pool has.
inline std::atomic<int> thread_limit{0};

// Scratch floats of this thread, aligned to a cache line; what they held before is lost. Whoever
// calls something that takes scratch itself asks for another `use` of it.
enum class Scratch { kKernel, kTile };
template <Scratch use = Scratch::kKernel>
float* scratch(Index count) {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  thread_local std::unique_ptr<void, Free> memory;
  thread_local Index capacity = 0;
  if (count > capacity) {
    const Index bytes = (count * sizeof(float) + 63) / 64 * 64;
    memory.reset(std::aligned_alloc(64, bytes));
    capacity = memory ? count : 0;
    if (!memory) throw std::bad_alloc();
  }
  return static_cast<float*>(memory.get());
}

// Threads that `count` pieces can keep busy.
template <class Pool>
Index threads_for(Pool& pool, Index count) {
  const int limit = thread_limit.load(std::memory_order_relaxed);
  const Index available = std::max<Index>(1, pool.num_threads());
  return std::min(limit > 0 ? std::min<Index>(limit, available) : available, count);
}

// Call piece(0) ... piece(count - 1), each once, in any order.
//
// Pieces are claimed one by one, and the caller claims too: it never waits for a piece that nobody
// has begun, so a pool whose threads are all busy delays nothing. A thread of the pool that
// comes late finds no piece left and touches nothing but the counter, which it owns a part of.
template <class Pool, class Piece>
void parallel_for(Pool& pool, Index count, const Piece& piece) {
  struct Shared {
    std::atomic<Index> next{0};
    Index unfinished;
    std::mutex mutex;
    std::condition_variable finished;
  };
  auto shared = std::make_shared<Shared>();
  shared->unfinished = count;
  auto work = [shared, count, &piece] {
    Index done = 0;
    for (Index i; (i = shared->next.fetch_add(1)) < count; ++done) piece(i);
    if (done == 0) return;
    std::lock_guard<std::mutex> lock(shared->mutex);
    shared->unfinished -= done;
    if (shared->unfinished == 0) shared->finished.notify_all();
  };
  for (Index helper = 1; helper < threads_for(pool, count); ++helper) {
    auto copy = work;
    pool.Schedule(std::move(copy));
  }
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->finished.wait(lock, [&] { return shared->unfinished == 0; });
}

// Call stage(s, t) for every stage and tile: a tile's stage follows its last one.
template <class Pool, class Stage>
void parallel_stages(Pool& pool, Index stages, Index tiles, const Stage& stage) {
  std::vector<std::atomic<Index>> done(tiles);
  parallel_for(pool, stages * tiles, [&](Index item) {
    const Index s = item / tiles, t = item % tiles;
    // Items are claimed in order, so some thread is at what this one waits for.
    while (done[t].load(std::memory_order_acquire) < s) std::this_thread::yield();
    stage(s, t);
    done[t].store(s + 1, std::memory_order_release);
  });
}

}  // namespace kanbatsu
