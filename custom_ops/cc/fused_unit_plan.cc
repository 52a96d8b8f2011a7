#include "custom_ops/cc/fused_unit_plan.h"

#include <algorithm>
#include <cstdlib>

#include "custom_ops/cc/isa.h"

namespace keras_shift {

FusedUnitPlan::FusedUnitPlan(const ImageShape& x_shape, const FusedUnit& unit,
                             const ImageShape& y_shape,
                             const void* expand_weights,
                             const void* project_weights,
                             const int32_t* displacements)
    : x_shape(x_shape),
      y_shape(y_shape),
      unit(unit),
      kernel(BestGemmKernel(unit.bfloat16)),
      pooled(unit.pooling != Pooling::kNone) {
  PlanPanels();
  FindRuns(displacements);
  PlanWideTensor();
  PlanGemms(expand_weights, project_weights);
  if (!pooled) FindNeededRows();
}

void FusedUnitPlan::PlanPanels() {
  expand_panels = CeilDiv(unit.hidden, kPanelColumns);
  project_panels = CeilDiv(unit.filters, kPanelColumns);
  wide_step = Words(expand_panels * kPanelColumns);
  // At multiples of 1 KB, the pixels of a tile would compete for a few sets of
  // the first-level cache.
  if (wide_step % 256 == 0) wide_step += kPanelColumns;
}

void FusedUnitPlan::AddRun(int64_t first, int64_t last, int64_t row,
                           int64_t offset, std::vector<ChannelRun>* to) const {
  const auto add = [&](int64_t word, int64_t count, uint32_t mask) {
    if (count == 0) return;
    to->push_back({.first = word,
                   .count = count,
                   .row = row,
                   .offset = offset + word,
                   .mask = mask});
  };
  constexpr uint32_t kAll = ~uint32_t{0};
  if (!unit.bfloat16) {
    add(first, last - first, kAll);
    return;
  }
  // What is left of pairs at both ends.
  if (first % 2 != 0) add(first / 2, 1, 0xffff0000);
  const int64_t begin = CeilDiv(first, 2);
  add(begin, last / 2 - begin, kAll);
  if (last % 2 != 0) add(last / 2, 1, 0x0000ffff);
}

void FusedUnitPlan::FindRuns(const int32_t* displacements) {
  const int32_t* const rows = displacements;
  const int32_t* const columns = displacements + unit.hidden;
  for (int64_t c = 0; c < unit.hidden;) {
    const int64_t first = c;
    const int64_t row = rows[first];
    const int64_t column = columns[first];
    do {
      ++c;
    } while (c < unit.hidden && rows[c] == row && columns[c] == column);
    if (std::abs(row) < x_shape.height && std::abs(column) < x_shape.width) {
      AddRun(first, c, row, column * wide_step, &runs);
      halo.above = std::max(halo.above, -row);
      halo.below = std::max(halo.below, row);
      halo.side = std::max(halo.side, std::abs(column));
    }
  }
  moved_ = halo.rows() + halo.side > 0;
}

void FusedUnitPlan::PlanWideTensor() {
  x_row_step = x_shape.width * x_shape.channels *
               (StridesApplyToX() ? unit.strides[0] : 1);
  x_pixel_step = x_shape.channels * (StridesApplyToX() ? unit.strides[1] : 1);
  wide_row_stride = moved_ ? unit.strides[0] : 1;
  const bool whole_height = moved_ || unit.pooling == Pooling::kGlobal;
  wide_height = whole_height ? x_shape.height : y_shape.height;
  wide_width = StridesApplyToX() ? y_shape.width : x_shape.width;
  if (unit.pooling == Pooling::kValid) wide_width -= wide_width % 2;
}

void FusedUnitPlan::PlanGemms(const void* expand_weights,
                              const void* project_weights) {
  AddRun(0, unit.expanded, 0, 0, &x_runs);
  // All columns of the last panel are written, so that pooling finds numbers
  // there.
  expand = {.runs = x_runs.data(),
            .num_runs = static_cast<int64_t>(x_runs.size()),
            .panels = expand_weights,
            .panel_size = (1 + Words(unit.expanded)) * kPanelColumns,
            .columns = expand_panels * kPanelColumns,
            .relu = true,
            .y_is_wide = true,
            // Rounded pixels follow each other.
            .x_step = unit.bfloat16 ? Words(unit.expanded) : x_pixel_step,
            .y_step = wide_step,
            .residual_step = 0};
  project = {.runs = runs.data(),
             .num_runs = static_cast<int64_t>(runs.size()),
             .panels = project_weights,
             .panel_size = (1 + Words(unit.hidden)) * kPanelColumns,
             .columns = unit.filters,
             .relu = unit.relu,
             .y_is_wide = false,
             .x_step = wide_step * (StridesApplyToX() ? 1 : unit.strides[1]),
             .y_step = y_shape.channels,
             .residual_step = x_shape.channels};
}

void FusedUnitPlan::FindNeededRows() {
  row_needed.resize(wide_height);
  std::vector<bool> seen(halo.rows() + 1);
  for (const ChannelRun& run : runs) {
    if (seen[halo.above + run.row]) continue;
    seen[halo.above + run.row] = true;
    for (int64_t i = 0; i < y_shape.height; ++i) {
      const int64_t row = i * wide_row_stride + run.row;
      if (row >= 0 && row < wide_height) row_needed[row] = true;
    }
  }
}

}  // namespace keras_shift
