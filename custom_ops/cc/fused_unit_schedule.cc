#include "custom_ops/cc/fused_unit_schedule.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "custom_ops/cc/fused_unit_buffer.h"
#include "custom_ops/cc/fused_unit_stages.h"
#include "custom_ops/cc/thread_pool.h"

namespace keras_shift {
namespace {

// What a thread keeps of the wide tensor at a time. It is about half of a
// second-level cache, whose other half is for the weights.
constexpr int64_t kBandBytes = 512 << 10;
// What threads may share of the wide tensor.
constexpr int64_t kSharedBytes = 1 << 20;
// Waking a thread up takes about as long as so many multiplications.
constexpr int64_t kProductsPerThread = 1 << 20;

// ---------------------------------------------------------------------------
// Bands.

// How a band of y is computed in steps.
struct BandSteps {
  // The rows of the wide tensor that are kept.
  int64_t kept_rows;
  // The rows of y that are computed from them.
  int64_t y_rows;
};

BandSteps StepsOf(const FusedUnitPlan& plan, int64_t band_rows) {
  const int64_t row_bytes = std::max<int64_t>(1, plan.RowBytes());
  const int64_t halo = plan.halo.rows();
  const int64_t wanted =
      std::min(plan.wide_height,
               std::max(band_rows * plan.wide_row_stride + halo, int64_t{1}));
  const int64_t kept =
      std::min(wanted, std::max(kBandBytes / row_bytes, halo + 1));
  if (kept == wanted) return {.kept_rows = kept, .y_rows = band_rows};
  int64_t y_rows = (kept - halo - 1) / plan.wide_row_stride + 1;
  // Tiles may span two rows.
  if (y_rows > 1) y_rows -= y_rows % 2;
  return {.kept_rows = kept, .y_rows = y_rows};
}

// Computes these rows of y, for one image. Returns false if there is not enough
// memory.
bool RunBand(const FusedUnitPlan& plan, const float* x, Range band, float* y) {
  const BandSteps steps = StepsOf(plan, band.last - band.first);
  const WideBuffer buffer(plan, steps.kept_rows);
  if (!buffer.ok()) return false;
  const Range expand_panels = {0, plan.expand_panels};
  const Range project_panels = {0, plan.project_panels};
  int64_t expanded =
      std::max<int64_t>(0, band.first * plan.wide_row_stride - plan.halo.above);
  for (int64_t i = band.first; i < band.last; i += steps.y_rows) {
    const Range rows = {i, std::min(band.last, i + steps.y_rows)};
    if (plan.pooled) {
      buffer.PlacePooledRows(rows.first, rows.last);
      if (!ExpandAndPoolRows(plan, x, rows, expand_panels, buffer)) {
        return false;
      }
    } else {
      const int64_t needed =
          std::min(plan.wide_height, (rows.last - 1) * plan.wide_row_stride +
                                         plan.halo.below + 1);
      if (!ExpandRows(plan, x, {expanded, needed}, expand_panels, buffer)) {
        return false;
      }
      expanded = std::max(expanded, needed);
    }
    ProjectRows(plan, x, rows, project_panels, buffer, y);
    CopyRows(plan, x, rows, y);
  }
  return true;
}

int64_t BandsPerImage(const FusedUnitPlan& plan, int64_t threads) {
  if (threads == 1 || plan.x_shape.batch >= 4 * threads) return 1;
  const int64_t height = plan.y_shape.height;
  const int64_t halo = plan.halo.rows();
  const int64_t one_a_thread = CeilDiv(threads, plan.x_shape.batch);
  // Two bands for each thread even out what else the machine is doing. But
  // where bands are low, neighbours would expand many of the same rows.
  const int64_t bands =
      height / (2 * one_a_thread) < 8 * halo ? one_a_thread : 2 * one_a_thread;
  return std::min(bands, std::max<int64_t>(1, height / (2 + halo)));
}

// Computes y in bands of rows. Each thread expands what its band needs, in a
// buffer of its own, so that neighbours may expand the same rows.
Status RunInBands(const FusedUnitPlan& plan, const float* x, int64_t threads,
                  float* y) {
  const int64_t height = plan.y_shape.height;
  const int64_t bands = BandsPerImage(plan, threads);
  std::atomic<bool> out_of_memory{false};
  ParallelFor(plan.x_shape.batch * bands, threads, [&](int64_t index, int64_t) {
    const int64_t image = index / bands;
    const int64_t band = index % bands;
    const bool ok =
        RunBand(plan, x + image * plan.XImageFloats(),
                {height * band / bands, height * (band + 1) / bands},
                y + image * plan.YImageFloats());
    if (!ok) out_of_memory = true;
  });
  return out_of_memory ? Status::OutOfMemory() : Status();
}

// ---------------------------------------------------------------------------
// Phases.

// Divides rows and panels into parts. Panels are divided first, since then each
// thread reads the weights of its own panels only. Panels that share a tile
// stay together, and so do pairs of rows.
class Parts {
 public:
  Parts(int64_t rows, int64_t panels, int64_t panels_per_tile, int64_t wanted)
      : rows_(rows), panels_(panels), panels_per_tile_(panels_per_tile) {
    const int64_t tiles = CeilDiv(panels, panels_per_tile);
    panel_parts_ = std::min(tiles, wanted);
    row_parts_ = std::min(CeilDiv(rows, 2), CeilDiv(wanted, panel_parts_));
  }

  int64_t count() const { return panel_parts_ * row_parts_; }

  Range rows(int64_t part) const {
    const int64_t p = part % row_parts_;
    return {FirstRow(p), FirstRow(p + 1)};
  }

  Range panels(int64_t part) const {
    const int64_t p = part / row_parts_;
    return {FirstPanel(p), FirstPanel(p + 1)};
  }

 private:
  int64_t FirstRow(int64_t row_part) const {
    const int64_t pairs = CeilDiv(rows_, 2);
    return std::min(rows_, pairs * row_part / row_parts_ * 2);
  }

  int64_t FirstPanel(int64_t panel_part) const {
    const int64_t tiles = CeilDiv(panels_, panels_per_tile_);
    return std::min(panels_,
                    tiles * panel_part / panel_parts_ * panels_per_tile_);
  }

  const int64_t rows_;
  const int64_t panels_;
  const int64_t panels_per_tile_;
  int64_t panel_parts_;
  int64_t row_parts_;
};

// The parts of both phases of an image, in one sequence.
class Phases {
 public:
  Phases(const FusedUnitPlan& plan, const WideBuffer& buffer, int64_t wanted)
      : plan_(plan),
        buffer_(buffer),
        // Pooled rows overwrite rows that were expanded for others, though only
        // in the same panels. So rows are not divided.
        expand_(plan.pooled ? 1 : plan.wide_height, plan.expand_panels,
                plan.kernel.panels_per_tile, wanted),
        project_(plan.y_shape.height, plan.project_panels,
                 plan.kernel.panels_per_tile, wanted) {}

  int64_t count() const { return expand_.count() + project_.count(); }

  // The first part of the phase that `part` belongs to. All parts before that
  // one must be done when `part` runs.
  int64_t FirstOfPhase(int64_t part) const {
    return part < expand_.count() ? 0 : expand_.count();
  }

  // Returns false if there is not enough memory.
  bool Run(int64_t part, const float* x, float* y) const {
    if (part < expand_.count()) return Expand(part, x);
    Project(part - expand_.count(), x, y);
    return true;
  }

 private:
  bool Expand(int64_t part, const float* x) const {
    const Range panels = expand_.panels(part);
    if (plan_.pooled) {
      return ExpandAndPoolRows(plan_, x, {0, plan_.wide_height}, panels,
                               buffer_);
    }
    return ExpandRows(plan_, x, expand_.rows(part), panels, buffer_);
  }

  void Project(int64_t part, const float* x, float* y) const {
    const Range rows = project_.rows(part);
    const Range panels = project_.panels(part);
    ProjectRows(plan_, x, rows, panels, buffer_, y);
    if (panels.first == 0) CopyRows(plan_, x, rows, y);
  }

  const FusedUnitPlan& plan_;
  const WideBuffer& buffer_;
  const Parts expand_;
  const Parts project_;
};

// Computes y in two phases for each image: all threads expand it into one
// buffer, and then all project from there. No row is expanded twice, but the
// wide tensor of an image must fit into a cache that threads share.
Status RunInPhases(const FusedUnitPlan& plan, const float* x, int64_t threads,
                   float* y) {
  const WideBuffer buffer(plan, plan.wide_height);
  if (!buffer.ok()) return Status::OutOfMemory();
  if (plan.pooled) buffer.PlacePooledRows(0, plan.wide_height);
  constexpr int64_t kPartsPerThread = 4;
  const Phases phases(plan, buffer, threads * kPartsPerThread);
  std::atomic<int64_t> done{0};
  std::atomic<bool> out_of_memory{false};
  // A single loop for all images and phases, since helpers take long to wake
  // up.
  const int64_t count = phases.count();
  ParallelFor(plan.x_shape.batch * count, threads, [&](int64_t index, int64_t) {
    const int64_t image = index / count;
    const int64_t part = index % count;
    // Indices are taken in their order. So the parts of the phase before have
    // all begun, and this thread does not wait in vain.
    const int64_t before = image * count + phases.FirstOfPhase(part);
    while (done.load(std::memory_order_acquire) < before) {
      std::this_thread::yield();
    }
    const bool ok = phases.Run(part, x + image * plan.XImageFloats(),
                               y + image * plan.YImageFloats());
    if (!ok) out_of_memory = true;
    done.fetch_add(1, std::memory_order_release);
  });
  return out_of_memory ? Status::OutOfMemory() : Status();
}

// ---------------------------------------------------------------------------
// Global pooling.

// The rows of the wide tensor that are expanded before they are added up.
int64_t AveragedRows(const FusedUnitPlan& plan) {
  const int64_t row_bytes =
      std::max<int64_t>(1, plan.wide_width * plan.PixelBytes());
  return std::clamp<int64_t>(kBandBytes / row_bytes, 1, plan.wide_height);
}

// Computes the means of all images, and multiplies all of them at once, so that
// the second matrix is read once.
Status RunGlobalPooling(const FusedUnitPlan& plan, const float* x,
                        int64_t threads, float* y) {
  const int64_t batch = plan.x_shape.batch;
  const int64_t panels_per_tile = plan.kernel.panels_per_tile;
  // In float32, the second GEMM reads the means as they are.
  const int64_t mean_step =
      std::max(plan.wide_step, plan.expand_panels * kPanelColumns);
  std::vector<float> means(batch * mean_step);
  const int64_t num_rows = AveragedRows(plan);
  const Parts expand(1, plan.expand_panels, panels_per_tile,
                     batch < 4 * threads ? 4 * threads : 1);
  std::atomic<bool> out_of_memory{false};
  ParallelFor(batch * expand.count(), threads, [&](int64_t index, int64_t) {
    const int64_t image = index / expand.count();
    const WideBuffer buffer(plan, num_rows);
    const bool ok =
        buffer.ok() &&
        ExpandAndAverage(plan, x + image * plan.XImageFloats(),
                         expand.panels(index % expand.count()), num_rows,
                         buffer, means.data() + image * mean_step);
    if (!ok) out_of_memory = true;
  });
  if (out_of_memory) return Status::OutOfMemory();
  std::vector<uint32_t> rounded;
  if (plan.unit.bfloat16) {
    rounded.resize(batch * plan.wide_step + kRoundedTogether);
    plan.kernel.round(means.data(), mean_step, batch, plan.unit.hidden,
                      rounded.data(), plan.wide_step);
  }
  const void* const wide = plan.unit.bfloat16
                               ? static_cast<const void*>(rounded.data())
                               : means.data();
  const GemmRow row = {.x_rows = &wide, .y = y, .residual = nullptr};
  const Parts project(1, plan.project_panels, panels_per_tile,
                      threads > 1 ? 4 * threads : 1);
  ParallelFor(project.count(), threads, [&](int64_t part, int64_t) {
    const Range panels = project.panels(part);
    plan.kernel.multiply(plan.project, &row, 1, batch, panels.first,
                         panels.last);
  });
  return Status();
}

// ---------------------------------------------------------------------------
// The choice between bands and phases.

int64_t ThreadsForProducts(const FusedUnitPlan& plan, int64_t num_threads) {
  // In floating point, as the number of products may be too large for an
  // integer.
  const double products = static_cast<double>(plan.x_shape.batch) *
                          plan.unit.hidden *
                          (static_cast<double>(plan.wide_height) *
                               plan.wide_width * plan.unit.expanded +
                           static_cast<double>(plan.y_shape.height) *
                               plan.y_shape.width * plan.unit.filters);
  const int64_t most = num_threads == 0 ? NumCores() : num_threads;
  return static_cast<int64_t>(std::clamp<double>(products / kProductsPerThread,
                                                 1, static_cast<double>(most)));
}

bool FitsIntoSharedCache(const FusedUnitPlan& plan) {
  return plan.RowBytes() <= kSharedBytes / plan.wide_height;
}

// With as many images as threads, each thread has an image to itself.
bool InPhases(const FusedUnitPlan& plan, int64_t threads) {
  return threads > 1 && plan.x_shape.batch < threads &&
         FitsIntoSharedCache(plan);
}

}  // namespace

bool MayRunInPlace(const FusedUnitPlan& plan, int64_t num_threads) {
  const FusedUnit& unit = plan.unit;
  // Channels that are copied need images that keep their size.
  const bool keeps_shape = !plan.pooled && unit.strides[0] == 1 &&
                           unit.strides[1] == 1 &&
                           unit.filters == unit.expanded;
  if (!keeps_shape) return false;
  // Bands may expand what others have written already. A band alone, as well as
  // phases, expands a row before it writes it.
  const int64_t threads = ThreadsForProducts(plan, num_threads);
  return InPhases(plan, threads) || BandsPerImage(plan, threads) == 1;
}

Status RunFusedUnit(const FusedUnitPlan& plan, const float* x,
                    int64_t num_threads, float* y) {
  const int64_t threads = ThreadsForProducts(plan, num_threads);
  if (plan.unit.pooling == Pooling::kGlobal) {
    return RunGlobalPooling(plan, x, threads, y);
  }
  if (InPhases(plan, threads)) return RunInPhases(plan, x, threads, y);
  return RunInBands(plan, x, threads, y);
}

}  // namespace keras_shift
