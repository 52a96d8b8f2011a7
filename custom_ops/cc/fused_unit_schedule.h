// Divides a fused unit among threads.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_SCHEDULE_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_SCHEDULE_H_

#include <cstdint>

#include "custom_ops/cc/fused_unit_plan.h"
#include "custom_ops/cc/status.h"

namespace keras_shift {

// Whether RunFusedUnit() may write y where x is, with these threads.
bool MayRunInPlace(const FusedUnitPlan& plan, int64_t num_threads);

// Runs the unit in the way that suits its shape. `num_threads` bounds the
// threads, and 0 stands for one per core.
Status RunFusedUnit(const FusedUnitPlan& plan, const float* x,
                    int64_t num_threads, float* y);

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_SCHEDULE_H_
