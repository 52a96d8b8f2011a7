// A unit of a shift network at inference: 1x1 convolution, ReLU, shift (or
// average pooling), 1x1 convolution, in one go. With global pooling, it is what
// classifiers end with. Nothing here depends on TensorFlow.
//
//   wide  = relu(x[..., :k] @ expand)
//   moved = wide, shifted as in shift.h, or averaged over 2 x 2 or all pixels
//   y     = moved[:, ::strides[0], ::strides[1]] @ project
//   y     = relu(y)           if asked for
//   y     = y + x[..., :k]    if asked for
//   y     = concat(y, x[..., k:])
//
// The wide tensor exists only in part, in the caches. The shift is no step of
// its own: the second convolution reads each channel from where the shift would
// move it from, through an indirection buffer.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_H_

#include <cstdint>

#include "custom_ops/cc/status.h"
#include "custom_ops/cc/types.h"

namespace keras_shift {

// Checks the shape of `x` and the unit, and computes the shape of `y`.
Status FusedUnitShape(const ImageShape& shape, const FusedUnit& unit,
                      ImageShape* y_shape) noexcept;

// `expand` and `project` are matrices with a bias in front, in panels of 16
// columns as kernels.h has them: float[panels][1 + rows][16], or
// bfloat16[panels][1 + ceil(rows / 2)][16][2], where [p][1 + i][j][k] is row
// 2 * i + k, and [p][0][j][0] + [p][0][j][1] is the bias. What lies beyond the
// matrix, in the last panel or in a last row of an odd number, does not matter.
// `displacements` is a dense [2, hidden] array, of any values and in any order;
// equal ones that follow each other cost least. With pooling, it must be zero.
//
// Sums are taken in float32, and are the same, bit for bit, for any
// `num_threads`, which is that of shift.h. `x` and `y` must not overlap.
//
// With matrices in bfloat16, `x`, wide and moved are rounded to bfloat16 before
// they are multiplied. Other instruction sets may then take the sums of a pair
// of channels in another order, and take subnormal numbers for zero.
Status FusedUnit2D(const ImageShape& shape, const FusedUnit& unit,
                   const float* x, const void* expand, const void* project,
                   const int32_t* displacements, int64_t num_threads,
                   float* y) noexcept;

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_H_
