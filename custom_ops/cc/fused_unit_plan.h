// A fused unit, planned once per call: which rows and channels of the wide
// tensor are read where, and the parameters of both GEMMs.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_PLAN_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_PLAN_H_

#include <cstdint>
#include <vector>

#include "custom_ops/cc/kernels.h"
#include "custom_ops/cc/types.h"

namespace keras_shift {

// How many rows above and below a pixel, and how many columns to either side of
// it, displacements lead.
struct Halo {
  int64_t above = 0;
  int64_t below = 0;
  int64_t side = 0;

  int64_t rows() const { return above + below; }
};

struct FusedUnitPlan {
  // The arguments are those of FusedUnit2D() and must have been checked. May
  // throw std::bad_alloc.
  FusedUnitPlan(const ImageShape& x_shape, const FusedUnit& unit,
                const ImageShape& y_shape, const void* expand_weights,
                const void* project_weights, const int32_t* displacements);

  // The GEMMs' parameters point into the plan itself.
  FusedUnitPlan(const FusedUnitPlan&) = delete;
  FusedUnitPlan& operator=(const FusedUnitPlan&) = delete;

  // What a buffer keeps for a row: with pooling, the two rows that are pooled
  // in place; otherwise the row and the zeros in front of it.
  int64_t RowBytes() const {
    return (pooled ? 2 * wide_width : halo.side + wide_width) * PixelBytes();
  }
  // From a pixel of the wide tensor to the next one.
  int64_t PixelBytes() const { return wide_step * kWordBytes; }
  int64_t XImageFloats() const {
    return x_shape.height * x_shape.width * x_shape.channels;
  }
  int64_t YRowFloats() const { return y_shape.width * y_shape.channels; }
  int64_t YImageFloats() const { return y_shape.height * YRowFloats(); }

  const ImageShape x_shape;
  const ImageShape y_shape;
  const FusedUnit unit;
  const GemmKernel& kernel;
  const bool pooled;

  // The channels of x that are expanded.
  std::vector<ChannelRun> x_runs;
  // The channels of the wide tensor, in runs of equal displacements. Channels
  // whose displacement leads out of the image everywhere are in none.
  std::vector<ChannelRun> runs;
  Halo halo;

  // The distances of two rows of x that are expanded, and of two pixels, in
  // floats.
  int64_t x_row_step;
  int64_t x_pixel_step;
  // The rows that the second GEMM may read: those of the wide tensor, or those
  // that are left of them by pooling.
  int64_t wide_height;
  // The pixels of a row that are expanded.
  int64_t wide_width;
  // The distance of two pixels of the wide tensor, in words.
  int64_t wide_step;
  // The stride at which the second GEMM reads the rows of the wide tensor.
  int64_t wide_row_stride;
  int64_t expand_panels;
  int64_t project_panels;
  // For each row of the wide tensor, whether the second GEMM reads it. Empty
  // with pooling, which needs them all.
  std::vector<bool> row_needed;

  GemmParams expand;
  GemmParams project;

 private:
  void PlanPanels();
  // Appends the channels first <= c < last, which are read from so many rows
  // and words away.
  void AddRun(int64_t first, int64_t last, int64_t row, int64_t offset,
              std::vector<ChannelRun>* to) const;
  void FindRuns(const int32_t* displacements);
  void PlanWideTensor();
  void PlanGemms(const void* expand_weights, const void* project_weights);
  void FindNeededRows();

  // Without displacements and pooling, only the pixels that are projected need
  // to be expanded, so that strides apply to x instead of the wide tensor.
  bool StridesApplyToX() const { return !pooled && !moved_; }

  // The number of words for so many channels.
  int64_t Words(int64_t channels) const {
    return unit.bfloat16 ? CeilDiv(channels, 2) : channels;
  }

  bool moved_ = false;
};

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_FUSED_UNIT_PLAN_H_
