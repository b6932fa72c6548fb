// Calls every kernel, and the thread sharing, on buffers of exactly the size that the header asks
// for, and compares with sums in double precision. The test builds it with sanitizers.
#include "reference.h"

namespace kanbatsu {
namespace portable {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
}  // namespace kanbatsu

int main() {
  const Tables tables{&portable::table, &avx2::table, &avx512::table};
  share_among_threads();
  const Index batches[] = {1, 2, 15, 16, 17, 32, 33, 70};
  for (const Index batch : batches) {
    drive_packed(tables, {37, 11, batch, 0, 0.3});
    drive_grouped(tables, {37, 41, batch, Index{8} << batch % 3, 0.3});
    drive_sums(tables, batch + 1, 2 * batch + 30);
  }
  for (int round = 0; round < 12; ++round) {
    std::uniform_real_distribution<double> share;
    const Index inputs = 1 + generator() % 80, outputs = 1 + generator() % 80;
    const Index batch = batches[generator() % 8];
    drive_packed(tables, {inputs, outputs, batch, 0, share(generator)});
    drive_grouped(tables, {inputs, outputs, batch, Index{8} << round % 3, share(generator)});
  }
  for (const Index inputs : {1024, 1030, 2100}) drive_packed(tables, {inputs, 5, 33, 0, 0.2});
  drive_packed(tables, {2100, 5, 1, 0, 0.2});
  for (const double density : {0.0, 1.0}) {
    drive_packed(tables, {40, 9, 33, 0, density});
    for (const Index size : {8, 16, 32}) drive_grouped(tables, {150, 33, 300, size, density});
  }
  for (const Index features : {1, 5, 64, 130}) {
    for (const Index tiles : {1, 3}) {
      for (const Index lanes : {16, 32}) drive_norms(tables, features, tiles, lanes);
    }
  }
  drive_threads();
  running = "plain";
  check(parallel_regions > 100, "nothing was shared among threads");
  std::printf("%s\n", kernels().name);
}
