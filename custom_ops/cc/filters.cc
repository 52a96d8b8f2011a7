#include "custom_ops/cc/filters.h"

namespace keras_shift {
namespace {

// The bits of infinity.
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

uint64_t SignBit(FloatType type) {
  return uint64_t{1} << (8 * ElementSize(type) - 1);
}

}  // namespace

int64_t ElementSize(FloatType type) {
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

Filter ReluFilter(FloatType type) {
  return {ElementSize(type), Infinity(type), 2 * SignBit(type) - 1, nullptr};
}

Filter PositiveFilter(FloatType type, const unsigned char* gates) {
  const uint64_t sign = SignBit(type);
  return {ElementSize(type), sign, sign | Infinity(type), gates};
}

}  // namespace keras_shift
