// Lets every allocation fail in turn, and all that follow it. The core has to
// report that, and to compute again what it should when there is memory.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "custom_ops/cc/fused_chain.h"
#include "custom_ops/cc/fused_unit.h"
#include "custom_ops/cc/shift.h"
#include "custom_ops/cc/thread_pool.h"

namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

// How many allocations are left that succeed.
std::atomic<int64_t> left{kUnlimited};

void* Allocate(size_t size) noexcept {
  if (left.load() != kUnlimited && left.fetch_sub(1) <= 0) return nullptr;
  return std::malloc(size > 0 ? size : 1);
}

void* AllocateOrThrow(size_t size) {
  void* const memory = Allocate(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(size_t size) { return AllocateOrThrow(size); }
void* operator new[](size_t size) { return AllocateOrThrow(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return Allocate(size);
}
void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return Allocate(size);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace keras_shift {
namespace {

int checks = 0;
int failures = 0;

void Check(bool ok, const char* what) {
  ++checks;
  if (ok) return;
  ++failures;
  std::printf("FAILED: %s\n", what);
}

// Calls `run` with room for 0, 1, 2, ... allocations until there is room for
// all. What it needs only to be faster, such as threads, it may do without; so
// it either refuses or computes what it does without a limit.
// Returns how often it refuses.
int64_t Exhaust(const char* name, const std::function<Status()>& run,
                std::vector<float>* y) {
  std::vector<std::vector<float>> computed;
  int64_t refused = 0;
  for (int64_t allocations = 0, spare = 0; spare <= 0; ++allocations) {
    std::fill(y->begin(), y->end(), -1.0f);
    left = allocations;
    const Status status = run();
    spare = left.exchange(kUnlimited);
    if (status.ok()) {
      computed.push_back(*y);
    } else {
      ++refused;
      Check(status.code() == StatusCode::kOutOfMemory, name);
    }
  }
  std::fill(y->begin(), y->end(), -1.0f);
  Check(run().ok(), name);
  for (const std::vector<float>& other : computed) Check(*y == other, name);
  std::printf("%s: refused %d times, computed %d times\n", name,
              static_cast<int>(refused), static_cast<int>(computed.size()));
  return refused;
}

int Main() {
  constexpr int64_t kThreads = 3;
  // There is no pool of threads yet. A loop goes on without what it cannot get.
  std::vector<float> indices(100);
  const std::function<void(int64_t, int64_t)> fill = [&](int64_t index,
                                                         int64_t) {
    indices[index] = static_cast<float>(index);
  };
  const auto loop = [&] {
    ParallelFor(static_cast<int64_t>(indices.size()), kThreads, fill);
    return Status();
  };
  Exhaust("loop", loop, &indices);

  // Large enough for several threads.
  const ImageShape shape = {
      .batch = 2, .height = 40, .width = 40, .channels = 24};
  const int64_t size = NumElements(shape);
  std::vector<float> x(size);
  for (int64_t k = 0; k < size; ++k) x[k] = static_cast<float>(k % 101 - 50);
  std::vector<int32_t> d(2 * shape.channels);
  std::vector<float> real(d.size());
  for (size_t k = 0; k < d.size(); ++k) {
    d[k] = static_cast<int32_t>(k % 5) - 2;
    real[k] = static_cast<float>(d[k]) * 0.4f;
  }
  std::vector<float> y(size), gradient(d.size());

  Check(Exhaust(
            "gradients",
            [&] {
              return SparseShift2DGrad(shape, FloatType::kFloat, x.data(), true,
                                       x.data(), FloatType::kFloat, real.data(),
                                       kThreads, y.data(), gradient.data());
            },
            &y) > 0,
        "refused");
  Check(Exhaust(
            "shift",
            [&] {
              return Shift2D(shape, sizeof(float), x.data(), d.data(), kThreads,
                             y.data());
            },
            &y) > 0,
        "refused");

  const FusedUnit unit = {.expanded = shape.channels,
                          .hidden = 48,
                          .filters = shape.channels,
                          .relu = true,
                          .residual = true};
  const std::vector<float> expand(3 * (1 + unit.expanded) * 16, 0.25f);
  const std::vector<float> project(2 * (1 + unit.hidden) * 16, 0.25f);
  const std::vector<int32_t> moves(2 * unit.hidden, 1);
  Check(Exhaust(
            "fused unit",
            [&] {
              return FusedUnit2D(shape, unit, x.data(), expand.data(),
                                 project.data(), moves.data(), kThreads,
                                 y.data());
            },
            &y) > 0,
        "refused");

  FusedUnit classifier = unit;
  classifier.filters = 24;
  classifier.residual = false;
  classifier.pooling = Pooling::kGlobal;
  const std::vector<FusedUnit> units = {unit, unit, classifier};
  std::vector<float> weights;
  std::vector<int32_t> all_moves(6 * unit.hidden, 0);
  for (int i = 0; i < 3; ++i) {
    weights.insert(weights.end(), expand.begin(), expand.end());
    weights.insert(weights.end(), project.begin(), project.end());
  }
  y.resize(shape.batch * classifier.filters);
  Check(Exhaust(
            "fused chain",
            [&] {
              return FusedChain2D(shape, units, x.data(), weights.data(),
                                  all_moves.data(), kThreads, y.data());
            },
            &y) > 0,
        "refused");
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace keras_shift

int main() { return keras_shift::Main(); }
