#include "custom_ops/cc/fused_unit_buffer.h"

#include <algorithm>
#include <cstdlib>

#include "custom_ops/cc/arguments.h"

namespace keras_shift {
namespace {

// Memory that is kept from call to call, since the system takes long to hand
// out new memory.
class Workspace {
 public:
  ~Workspace() { std::free(memory_); }

  // Returns null if there is not so much memory.
  unsigned char* Reserve(int64_t bytes) {
    if (bytes > size_) {
      Release();
      memory_ = std::aligned_alloc(kAlignment,
                                   CeilDiv(bytes, kAlignment) * kAlignment);
      if (memory_ != nullptr) size_ = bytes;
    }
    return static_cast<unsigned char*>(memory_);
  }

  // Large networks would otherwise leave much memory with every thread.
  void ReleaseIfLarge() {
    if (size_ > kKeptBytes) Release();
  }

 private:
  static constexpr int64_t kAlignment = 64;
  static constexpr int64_t kKeptBytes = 4 << 20;

  void Release() {
    std::free(memory_);
    memory_ = nullptr;
    size_ = 0;
  }

  void* memory_ = nullptr;
  int64_t size_ = 0;
};

thread_local Workspace workspace;

}  // namespace

WideBuffer::WideBuffer(const FusedUnitPlan& plan, int64_t num_rows)
    : plan_(plan) {
  const int64_t row_floats = plan.RowFloats();
  if (row_floats >= kByteLimit / (num_rows + 2)) return;
  const int64_t zero_rows = plan.halo.rows() > 0 ? 1 : 0;
  // Zeros must also lie behind the last row.
  const int64_t side = plan.halo.side * plan.wide_step;
  const int64_t floats = (num_rows + zero_rows) * row_floats + side;
  const int64_t pointers = plan.halo.rows() + plan.wide_height;
  unsigned char* const memory = workspace.Reserve(
      floats * sizeof(float) + pointers * sizeof(const float*));
  if (memory == nullptr) return;
  pixels_ = reinterpret_cast<float*>(memory) + side;
  rows_ = reinterpret_cast<float**>(memory + floats * sizeof(float)) +
          plan.halo.above;
  if (!plan.pooled) FillIndirectionBuffer(num_rows);
}

WideBuffer::~WideBuffer() { workspace.ReleaseIfLarge(); }

void WideBuffer::FillIndirectionBuffer(int64_t num_rows) {
  const int64_t row_floats = plan_.RowFloats();
  const int64_t side = plan_.halo.side * plan_.wide_step;
  // The zeros to the right of a row are those to the left of the next one.
  for (int64_t i = 0; i <= num_rows; ++i) {
    std::fill_n(pixels_ - side + i * row_floats, side, 0.0f);
  }
  float* const zeros = pixels_ + num_rows * row_floats;
  if (plan_.halo.rows() > 0) std::fill_n(zeros, row_floats, 0.0f);
  const int64_t end = plan_.wide_height + plan_.halo.below;
  for (int64_t i = -plan_.halo.above; i < end; ++i) {
    const bool inside = i >= 0 && i < plan_.wide_height;
    rows_[i] = inside ? pixels_ + i % num_rows * row_floats : zeros;
  }
}

void WideBuffer::PlacePooledRows(int64_t first, int64_t last) const {
  const int64_t row_floats = CeilDiv(plan_.wide_width, 2) * plan_.wide_step;
  for (int64_t i = first; i < last; ++i) {
    rows_[i] = pixels_ + (i - first) * row_floats;
  }
}

}  // namespace keras_shift
