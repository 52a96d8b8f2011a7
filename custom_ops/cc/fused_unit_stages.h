// The stages of a fused unit, each for some rows of an image and some panels of
// a matrix.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_STAGES_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_STAGES_H_

#include <cstdint>

#include "custom_ops/cc/fused_unit_buffer.h"
#include "custom_ops/cc/fused_unit_plan.h"

namespace keras_shift {

// The numbers i with first <= i < last.
struct Range {
  int64_t first;
  int64_t last;
};

// In all of these, `x` and `y` are one image.

// Writes these rows of the wide tensor to the buffer, as far as they are
// needed. Returns false if there is not enough memory.
[[nodiscard]] bool ExpandRows(const FusedUnitPlan& plan, const float* x,
                              Range rows, Range panels,
                              const WideBuffer& buffer);

// Writes these pooled rows of the wide tensor to the buffer, where
// PlacePooledRows() must have placed them. Returns false if there is not enough
// memory.
[[nodiscard]] bool ExpandAndPoolRows(const FusedUnitPlan& plan, const float* x,
                                     Range rows, Range panels,
                                     const WideBuffer& buffer);

// Writes the means over all pixels of the wide tensor to `means`, from the
// first of these panels on. The buffer may have fewer rows than the tensor.
// Returns false if there is not enough memory.
[[nodiscard]] bool ExpandAndAverage(const FusedUnitPlan& plan, const float* x,
                                    Range panels, int64_t num_rows,
                                    const WideBuffer& buffer, float* means);

// Writes the projected channels of these rows of y, from rows of the wide
// tensor that are in the buffer.
void ProjectRows(const FusedUnitPlan& plan, const float* x, Range rows,
                 Range panels, const WideBuffer& buffer, float* y);

// Writes the other channels of these rows of y, which are copied from x.
void CopyRows(const FusedUnitPlan& plan, const float* x, Range rows, float* y);

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_STAGES_H_
