// Shifts images of any shape and type, with and without a ReLU, and compares
// every byte with a plain loop.

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "custom_ops/cc/shift.h"
#include "custom_ops/fuzz/fuzz.h"

namespace keras_shift::fuzz {
namespace {

// What the bytes of an element are taken for.
struct Element {
  int64_t size;
  bool relu = false;
  FloatType type = FloatType::kFloat;
};

Element DrawElement(Input* input) {
  if (input->OneIn(2)) {
    const auto type = static_cast<FloatType>(input->Draw(0, 3));
    return {.size = ElementSize(type), .relu = true, .type = type};
  }
  return {.size = int64_t{1} << input->Draw(0, 3)};
}

uint64_t Infinity(FloatType type) {
  switch (type) {
    case FloatType::kHalf:
      return 0x7c00;
    case FloatType::kBfloat16:
      return 0x7f80;
    case FloatType::kFloat:
      return 0x7f800000;
    case FloatType::kDouble:
      break;
  }
  return 0x7ff0000000000000;
}

// Elements as words of their size, from which the sign, infinity and NaNs can
// be told for any type of IEEE 754.
template <typename Word>
std::unique_ptr<Word[]> DrawImage(int64_t size, FloatType type, Input* input) {
  const Hash hash(input->Draw(0, 65535));
  const Word infinity = static_cast<Word>(Infinity(type));
  std::unique_ptr<Word[]> x(new Word[size]);
  for (int64_t k = 0; k < size; ++k) {
    const uint64_t h = hash(k);
    const Word bits = static_cast<Word>(h >> 8);
    const Word sign = bits & static_cast<Word>(~(static_cast<Word>(~0) / 2));
    // Random bits are rarely those of zero, infinity or NaN.
    const Word values[] = {sign, static_cast<Word>(sign | infinity),
                           static_cast<Word>(sign | infinity | 1),
                           static_cast<Word>(sign | 1)};
    x[k] = h % 16 < 4 ? values[h % 4] : bits;
  }
  return x;
}

// Whether max(x, 0) is zero: x is negative, -infinity included, or zero.
template <typename Word>
bool Clipped(Word bits, FloatType type) {
  const Word magnitude = bits & static_cast<Word>(~static_cast<Word>(0)) / 2;
  return magnitude == 0 || (bits != magnitude && magnitude <= Infinity(type));
}

// One pixel after the other, as shift.h defines it.
template <typename Word>
std::unique_ptr<Word[]> Expected(const ImageShape& s, const Element& element,
                                 const Word* x, const std::vector<int32_t>& d) {
  std::unique_ptr<Word[]> y(new Word[NumElements(s)]());
  Word* to = y.get();
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t i = 0; i < s.height; ++i) {
      for (int64_t j = 0; j < s.width; ++j) {
        for (int64_t c = 0; c < s.channels; ++c, ++to) {
          const int64_t row = i + d[c];
          const int64_t column = j + d[s.channels + c];
          if (row < 0 || row >= s.height || column < 0 || column >= s.width) {
            continue;
          }
          const Word bits =
              x[((n * s.height + row) * s.width + column) * s.channels + c];
          if (!element.relu || !Clipped(bits, element.type)) *to = bits;
        }
      }
    }
  }
  return y;
}

Status Run(const ImageShape& shape, const Element& element, const void* x,
           const int32_t* d, int64_t threads, void* y) {
  return element.relu ? ReluShift2D(shape, element.type, x, d, threads, y)
                      : Shift2D(shape, static_cast<size_t>(element.size), x, d,
                                threads, y);
}

// Sizes that cannot be those of an array must be refused before anything is
// read.
void TestRefused(Input* input) {
  ImageShape shape;
  for (int64_t* size :
       {&shape.batch, &shape.height, &shape.width, &shape.channels}) {
    *size = input->OneIn(2) ? input->Extreme() : input->Draw(0, 70000);
  }
  Element element = DrawElement(input);
  if (!element.relu && input->OneIn(4)) element.size = input->Extreme();
  const int64_t threads = DrawThreads(input);
  const double bytes = BytesOf(shape, element.size);
  const bool size_allowed = element.size == 1 || element.size == 2 ||
                            element.size == 4 || element.size == 8;
  if (size_allowed && ThreadsAllowed(threads) && bytes > 0 && bytes < 0x1p57) {
    // There may be such an array.
    return;
  }
  const Status status = Run(shape, element, nullptr, nullptr, threads, nullptr);
  Check(!status.ok() || bytes == 0, "accepted " + Text(shape));
}

template <typename Word>
void TestShift(const Element& element, Input* input) {
  const ImageShape shape = DrawShape(input);
  const int64_t threads = DrawThreads(input);
  const std::vector<int32_t> d = DrawDisplacements(shape.channels, input);
  const int64_t size = NumElements(shape);
  const auto x = DrawImage<Word>(size, element.type, input);
  const auto expected = Expected(shape, element, x.get(), d);
  // Arrays need not begin where those of TensorFlow would.
  const int64_t offset = input->Draw(0, 16);
  const std::unique_ptr<Word[]> y(new Word[offset + size]);
  ForEachIsa([&] {
    std::fill_n(y.get(), offset + size, static_cast<Word>(0xa5));
    const Status status =
        Run(shape, element, x.get(), d.data(), threads, y.get() + offset);
    Check(!status.ok() || std::memcmp(y.get() + offset, expected.get(),
                                      size * sizeof(Word)) == 0,
          "shift of " + Text(shape) + ", " + std::to_string(element.size) +
              " bytes an element, relu=" + std::to_string(element.relu) +
              ", threads=" + std::to_string(threads));
  });
}

void TestShift(Input* input) {
  const Element element = DrawElement(input);
  switch (element.size) {
    case 1:
      return TestShift<uint8_t>(element, input);
    case 2:
      return TestShift<uint16_t>(element, input);
    case 4:
      return TestShift<uint32_t>(element, input);
    default:
      return TestShift<uint64_t>(element, input);
  }
}

}  // namespace
}  // namespace keras_shift::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  keras_shift::fuzz::Input input(data, size);
  if (input.OneIn(32)) {
    keras_shift::fuzz::TestRefused(&input);
  } else {
    keras_shift::fuzz::TestShift(&input);
  }
  return 0;
}
