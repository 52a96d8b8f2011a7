#include "custom_ops/cc/fused_unit.h"

#include <exception>

#include "custom_ops/cc/arguments.h"
#include "custom_ops/cc/fused_unit_arguments.h"
#include "custom_ops/cc/fused_unit_plan.h"
#include "custom_ops/cc/fused_unit_schedule.h"

namespace keras_shift {
namespace {

Status CheckAndRun(const ImageShape& shape, const FusedUnit& unit,
                   const float* x, const void* expand, const void* project,
                   const int32_t* displacements, int64_t num_threads,
                   float* y) {
  ImageShape y_shape;
  Status status = CheckFusedUnit(shape, unit, &y_shape);
  if (status.ok()) status = CheckNumThreads("Argument", num_threads);
  if (status.ok()) status = CheckPooledDisplacements(unit, displacements);
  if (!status.ok() || NumElements(y_shape) == 0) return status;
  const FusedUnitPlan plan(shape, unit, y_shape, expand, project,
                           displacements);
  return RunFusedUnit(plan, x, num_threads, y);
}

}  // namespace

Status FusedUnitShape(const ImageShape& shape, const FusedUnit& unit,
                      ImageShape* y_shape) noexcept {
  try {
    return CheckFusedUnit(shape, unit, y_shape);
  } catch (const std::exception&) {
    // Only std::bad_alloc can be thrown.
    return Status::OutOfMemory();
  }
}

Status FusedUnit2D(const ImageShape& shape, const FusedUnit& unit,
                   const float* x, const void* expand, const void* project,
                   const int32_t* displacements, int64_t num_threads,
                   float* y) noexcept {
  try {
    return CheckAndRun(shape, unit, x, expand, project, displacements,
                       num_threads, y);
  } catch (const std::exception&) {
    // This is std::bad_alloc, or a vector's std::length_error.
    return Status::OutOfMemory();
  }
}

}  // namespace keras_shift
