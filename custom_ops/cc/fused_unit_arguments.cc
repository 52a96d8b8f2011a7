#include "custom_ops/cc/fused_unit_arguments.h"

#include <algorithm>
#include <limits>
#include <string>

#include "custom_ops/cc/arguments.h"

namespace keras_shift {
namespace {

Status Refused(const char* what, const char* name, int64_t received) {
  return Status::InvalidArgument(std::string(what) + ". Received: " + name +
                                 "=" + std::to_string(received));
}

Status CheckChannels(const ImageShape& shape, const FusedUnit& unit) {
  if (unit.expanded < 1 || unit.expanded > shape.channels) {
    return Status::InvalidArgument(
        "Argument `expand` must have 1 + k rows, where k is at least 1 and at "
        "most the channels of `x`, here " +
        std::to_string(shape.channels) +
        ". Received: k=" + std::to_string(unit.expanded));
  }
  if (unit.hidden < 1) {
    return Refused("Argument `project` must have at least 2 rows", "rows",
                   unit.hidden + 1);
  }
  if (unit.filters < 1) {
    return Refused("Argument `filters` must be at least 1", "filters",
                   unit.filters);
  }
  return Status();
}

Status CheckStrides(const FusedUnit& unit) {
  for (int64_t stride : unit.strides) {
    if (stride < 1 || stride > std::numeric_limits<int32_t>::max()) {
      return Refused("Argument `strides` must be two numbers from 1 to 2**31-1",
                     "stride", stride);
    }
  }
  return Status();
}

// Checks what needs images that keep their size: a residual, and channels that
// are copied.
Status CheckShortcuts(const ImageShape& shape, const FusedUnit& unit) {
  const bool keeps_size = unit.strides[0] == 1 && unit.strides[1] == 1 &&
                          unit.pooling == Pooling::kNone;
  if (unit.residual && !(keeps_size && unit.filters == unit.expanded)) {
    return Status::InvalidArgument(
        "Argument `residual` needs as many filters as channels are expanded, "
        "strides of 1 and no pooling. Received: residual=true, filters=" +
        std::to_string(unit.filters) +
        ", expanded channels=" + std::to_string(unit.expanded) + ", strides=(" +
        std::to_string(unit.strides[0]) + ", " +
        std::to_string(unit.strides[1]) + ")");
  }
  if (shape.channels > unit.expanded && !keeps_size) {
    return Status::InvalidArgument(
        "Argument `expand` must expand all channels of `x` where there are "
        "strides or pooling: none can be copied. Received: " +
        std::to_string(unit.expanded) + " of " +
        std::to_string(shape.channels) + " channels expanded");
  }
  return Status();
}

Status CheckGlobalPooling(const ImageShape& shape, const FusedUnit& unit) {
  if (unit.pooling != Pooling::kGlobal) return Status();
  for (int64_t stride : unit.strides) {
    if (stride != 1) {
      return Refused("Argument `strides` must be 1 with global pooling",
                     "stride", stride);
    }
  }
  if (shape.height == 0 || shape.width == 0) {
    return Status::InvalidArgument(
        "Argument `x` must have pixels with global pooling. Received: images "
        "of " +
        std::to_string(shape.height) + " x " + std::to_string(shape.width));
  }
  return Status();
}

Status CheckCountable(const FusedUnit& unit) {
  if (unit.filters >= kByteLimit || unit.hidden >= kByteLimit) {
    return Status::InvalidArgument(
        "Arguments `filters` and `project` must have fewer than 2**57 "
        "channels. Received: filters=" +
        std::to_string(unit.filters) + ", " + std::to_string(unit.hidden) +
        " rows of project");
  }
  return Status();
}

// The rows or columns of y for `size` rows or columns of x.
int64_t ProjectedSize(int64_t size, int64_t stride, Pooling pooling) {
  if (pooling == Pooling::kValid) size /= 2;
  if (pooling == Pooling::kSame) size = CeilDiv(size, 2);
  if (pooling == Pooling::kGlobal) size = 1;
  return CeilDiv(size, stride);
}

}  // namespace

Status CheckFusedUnit(const ImageShape& shape, const FusedUnit& unit,
                      ImageShape* y_shape) {
  Status status = CheckShape(shape, sizeof(float));
  if (status.ok()) status = CheckChannels(shape, unit);
  if (status.ok()) status = CheckStrides(unit);
  if (status.ok()) status = CheckShortcuts(shape, unit);
  if (status.ok()) status = CheckGlobalPooling(shape, unit);
  if (status.ok()) status = CheckCountable(unit);
  if (!status.ok()) return status;
  *y_shape = {
      .batch = shape.batch,
      .height = ProjectedSize(shape.height, unit.strides[0], unit.pooling),
      .width = ProjectedSize(shape.width, unit.strides[1], unit.pooling),
      .channels = unit.filters + (shape.channels - unit.expanded)};
  if (!CheckShape(*y_shape, sizeof(float)).ok()) {
    return Refused("Argument `filters` must give fewer than 2**57 bytes",
                   "filters", unit.filters);
  }
  return Status();
}

Status CheckPooledDisplacements(const FusedUnit& unit,
                                const int32_t* displacements) {
  if (unit.pooling == Pooling::kNone) return Status();
  const int32_t* const end = displacements + 2 * unit.hidden;
  const int32_t* const other =
      std::find_if(displacements, end, [](int32_t d) { return d != 0; });
  if (other == end) return Status();
  return Refused("Argument `displacements` must be zero where there is pooling",
                 "displacement", *other);
}

}  // namespace keras_shift
