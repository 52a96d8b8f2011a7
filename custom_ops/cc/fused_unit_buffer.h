// The part of the wide tensor that exists at a time, and the indirection buffer
// through which the second GEMM reads it.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_BUFFER_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_BUFFER_H_

#include <cstdint>

#include "custom_ops/cc/fused_unit_plan.h"

namespace keras_shift {

// Rows of the wide tensor or, with pooling, what is left of them, in a
// workspace that this thread keeps from call to call. A thread must not have
// two of them at a time.
//
// As in XNNPACK, an indirection buffer holds pointers to the rows. For rows
// outside of the image it points to a row of zeros, so that the GEMM needs no
// checks.
class WideBuffer {
 public:
  // Makes room for `num_rows` rows: row i of the wide tensor takes the place of
  // row i - num_rows. With pooling, see PlacePooledRows().
  WideBuffer(const FusedUnitPlan& plan, int64_t num_rows);
  ~WideBuffer();

  WideBuffer(const WideBuffer&) = delete;
  WideBuffer& operator=(const WideBuffer&) = delete;

  // Whether there was enough memory. Without it, nothing else may be called.
  bool ok() const { return pixels_ != nullptr; }

  // With pooling, makes row(i) of [first, last) the place of the pooled rows,
  // one behind the other.
  void PlacePooledRows(int64_t first, int64_t last) const;

  void* row(int64_t i) const { return rows_[i]; }
  // The indirection buffer from row i on; i may lie outside of the image by the
  // plan's halo.
  const void* const* rows_from(int64_t i) const { return rows_ + i; }
  // Where the first row begins that is in the buffer.
  unsigned char* pixels() const { return pixels_; }

 private:
  void FillIndirectionBuffer(int64_t num_rows);

  const FusedUnitPlan& plan_;
  unsigned char* pixels_ = nullptr;
  void** rows_ = nullptr;
};

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_BUFFER_H_
