// What the tests of the core share. Each of them is a program, which ends with
// the number of its checks.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_TESTING_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_TESTING_H_

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>

#include "custom_ops/cc/isa.h"
#include "custom_ops/cc/status.h"

namespace keras_shift {

constexpr unsigned kSeed = 20190312;

inline int checks = 0;
inline int failures = 0;

inline void Check(bool ok, const std::string& what) {
  ++checks;
  if (ok) return;
  ++failures;
  std::printf("FAILED (%s): %s\n", IsaName(BestIsa()), what.c_str());
}

inline void CheckRefused(const Status& status, const std::string& part) {
  Check(status.code() == StatusCode::kInvalidArgument &&
            status.message().find(part) != std::string::npos &&
            status.message().find("Received: ") != std::string::npos,
        "refused for " + part + ", but got: " + status.message());
}

// Prints what the checks came to, and returns the status of the process.
inline int Report() {
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}

// Runs tests with each instruction set that this machine has.
template <typename Tests>
void ForEachIsa(Tests run) {
  std::printf("seed %u\n", kSeed);
  const Isa best = BestIsa();
  for (Isa isa : kAscendingIsas) {
    if (isa > best) continue;
    LimitIsaForTesting(isa);
    if (BestIsa() != isa) continue;
    const int before = checks;
    run();
    std::printf("%s: %d checks\n", IsaName(isa), checks - before);
  }
}

// A number in [least, most].
inline int64_t Draw(int64_t least, int64_t most, std::mt19937* random) {
  return least + static_cast<int64_t>((*random)() % (most - least + 1));
}

// Memory with exactly so many floats, so that the address sanitizer sees every
// access beyond them.
struct Floats {
  explicit Floats(int64_t size)
      : size(size), data(new float[std::max<int64_t>(size, 1)]) {}
  int64_t size;
  std::unique_ptr<float[]> data;
};

inline bool SameBits(const Floats& a, const Floats& b) {
  return a.size == b.size &&
         std::memcmp(a.data.get(), b.data.get(), a.size * sizeof(float)) == 0;
}

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_TESTING_H_
