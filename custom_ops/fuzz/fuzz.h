// What the fuzz targets share: how an input becomes arguments, and what happens
// when an answer is wrong.
//
// A target is a function of bytes, which libFuzzer makes up (tools/fuzz.py) and
// which replay.cc reads from files or draws at random. The bytes choose
// arguments; what fills the arrays comes from a hash, so that few bytes say all
// of a large image.

#ifndef KERAS_SHIFT_CUSTOM_OPS_FUZZ_FUZZ_H_
#define KERAS_SHIFT_CUSTOM_OPS_FUZZ_FUZZ_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "custom_ops/cc/isa.h"
#include "custom_ops/cc/types.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace keras_shift::fuzz {

// Reads arguments from bytes. Where these have ended, each is the least that it
// may be.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  // A number in [least, most].
  int64_t Draw(int64_t least, int64_t most) {
    const uint64_t range =
        static_cast<uint64_t>(most) - static_cast<uint64_t>(least);
    uint64_t value = 0;
    for (uint64_t left = range; left > 0; left >>= 8)
      value = value << 8 | Byte();
    if (range < std::numeric_limits<uint64_t>::max()) value %= range + 1;
    return static_cast<int64_t>(static_cast<uint64_t>(least) + value);
  }

  bool OneIn(int64_t count) { return Draw(1, count) == count; }

  // A number of any size, and often one that is close to a limit.
  int64_t Extreme() {
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
    constexpr int64_t kLimits[] = {
        0,     int64_t{1} << 31, int64_t{1} << 32, int64_t{1} << 57, kMost - 1,
        -kMost};
    if (OneIn(2)) return Draw(-kMost - 1, kMost);
    return kLimits[Draw(0, 5)] + Draw(-1, 1);
  }

 private:
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }

  const uint8_t* data_;
  size_t size_;
};

// Numbers that look random and depend on the seed and the index alone
// (SplitMix64).
class Hash {
 public:
  explicit Hash(uint64_t seed) : seed_(seed) {}

  uint64_t operator()(uint64_t index) const {
    uint64_t z = seed_ * 0xd1342543de82ef95 + (index + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }

  // A number in [-1, 1).
  double Real(uint64_t index) const {
    return static_cast<double>(static_cast<int64_t>((*this)(index))) * 0x1p-63;
  }

 private:
  const uint64_t seed_;
};

// Memory with exactly so many bytes, so that the address sanitizer sees every
// access beyond them.
using Bytes = std::unique_ptr<unsigned char[]>;
inline Bytes NewBytes(int64_t size) { return Bytes(new unsigned char[size]); }

inline int64_t cases = 0;

// Runs a call and its comparison for each instruction set of this machine, but
// for the one that adds nothing but products of bfloat16, which no target
// draws.
template <typename Case>
void ForEachIsa(Case run) {
  for (Isa isa : kAscendingIsas) {
    if (isa == Isa::kAvx512Bf16) continue;
    LimitIsaForTesting(isa);
    if (BestIsa() == isa) run();
  }
}

// Counts a comparison. A wrong one ends the process, as libFuzzer wants it.
inline void Check(bool ok, const std::string& what) {
  if (cases++ == 0) {
    std::atexit(
        [] { std::printf("%lld cases\n", static_cast<long long>(cases)); });
  }
  if (ok) return;
  std::fprintf(stderr, "WRONG (%s): %s\n", IsaName(BestIsa()), what.c_str());
  std::abort();
}

inline std::string Text(const ImageShape& s) {
  std::string text;
  for (int64_t size : {s.batch, s.height, s.width, s.channels}) {
    text += text.empty() ? "[" : ", ";
    text += std::to_string(size);
  }
  return text + "]";
}

// Images that are small most of the time, at times large enough for several
// threads, and now and then empty.
inline ImageShape DrawShape(Input* input) {
  int64_t left = int64_t{1} << (input->OneIn(32) ? 15 : input->Draw(0, 12));
  const auto draw = [&](int64_t most) {
    const int64_t size = input->Draw(1, std::min(most, left));
    left /= size;
    return size;
  };
  ImageShape shape;
  shape.channels = draw(input->OneIn(8) ? 5000 : 96);
  shape.width = draw(input->OneIn(8) ? 300 : 24);
  shape.height = draw(input->OneIn(8) ? 300 : 24);
  shape.batch = draw(8);
  if (input->OneIn(64)) {
    int64_t* const sizes[] = {&shape.batch, &shape.height, &shape.width,
                              &shape.channels};
    *sizes[input->Draw(0, 3)] = 0;
  }
  return shape;
}

// The exact bytes of a shape whose sizes may be anything, or -1 if one is
// negative. Beyond 2**63 the number is not exact.
inline double BytesOf(const ImageShape& s, int64_t element_size) {
  double bytes = static_cast<double>(element_size);
  for (int64_t size : {s.batch, s.height, s.width, s.channels}) {
    if (size < 0) return -1;
    bytes *= static_cast<double>(size);
  }
  return bytes;
}

// Displacements of whole pixels: a dense [2, channels] array.
inline std::vector<int32_t> DrawDisplacements(int64_t channels, Input* input) {
  constexpr int32_t kExtremes[] = {std::numeric_limits<int32_t>::min(),
                                   std::numeric_limits<int32_t>::max(),
                                   1 << 30,
                                   0,
                                   -1,
                                   1};
  enum { kZero, kSmall, kLarge, kExtreme, kAny, kRead };
  const int64_t kind = input->Draw(kZero, kRead);
  const bool sorted = input->OneIn(3);
  const Hash hash(input->Draw(0, 255));
  std::vector<std::pair<int32_t, int32_t>> pairs(channels);
  for (int64_t c = 0; c < channels; ++c) {
    for (int axis : {0, 1}) {
      const uint64_t h = hash(2 * c + axis) >> 1;
      int32_t d = 0;
      if (kind == kSmall) d = h % 5 < 3 ? 0 : static_cast<int>(h / 5 % 3) - 1;
      if (kind == kLarge) d = static_cast<int>(h % 27) - 13;
      if (kind == kExtreme) d = kExtremes[h % 6];
      if (kind == kAny) d = static_cast<int32_t>(h);
      if (kind == kRead) d = static_cast<int32_t>(input->Draw(-128, 127));
      (axis == 0 ? pairs[c].first : pairs[c].second) = d;
    }
  }
  if (sorted) std::sort(pairs.begin(), pairs.end());
  std::vector<int32_t> displacements(2 * channels);
  for (int64_t c = 0; c < channels; ++c) {
    displacements[c] = pairs[c].first;
    displacements[channels + c] = pairs[c].second;
  }
  return displacements;
}

inline int64_t DrawThreads(Input* input) {
  return input->OneIn(64) ? input->Extreme() : input->Draw(0, 5);
}

inline bool ThreadsAllowed(int64_t threads) {
  return threads >= 0 && threads <= kMaxThreads;
}

}  // namespace keras_shift::fuzz

#endif  // KERAS_SHIFT_CUSTOM_OPS_FUZZ_FUZZ_H_
