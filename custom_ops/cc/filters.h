// The filters of ReLU and of its gradient.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_FILTERS_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_FILTERS_H_

#include "custom_ops/cc/kernels.h"
#include "custom_ops/cc/types.h"

namespace keras_shift {

// This filter turns each element into max(element, 0). NaNs stay what they are.
Filter ReluFilter(FloatType type);

// This filter keeps the elements whose gate is greater than zero, which a NaN
// is not.
Filter PositiveFilter(FloatType type, const unsigned char* gates);

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_FILTERS_H_
