#include "custom_ops/cc/fused_unit_stages.h"

#include <algorithm>

#include "custom_ops/cc/arguments.h"
#include "custom_ops/cc/kernels.h"
#include "custom_ops/cc/workspace.h"

namespace keras_shift {
namespace {

// So many rows are multiplied by a panel before it is the next panel's turn.
constexpr int64_t kRowsAtOnce = 64;

// Rows of x, rounded to bfloat16, in a workspace that this thread keeps from
// call to call. With matrices in float32, there are none. A thread must not
// have two of these at a time.
class RoundedRows {
 public:
  RoundedRows(const FusedUnitPlan& plan, int64_t num_rows)
      : plan_(plan),
        row_bytes_(plan.wide_width * plan.expand.x_step * kWordBytes) {
    if (!plan.unit.bfloat16) return;
    num_rows = std::min(num_rows, kRowsAtOnce);
    constexpr int64_t kBehind = kRoundedTogether * sizeof(uint16_t);
    if (row_bytes_ >= (kByteLimit - kBehind) / kRowsAtOnce) return;
    memory_ = workspace_.Reserve(num_rows * row_bytes_ + kBehind);
  }
  ~RoundedRows() { workspace_.ReleaseIfLarge(); }

  RoundedRows(const RoundedRows&) = delete;
  RoundedRows& operator=(const RoundedRows&) = delete;

  // Whether there was enough memory. Without it, nothing else may be called.
  bool ok() const { return !plan_.unit.bfloat16 || memory_ != nullptr; }

  // Returns what the GEMM shall read in the place of a row of x. Rows must be
  // written in the order of their numbers, each of which is below num_rows and
  // kRowsAtOnce.
  const void* Write(int64_t i, const float* x) const {
    if (!plan_.unit.bfloat16) return x;
    unsigned char* const row = memory_ + i * row_bytes_;
    plan_.kernel.round(x, plan_.x_pixel_step, plan_.wide_width,
                       plan_.unit.expanded, row, plan_.expand.x_step);
    return row;
  }

 private:
  static thread_local Workspace workspace_;

  const FusedUnitPlan& plan_;
  const int64_t row_bytes_;
  unsigned char* memory_ = nullptr;
};

thread_local Workspace RoundedRows::workspace_;

// The rows of a call of the first GEMM. Each of them reads a single row of x,
// so that its indirection buffer has one pointer.
class ExpandedRows {
 public:
  explicit ExpandedRows(const RoundedRows& rounded) : rounded_(rounded) {}
  // Rows point to pointers in here.
  ExpandedRows(const ExpandedRows&) = delete;
  ExpandedRows& operator=(const ExpandedRows&) = delete;

  void Append(const float* x, void* y) {
    pointers_[count_] = rounded_.Write(count_, x);
    rows_[count_] = {.x_rows = &pointers_[count_], .y = y, .residual = nullptr};
    ++count_;
  }

  bool full() const { return count_ == kRowsAtOnce; }

  void Multiply(const FusedUnitPlan& plan, Range panels) const {
    plan.kernel.multiply(plan.expand, rows_, count_, plan.wide_width,
                         panels.first, panels.last);
  }

 private:
  const RoundedRows& rounded_;
  const void* pointers_[kRowsAtOnce];
  GemmRow rows_[kRowsAtOnce];
  int64_t count_ = 0;
};

// Where the two rows lie that become pooled row i, of the `rows` of this call.
// They are pooled in place: the pooled row begins where they do, or before.
unsigned char* UpperRow(const FusedUnitPlan& plan, Range rows, int64_t i,
                        const WideBuffer& buffer) {
  return buffer.pixels() +
         2 * (i - rows.first) * plan.wide_width * plan.PixelBytes();
}

// The row of x that is the upper one of the two.
int64_t UpperRowOfX(const FusedUnitPlan& plan, int64_t i) {
  return 2 * i * plan.unit.strides[0];
}

// An odd last row is pooled alone.
bool HasLowerRow(const FusedUnitPlan& plan, int64_t i) {
  return UpperRowOfX(plan, i) + 1 < plan.x_shape.height;
}

// Where panels begin in a pixel of the wide tensor, in bytes.
int64_t PanelOffset(const FusedUnitPlan& plan, Range panels) {
  const FloatType type =
      plan.unit.bfloat16 ? FloatType::kBfloat16 : FloatType::kFloat;
  return panels.first * kPanelColumns * ElementSize(type);
}

void PoolRow(const FusedUnitPlan& plan, const unsigned char* upper,
             bool has_lower, Range panels, void* pooled) {
  const int64_t begin = PanelOffset(plan, panels);
  const unsigned char* const lower =
      has_lower ? upper + plan.wide_width * plan.PixelBytes() : upper;
  plan.kernel.pool(upper + begin, lower + begin, plan.wide_width,
                   plan.wide_step, (panels.last - panels.first) * kPanelColumns,
                   CeilDiv(plan.wide_width, 2),
                   static_cast<unsigned char*>(pooled) + begin);
}

}  // namespace

bool ExpandRows(const FusedUnitPlan& plan, const float* x, Range rows,
                Range panels, const WideBuffer& buffer) {
  const RoundedRows rounded(plan, rows.last - rows.first);
  if (!rounded.ok()) return false;
  for (int64_t i = rows.first; i < rows.last;) {
    ExpandedRows expanded(rounded);
    for (; i < rows.last && !expanded.full(); ++i) {
      if (!plan.row_needed[i]) continue;
      expanded.Append(x + i * plan.x_row_step, buffer.row(i));
    }
    expanded.Multiply(plan, panels);
  }
  return true;
}

bool ExpandAndPoolRows(const FusedUnitPlan& plan, const float* x, Range rows,
                       Range panels, const WideBuffer& buffer) {
  const RoundedRows rounded(plan, 2 * (rows.last - rows.first));
  if (!rounded.ok()) return false;
  for (int64_t i = rows.first; i < rows.last;) {
    const int64_t end = std::min(rows.last, i + kRowsAtOnce / 2);
    ExpandedRows expanded(rounded);
    for (int64_t pooled = i; pooled < end; ++pooled) {
      const float* const from = x + UpperRowOfX(plan, pooled) * plan.x_row_step;
      unsigned char* const to = UpperRow(plan, rows, pooled, buffer);
      expanded.Append(from, to);
      if (HasLowerRow(plan, pooled)) {
        expanded.Append(from + plan.x_row_step,
                        to + plan.wide_width * plan.PixelBytes());
      }
    }
    expanded.Multiply(plan, panels);
    for (; i < end; ++i) {
      PoolRow(plan, UpperRow(plan, rows, i, buffer), HasLowerRow(plan, i),
              panels, buffer.row(i));
    }
  }
  return true;
}

bool ExpandAndAverage(const FusedUnitPlan& plan, const float* x, Range panels,
                      int64_t num_rows, const WideBuffer& buffer,
                      float* means) {
  const RoundedRows rounded(plan, num_rows);
  if (!rounded.ok()) return false;
  const int64_t first = panels.first * kPanelColumns;
  const int64_t channels = panels.last * kPanelColumns - first;
  std::fill_n(means + first, channels, 0.0f);
  const int64_t height = plan.wide_height;
  for (int64_t i = 0; i < height;) {
    const int64_t begin = i;
    const int64_t end = std::min({height, i + num_rows, i + kRowsAtOnce});
    ExpandedRows expanded(rounded);
    for (; i < end; ++i) {
      expanded.Append(
          x + i * plan.x_row_step,
          buffer.pixels() + (i - begin) * plan.wide_width * plan.PixelBytes());
    }
    expanded.Multiply(plan, panels);
    plan.kernel.add_pixels(buffer.pixels() + PanelOffset(plan, panels),
                           plan.wide_step, (end - begin) * plan.wide_width,
                           channels, means + first);
  }
  const float share = 1.0f / static_cast<float>(height * plan.wide_width);
  for (int64_t c = first; c < first + channels; ++c) means[c] *= share;
  return true;
}

void ProjectRows(const FusedUnitPlan& plan, const float* x, Range rows,
                 Range panels, const WideBuffer& buffer, float* y) {
  GemmRow projected[kRowsAtOnce];
  for (int64_t i = rows.first; i < rows.last;) {
    int64_t count = 0;
    for (; i < rows.last && count < kRowsAtOnce; ++i, ++count) {
      projected[count] = {
          .x_rows = buffer.rows_from(i * plan.wide_row_stride),
          .y = y + i * plan.YRowFloats(),
          .residual = plan.unit.residual ? x + i * plan.x_row_step : nullptr};
    }
    plan.kernel.multiply(plan.project, projected, count, plan.y_shape.width,
                         panels.first, panels.last);
  }
}

void CopyRows(const FusedUnitPlan& plan, const float* x, Range rows, float* y) {
  const int64_t copied = plan.x_shape.channels - plan.unit.expanded;
  // In place, they are where they belong.
  if (copied == 0 || x == y) return;
  const int64_t first_pixel = rows.first * plan.x_shape.width;
  const int64_t pixels = (rows.last - rows.first) * plan.x_shape.width;
  plan.kernel.copy(x + first_pixel * plan.x_shape.channels + plan.unit.expanded,
                   plan.x_shape.channels, pixels, copied,
                   y + first_pixel * plan.y_shape.channels + plan.unit.filters,
                   plan.y_shape.channels);
}

}  // namespace keras_shift
