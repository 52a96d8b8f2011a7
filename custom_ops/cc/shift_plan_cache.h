// Keeps the plans that were made lately.
//
// On small images, making a plan takes long beside carrying it out, and rounded
// displacements rarely change from one call to the next.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_SHIFT_PLAN_CACHE_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_SHIFT_PLAN_CACHE_H_

#include <cstdint>
#include <memory>

#include "custom_ops/cc/kernels.h"
#include "custom_ops/cc/shift_plan.h"

namespace keras_shift {

// Returns a plan for these [2, channels] displacements. If this thread has kept
// one for the same arguments, it is that one. May throw std::bad_alloc.
std::shared_ptr<const ShiftPlan> FindOrMakeShiftPlan(
    const PlanShape& shape, const int32_t* displacements,
    const ShiftKernel& kernel);

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_SHIFT_PLAN_CACHE_H_
