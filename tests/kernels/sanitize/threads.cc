// Drives the sharing of work among the threads of a pool.
#include <algorithm>
#include <functional>
#include <thread>

#include "parallel.h"
#include "reference.h"

namespace {

// Runs every task in a thread of its own.
struct Threads {
  int count;
  int scheduled = 0;
  std::vector<std::thread> threads{};
  int num_threads() const { return count; }
  template <class Task>
  void Schedule(Task&& task) {
    ++scheduled;
    threads.emplace_back(std::forward<Task>(task));
  }
  ~Threads() {
    for (std::thread& thread : threads) thread.join();
  }
};

// Runs its tasks only when it is asked to: the caller must not wait for them.
struct Busy {
  std::vector<std::function<void()>> tasks{};
  int num_threads() const { return 4; }
  template <class Task>
  void Schedule(Task&& task) {
    tasks.emplace_back(std::forward<Task>(task));
  }
};
}  // namespace

void drive_threads() {
  running = "threads";
  for (const Index count : {0, 1, 3, 500}) {
    std::vector<int> calls(count);
    Threads pool{4};
    parallel_for(pool, count, [&](Index piece) {
      float* memory = scratch(100 + piece);
      check(reinterpret_cast<std::uintptr_t>(memory) % 64 == 0, "scratch is not aligned");
      std::fill_n(memory, 100 + piece, 1.0f);
      ++calls[piece];
    });
    for (const int times : calls) check(times == 1, "a piece did not run once");
    check(pool.scheduled == std::max<Index>(0, std::min<Index>(4, count) - 1), "wrong helpers");
  }
  for (const Index tiles : {1, 3, 40}) {
    std::vector<int> stages(tiles);
    Threads workers{4};
    parallel_stages(workers, 5, tiles, [&](Index stage, Index tile) {
      check(stages[tile] == stage, "a stage did not follow its last one");
      ++stages[tile];
    });
    for (const int reached : stages) check(reached == 5, "a tile did not reach its last stage");
  }
  thread_limit = 2;
  Threads pool{4};
  parallel_for(pool, 10, [](Index) {});
  check(pool.scheduled == 1, "the limit on threads is not kept");
  thread_limit = 0;
  Busy busy;
  int calls = 0;
  {
    const auto piece = [&calls](Index) { ++calls; };
    parallel_for(busy, 10, piece);
  }
  for (const auto& late : busy.tasks) late();
  check(busy.tasks.size() == 3 && calls == 10, "a late thread found work");
}
