// Takes gradients of shifts of any shape, type and displacement, and compares
// them with Eq. 6 and 7 as they are written, in double.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "custom_ops/cc/shift.h"
#include "custom_ops/fuzz/fuzz.h"

namespace keras_shift::fuzz {
namespace {

struct Image {
  Bytes bytes;
  std::vector<double> values;
};

// Small multiples of 1/16, which all types represent exactly.
uint64_t BitsOf(int integer, FloatType type) {
  const float value = integer / 16.0f;
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  switch (type) {
    case FloatType::kHalf:
      if (integer == 0) return 0;
      // The exponent has another bias, and 13 bits of the fraction are zero.
      return (bits >> 16 & 0x8000) | ((bits & 0x7fffffff) - (112u << 23)) >> 13;
    case FloatType::kBfloat16:
      return bits >> 16;
    case FloatType::kFloat:
      return bits;
    case FloatType::kDouble:
      break;
  }
  const double wide = value;
  uint64_t wide_bits;
  std::memcpy(&wide_bits, &wide, sizeof(wide_bits));
  return wide_bits;
}

Image DrawImage(int64_t size, FloatType type, Input* input) {
  const Hash hash(input->Draw(0, 65535));
  const int64_t element = ElementSize(type);
  Image image{NewBytes(size * element), std::vector<double>(size)};
  for (int64_t k = 0; k < size; ++k) {
    const int integer = static_cast<int>(hash(k) % 201) - 100;
    const uint64_t bits = BitsOf(integer, type);
    std::memcpy(image.bytes.get() + k * element, &bits, element);
    image.values[k] = integer / 16.0;
  }
  return image;
}

template <typename Number>
std::vector<Number> DrawRealDisplacements(int64_t channels, Input* input) {
  constexpr double kSpecial[] = {std::numeric_limits<double>::quiet_NaN(),
                                 HUGE_VAL,
                                 -HUGE_VAL,
                                 0x1p31,
                                 -0x1p31 - 1,
                                 1e300,
                                 -0.0,
                                 0.5};
  constexpr double kSpreads[] = {0, 0.7, 2, 13, 1e30};
  const double spread = kSpreads[input->Draw(0, 4)];
  const bool special = input->OneIn(4);
  const bool halves = input->OneIn(3);
  const Hash hash(input->Draw(0, 255));
  std::vector<Number> d(2 * channels);
  for (int64_t k = 0; k < 2 * channels; ++k) {
    double value = spread * hash.Real(k);
    if (halves && spread < 100) value = std::round(2 * value) / 2;
    if (special && hash(k) % 5 == 0) value = kSpecial[hash(k) / 5 % 8];
    d[k] = static_cast<Number>(value);
  }
  return d;
}

// Where a displacement leads to, far outside of any image if it is not a
// number.
int64_t Whole(double d) {
  constexpr double kFar = 1e9;
  return std::isnan(d) ? static_cast<int64_t>(kFar)
                       : std::llround(std::clamp(d, -kFar, kFar));
}

struct Expectation {
  Bytes input_gradient;
  std::vector<double> gradient;
  // Sums of absolute values, against which rounding errors are to be measured.
  std::vector<double> scale;
};

template <typename Number>
Expectation Expected(const ImageShape& s, FloatType type, const Image& x,
                     bool relu, const Image& upstream,
                     const std::vector<Number>& d) {
  const int64_t element = ElementSize(type);
  const int64_t size = NumElements(s);
  Expectation expected{NewBytes(size * element),
                       std::vector<double>(2 * s.channels),
                       std::vector<double>(s.channels)};
  std::memset(expected.input_gradient.get(), 0, size * element);
  for (int64_t c = 0; c < s.channels; ++c) {
    const double exact[2] = {static_cast<double>(d[c]),
                             static_cast<double>(d[s.channels + c])};
    double sums[2][2] = {};
    for (int64_t n = 0; n < s.batch; ++n) {
      for (int64_t i = 0; i < s.height; ++i) {
        for (int64_t j = 0; j < s.width; ++j) {
          const auto index = [&](int64_t row, int64_t column) {
            return row < 0 || row >= s.height || column < 0 || column >= s.width
                       ? -1
                       : ((n * s.height + row) * s.width + column) *
                                 s.channels +
                             c;
          };
          const int64_t here = index(i, j);
          for (int a : {0, 1}) {
            for (int b : {0, 1}) {
              const int64_t from = index(i + Whole(std::floor(exact[0])) + a,
                                         j + Whole(std::floor(exact[1])) + b);
              if (from < 0) continue;
              const double value = x.values[from];
              const double product =
                  upstream.values[here] * (relu ? std::max(value, 0.0) : value);
              sums[a][b] += product;
              expected.scale[c] += std::abs(product);
            }
          }
          const int64_t back = index(i - Whole(std::nearbyint(exact[0])),
                                     j - Whole(std::nearbyint(exact[1])));
          if (back < 0 || (relu && !(x.values[here] > 0))) continue;
          std::memcpy(expected.input_gradient.get() + here * element,
                      upstream.bytes.get() + back * element, element);
        }
      }
    }
    const auto fraction = [](double value) {
      return std::isinf(value) ? 0 : value - std::floor(value);
    };
    const double r[2] = {fraction(exact[0]), fraction(exact[1])};
    expected.gradient[c] = (1 - r[1]) * (sums[1][0] - sums[0][0]) +
                           r[1] * (sums[1][1] - sums[0][1]);
    expected.gradient[s.channels + c] = (1 - r[0]) * (sums[0][1] - sums[0][0]) +
                                        r[0] * (sums[1][1] - sums[1][0]);
  }
  return expected;
}

template <typename Number>
void TestGradient(FloatType displacement_type, Input* input) {
  const auto type = static_cast<FloatType>(input->Draw(0, 3));
  const bool relu = input->OneIn(2);
  const ImageShape shape = DrawShape(input);
  const int64_t threads = DrawThreads(input);
  const std::vector<Number> d =
      DrawRealDisplacements<Number>(shape.channels, input);
  const Image x = DrawImage(NumElements(shape), type, input);
  const Image upstream = DrawImage(NumElements(shape), type, input);
  const Expectation expected = Expected(shape, type, x, relu, upstream, d);
  const int64_t bytes = NumElements(shape) * ElementSize(type);
  const Bytes input_gradient = NewBytes(bytes);
  const double epsilon = type == FloatType::kDouble
                             ? std::numeric_limits<double>::epsilon()
                             : std::numeric_limits<float>::epsilon();
  const std::string what = "gradient of " + Text(shape) + ", type " +
                           std::to_string(static_cast<int>(type)) +
                           ", relu=" + std::to_string(relu) +
                           ", threads=" + std::to_string(threads);
  const auto close = [&](const std::vector<Number>& gradient) {
    for (int64_t k = 0; k < 2 * shape.channels; ++k) {
      const double wanted = expected.gradient[k];
      if (std::isnan(wanted) != std::isnan(gradient[k])) return false;
      const double allowed =
          8 * epsilon * expected.scale[k % shape.channels] +
          std::numeric_limits<Number>::epsilon() * std::abs(wanted);
      if (std::abs(gradient[k] - wanted) > allowed) return false;
    }
    return true;
  };
  const auto run = [&](int64_t num_threads, std::vector<Number>* gradient) {
    std::memset(input_gradient.get(), 0xa5, bytes);
    gradient->assign(2 * shape.channels, Number{-1});
    const Status status =
        SparseShift2DGrad(shape, type, x.bytes.get(), relu,
                          upstream.bytes.get(), displacement_type, d.data(),
                          num_threads, input_gradient.get(), gradient->data());
    const bool same = std::memcmp(input_gradient.get(),
                                  expected.input_gradient.get(), bytes) == 0;
    Check(!status.ok() || (same && close(*gradient)), what);
    return status.ok();
  };
  ForEachIsa([&] {
    std::vector<Number> alone, together;
    if (run(1, &alone) && run(threads, &together)) {
      // Without channels, there is no memory to compare.
      Check(alone.empty() || std::memcmp(alone.data(), together.data(),
                                         alone.size() * sizeof(Number)) == 0,
            what + ": other bits than on one thread");
    }
  });
}

// Sizes that cannot be those of an array must be refused before anything is
// read.
void TestRefused(Input* input) {
  ImageShape shape;
  for (int64_t* size :
       {&shape.batch, &shape.height, &shape.width, &shape.channels}) {
    *size = input->OneIn(2) ? input->Extreme() : input->Draw(0, 70000);
  }
  const auto type = static_cast<FloatType>(input->Draw(0, 3));
  const auto displacement_type = static_cast<FloatType>(input->Draw(0, 3));
  const int64_t threads = DrawThreads(input);
  const double bytes = BytesOf(shape, ElementSize(type));
  // There may be such an array.
  if (bytes >= 0 && bytes < 0x1p57) return;
  const Status status =
      SparseShift2DGrad(shape, type, nullptr, false, nullptr, displacement_type,
                        nullptr, threads, nullptr, nullptr);
  Check(!status.ok(), "accepted " + Text(shape));
}

}  // namespace
}  // namespace keras_shift::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using keras_shift::FloatType;
  keras_shift::fuzz::Input input(data, size);
  if (input.OneIn(32)) {
    keras_shift::fuzz::TestRefused(&input);
  } else if (input.OneIn(2)) {
    keras_shift::fuzz::TestGradient<double>(FloatType::kDouble, &input);
  } else {
    keras_shift::fuzz::TestGradient<float>(FloatType::kFloat, &input);
  }
  return 0;
}
