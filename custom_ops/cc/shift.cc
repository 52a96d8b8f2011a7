#include "custom_ops/cc/shift.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <string>

#include "custom_ops/cc/arguments.h"
#include "custom_ops/cc/filters.h"
#include "custom_ops/cc/isa.h"
#include "custom_ops/cc/shift_plan.h"
#include "custom_ops/cc/shift_plan_cache.h"
#include "custom_ops/cc/thread_pool.h"

namespace keras_shift {
namespace {

// Threads take chunks that are smaller than their share, which evens out what
// else the machine is doing.
constexpr int64_t kChunksPerThread = 4;

Status CheckElementSize(int64_t element_size) {
  if (element_size == 1 || element_size == 2 || element_size == 4 ||
      element_size == 8) {
    return Status();
  }
  return Status::InvalidArgument(
      "Argument `element_size` must be 1, 2, 4 or 8. Received: "
      "element_size=" +
      std::to_string(element_size));
}

// Shifts rows [first, last) of all images, counted from the first row of the
// first image.
void ShiftRows(const ShiftPlan& plan, const ImageShape& shape,
               int64_t row_bytes, int64_t first, int64_t last,
               const unsigned char* x, const Filter* filter, unsigned char* y) {
  while (first < last) {
    const int64_t i = first % shape.height;
    const int64_t count = std::min(last - first, shape.height - i);
    plan.ShiftRowsOfAll(0, x + (first - i) * row_bytes, i, i + count,
                        shape.width, filter, y + first * row_bytes);
    first += count;
  }
}

Status Shift(const ImageShape& shape, int64_t element_size,
             const unsigned char* x, const int32_t* displacements,
             int64_t num_threads, const Filter* filter, unsigned char* y) {
  Status status = CheckElementSize(element_size);
  if (status.ok()) status = CheckArguments(shape, element_size, num_threads);
  const int64_t bytes = status.ok() ? NumElements(shape) * element_size : 0;
  if (bytes == 0) return status;

  const PlanShape plan_shape = {.height = shape.height,
                                .width = shape.width,
                                .output_height = shape.height,
                                .output_width = shape.width,
                                .channels = shape.channels,
                                .element_size = element_size,
                                .slice_channels = shape.channels,
                                .residence = ResidenceOf(bytes)};
  const std::shared_ptr<const ShiftPlan> plan =
      FindOrMakeShiftPlan(plan_shape, displacements,
                          BestShiftKernel(shape.channels * element_size));

  const int64_t num_rows = shape.batch * shape.height;
  const int64_t row_bytes = bytes / num_rows;
  const int64_t threads = WorthwhileThreads(bytes, num_threads);
  const int64_t chunks =
      threads == 1 ? 1 : std::min(num_rows, threads * kChunksPerThread);
  ParallelFor(chunks, threads, [&](int64_t chunk, int64_t) {
    ShiftRows(*plan, shape, row_bytes, num_rows * chunk / chunks,
              num_rows * (chunk + 1) / chunks, x, filter, y);
  });
  return Status();
}

}  // namespace

Status Shift2D(const ImageShape& shape, size_t element_size, const void* x,
               const int32_t* displacements, int64_t num_threads,
               void* y) noexcept {
  try {
    return Shift(shape, element_size, static_cast<const unsigned char*>(x),
                 displacements, num_threads, nullptr,
                 static_cast<unsigned char*>(y));
  } catch (const std::exception&) {
    // This is std::bad_alloc, or a vector's std::length_error.
    return Status::OutOfMemory();
  }
}

Status ReluShift2D(const ImageShape& shape, FloatType type, const void* x,
                   const int32_t* displacements, int64_t num_threads,
                   void* y) noexcept {
  const Filter relu = ReluFilter(type);
  try {
    return Shift(shape, relu.element_size, static_cast<const unsigned char*>(x),
                 displacements, num_threads, &relu,
                 static_cast<unsigned char*>(y));
  } catch (const std::exception&) {
    // This is std::bad_alloc, or a vector's std::length_error.
    return Status::OutOfMemory();
  }
}

}  // namespace keras_shift
