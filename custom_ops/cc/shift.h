// The shift of feature maps, and its gradients. Nothing here depends on
// TensorFlow.
//
// A shift moves every channel of an image by a displacement of its own; where
// it looks outside the image it finds zero:
//
//   y[n, i, j, c] = x[n, i + d[0, c], j + d[1, c], c]
//
// Images are dense NHWC arrays. Displacements are dense [2, channels] arrays:
// row 0 counts rows of the image, row 1 counts columns. Equations are those of
// "All You Need is a Few Shifts" (https://arxiv.org/abs/1903.05285).

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_SHIFT_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_SHIFT_H_

#include <cstddef>
#include <cstdint>

#include "custom_ops/cc/status.h"
#include "custom_ops/cc/types.h"

namespace keras_shift {

// Shifts `x` into `y` by whole pixels (Eq. 1). With the displacements negated
// this is also the gradient for the input (Eq. 7).
//
// Only bits are moved, so that `element_size`, which may be 1, 2, 4 or 8 bytes,
// says all there is to know about the type; "zero" is the element whose bytes
// are zero. Displacements may be of any size. `x` and `y` must not overlap.
// `num_threads` bounds the threads at work, this one included; 0 stands for one
// per core.
Status Shift2D(const ImageShape& shape, size_t element_size, const void* x,
               const int32_t* displacements, int64_t num_threads,
               void* y) noexcept;

// Shifts max(x, 0) in one pass. NaNs stay NaNs.
Status ReluShift2D(const ImageShape& shape, FloatType type, const void* x,
                   const int32_t* displacements, int64_t num_threads,
                   void* y) noexcept;

// Computes the gradients of a shift by `round(displacements)`, half to even,
// whose displacements are to be learned.
//
// `input_gradient` is the inverse shift of `upstream` (Eq. 7).
// `displacement_gradient` is that of the bilinear, unrounded shift (Eq. 6):
// with f = floor(d), r = d - f, and, over all n, i, j,
//
//   s[a, b] = sum(upstream[n, i, j, c] * x[n, i + f[0] + a, j + f[1] + b, c])
//
// it is
//
//   [0, c]: (1 - r[1]) * (s[1, 0] - s[0, 0]) + r[1] * (s[1, 1] - s[0, 1])
//   [1, c]: (1 - r[0]) * (s[0, 1] - s[0, 0]) + r[0] * (s[1, 1] - s[1, 0])
//
// so that a displacement which is a whole number has its derivative from above.
//
// With `relu`, they are those of the shift of max(x, 0), which then takes the
// place of x above; `input_gradient` is zero where x is not greater than zero.
// It must overlap neither `x` nor `upstream`.
//
// `x`, `upstream` and `input_gradient` hold `type`; `displacements` and their
// gradient hold `displacement_type`, kFloat or kDouble. A displacement that is
// not a number moves its channel out of the image, and shows up as NaN in the
// gradient of its channel.
// Sums are taken in double for kDouble and in float otherwise, partial sum by
// partial sum, and are the same, bit for bit, for any `num_threads`.
Status SparseShift2DGrad(const ImageShape& shape, FloatType type, const void* x,
                         bool relu, const void* upstream,
                         FloatType displacement_type, const void* displacements,
                         int64_t num_threads, void* input_gradient,
                         void* displacement_gradient) noexcept;

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_SHIFT_H_
