// The types and the limits that all of the core shares. The objects of the
// kernels do not include this file (see kernels.h).

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_TYPES_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_TYPES_H_

#include <cstdint>

namespace keras_shift {

// The shape of images, which are dense NHWC arrays.
struct ImageShape {
  int64_t batch;
  int64_t height;
  int64_t width;
  int64_t channels;
};

enum class FloatType { kHalf, kBfloat16, kFloat, kDouble };

// How a fused unit averages the wide tensor (see fused_unit.h): over 2 x 2
// pixels, two apart, or with kGlobal over all pixels. An odd last row or column
// is left out with kValid, and averaged alone with kSame.
enum class Pooling { kNone, kValid, kSame, kGlobal };

// The hyperparameters of a fused unit (see fused_unit.h).
struct FusedUnit {
  // The number k of channels of x that are expanded. The channels that follow
  // them are copied to y.
  int64_t expanded;
  // The number of channels of the wide tensor.
  int64_t hidden;
  // The number of channels that the wide tensor is projected to.
  int64_t filters;
  int64_t strides[2] = {1, 1};
  // Pooling takes the place of the shift.
  Pooling pooling = Pooling::kNone;
  bool relu = false;
  // Whether matrices, and what they are multiplied by, are bfloat16 instead of
  // float32.
  bool bfloat16 = false;
  // A residual needs as many filters as channels are expanded. A residual and
  // channels to copy need images that keep their size.
  bool residual = false;
};

// More threads than this are taken for a mistake of the caller.
inline constexpr int64_t kMaxThreads = 256;

// The quotient, rounded up, of numbers that are not negative.
constexpr int64_t CeilDiv(int64_t a, int64_t b) { return a / b + (a % b != 0); }

// The shape must have passed CheckShape() of arguments.h, which makes sure
// that the product can be represented.
constexpr int64_t NumElements(const ImageShape& shape) {
  return shape.batch * shape.height * shape.width * shape.channels;
}

// The size in bytes.
constexpr int64_t ElementSize(FloatType type) {
  switch (type) {
    case FloatType::kDouble:
      return 8;
    case FloatType::kFloat:
      return 4;
    case FloatType::kHalf:
    case FloatType::kBfloat16:
      break;
  }
  return 2;
}

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_TYPES_H_
