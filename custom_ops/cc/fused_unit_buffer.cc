#include "custom_ops/cc/fused_unit_buffer.h"

#include <algorithm>
#include <cstring>

#include "custom_ops/cc/arguments.h"
#include "custom_ops/cc/workspace.h"

namespace keras_shift {
namespace {

thread_local Workspace workspace;

}  // namespace

WideBuffer::WideBuffer(const FusedUnitPlan& plan, int64_t num_rows)
    : plan_(plan) {
  const int64_t row_bytes = plan.RowBytes();
  if (row_bytes >= kByteLimit / (num_rows + 2)) return;
  const int64_t zero_rows = plan.halo.rows() > 0 ? 1 : 0;
  // Zeros must also lie behind the last row.
  const int64_t side = plan.halo.side * plan.PixelBytes();
  const int64_t bytes = (num_rows + zero_rows) * row_bytes + side;
  const int64_t pointers = plan.halo.rows() + plan.wide_height;
  unsigned char* const memory =
      workspace.Reserve(bytes + pointers * sizeof(const void*));
  if (memory == nullptr) return;
  pixels_ = memory + side;
  rows_ = reinterpret_cast<void**>(memory + bytes) + plan.halo.above;
  if (!plan.pooled) FillIndirectionBuffer(num_rows);
}

WideBuffer::~WideBuffer() { workspace.ReleaseIfLarge(); }

void WideBuffer::FillIndirectionBuffer(int64_t num_rows) {
  const int64_t row_bytes = plan_.RowBytes();
  const int64_t side = plan_.halo.side * plan_.PixelBytes();
  // The zeros to the right of a row are those to the left of the next one.
  for (int64_t i = 0; i <= num_rows; ++i) {
    std::memset(pixels_ - side + i * row_bytes, 0, side);
  }
  unsigned char* const zeros = pixels_ + num_rows * row_bytes;
  if (plan_.halo.rows() > 0) std::memset(zeros, 0, row_bytes);
  const int64_t end = plan_.wide_height + plan_.halo.below;
  for (int64_t i = -plan_.halo.above; i < end; ++i) {
    const bool inside = i >= 0 && i < plan_.wide_height;
    rows_[i] = inside ? pixels_ + i % num_rows * row_bytes : zeros;
  }
}

void WideBuffer::PlacePooledRows(int64_t first, int64_t last) const {
  const int64_t row_bytes = CeilDiv(plan_.wide_width, 2) * plan_.PixelBytes();
  for (int64_t i = first; i < last; ++i) {
    rows_[i] = pixels_ + (i - first) * row_bytes;
  }
}

}  // namespace keras_shift
