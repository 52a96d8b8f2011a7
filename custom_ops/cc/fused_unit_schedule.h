// The two ways to divide a fused unit among threads.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_SCHEDULE_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_SCHEDULE_H_

#include <cstdint>

#include "custom_ops/cc/fused_unit_plan.h"
#include "custom_ops/cc/status.h"

namespace keras_shift {

// Computes y in bands of rows. Each thread expands what its band needs, in a
// buffer of its own, so that neighbours may expand the same rows.
Status RunInBands(const FusedUnitPlan& plan, const float* x, int64_t threads,
                  float* y);

// Computes y in two phases for each image: all threads expand it into one
// buffer, and then all project from there. No row is expanded twice, but the
// wide tensor of an image must fit into a cache that threads share.
Status RunInPhases(const FusedUnitPlan& plan, const float* x, int64_t threads,
                   float* y);

// Runs the unit in the way that suits its shape. `num_threads` bounds the
// threads, and 0 stands for one per core.
Status RunFusedUnit(const FusedUnitPlan& plan, const float* x,
                    int64_t num_threads, float* y);

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_SCHEDULE_H_
