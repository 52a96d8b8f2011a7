// What a fused unit asks of its arguments.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_ARGUMENTS_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_ARGUMENTS_H_

#include <cstdint>

#include "custom_ops/cc/status.h"
#include "custom_ops/cc/types.h"

namespace keras_shift {

// Checks the shape of x and the unit, and computes the shape of y.
Status CheckFusedUnit(const ImageShape& shape, const FusedUnit& unit,
                      ImageShape* y_shape);

// Checks that the displacements are zero where there is pooling.
Status CheckPooledDisplacements(const FusedUnit& unit,
                                const int32_t* displacements);

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_ARGUMENTS_H_
