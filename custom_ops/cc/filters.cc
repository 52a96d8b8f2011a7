#include "custom_ops/cc/filters.h"

namespace keras_shift {

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
  uint64_t infinity = 0;
  switch (type) {
    case FloatType::kHalf:
      infinity = 0x7c00;
      break;
    case FloatType::kBfloat16:
      infinity = 0x7f80;
      break;
    case FloatType::kFloat:
      infinity = 0x7f800000;
      break;
    case FloatType::kDouble:
      infinity = 0x7ff0000000000000;
      break;
  }
  return {ElementSize(type), infinity, nullptr};
}

Filter PositiveFilter(FloatType type, const unsigned char* gates) {
  const int64_t element_size = ElementSize(type);
  return {element_size, uint64_t{1} << (8 * element_size - 1), gates};
}

}  // namespace keras_shift
