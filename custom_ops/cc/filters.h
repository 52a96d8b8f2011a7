// The filters of ReLU and of its gradient.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_FILTERS_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_FILTERS_H_

#include <cstdint>

#include "custom_ops/cc/kernels.h"
#include "custom_ops/cc/shift.h"

namespace keras_shift {

int64_t ElementSize(FloatType type);

// Of elements that become max(element, 0), or stay NaN.
Filter ReluFilter(FloatType type);

// Of elements that stay where `gates` is greater than zero; NaNs are not.
Filter PositiveFilter(FloatType type, const unsigned char* gates);

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_FILTERS_H_
