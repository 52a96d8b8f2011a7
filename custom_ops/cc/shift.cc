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

Status Shift(const ImageShape& shape, int64_t element_size,
             const unsigned char* x, const int32_t* displacements,
             int64_t num_threads, const Filter* filter, unsigned char* y) {
  if (element_size != 1 && element_size != 2 && element_size != 4 &&
      element_size != 8) {
    return Status::InvalidArgument(
        "Argument `element_size` must be 1, 2, 4 or 8. Received: "
        "element_size=" +
        std::to_string(element_size));
  }
  Status status = CheckArguments(shape, element_size, num_threads);
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
    const int64_t end = num_rows * (chunk + 1) / chunks;
    int64_t row = num_rows * chunk / chunks;
    while (row < end) {
      const int64_t i = row % shape.height;
      const int64_t count = std::min(end - row, shape.height - i);
      const unsigned char* image = x + (row - i) * row_bytes;
      plan->ShiftRowsOfAll(0, image, i, i + count, shape.width, filter,
                           y + row * row_bytes);
      row += count;
    }
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
  } catch (const std::exception&) {  // bad_alloc, or a vector's length_error
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
  } catch (const std::exception&) {  // bad_alloc, or a vector's length_error
    return Status::OutOfMemory();
  }
}

}  // namespace keras_shift
