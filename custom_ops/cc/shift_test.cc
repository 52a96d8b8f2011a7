// Compares the core with plain loops: all element types, shapes that fit no
// vector, displacements of any size, every instruction set that this machine
// has, and several numbers of threads.

#include "custom_ops/cc/shift.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include "custom_ops/cc/filters.h"
#include "custom_ops/cc/isa.h"
#include "custom_ops/cc/testing.h"

namespace keras_shift {
namespace {

std::string Text(const ImageShape& s) {
  return "[" + std::to_string(s.batch) + ", " + std::to_string(s.height) +
         ", " + std::to_string(s.width) + ", " + std::to_string(s.channels) +
         "]";
}

// Memory with exactly so many bytes, so that the address sanitizer sees every
// access beyond them.
using Bytes = std::unique_ptr<unsigned char[]>;
Bytes NewBytes(int64_t size) { return Bytes(new unsigned char[size]); }

Bytes RandomBytes(int64_t size, std::mt19937* random) {
  Bytes bytes = NewBytes(size);
  for (int64_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<unsigned char>((*random)());
  }
  return bytes;
}

// Calls `visit(to, from)` with the indices of all elements that a shift moves.
template <typename Visit>
void ForEachMoved(const ImageShape& s, const std::vector<int64_t>& rows,
                  const std::vector<int64_t>& columns, Visit visit) {
  int64_t to = 0;
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t i = 0; i < s.height; ++i) {
      for (int64_t j = 0; j < s.width; ++j) {
        for (int64_t c = 0; c < s.channels; ++c, ++to) {
          const int64_t row = i + rows[c];
          const int64_t column = j + columns[c];
          if (row < 0 || row >= s.height || column < 0 || column >= s.width) {
            continue;
          }
          visit(to, ((n * s.height + row) * s.width + column) * s.channels + c,
                c);
        }
      }
    }
  }
}

// How displacements are drawn.
enum class Draw { kZero, kSmall, kSorted, kLarge, kExtreme };
constexpr Draw kDraws[] = {Draw::kZero, Draw::kSmall, Draw::kSorted,
                           Draw::kLarge, Draw::kExtreme};

std::vector<int32_t> DrawDisplacements(Draw draw, int64_t channels,
                                       std::mt19937* random) {
  constexpr int32_t kExtremes[] = {std::numeric_limits<int32_t>::min(),
                                   std::numeric_limits<int32_t>::max(),
                                   1 << 30,
                                   0,
                                   -1,
                                   1};
  std::vector<std::pair<int32_t, int32_t>> pairs(channels);
  for (auto& pair : pairs) {
    for (int32_t* d : {&pair.first, &pair.second}) {
      const int32_t r = static_cast<int32_t>((*random)() >> 1);
      switch (draw) {
        case Draw::kZero:
          *d = 0;
          break;
        case Draw::kSmall:
        case Draw::kSorted:
          *d = r % 5 < 3 ? 0 : r / 5 % 3 - 1;
          break;
        case Draw::kLarge:
          *d = r % 23 - 11;
          break;
        case Draw::kExtreme:
          *d = kExtremes[r % 6];
          break;
      }
    }
  }
  if (draw == Draw::kSorted) std::sort(pairs.begin(), pairs.end());
  std::vector<int32_t> displacements(2 * channels);
  for (int64_t c = 0; c < channels; ++c) {
    displacements[c] = pairs[c].first;
    displacements[channels + c] = pairs[c].second;
  }
  return displacements;
}

const std::vector<ImageShape>& Shapes() {
  static const std::vector<ImageShape> shapes = {
      {.batch = 1, .height = 1, .width = 1, .channels = 1},
      {.batch = 2, .height = 3, .width = 5, .channels = 1},
      {.batch = 2, .height = 1, .width = 9, .channels = 3},
      {.batch = 1, .height = 6, .width = 1, .channels = 5},
      {.batch = 2, .height = 5, .width = 4, .channels = 7},
      {.batch = 1, .height = 4, .width = 7, .channels = 8},
      {.batch = 3, .height = 7, .width = 7, .channels = 16},
      {.batch = 1, .height = 8, .width = 6, .channels = 17},
      {.batch = 2, .height = 7, .width = 9, .channels = 24},
      {.batch = 1, .height = 9, .width = 11, .channels = 31},
      {.batch = 1, .height = 10, .width = 13, .channels = 48},
      {.batch = 1, .height = 7, .width = 7, .channels = 130},
  };
  return shapes;
}

void TestShift() {
  std::mt19937 random(kSeed);
  for (const ImageShape& shape : Shapes()) {
    for (int64_t element_size : {1, 2, 4, 8}) {
      const int64_t bytes = NumElements(shape) * element_size;
      const Bytes x = RandomBytes(bytes, &random);
      for (Draw draw : kDraws) {
        const std::vector<int32_t> d =
            DrawDisplacements(draw, shape.channels, &random);
        std::vector<int64_t> rows(d.begin(), d.begin() + shape.channels);
        std::vector<int64_t> columns(d.begin() + shape.channels, d.end());
        const Bytes expected = NewBytes(bytes);
        std::fill_n(expected.get(), bytes, 0);
        ForEachMoved(shape, rows, columns,
                     [&](int64_t to, int64_t from, int64_t) {
                       std::copy_n(x.get() + from * element_size, element_size,
                                   expected.get() + to * element_size);
                     });
        const Bytes y = NewBytes(bytes);
        std::fill_n(y.get(), bytes, 0xa5);
        const Status status =
            Shift2D(shape, element_size, x.get(), d.data(), 0, y.get());
        Check(
            status.ok() && std::equal(y.get(), y.get() + bytes, expected.get()),
            "shift of " + Text(shape) + ", " + std::to_string(element_size) +
                " bytes an element, draw " +
                std::to_string(static_cast<int>(draw)));
      }
    }
  }
}

constexpr FloatType kFloatTypes[] = {FloatType::kHalf, FloatType::kBfloat16,
                                     FloatType::kFloat, FloatType::kDouble};

// The sign and the magnitude of any bits, without a library's conversions.
double Value(FloatType type, const unsigned char* bytes) {
  if (type == FloatType::kDouble) {
    double value;
    std::memcpy(&value, bytes, sizeof(value));
    return value;
  }
  uint32_t bits = 0;
  std::memcpy(&bits, bytes, ElementSize(type));
  if (type == FloatType::kHalf) {
    const int exponent = bits >> 10 & 31;
    const int mantissa = bits & 1023;
    const double magnitude =
        exponent == 31 ? (mantissa == 0 ? HUGE_VAL : std::nan(""))
                       : std::ldexp(exponent == 0 ? mantissa : mantissa + 1024,
                                    std::max(exponent, 1) - 25);
    return bits >> 15 ? -magnitude : magnitude;
  }
  if (type == FloatType::kBfloat16) bits <<= 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

void TestReluShift() {
  std::mt19937 random(kSeed);
  for (const ImageShape& shape : Shapes()) {
    for (FloatType type : kFloatTypes) {
      const int64_t element = ElementSize(type);
      const int64_t bytes = NumElements(shape) * element;
      const Bytes x = RandomBytes(bytes, &random);
      for (Draw draw : kDraws) {
        const std::vector<int32_t> d =
            DrawDisplacements(draw, shape.channels, &random);
        const Bytes expected = NewBytes(bytes);
        std::fill_n(expected.get(), bytes, 0);
        ForEachMoved(shape, {d.begin(), d.begin() + shape.channels},
                     {d.begin() + shape.channels, d.end()},
                     [&](int64_t to, int64_t from, int64_t) {
                       const unsigned char* p = x.get() + from * element;
                       if (Value(type, p) <= 0) return;
                       std::copy_n(p, element, expected.get() + to * element);
                     });
        const Bytes y = NewBytes(bytes);
        std::fill_n(y.get(), bytes, 0xa5);
        const Status status =
            ReluShift2D(shape, type, x.get(), d.data(), 0, y.get());
        Check(
            status.ok() && std::equal(y.get(), y.get() + bytes, expected.get()),
            "shift of ReLU of " + Text(shape) + ", type " +
                std::to_string(static_cast<int>(type)) + ", draw " +
                std::to_string(static_cast<int>(draw)));
      }
    }
  }
}

// All bits that there are.
void TestReluOf(FloatType type) {
  const ImageShape shape = {
      .batch = 1, .height = 16, .width = 16, .channels = 256};
  std::vector<uint16_t> x(1 << 16), y(1 << 16);
  for (int bits = 0; bits < 1 << 16; ++bits) x[bits] = bits;
  const std::vector<int32_t> d(2 * shape.channels, 0);
  const Status status =
      ReluShift2D(shape, type, x.data(), d.data(), 1, y.data());
  Check(status.ok(), "ReLU of all bits: " + status.message());
  for (int bits = 0; bits < 1 << 16; ++bits) {
    const double value =
        Value(type, reinterpret_cast<const unsigned char*>(&x[bits]));
    Check(y[bits] == (value <= 0 ? 0 : bits),
          "ReLU of the bits " + std::to_string(bits));
  }
  // And its gradient; what comes in are ones.
  const std::vector<uint16_t> ones(1 << 16, 1);
  const std::vector<float> real(2 * shape.channels, 0);
  std::vector<float> displacement_gradient(2 * shape.channels);
  const Status gradient_status = SparseShift2DGrad(
      shape, type, x.data(), true, ones.data(), FloatType::kFloat, real.data(),
      1, y.data(), displacement_gradient.data());
  Check(gradient_status.ok(), "its gradient: " + gradient_status.message());
  for (int bits = 0; bits < 1 << 16; ++bits) {
    const double value =
        Value(type, reinterpret_cast<const unsigned char*>(&x[bits]));
    Check(y[bits] == (value > 0 ? 1 : 0),
          "gradient of ReLU at the bits " + std::to_string(bits));
  }
}

// More shifts, in turns, than plans are kept; each must be its own.
void TestShiftsInTurns() {
  std::mt19937 random(kSeed);
  const ImageShape shape = {
      .batch = 2, .height = 5, .width = 4, .channels = 40};
  const int64_t bytes = NumElements(shape) * 4;
  const Bytes x = RandomBytes(bytes, &random);
  std::vector<std::vector<int32_t>> patterns;
  for (int k = 0; k < 100; ++k) {
    patterns.push_back(
        DrawDisplacements(Draw::kSmall, shape.channels, &random));
  }
  for (int turn = 0; turn < 300; ++turn) {
    // A new one, and one of the latest again.
    const std::vector<int32_t>& d =
        patterns[turn % 2 ? turn / 2 % 100 : turn / 3];
    const std::vector<int64_t> rows(d.begin(), d.begin() + shape.channels);
    const std::vector<int64_t> columns(d.begin() + shape.channels, d.end());
    const Bytes expected = NewBytes(bytes);
    std::fill_n(expected.get(), bytes, 0);
    ForEachMoved(shape, rows, columns, [&](int64_t to, int64_t from, int64_t) {
      std::copy_n(x.get() + from * 4, 4, expected.get() + to * 4);
    });
    const Bytes y = NewBytes(bytes);
    const Status status = Shift2D(shape, 4, x.get(), d.data(), 1, y.get());
    Check(status.ok() && std::equal(y.get(), y.get() + bytes, expected.get()),
          "shifts in turns");
  }
}

// Large enough to go past the caches, and to be worth several threads.
void TestLargeShift() {
  std::mt19937 random(kSeed);
  for (int64_t channels : {64, 72}) {
    const ImageShape shape = {
        .batch = 6, .height = 112, .width = 112, .channels = channels};
    const int64_t bytes = NumElements(shape) * 4;
    // As TensorFlow aligns its tensors.
    const auto x = std::make_unique<float[]>(NumElements(shape) + 16);
    const auto y = std::make_unique<float[]>(NumElements(shape) + 16);
    const auto align = [](float* p) {
      return p + (64 - reinterpret_cast<uintptr_t>(p) % 64) % 64 / 4;
    };
    for (int64_t k = 0; k < NumElements(shape); ++k) {
      align(x.get())[k] = static_cast<float>(random()) - 0x1p31f;
    }
    const std::vector<int32_t> d =
        DrawDisplacements(Draw::kSmall, channels, &random);
    std::vector<float> expected(NumElements(shape));
    ForEachMoved(shape, {d.begin(), d.begin() + channels},
                 {d.begin() + channels, d.end()},
                 [&](int64_t to, int64_t from, int64_t) {
                   expected[to] = align(x.get())[from];
                 });
    for (int64_t threads : {1, 2, 5}) {
      std::fill_n(y.get(), NumElements(shape) + 16, 1.0f);
      const Status status =
          Shift2D(shape, 4, align(x.get()), d.data(), threads, align(y.get()));
      Check(status.ok() &&
                std::memcmp(align(y.get()), expected.data(), bytes) == 0,
            "large shift of " + Text(shape) + " on " + std::to_string(threads) +
                " threads");
      const Status relu_status =
          ReluShift2D(shape, FloatType::kFloat, align(x.get()), d.data(),
                      threads, align(y.get()));
      Check(relu_status.ok() &&
                std::equal(
                    expected.begin(), expected.end(), align(y.get()),
                    [](float a, float b) { return std::max(a, 0.0f) == b; }),
            "large shift of ReLU of " + Text(shape) + " on " +
                std::to_string(threads) + " threads");
    }
  }
}

// ---------------------------------------------------------------------------
// Gradients.

// The 16-bit floats are made from small integers, which both of them, and the
// test's own conversion, represent exactly.
constexpr float kStep = 1.0f / 16;

uint16_t Half(int value) {
  if (value == 0) return 0;
  const int exponent = std::ilogb(std::abs(value * kStep));
  const float mantissa = std::ldexp(std::abs(value * kStep), -exponent) - 1;
  return static_cast<uint16_t>((value < 0 ? 0x8000 : 0) |
                               (exponent + 15) << 10 |
                               static_cast<int>(mantissa * 1024));
}

uint16_t Bfloat16(int value) {
  const float exact = value * kStep;
  uint32_t bits;
  std::memcpy(&bits, &exact, sizeof(bits));
  return static_cast<uint16_t>(bits >> 16);
}

struct Image {
  Bytes bytes;
  std::vector<double> values;
};

template <typename T>
void Put(T value, int64_t k, unsigned char* bytes) {
  std::memcpy(bytes + k * sizeof(T), &value, sizeof(T));
}

Image RandomImage(int64_t size, FloatType type, std::mt19937* random) {
  Image image{NewBytes(size * ElementSize(type)), std::vector<double>(size)};
  std::uniform_int_distribution<int> integers(-100, 100);
  std::uniform_real_distribution<double> reals(-1, 1);
  for (int64_t k = 0; k < size; ++k) {
    const int integer = integers(*random);
    image.values[k] = integer * kStep;
    switch (type) {
      case FloatType::kHalf:
        Put(Half(integer), k, image.bytes.get());
        break;
      case FloatType::kBfloat16:
        Put(Bfloat16(integer), k, image.bytes.get());
        break;
      case FloatType::kFloat:
        image.values[k] = static_cast<float>(reals(*random));
        Put(static_cast<float>(image.values[k]), k, image.bytes.get());
        break;
      case FloatType::kDouble:
        image.values[k] = reals(*random);
        Put(image.values[k], k, image.bytes.get());
        break;
    }
  }
  return image;
}

// Eq. 6 as it is written, in double. `scale` gets the sums of absolute values,
// against which rounding errors are to be measured.
void ExpectedGradient(const ImageShape& shape, const Image& x, const Image& g,
                      const std::vector<double>& d,
                      std::vector<double>* gradient,
                      std::vector<double>* scale) {
  const int64_t channels = shape.channels;
  std::vector<double> s[2][2];
  scale->assign(channels, 0);
  for (int a = 0; a < 2; ++a) {
    for (int b = 0; b < 2; ++b) {
      std::vector<int64_t> rows(channels), columns(channels);
      for (int64_t c = 0; c < channels; ++c) {
        const double far = 1e6;
        rows[c] = std::llround(std::clamp(std::floor(d[c]), -far, far)) + a;
        columns[c] =
            std::llround(std::clamp(std::floor(d[channels + c]), -far, far)) +
            b;
      }
      s[a][b].assign(channels, 0);
      ForEachMoved(shape, rows, columns,
                   [&](int64_t to, int64_t from, int64_t c) {
                     const double product = g.values[to] * x.values[from];
                     s[a][b][c] += product;
                     (*scale)[c] += std::abs(product);
                   });
    }
  }
  gradient->resize(2 * channels);
  for (int64_t c = 0; c < channels; ++c) {
    const double r_0 = d[c] - std::floor(d[c]);
    const double r_1 = d[channels + c] - std::floor(d[channels + c]);
    (*gradient)[c] =
        (1 - r_1) * (s[1][0][c] - s[0][0][c]) + r_1 * (s[1][1][c] - s[0][1][c]);
    (*gradient)[channels + c] =
        (1 - r_0) * (s[0][1][c] - s[0][0][c]) + r_0 * (s[1][1][c] - s[1][0][c]);
  }
}

template <typename Number>
void TestGradient(const ImageShape& shape, FloatType type,
                  FloatType displacement_type, double spread,
                  std::mt19937* random, bool relu) {
  const int64_t size = NumElements(shape);
  const int64_t bytes = size * ElementSize(type);
  const int64_t channels = shape.channels;
  Image x = RandomImage(size, type, random);
  const Image g = RandomImage(size, type, random);
  if (relu) {
    for (double& value : x.values) value = std::max(value, 0.0);
  }
  std::vector<Number> displacements(2 * channels);
  std::vector<double> d(2 * channels);
  std::vector<int64_t> back(2 * channels);
  std::uniform_real_distribution<double> reals(-spread, spread);
  for (int64_t k = 0; k < 2 * channels; ++k) {
    double value = reals(*random);
    if (k % 5 == 0) value = std::round(value);
    // Some values are ties between two whole numbers.
    if (k % 7 == 0 && spread < 100) value = std::floor(value) + 0.5;
    displacements[k] = static_cast<Number>(value);
    d[k] = displacements[k];
    back[k] = -std::llround(std::clamp(std::nearbyint(d[k]), -1e6, 1e6));
  }
  std::vector<double> expected, scale;
  ExpectedGradient(shape, x, g, d, &expected, &scale);
  const Bytes expected_input = NewBytes(bytes);
  std::fill_n(expected_input.get(), bytes, 0);
  ForEachMoved(shape, {back.begin(), back.begin() + channels},
               {back.begin() + channels, back.end()},
               [&](int64_t to, int64_t from, int64_t) {
                 if (relu && !(x.values[to] > 0)) return;
                 const int64_t element = ElementSize(type);
                 std::copy_n(g.bytes.get() + from * element, element,
                             expected_input.get() + to * element);
               });

  const std::string what = "gradient of " + Text(shape) + ", type " +
                           std::to_string(static_cast<int>(type)) +
                           ", displacements up to " + std::to_string(spread) +
                           (relu ? ", after a ReLU" : "");
  std::vector<Number> first;
  for (int64_t threads : {1, 2, 3, 0}) {
    const Bytes input_gradient = NewBytes(bytes);
    std::fill_n(input_gradient.get(), bytes, 0xa5);
    std::vector<Number> gradient(2 * channels, Number{-1});
    const Status status = SparseShift2DGrad(
        shape, type, x.bytes.get(), relu, g.bytes.get(), displacement_type,
        displacements.data(), threads, input_gradient.get(), gradient.data());
    Check(status.ok(), what + ": " + status.message());
    Check(std::equal(input_gradient.get(), input_gradient.get() + bytes,
                     expected_input.get()),
          what + ": input");
    if (threads == 1) first = gradient;
    Check(gradient == first,
          what + ": other bits on " + std::to_string(threads) + " threads");
  }
  const double epsilon = type == FloatType::kDouble
                             ? std::numeric_limits<double>::epsilon()
                             : std::numeric_limits<float>::epsilon();
  const double output_epsilon = std::numeric_limits<Number>::epsilon();
  for (int64_t k = 0; k < 2 * channels; ++k) {
    const double allowed = 8 * epsilon * scale[k % channels] +
                           output_epsilon * std::abs(expected[k]);
    Check(std::abs(first[k] - expected[k]) <= allowed,
          what + ", displacement " + std::to_string(k) + " = " +
              std::to_string(d[k]) + ": " + std::to_string(first[k]) +
              " instead of " + std::to_string(expected[k]));
  }
}

void TestGradients(bool relu) {
  std::mt19937 random(kSeed);
  for (const ImageShape& shape : Shapes()) {
    for (FloatType type : kFloatTypes) {
      for (double spread : {0.0, 2.0, 12.0, 1e30}) {
        TestGradient<float>(shape, type, FloatType::kFloat, spread, &random,
                            relu);
        TestGradient<double>(shape, type, FloatType::kDouble, spread, &random,
                             relu);
      }
    }
  }
  // Several blocks, images to a block, and rows of more than one chunk.
  for (const ImageShape& shape :
       {ImageShape{.batch = 1, .height = 50, .width = 41, .channels = 24},
        ImageShape{.batch = 130, .height = 5, .width = 6, .channels = 16},
        ImageShape{.batch = 3, .height = 40, .width = 33, .channels = 20}}) {
    TestGradient<float>(shape, FloatType::kFloat, FloatType::kFloat, 2, &random,
                        relu);
    TestGradient<double>(shape, FloatType::kDouble, FloatType::kDouble, 2,
                         &random, relu);
  }
  // Several slices of channels, the last one larger and no multiple of a
  // vector.
  const ImageShape sliced = {
      .batch = 5, .height = 17, .width = 40, .channels = 211};
  for (FloatType type : kFloatTypes) {
    TestGradient<float>(sliced, type, FloatType::kFloat, 2, &random, relu);
  }
}

// Long sums must not lose what float32 has to offer.
void TestAccuracyOfLongSums() {
  const ImageShape shape = {
      .batch = 64, .height = 56, .width = 56, .channels = 16};
  std::mt19937 random(kSeed);
  TestGradient<float>(shape, FloatType::kFloat, FloatType::kFloat, 1, &random,
                      false);
}

// All 2^16 bit patterns, as x; upstream picks them out one by one.
void TestSpecialValues(FloatType type) {
  const int64_t channels = 16;
  const uint16_t one = type == FloatType::kHalf ? 0x3c00 : 0x3f80;
  const uint16_t infinity = type == FloatType::kHalf ? 0x7c00 : 0x7f80;
  const float smallest =
      type == FloatType::kHalf ? std::ldexp(1.0f, -24) : std::ldexp(1.0f, -133);
  // A 1 x 2 image: with d = 0, the second row of the gradient is
  // g[0] * (x[1] - x[0]) - g[1] * x[1].
  const ImageShape shape = {
      .batch = 1, .height = 1, .width = 2, .channels = channels};
  std::vector<uint16_t> x(2 * channels, 0), g(2 * channels, 0);
  std::vector<uint16_t> input_gradient(2 * channels);
  std::vector<float> d(2 * channels, 0), gradient(2 * channels);
  for (int64_t c = 0; c < channels; ++c) g[c] = one;
  x[channels + 0] = infinity;
  x[channels + 1] = infinity | 0x8000;
  x[channels + 2] = infinity | 1;
  // This is the smallest subnormal number.
  x[channels + 3] = 1;
  x[channels + 4] = 0x8001;
  x[channels + 5] = one | 0x8000;
  const Status status = SparseShift2DGrad(
      shape, type, x.data(), false, g.data(), FloatType::kFloat, d.data(), 1,
      input_gradient.data(), gradient.data());
  Check(status.ok(), "special values: " + status.message());
  const float* got = gradient.data() + channels;
  // Where r is 0, (1 - r) * s + r * s' is inf + 0 * inf.
  Check(!std::isfinite(got[0]), "infinity");
  Check(!std::isfinite(got[1]), "-infinity");
  Check(std::isnan(got[2]), "NaN");
  Check(got[3] == smallest, "smallest subnormal");
  Check(got[4] == -smallest, "negative smallest subnormal");
  Check(got[5] == -1, "-1");
}

// ---------------------------------------------------------------------------
// Arguments.

void TestArguments() {
  float x[4] = {}, y[4] = {};
  const int32_t d[2] = {};
  const ImageShape shape = {.batch = 1, .height = 2, .width = 2, .channels = 1};
  CheckRefused(Shift2D(shape, 3, x, d, 0, y), "`element_size`");
  CheckRefused(Shift2D({.batch = 1, .height = -2, .width = 2, .channels = 1}, 4,
                       x, d, 0, y),
               "`x`");
  CheckRefused(
      Shift2D(
          {.batch = 1ll << 40, .height = 1ll << 40, .width = 2, .channels = 1},
          4, x, d, 0, y),
      "`x`");
  CheckRefused(Shift2D(shape, 4, x, d, -1, y), "num_threads=-1");
  CheckRefused(Shift2D(shape, 4, x, d, kMaxThreads + 1, y), "`num_threads`");
  const float real[2] = {};
  float gradient[2];
  CheckRefused(ReluShift2D(shape, FloatType::kFloat, x, d, -1, y),
               "num_threads=-1");
  CheckRefused(SparseShift2DGrad(shape, FloatType::kFloat, x, false, x,
                                 FloatType::kHalf, real, 0, y, gradient),
               "`displacements`");
}

// Displacements that are no numbers, or beyond all of them.
void TestNonFinite() {
  const ImageShape shape = {.batch = 1, .height = 2, .width = 2, .channels = 1};
  const float x[4] = {1, 2, 3, 4};
  for (const float d : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    const float displacements[2] = {0, d};
    float y[4] = {5, 5, 5, 5};
    float gradient[2] = {5, 5};
    const Status status =
        SparseShift2DGrad(shape, FloatType::kFloat, x, false, x,
                          FloatType::kFloat, displacements, 0, y, gradient);
    Check(status.ok(), "gradient at " + std::to_string(d));
    Check(std::count(y, y + 4, 0.0f) == 4, "everything has left the image");
    Check(std::isnan(gradient[0]) == std::isnan(d) && gradient[1] == 0,
          "gradient at " + std::to_string(d));
  }
}

void TestEmpty() {
  for (const ImageShape& shape :
       {ImageShape{.batch = 0, .height = 2, .width = 3, .channels = 4},
        ImageShape{.batch = 1, .height = 0, .width = 3, .channels = 4},
        ImageShape{.batch = 1, .height = 2, .width = 0, .channels = 4},
        ImageShape{.batch = 1, .height = 2, .width = 3, .channels = 0}}) {
    const std::vector<int32_t> d(2 * shape.channels, 1);
    Check(Shift2D(shape, 4, nullptr, d.data(), 0, nullptr).ok(),
          "shift of " + Text(shape));
    const std::vector<float> real(2 * shape.channels, 0.5f);
    std::vector<float> gradient(2 * shape.channels, -1);
    Check(SparseShift2DGrad(shape, FloatType::kFloat, nullptr, true, nullptr,
                            FloatType::kFloat, real.data(), 0, nullptr,
                            gradient.data())
              .ok(),
          "gradient of " + Text(shape));
    Check(std::count(gradient.begin(), gradient.end(), 0.0f) ==
              2 * shape.channels,
          "gradient of nothing is zero");
  }
}

void TestLimits() {
  Check(BestIsa("baseline") == Isa::kBaseline, "limited to the baseline");
  Check(BestIsa("avx2") <= Isa::kAvx2, "limited to AVX2");
  Check(BestIsa("avx512") <= Isa::kAvx512, "limited to AVX-512");
  Check(BestIsa("avx512bf16") == BestIsa(nullptr), "limited to AVX512-BF16");
  Check(BestIsa("sse5") == BestIsa(nullptr), "limited by an unknown name");
  Check(BestIsa("") == BestIsa(nullptr), "limited by an empty name");
}

// TensorFlow's threads take subnormal numbers for zero. Helpers must do so
// then, and must not otherwise, or the bits depend on who computes what.
void TestSubnormals() {
#if defined(__SSE2__)
  constexpr int64_t kChannels = 16;
  const ImageShape shape = {
      .batch = 8, .height = 32, .width = 32, .channels = kChannels};
  const int64_t size = NumElements(shape);
  std::mt19937 random(kSeed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> x(size), g(size), d(2 * kChannels);
  for (float& value : x) value = 1e-39f * uniform(random);
  for (float& value : g) value = uniform(random);
  for (float& value : d) value = 2 * uniform(random);
  const auto gradient = [&](int64_t threads) {
    std::vector<float> input_gradient(size), result(2 * kChannels);
    const Status status = SparseShift2DGrad(
        shape, FloatType::kFloat, x.data(), false, g.data(), FloatType::kFloat,
        d.data(), threads, input_gradient.data(), result.data());
    Check(status.ok(), "gradient of subnormal numbers: " + status.message());
    return result;
  };
  const std::vector<float> kept = gradient(5);
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040);
  const std::vector<float> one = gradient(1);
  // Which thread computes what differs from call to call.
  bool same = true;
  for (int i = 0; i < 50; ++i) same = same && gradient(5) == one;
  _mm_setcsr(before);
  Check(kept != one, "gradient of subnormal numbers, taken for zero");
  Check(same, "gradient of subnormal numbers in helpers");
  Check(gradient(5) == kept, "gradient of subnormal numbers, kept again");
#endif
}

int Main() {
  TestLimits();
  ForEachIsa([] {
    TestShift();
    TestShiftsInTurns();
    TestLargeShift();
    TestReluShift();
    TestReluOf(FloatType::kHalf);
    TestReluOf(FloatType::kBfloat16);
    TestGradients(false);
    TestGradients(true);
    TestAccuracyOfLongSums();
    TestSpecialValues(FloatType::kHalf);
    TestSpecialValues(FloatType::kBfloat16);
  });
  TestSubnormals();
  TestArguments();
  TestNonFinite();
  TestEmpty();
  return Report();
}

}  // namespace
}  // namespace keras_shift

int main() { return keras_shift::Main(); }
