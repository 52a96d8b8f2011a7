#include "custom_ops/cc/filters.h"

#include <cstdint>

namespace keras_shift {
namespace {

uint64_t InfinityBits(FloatType type) {
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

Filter ReluFilter(FloatType type) {
  return {.element_size = ElementSize(type),
          .above = InfinityBits(type),
          .up_to = 2 * SignBit(type) - 1,
          .gates = nullptr};
}

Filter PositiveFilter(FloatType type, const unsigned char* gates) {
  const uint64_t sign = SignBit(type);
  return {.element_size = ElementSize(type),
          .above = sign,
          .up_to = sign | InfinityBits(type),
          .gates = gates};
}

}  // namespace keras_shift
