// Times the units of a network one after the other, as a network calls them.
//
// Started by one_image.py, which writes to the standard input what the units
// are, and says what is measured. Prints lines of comma-separated values: what
// was measured, the number of threads, median and quartiles in seconds.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "custom_ops/cc/fused_unit.h"
#include "custom_ops/cc/kernels.h"
#include "custom_ops/cc/thread_pool.h"
#include "custom_ops/cc/types.h"

#if defined(__x86_64__) && !defined(__clang__)
#define FOR_EVERY_ISA \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EVERY_ISA
#endif

namespace {

using keras_shift::CeilDiv;
using keras_shift::FusedUnit;
using keras_shift::FusedUnit2D;
using keras_shift::FusedUnitShape;
using keras_shift::ImageShape;
using keras_shift::kPanelColumns;
using keras_shift::NumElements;
using keras_shift::ParallelFor;
using keras_shift::Pooling;

struct alignas(64) CacheLine {
  float numbers[16] = {};
};

// Floats that begin with a cache line, as TensorFlow's tensors do.
class Tensor {
 public:
  explicit Tensor(int64_t count) : lines_(CeilDiv(count, 16)) {}
  float* data() { return lines_.data()->numbers; }
  const float* data() const { return lines_.data()->numbers; }
  const std::vector<CacheLine>& lines() const { return lines_; }

  void Randomize(std::mt19937* random) {
    std::uniform_real_distribution<float> uniform(-0.5f, 0.5f);
    for (CacheLine& line : lines_) {
      for (float& number : line.numbers) number = uniform(*random);
    }
  }

 private:
  std::vector<CacheLine> lines_;
};

Tensor Panels(int64_t rows, int64_t columns) {
  return Tensor(CeilDiv(columns, kPanelColumns) * (1 + rows) * kPanelColumns);
}

struct NamedUnit {
  std::string name;
  ImageShape x_shape;
  FusedUnit unit;
  Tensor expand;
  Tensor project;
  std::vector<int32_t> displacements;
};

void Check(const keras_shift::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  std::exit(1);
}

// Reads the unit of a line; its weights are random.
NamedUnit ReadUnit(const std::string& name, std::mt19937* random) {
  ImageShape shape = {.batch = 1, .height = 0, .width = 0, .channels = 0};
  FusedUnit unit = {};
  std::string pooling;
  std::cin >> shape.height >> shape.width >> shape.channels >> unit.expanded >>
      unit.hidden >> unit.filters >> unit.strides[0] >> unit.strides[1] >>
      pooling >> unit.relu >> unit.residual;
  if (pooling == "valid") unit.pooling = Pooling::kValid;
  if (pooling == "same") unit.pooling = Pooling::kSame;
  if (pooling == "global") unit.pooling = Pooling::kGlobal;
  std::vector<int32_t> displacements(2 * unit.hidden);
  for (int32_t& displacement : displacements) std::cin >> displacement;
  if (!std::cin) {
    std::fprintf(stderr, "The description of %s is cut off.\n", name.c_str());
    std::exit(1);
  }
  NamedUnit named = {.name = name,
                     .x_shape = shape,
                     .unit = unit,
                     .expand = Panels(unit.expanded, unit.hidden),
                     .project = Panels(unit.hidden, unit.filters),
                     .displacements = std::move(displacements)};
  named.expand.Randomize(random);
  named.project.Randomize(random);
  return named;
}

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// The times of something, round by round.
struct Times {
  std::string name;
  int64_t threads;
  std::vector<double> seconds;

  void Print() {
    std::sort(seconds.begin(), seconds.end());
    const size_t count = seconds.size();
    std::printf("time,%s,%d,%.9g,%.9g,%.9g\n", name.c_str(),
                static_cast<int>(threads), seconds[count / 2],
                seconds[count / 4], seconds[count - 1 - count / 4]);
  }
};

constexpr int64_t kFmaSums = 24;
constexpr int64_t kFmaSteps = 20000;

// Multiplies and adds kFmaSums * kFmaSteps * 16 times, in registers only.
FOR_EVERY_ISA float MultiplyAndAdd(float factor) {
  using Vector = float __attribute__((vector_size(64)));
  const Vector x = factor - Vector();
  Vector sums[kFmaSums];
  // Sums that were equal would be computed once.
  for (int64_t i = 0; i < kFmaSums; ++i) sums[i] = factor * i - Vector();
  for (int64_t step = 0; step < kFmaSteps; ++step) {
#pragma GCC unroll 24
    for (int64_t i = 0; i < kFmaSums; ++i) sums[i] = sums[i] * x + x;
  }
  Vector sum = {};
  for (const Vector& some : sums) sum += some;
  return sum[0];
}

// Reads all weights of all units.
FOR_EVERY_ISA float ReadWeights(const std::vector<NamedUnit>& units) {
  using Vector = float __attribute__((vector_size(64), may_alias));
  Vector sums[4] = {};
  for (const NamedUnit& unit : units) {
    for (const Tensor* tensor : {&unit.expand, &unit.project}) {
      const auto* vectors =
          reinterpret_cast<const Vector*>(tensor->lines().data());
      const size_t count = tensor->lines().size() / 4 * 4;
      for (size_t i = 0; i < count; i += 4) {
        for (size_t k = 0; k < 4; ++k) sums[k] += vectors[i + k];
      }
    }
  }
  const Vector sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return sum[0];
}

// Returns when a helper has come to a loop, and left it.
void MeetHelper() {
  constexpr double kLongest = 2e-3;  // or none will come
  std::atomic<int> here{0};
  ParallelFor(2, 2, [&](int64_t, int64_t) {
    ++here;
    const Clock::time_point begin = Clock::now();
    while (here < 2 && Seconds(begin) < kLongest) {
    }
  });
}

// What is measured besides units; the results keep compilers from leaving it
// out.
volatile float result;

}  // namespace

int main() {
  const char* const wanted = std::getenv("ROUNDS");
  const int rounds = wanted == nullptr ? 100 : std::max(1, std::atoi(wanted));
  std::mt19937 random(0);
  std::vector<NamedUnit> units;
  for (std::string name; std::cin >> name;) {
    units.push_back(ReadUnit(name, &random));
  }
  if (units.empty()) {
    std::fprintf(stderr, "No units were described.\n");
    return 1;
  }
  std::vector<Tensor> maps;
  maps.emplace_back(NumElements(units.front().x_shape));
  maps.back().Randomize(&random);
  for (const NamedUnit& named : units) {
    ImageShape y_shape;
    Check(FusedUnitShape(named.x_shape, named.unit, &y_shape));
    maps.emplace_back(NumElements(y_shape));
  }

  std::vector<Times> all;
  for (const int64_t threads : {1, 2}) {
    for (const NamedUnit& named : units)
      all.push_back({named.name, threads, {}});
  }
  all.push_back({"meet a helper", 2, {}});
  all.push_back({"wake a helper", 2, {}});
  all.push_back({"multiply-add", 1, {}});
  all.push_back({"read weights", 1, {}});
  for (int round = 0; round < rounds; ++round) {
    auto times = all.begin();
    for (const int64_t threads : {1, 2}) {
      for (size_t i = 0; i < units.size(); ++i) {
        const NamedUnit& named = units[i];
        const Clock::time_point begin = Clock::now();
        Check(FusedUnit2D(named.x_shape, named.unit, maps[i].data(),
                          named.expand.data(), named.project.data(),
                          named.displacements.data(), threads,
                          maps[i + 1].data()));
        (times++)->seconds.push_back(Seconds(begin));
      }
    }
    const Clock::time_point meet = Clock::now();
    MeetHelper();
    (times++)->seconds.push_back(Seconds(meet));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const Clock::time_point wake = Clock::now();
    MeetHelper();
    (times++)->seconds.push_back(Seconds(wake));
    const Clock::time_point multiply = Clock::now();
    result = MultiplyAndAdd(0.5f);
    (times++)->seconds.push_back(Seconds(multiply) /
                                 (kFmaSums * kFmaSteps * 16));
    const Clock::time_point read = Clock::now();
    result = ReadWeights(units);
    (times++)->seconds.push_back(Seconds(read));
  }
  for (Times& times : all) times.Print();
}
